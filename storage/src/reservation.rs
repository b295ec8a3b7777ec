//! A path taken for formatting: nobody else opens or formats it meanwhile, and nothing stays behind if it comes to nothing.
//!
//! What always holds: the space is there before a byte of an existing file is lost, and the places where superblocks can lie
//! are zero on the disk before anything else of it changes, so that a crash never leaves a disk that opens and is not whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate};

use crate::block::BLOCK_BYTES;
use crate::direct::{DirectDisk, is_device, length};
use crate::mmap::{MmapDisk, lock, refuse_network_file_system};
use crate::occupant::{Occupant, last_block};

/// Bytes written at once.
const CHUNK_BYTES: usize = 256 * BLOCK_BYTES;

/// See the module. Dropped without [`Reservation::allocate`], it removes the file if it has made it.
#[derive(Debug)]
pub struct Reservation {
    path: PathBuf,
    file: File,
    remove: bool,
}

impl Reservation {
    /// Opens or makes the file and locks it against everybody else.
    ///
    /// # Errors
    /// `ResourceBusy` if the file is locked as in use, `Unsupported` on a network file system, or what the system says.
    pub fn take(path: &Path) -> io::Result<Self> {
        if is_device_at(path) {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            lock(&file, path, FlockOperation::NonBlockingLockExclusive)?;
            return Ok(Self { path: path.to_owned(), file, remove: false });
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let (file, made) = match options.open(path) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (options.create(true).open(path)?, true),
            Err(error) => return Err(error),
        };
        let reservation = Self { path: path.to_owned(), file, remove: made };
        refuse_network_file_system(&reservation.file, path)?;
        if !reservation.file.metadata()?.is_file() {
            return Err(invalid(path, "is no regular file"));
        }
        lock(&reservation.file, path, FlockOperation::NonBlockingLockExclusive)?;
        Ok(reservation)
    }

    /// What is in it, now that nobody else changes it.
    ///
    /// # Errors
    /// What the system says.
    pub fn occupant(&self) -> io::Result<Occupant> {
        Occupant::of(&self.file)
    }

    /// Blocks that a disk here has that needs `block_count`: a device has the size it has.
    ///
    /// # Errors
    /// What the system says.
    pub fn blocks(&self, block_count: u64) -> io::Result<u64> {
        Ok(if is_device(&self.file)? { length(&self.file)? / BLOCK_BYTES as u64 } else { block_count })
    }

    /// Makes it a disk for direct I/O of [`Reservation::blocks`] blocks, locked as long as this lives. A file is made as for
    /// [`Reservation::allocate`]. Of a device only the places of superblocks are made zero: whoever formats it writes everything
    /// that is ever read.
    ///
    /// # Errors
    /// `StorageFull` with the bytes needed and available, and as [`DirectDisk::open`].
    pub fn allocate_direct(&mut self, block_count: u64) -> io::Result<DirectDisk> {
        if is_device(&self.file)? {
            let (bytes, needed) = (length(&self.file)?, block_count.saturating_mul(BLOCK_BYTES as u64));
            if bytes < needed {
                let text = format!("`{}` needs {needed} bytes; the device has {bytes}", self.path.display());
                return Err(io::Error::new(io::ErrorKind::StorageFull, text));
            }
            let disk = DirectDisk::unlocked(&self.path, true)?; // refused before anything is lost
            let formatted = Occupant::described(&self.file)?.and_then(|stored| stored.block_count.checked_sub(1));
            for last in [formatted, last_block(bytes).map(|block| block.0)].into_iter().flatten().chain([0, 1]) {
                let begin = last.saturating_mul(BLOCK_BYTES as u64);
                write_zeroes(&self.file, begin.min(bytes), begin.saturating_add(BLOCK_BYTES as u64).min(bytes))?;
            }
            self.file.sync_all()?;
            return Ok(disk);
        }
        let before = length(&self.file)?;
        if before > 0 && before.is_multiple_of(BLOCK_BYTES as u64) {
            DirectDisk::unlocked(&self.path, true)?; // a file system without direct I/O is refused before anything is lost
        }
        self.fill(block_count)?;
        let disk = DirectDisk::unlocked(&self.path, true)?;
        self.remove = false;
        Ok(disk)
    }

    /// Makes it a disk of zeroes with storage behind every byte, for mapping. Whatever it held is lost. The file stays locked
    /// until the disk is dropped or [`MmapDisk::share`] is called.
    ///
    /// # Errors
    /// `StorageFull` with the bytes needed and available: the file is then as it was, or gone if it was not there. Else what
    /// the system says.
    pub fn allocate(mut self, block_count: u64) -> io::Result<MmapDisk> {
        self.fill(block_count)?;
        let disk = MmapDisk::map(&self.path, self.file.try_clone()?, true)?;
        self.remove = false;
        Ok(disk)
    }

