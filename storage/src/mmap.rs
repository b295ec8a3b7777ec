//! A file in shared memory: the disk of a cluster whose nodes run on one host (protocol §1.3).
//!
//! The mapping is used by raw pointer only: another process changes it at any time, which no Rust reference may see. Blocks are
//! copied word by word with relaxed atomics; torn copies are normal and the checksums find them. A write ends with a full
//! fence and a read begins with one, because Dekker's handshake needs a store to be seen before a later load, which no
//! processor gives by itself.
//!
//! What always holds: every byte of the mapping has storage behind it when it is opened (`fallocate`, length checked), and no
//! formatter shortens the file while it is in use (file lock). Others may: [`SharedDisk::verify`] finds that out without touching the
//! mapping, and [`crate::mappings`] tells a signal handler whose fault it is.
#![expect(
    unsafe_code,
    reason = "shared memory is reached through raw pointers; every access is in copy_in and copy_out"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, fstatfs};

use crate::block::{BLOCK_BYTES, Block, BlockIndex};
use crate::direct::verify_length;
use crate::disk::{Capabilities, Durability, Geometry, SharedDisk, check_range};
use crate::mappings::Entry;
use crate::reservation::Reservation;

const WORD_BYTES: usize = size_of::<u64>();

/// File systems whose clients cache, so that a mapping is not the same on every host: NFS, SMB (old, CIFS, 2 and later), AFS,
/// Coda, Ceph, 9P.
const NETWORK_FILE_SYSTEMS: [(u64, &str); 8] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x00c3_6400, "Ceph"),
    (0x0102_1997, "9P"),
];

/// See the module.
#[derive(Debug)]
pub struct MmapDisk {
    path: PathBuf,
    /// Holds the lock; its mapping outlives nothing it needs.
    file: File,
    /// Dropped before the mapping is.
    _entry: Entry,
    map: MmapRaw,
    block_count: u64,
    writable: bool,
}

impl MmapDisk {
    /// Makes a disk of zeroes, fully allocated, for formatting. Whatever the file held is lost. The file stays locked against
    /// everybody else until this is dropped or [`MmapDisk::share`] is called.
    ///
    /// # Errors
    /// `ResourceBusy` if the file is locked as in use, `Unsupported` on a network file system, `StorageFull`, or what the
    /// system says.
    pub fn create(path: &Path, block_count: u64) -> io::Result<Self> {
        Reservation::take(path)?.allocate(block_count)
    }

    /// Opens a disk for use by a node. A formatter is kept away until this is dropped.
    ///
    /// # Errors
    /// `ResourceBusy` if a formatter has it, `Unsupported` on a network file system, `InvalidData` if its length is not a
    /// number of blocks, or what the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::locked(path, FlockOperation::NonBlockingLockShared)
    }

    /// Opens a disk that nobody else has open until this is dropped.
    ///
    /// # Errors
    /// As [`MmapDisk::open`]; `ResourceBusy` if anybody has it.
    pub fn open_alone(path: &Path) -> io::Result<Self> {
        Self::locked(path, FlockOperation::NonBlockingLockExclusive)
    }

    fn locked(path: &Path, operation: FlockOperation) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        refuse_network_file_system(&file, path)?;
        lock(&file, path, operation)?;
        let metadata = file.metadata()?;
        // A sparse copy of a disk: a write into a hole of a full file system would be SIGBUS.
        if metadata.blocks() * 512 < metadata.len() && metadata.len() > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, metadata.len())?;
        }
        Self::map(path, file, true)
    }

    /// Opens a disk to look at it. Writes are refused.
    ///
    /// # Errors
    /// As [`MmapDisk::open`].
    pub fn open_read_only(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        lock(&file, path, FlockOperation::NonBlockingLockShared)?;
        Self::map(path, file, false)
    }

    /// Lets others open a disk that this process has created.
    ///
    /// # Errors
    /// What the system says.
    pub fn share(&self) -> io::Result<()> {
        lock(&self.file, &self.path, FlockOperation::NonBlockingLockShared)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn map(path: &Path, file: File, writable: bool) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        if bytes == 0 || bytes % BLOCK_BYTES as u64 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("`{}` has {bytes} bytes: not a number of blocks of {BLOCK_BYTES}", path.display()),
            ));
        }
        let map =
            if writable { MmapOptions::new().map_raw(&file)? } else { MmapOptions::new().map_raw_read_only(&file)? };
        let block_count = map.len() as u64 / BLOCK_BYTES as u64;
        let _entry = Entry::new(map.as_ptr() as usize, map.len());
        Ok(Self { path: path.to_owned(), file, _entry, map, block_count, writable })
    }

    #[cfg(test)]
    pub(crate) fn address(&self) -> usize {
        self.map.as_ptr() as usize
    }

    /// Byte offset of a block that [`check_range`] has accepted, in words.
    fn word_of(first: BlockIndex) -> usize {
        usize::try_from(first.0).unwrap_or(usize::MAX) * (BLOCK_BYTES / WORD_BYTES)
    }

    /// Copies one block out of the shared memory, from that word on.
    fn copy_out(&self, word: usize, block: &mut Block) {
        let words = self.map.as_ptr().cast::<u64>().cast_mut();
        for (index, bytes) in block.0.chunks_exact_mut(WORD_BYTES).enumerate() {
            // SAFETY: the caller has checked that the block lies in the mapping, which is page aligned and lives as long as
            // `self`; every access to it anywhere is such an atomic one, and a relaxed load needs no write permission.
            let shared = unsafe { AtomicU64::from_ptr(words.add(word + index)) };
            bytes.copy_from_slice(&shared.load(Ordering::Relaxed).to_ne_bytes());
        }
    }

    /// Copies one block into the shared memory, to that word on.
    fn copy_in(&self, word: usize, block: &Block) {
        let words = self.map.as_mut_ptr().cast::<u64>();
        for (index, bytes) in block.0.chunks_exact(WORD_BYTES).enumerate() {
            let mut value = [0; WORD_BYTES];
            value.copy_from_slice(bytes);
            // SAFETY: as in `copy_out`, and the mapping is writable: `write_blocks` has checked it.
            let shared = unsafe { AtomicU64::from_ptr(words.add(word + index)) };
            shared.store(u64::from_ne_bytes(value), Ordering::Relaxed);
        }
    }
}

