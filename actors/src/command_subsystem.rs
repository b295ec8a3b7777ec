//! A subsystem whose work is done by commands.
