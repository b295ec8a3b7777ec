//! Registration and launch.
