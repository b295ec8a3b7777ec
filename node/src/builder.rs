//! A node as a library.
