//! The demo service: a floating licence server.