    fn fill(&self, block_count: u64) -> io::Result<()> {
        if is_device(&self.file)? {
            return Err(invalid(&self.path, "is a block device, which is not mapped"));
        }
        let bytes = block_count
            .checked_mul(BLOCK_BYTES as u64)
            .filter(|bytes| *bytes > 0 && isize::try_from(*bytes).is_ok())
            .ok_or_else(|| invalid(&self.path, &format!("cannot have {block_count} blocks")))?;
        let before = self.file.metadata()?;
        // Asked beforehand, because a failed attempt may fill the file system for a moment.
        let missing = bytes.saturating_sub(before.blocks() * 512);
        let available = available(&self.file)?;
        let full = || full(&self.path, missing, available);
        if available < missing {
            return Err(full());
        }
        if let Err(error) = grow(&self.file, before.len(), bytes) {
            self.file.set_len(before.len())?;
            let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            return Err(if is_full { full() } else { error });
        }
        forget_superblocks(&self.file, before.len(), bytes)?;
        write_zeroes(&self.file, 0, before.len().min(bytes))?;
        self.file.set_len(bytes)?;
        self.file.sync_all()?;
        let directory = self.path.parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }
}

fn is_device_at(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.remove {
            std::fs::remove_file(&self.path).ok(); // the error that led here is told
        }
    }
}

/// Gives every byte up to `bytes` storage, by writing zeroes behind the end where the file system cannot do it by itself. The
/// file keeps what it has.
fn grow(file: &File, length: u64, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeroes(file, length, bytes),
        Err(errno) => Err(errno.into()),
    }
}

/// Zeroes every place where a superblock of the old or the new disk can lie, durably.
fn forget_superblocks(file: &File, length: u64, bytes: u64) -> io::Result<()> {
    let lasts = [last_block(length), last_block(bytes)].into_iter().flatten().map(|block| block.0);
    for block in [0, 1].into_iter().chain(lasts) {
        let begin = block * BLOCK_BYTES as u64;
        write_zeroes(file, begin, (begin + BLOCK_BYTES as u64).min(length.max(bytes)))?;
    }
    file.sync_data()
}

fn write_zeroes(file: &File, begin: u64, end: u64) -> io::Result<()> {
    let zeroes = vec![0; CHUNK_BYTES];
    let mut at = begin;
    while at < end {
        let now = usize::try_from(end - at).unwrap_or(usize::MAX).min(zeroes.len());
        file.write_all_at(&zeroes[..now], at)?;
        at += now as u64;
    }
    Ok(())
}

fn available(file: &File) -> io::Result<u64> {
    let system = rustix::fs::fstatvfs(file)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

fn full(path: &Path, needed: u64, available: u64) -> io::Error {
    let text = format!("`{}` needs {needed} bytes more; its file system has {available} available", path.display());
    io::Error::new(io::ErrorKind::StorageFull, text)
}

fn invalid(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Block;
    use crate::disk::{Durability, SharedDisk};

    /// The order on which a crash in the middle of `disk create` relies: whatever else is still there, no superblock is.
    #[test]
    fn no_superblock_outlives_the_first_step_whatever_the_old_and_new_sizes() {
        for (old, new) in [(9, 9), (9, 5), (5, 9), (1, 9), (9, 2)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("disk");
            let full = vec![7; old * BLOCK_BYTES + 100];
            std::fs::write(&path, &full).unwrap();
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let (length, bytes) = (full.len() as u64, (new * BLOCK_BYTES) as u64);
            grow(&file, length, bytes).unwrap();
            forget_superblocks(&file, length, bytes).unwrap();
            let left = std::fs::read(&path).unwrap();
            let block = |index: usize| &left[index * BLOCK_BYTES..(index + 1) * BLOCK_BYTES];
            for place in [0, 1, old - 1, new - 1] {
                let place = block(place.min(left.len() / BLOCK_BYTES - 1));
                assert!(place.iter().all(|byte| *byte == 0), "{old} to {new}");
            }
            assert!(old < 9 || block(2).iter().all(|byte| *byte == 7), "nothing else is touched yet");
        }
    }

    #[test]
    fn an_existing_file_becomes_zeroes_of_the_new_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        for length in [0, 10, 5 * BLOCK_BYTES, 20 * BLOCK_BYTES + 3] {
            std::fs::write(&path, vec![7; length]).unwrap();
            let disk = Reservation::take(&path).unwrap().allocate(9).unwrap();
            let mut blocks = Block::zeroes(9);
            disk.read_blocks(crate::BlockIndex(0), &mut blocks).unwrap();
            assert!(blocks.iter().all(Block::is_blank) && disk.geometry().block_count == 9);
            disk.write_blocks(crate::BlockIndex(8), &blocks[..1], Durability::Durable).unwrap();
        }
    }

    #[test]
    fn nothing_is_left_of_a_reservation_that_comes_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        std::fs::write(&old, b"kept").unwrap();
        for path in [&new, &old] {
            drop(Reservation::take(path).unwrap());
            let error = Reservation::take(path).unwrap().allocate(1 << 50).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert!(error.to_string().contains("bytes more; its file system has "), "{error}");
        }
        assert!(!new.exists());
        assert_eq!(std::fs::read(&old).unwrap(), b"kept");
    }
}
