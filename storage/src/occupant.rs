//! What lies at a path that is to become, or should be, a shared disk (architecture §5, row "disk"). Only ever read.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use rustix::fs::SeekFrom;

use crate::block::{BLOCK_BYTES, Block, BlockIndex};
use crate::direct::{is_device, length};
use crate::error::{BlockFault, StorageError};
use crate::header;
use crate::magics::{self, SAMPLE_BYTES};
use crate::superblock::{StoredSuperblock, Superblock};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    /// Nothing.
    Absent,
    /// A file in which every byte is zero; an empty one too.
    Blank {
        /// Its length.
        bytes: u64,
    },
    /// A disk of a cluster, by its first valid superblock; the rest may be damaged or missing.
    Phalanx {
        /// What the formatter fixed.
        superblock: Box<Superblock>,
        /// Its length.
        bytes: u64,
        /// Its length when it was formatted.
        formatted_bytes: u64,
    },
    /// A disk of ours in a format that this program does not read.
    OtherVersion {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// Blocks of ours without a superblock: formatting was interrupted, or every copy is damaged.
    Headless {
        /// Its length.
        bytes: u64,
    },
    /// Something else.
    Foreign {
        /// What, with its article.
        what: &'static str,
        /// Its length.
        bytes: u64,
    },
    /// Neither a regular file nor a block device.
    NotAFile {
        /// What, with its article.
        what: &'static str,
    },
}

impl Occupant {
    /// Looks at `path`.
    ///
    /// # Errors
    /// What the system says, except that there is nothing.
    pub fn at(path: &Path) -> io::Result<Self> {
        let kind = match std::fs::metadata(path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Absent),
            Err(error) => return Err(error),
        };
        // Opening a pipe or a terminal may already do something.
        if !kind.is_file() && !kind.is_block_device() {
            let kinds = [
                (kind.is_dir(), "a directory"),
                (kind.is_char_device(), "a character device"),
                (kind.is_fifo(), "a pipe"),
                (kind.is_socket(), "a socket"),
            ];
            let what = kinds.into_iter().find(|(is, _)| *is).map_or("a special file", |(_, what)| what);
            return Ok(Self::NotAFile { what });
        }
        Self::of(&File::open(path)?)
    }

    /// Looks at an open regular file or block device.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(file: &File) -> io::Result<Self> {
        let bytes = length(file)?;
        forget_cached(file)?;
        let sample = read_up_to(file, 0, SAMPLE_BYTES)?;
        match superblock(file, bytes)? {
            Found::Whole(stored) => {
                let formatted_bytes = stored.block_count.saturating_mul(BLOCK_BYTES as u64);
                return Ok(Self::Phalanx { superblock: Box::new(stored.superblock), bytes, formatted_bytes });
            }
            Found::OtherVersion { major, minor } => return Ok(Self::OtherVersion { major, minor }),
            Found::Nothing => {}
        }
        if sample.chunks(BLOCK_BYTES).any(header::has_magic) {
            return Ok(Self::Headless { bytes });
        }
        if is_zero(&sample) && is_blank(file, bytes)? {
            return Ok(Self::Blank { bytes });
        }
        Ok(Self::Foreign { what: if is_zero(&sample) { "unknown data" } else { magics::name(&sample) }, bytes })
    }

    /// What the first valid superblock says, if there is one of this format.
    pub(crate) fn described(file: &File) -> io::Result<Option<StoredSuperblock>> {
        forget_cached(file)?;
        match superblock(file, length(file)?)? {
            Found::Whole(stored) => Ok(Some(*stored)),
            Found::OtherVersion { .. } | Found::Nothing => Ok(None),
        }
    }

    /// Nothing would be lost by formatting.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        match self {
            Self::Absent | Self::Blank { .. } => true,
            Self::Phalanx { .. }
            | Self::OtherVersion { .. }
            | Self::Headless { .. }
            | Self::Foreign { .. }
            | Self::NotAFile { .. } => false,
        }
    }
}

/// What this host has cached of a device is not what another host has written since.
fn forget_cached(file: &File) -> io::Result<()> {
    if is_device(file)? {
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

enum Found {
    Whole(Box<StoredSuperblock>),
    OtherVersion { major: u8, minor: u8 },
    Nothing,
}

/// The first copy of the superblock that can be read.
fn superblock(file: &File, bytes: u64) -> io::Result<Found> {
    let blocks = bytes / BLOCK_BYTES as u64;
    let places = crate::superblock::copies(blocks);
    for place in places.into_iter().filter(|place| place.0 < blocks) {
        let mut block = Block::default();
        file.read_exact_at(&mut block.0, place.0 * BLOCK_BYTES as u64)?;
        match StoredSuperblock::unseal(&block, place) {
            Ok(stored) => return Ok(Found::Whole(Box::new(stored))),
            Err(StorageError::Superblock { source: BlockFault::Version { major, minor }, .. }) => {
                return Ok(Found::OtherVersion { major, minor });
            }
            Err(_) => {}
        }
    }
    Ok(Found::Nothing)
}

fn read_up_to(file: &File, at: u64, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// True if every byte is zero. Holes are not read.
fn is_blank(file: &File, bytes: u64) -> io::Result<bool> {
    let mut at = 0;
    while at < bytes {
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => return Ok(true), // nothing but a hole is left
            Err(_) => at,                                    // a file system without holes
        };
        let chunk = read_up_to(file, at, 1 << 20)?;
        if !is_zero(&chunk) {
            return Ok(false);
        }
        if chunk.is_empty() {
            return Ok(true); // shortened meanwhile
        }
        at += chunk.len() as u64;
    }
    Ok(true)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The block that is the begin of the last copy of a superblock on a disk of that many bytes.
pub(crate) const fn last_block(bytes: u64) -> Option<BlockIndex> {
    match (bytes / BLOCK_BYTES as u64).checked_sub(1) {
        Some(last) => Some(BlockIndex(last)),
        None => None,
    }
}
