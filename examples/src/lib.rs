//! Examples of Phalanx: embedding the actors and writing services.

pub mod announce;
