//! Opening the disk of a cluster, a file or a block device, and saying in one sentence why it cannot be.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use crate::backend::Backend;
use crate::block::BLOCK_BYTES;
use crate::cluster_disk::ClusterDisk;
use crate::direct::DirectDisk;
use crate::disk::SharedDisk;
use crate::error::{BlockFault, StorageError};
use crate::layout::Layout;
use crate::mmap::MmapDisk;
use crate::occupant::Occupant;

/// What the disk is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To look at it. Nothing is ever written.
    ReadOnly,
    /// To run a node on it.
    ReadWrite,
    /// To repair it or to take a copy of one moment: nobody of this host has it open meanwhile.
    Alone,
}

/// Why a path cannot be used as the disk of a cluster. Each names the path and what is there.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing is there; it may come.
    #[error("there is nothing at `{}`", path.display())]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// Somebody formats it right now; it will end.
    #[error("`{}` is locked by another process: it is being formatted", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// Neither a regular file nor a block device.
    #[error("`{}` is {what}; the shared disk must be a regular file or a block device", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
        /// What, with its article.
        what: &'static str,
    },
    /// Something else.
    #[error("`{}` is not a Phalanx disk: it holds {what}", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What, with its article.
        what: &'static str,
    },
    /// Never formatted.
    #[error("`{}` is not a Phalanx disk: its {bytes} bytes are all zero", path.display())]
    Blank {
        /// Where.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Formatting was interrupted, or every superblock is damaged.
    #[error("`{}` is a Phalanx disk without a readable superblock: formatting it was interrupted, or it is damaged", path.display())]
    Headless {
        /// Where.
        path: PathBuf,
    },
    /// It lost its end.
    #[error("`{}` is cut off: it has {bytes} bytes and needs {needed}", path.display())]
    TooSmall {
        /// Where.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// Its length when it was formatted, or that of the smallest disk.
        needed: u64,
    },
    /// It is longer than formatted, by a part of a block.
    #[error("`{}` has {bytes} bytes, which is not a number of blocks of {BLOCK_BYTES}; it was formatted with {needed}", path.display())]
    RaggedEnd {
        /// Where.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// Its length when it was formatted.
        needed: u64,
    },
    /// Another version of this program formatted it.
    #[error("`{}` has disk format version {major}.{minor}; this program reads version {}", path.display(), crate::header::MAJOR)]
    OtherVersion {
        /// Where.
        path: PathBuf,
        /// Major version found.
        major: u8,
        /// Minor version found.
        minor: u8,
    },
    /// The system refused.
    #[error("failed to open `{}`", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a Phalanx disk, and something in it is wrong.
    #[error("`{}` cannot be used", path.display())]
    Storage {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: StorageError,
    },
}

/// Opens the disk of a cluster.
///
/// # Errors
/// Any [`OpenError`].
pub fn open(path: &Path, access: Access) -> Result<ClusterDisk, OpenError> {
    open_through(path, access, |disk| disk)
}

/// The same through something that stands before the blocks.
///
/// # Errors
/// Any [`OpenError`].
pub fn open_through(
    path: &Path,
    access: Access,
    through: impl FnOnce(Arc<dyn SharedDisk>) -> Arc<dyn SharedDisk>,
) -> Result<ClusterDisk, OpenError> {
    let opened = open_blocks(path, access).map(through);
    let path = path.to_owned();
    match opened {
        Ok(disk) => ClusterDisk::open(disk).map_err(|source| unusable(path, source)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(OpenError::Missing { path }),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Err(OpenError::Busy { path }),
        Err(source) => {
            let found = diagnose(&path);
            Err(found.unwrap_or(OpenError::Io { path, source }))
        }
    }
}

/// The blocks below, reached as the disk was formatted.
fn open_blocks(path: &Path, access: Access) -> io::Result<Arc<dyn SharedDisk>> {
    Ok(match (Backend::of(path)?, access) {
        (Backend::Mmap, Access::ReadOnly) => Arc::new(MmapDisk::open_read_only(path)?),
        (Backend::Mmap, Access::ReadWrite) => Arc::new(MmapDisk::open(path)?),
        (Backend::Mmap, Access::Alone) => Arc::new(MmapDisk::open_alone(path)?),
        (Backend::Direct, Access::ReadOnly) => Arc::new(DirectDisk::open_read_only(path)?),
        (Backend::Direct, Access::ReadWrite) => Arc::new(DirectDisk::open(path)?),
        (Backend::Direct, Access::Alone) => Arc::new(DirectDisk::open_alone(path)?),
    })
}

/// True if another process holds the disk: a node of this host, somebody who looks at it, or a formatter. A caller that has it
/// open itself must not ask.
///
/// # Errors
/// What the system says.
pub fn is_in_use(path: &Path) -> io::Result<bool> {
    let file = std::fs::File::open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false), // released when the file is closed, right now
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

fn unusable(path: PathBuf, source: StorageError) -> OpenError {
    match source {
        StorageError::Superblock { source: BlockFault::Version { major, minor }, .. } => {
            OpenError::OtherVersion { path, major, minor }
        }
        StorageError::Truncated { found, formatted } => {
            let bytes = |blocks: u64| blocks.saturating_mul(BLOCK_BYTES as u64);
            OpenError::TooSmall { path, bytes: bytes(found), needed: bytes(formatted) }
        }
        source @ (StorageError::NotFormatted { .. } | StorageError::Superblock { .. }) => {
            diagnose(&path).unwrap_or(OpenError::Storage { path, source })
        }
        source @ (StorageError::Read { .. }
        | StorageError::Write { .. }
        | StorageError::SuperblocksDiffer { .. }
        | StorageError::Features { .. }
        | StorageError::NoRegion { .. }
        | StorageError::DiskTooSmall { .. }
        | StorageError::OutOfRange { .. }
        | StorageError::Profile(_)
        | StorageError::TooLarge { .. }
        | StorageError::Undecodable { .. }
        | StorageError::Unreadable { .. }
        | StorageError::OldIncarnation { .. }
        | StorageError::NoSuchNode { .. }) => OpenError::Storage { path, source },
    }
}

/// What is there instead, if that explains why it cannot be opened.
fn diagnose(path: &Path) -> Option<OpenError> {
    let occupant = Occupant::at(path).ok()?;
    let path = path.to_owned();
    let least = || Layout::new(1, 1).map_or(0, |layout| layout.blocks_needed() * BLOCK_BYTES as u64);
    match occupant {
        Occupant::Absent => Some(OpenError::Missing { path }),
        Occupant::Blank { bytes } => Some(OpenError::Blank { path, bytes }),
        Occupant::NotAFile { what } => Some(OpenError::NotAFile { path, what }),
        Occupant::Foreign { what, .. } => Some(OpenError::Foreign { path, what }),
        Occupant::OtherVersion { major, minor } => Some(OpenError::OtherVersion { path, major, minor }),
        Occupant::Headless { bytes } if bytes < least() => Some(OpenError::TooSmall { path, bytes, needed: least() }),
        Occupant::Headless { .. } => Some(OpenError::Headless { path }),
        Occupant::Phalanx { bytes, formatted_bytes: needed, .. } if bytes < needed => {
            Some(OpenError::TooSmall { path, bytes, needed })
        }
        Occupant::Phalanx { bytes, formatted_bytes: needed, .. } if !bytes.is_multiple_of(BLOCK_BYTES as u64) => {
            Some(OpenError::RaggedEnd { path, bytes, needed })
        }
        Occupant::Phalanx { .. } => None,
    }
}
