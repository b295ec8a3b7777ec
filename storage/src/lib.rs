//! The shared disk of Phalanx: blocks, registers, layout and the databases on them.
