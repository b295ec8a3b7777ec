//! The shared disk of Phalanx: blocks, registers, layout and the databases on them (protocol §1.2, §1.3, §2).
//!
//! Two layers. Below, a [`SharedDisk`] moves whole blocks and promises nothing larger than one block. Above, a [`ClusterDisk`]
//! gives each node one pair of slots in each [`Area`]: the pair is a regular single-writer register although a block write is
//! not atomic (protocol §1.2, lemma REG). Everything that decides on the cluster stands on that and nothing else.
//!
//! What always holds: each block has exactly one writing node, says which cluster, address, owner and write it belongs to, and
//! is checked as a whole before a byte of it is believed. No clock, no thread, no executor in here.

pub mod area;
pub mod backend;
pub mod block;
pub mod cluster_disk;
pub mod direct;
pub mod disk;
pub mod error;
pub mod faults;
pub mod format;
pub mod header;
pub mod layout;
pub mod magics;
pub mod mappings;
pub mod memory;
pub mod mmap;
pub mod newer;
pub mod occupant;
pub mod opening;
pub mod record;
pub mod recording;
mod redo;
pub mod reservation;
mod slots;
pub mod superblock;
pub mod two_passes;
pub mod writer;

pub use area::Area;
pub use backend::Backend;
pub use block::{BLOCK_BYTES, Block, BlockIndex};
pub use cluster_disk::ClusterDisk;
pub use direct::DirectDisk;
pub use disk::{Capabilities, Durability, Geometry, SharedDisk};
pub use error::{BlockFault, StorageError};
pub use faults::{Fault, FaultyDisk, Target};
pub use format::{Format, format};
pub use layout::{Layout, Region};
pub use memory::MemoryDisk;
pub use mmap::MmapDisk;
pub use newer::NewerProgram;
pub use occupant::Occupant;
pub use opening::{Access, OpenError};
pub use record::AreaRecord;
pub use recording::{Operation, Recorder, RecordingDisk};
pub use reservation::Reservation;
pub use superblock::Superblock;
pub use writer::AreaWriter;
