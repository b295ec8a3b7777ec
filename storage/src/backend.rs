//! How the nodes of a cluster reach its disk (architecture §7). Fixed when the disk is formatted: two nodes that reached one disk
//! in two ways would not see each other's writes in time.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::occupant::Occupant;

/// Bit of the superblock's features: every access is direct I/O, and nodes of several hosts may use the disk. A program that
/// does not know it refuses the disk.
const FEATURE_DIRECT: u64 = 1;

/// See the module.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// A file that all nodes of one host map.
    #[default]
    Mmap,
    /// Direct I/O on a block device that several hosts reach, or on a file of one host.
    Direct,
}

impl Backend {
    /// Its value of `backend` under `[disk]`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mmap => "mmap",
            Self::Direct => "direct",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Mmap, Self::Direct].into_iter().find(|backend| backend.name() == name)
    }

    /// What the disk at `path` must be opened as: a block device is never mapped, a file says it in its superblock. One without
    /// a superblock is as good as none.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(path: &Path) -> io::Result<Self> {
        if std::fs::metadata(path)?.file_type().is_block_device() {
            return Ok(Self::Direct);
        }
        if !std::fs::metadata(path)?.is_file() {
            return Ok(Self::Mmap); // opening it as such says what it is
        }
        Ok(match Occupant::described(&File::open(path)?)? {
            Some(stored) => Self::of_features(stored.features),
            None => Self::Mmap,
        })
    }

    pub(crate) const fn features(self) -> u64 {
        match self {
            Self::Mmap => 0,
            Self::Direct => FEATURE_DIRECT,
        }
    }

    pub(crate) const fn of_features(features: u64) -> Self {
        if features & FEATURE_DIRECT == 0 { Self::Mmap } else { Self::Direct }
    }

    /// Bits of `features` that this program does not know.
    pub(crate) const fn unknown(features: u64) -> u64 {
        features & !FEATURE_DIRECT
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}
