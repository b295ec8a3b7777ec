//! A Phalanx node: configuration, command line, boot order and warden.
