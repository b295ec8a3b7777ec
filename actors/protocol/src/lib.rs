//! The decisions of Phalanx: pure machines without I/O, clock or executor.
