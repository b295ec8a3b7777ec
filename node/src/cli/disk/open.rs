//! Opening a disk for a command, with the exit code and the hint for each reason why it cannot be.

use std::path::Path;

use phalanx_storage::opening::{self, OpenError};
use phalanx_storage::{Access, ClusterDisk, StorageError};

use super::EXIT_DISK;
use crate::cli::Exit;

/// Opens a disk.
///
/// # Errors
/// 74, with what is there instead.
pub(crate) fn open(path: &Path, access: Access) -> Result<ClusterDisk, Exit> {
    opening::open(path, access).map_err(|error| cannot_open(&error))
}

/// Why a disk cannot be opened, as the user reads it.
pub(crate) fn cannot_open(error: &OpenError) -> Exit {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text += &format!("\n  caused by: {source}");
        cause = source.source();
    }
    Exit::code(EXIT_DISK, text).hint(hint(error))
}

fn hint(error: &OpenError) -> String {
    match error {
        OpenError::Missing { .. } => "`phalanx disk create --config FILE` makes it".to_owned(),
        OpenError::Busy { .. } => "try again when `phalanx disk create` has ended".to_owned(),
        OpenError::NotAFile { .. } | OpenError::Foreign { .. } => {
            "is `path` under [disk] right? `phalanx disk create --config FILE --force` would overwrite it".to_owned()
        }
        OpenError::Blank { .. } => "`phalanx disk create --config FILE` formats it".to_owned(),
        OpenError::Headless { .. } => {
            "restore a copy, or format it anew with `phalanx disk create --config FILE --force`".to_owned()
        }
        OpenError::TooSmall { .. } => "restore the whole file; a node must not run on a part of it".to_owned(),
        OpenError::RaggedEnd { needed, path, .. } => {
            format!("what was appended can be cut off: `truncate --size {needed} {}`", path.display())
        }
        OpenError::OtherVersion { .. } => "use the `phalanx` of the version that formatted it".to_owned(),
        OpenError::Io { .. } => "run this as the user that runs the nodes, or name another `path`".to_owned(),
        OpenError::Storage { source: StorageError::Profile(_), .. } => {
            "format it anew with a profile that keeps the relation; `phalanx timing` explains them".to_owned()
        }
        OpenError::Storage { .. } => {
            "use the `phalanx` of the version that formatted it, or restore a copy of the disk".to_owned()
        }
    }
}

pub(super) fn unreadable(error: impl std::fmt::Display) -> Exit {
    Exit::code(EXIT_DISK, error.to_string()).hint("`phalanx disk check PATH` names what is damaged")
}