impl SharedDisk for MmapDisk {
    fn geometry(&self) -> Geometry {
        let capabilities = Capabilities { late_writes_impossible: true, ..Capabilities::default() };
        Geometry { block_count: self.block_count, capabilities }
    }

    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
        check_range(first, blocks.len(), self.block_count)?;
        fence(Ordering::SeqCst);
        for (index, block) in blocks.iter_mut().enumerate() {
            self.copy_out(Self::word_of(first) + index * (BLOCK_BYTES / WORD_BYTES), block);
        }
        fence(Ordering::Acquire);
        Ok(())
    }

    fn write_blocks(&self, first: BlockIndex, blocks: &[Block], durability: Durability) -> io::Result<()> {
        check_range(first, blocks.len(), self.block_count)?;
        if !self.writable {
            let text = format!("`{}` was opened to be read only", self.path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        fence(Ordering::Release);
        for (index, block) in blocks.iter().enumerate() {
            self.copy_in(Self::word_of(first) + index * (BLOCK_BYTES / WORD_BYTES), block);
        }
        fence(Ordering::SeqCst);
        match durability {
            Durability::Volatile => Ok(()),
            Durability::Durable => self.map.flush_range(Self::word_of(first) * WORD_BYTES, blocks.len() * BLOCK_BYTES),
        }
    }

    fn flush(&self) -> io::Result<()> {
        if self.writable { self.map.flush() } else { Ok(()) }
    }

    fn verify(&self, first: BlockIndex, count: u64) -> io::Result<()> {
        verify_length(&self.path, first, count, self.file.metadata()?.len() / BLOCK_BYTES as u64)
    }
}

pub(crate) fn lock(file: &File, path: &Path, operation: FlockOperation) -> io::Result<()> {
    match flock(file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let text = format!("`{}` is locked as in use by another process", path.display());
            Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
        }
        Err(errno) => Err(errno.into()),
    }
}

pub(crate) fn refuse_network_file_system(file: &File, path: &Path) -> io::Result<()> {
    // The kernel's type differs between architectures and is sign-extended on some; the magic numbers have 32 bits.
    let magic = fstatfs(file)?.f_type as u64 & u64::from(u32::MAX);
    match network_file_system(magic) {
        Some(name) => {
            let text = format!("`{}` lies on {name}; the shared disk needs a file system of this host", path.display());
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
        None => Ok(()),
    }
}

fn network_file_system(magic: u64) -> Option<&'static str> {
    NETWORK_FILE_SYSTEMS.into_iter().find(|(known, _)| *known == magic).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protocol D3: "Network file systems with client caches are refused". None can be mounted here, so the numbers of the kernel's
    /// `magic.h` are asked for.
    #[test]
    fn network_file_systems_are_known_by_their_magic_numbers_and_local_ones_are_none() {
        for (magic, name) in
            [(0x6969, "NFS"), (0xfe53_4d42, "SMB"), (0xff53_4d42, "CIFS"), (0x00c3_6400, "Ceph"), (0x0102_1997, "9P")]
        {
            assert_eq!(network_file_system(magic), Some(name));
        }
        for (magic, _) in [(0xef53, "ext4"), (0x0102_1994, "tmpfs"), (0x5846_5342, "xfs"), (0x9123_683e, "btrfs")] {
            assert_eq!(network_file_system(magic), None);
        }
        let dir = tempfile::tempdir().unwrap();
        refuse_network_file_system(&File::open(dir.path()).unwrap(), dir.path()).unwrap();
    }
}
