//! Direct I/O on a block device that several hosts reach, or on a file of one host (protocol §1.4).
//!
//! No cache of this host lies between a node and the device: `O_DIRECT`, and every write completes with `RWF_DSYNC`, so that it
//! is on the device when it is reported (the capability `durable_on_complete`). Blocks go by way of memory that is aligned for this;
//! what the device asks for is read from it when it is opened, and one that asks for more than a block is refused.
//!
//! What always holds: a call does one thing on the calling thread and returns when the device has answered, however long that takes.
//! It is never repeated and never given up (protocol ), so whoever must not wait calls from a thread of its own: the disk
//! actor has one for each register machine, and the lease thread one for the node's register.
//!
//! Never: promises that the write of a dead node cannot land late (T_late of the profile says how late).

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, OFlags, StatxFlags, ioctl_blksszget, statx};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};

use crate::block::{BLOCK_BYTES, Block, BlockIndex};
use crate::disk::{Capabilities, Durability, Geometry, SharedDisk, check_range};
use crate::mmap::{lock, refuse_network_file_system};

/// Most blocks in one call of the system.
const BLOCKS_MAX: usize = 1024;

/// Memory that begins at a multiple of a block's size.
struct Aligned {
    bytes: Vec<u8>,
    begin: usize,
}

impl Aligned {
    fn blocks(count: usize) -> Self {
        let bytes = vec![0; (count + 1) * BLOCK_BYTES];
        let begin = bytes.as_ptr().align_offset(BLOCK_BYTES);
        Self { bytes, begin }
    }

    fn first(&mut self, count: usize) -> &mut [u8] {
        &mut self.bytes[self.begin..][..count * BLOCK_BYTES]
    }
}

/// See the module.
#[derive(Debug)]
pub struct DirectDisk {
    path: PathBuf,
    /// Holds the lock.
    file: File,
    block_count: u64,
    writable: bool,
}

impl DirectDisk {
    /// Opens a disk for use by a node. A formatter on this host is kept away until this is dropped.
    ///
    /// # Errors
    /// `ResourceBusy` if a formatter has it; `Unsupported` if there is no direct I/O on it, or only in larger pieces than a block;
    /// `InvalidData` if it is not a number of blocks long; or what the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::locked(path, true, FlockOperation::NonBlockingLockShared)
    }

    /// Opens a disk that nobody else of this host has open until this is dropped.
    ///
    /// # Errors
    /// As [`DirectDisk::open`]; `ResourceBusy` if anybody has it.
    pub fn open_alone(path: &Path) -> io::Result<Self> {
        Self::locked(path, true, FlockOperation::NonBlockingLockExclusive)
    }

    /// Opens a disk to look at it. Writes are refused.
    ///
    /// # Errors
    /// As [`DirectDisk::open`].
    pub fn open_read_only(path: &Path) -> io::Result<Self> {
        Self::locked(path, false, FlockOperation::NonBlockingLockShared)
    }

    fn locked(path: &Path, writable: bool, operation: FlockOperation) -> io::Result<Self> {
        let disk = Self::unlocked(path, writable)?;
        lock(&disk.file, path, operation)?;
        Ok(disk)
    }

    /// For a caller that holds the lock.
    pub(crate) fn unlocked(path: &Path, writable: bool) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default();
        let opened = OpenOptions::new().read(true).write(writable).custom_flags(flags).open(path);
        let file = opened.map_err(|error| match error.raw_os_error() {
            Some(code) if code == Errno::INVAL.raw_os_error() => no_direct_io(path, "its file system has none"),
            _ => error,
        })?;
        if !file.metadata()?.file_type().is_block_device() {
            refuse_network_file_system(&file, path)?;
        }
        let unit = unit_bytes(&file)?;
        if unit > BLOCK_BYTES as u64 || !(BLOCK_BYTES as u64).is_multiple_of(unit) {
            return Err(no_direct_io(path, &format!("its unit has {unit} bytes, and a block {BLOCK_BYTES}")));
        }
        let bytes = length(&file)?;
        if bytes == 0 || !bytes.is_multiple_of(BLOCK_BYTES as u64) && !is_device(&file)? {
            let text = format!("`{}` has {bytes} bytes: not a number of blocks of {BLOCK_BYTES}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Self { path: path.to_owned(), file, block_count: bytes / BLOCK_BYTES as u64, writable })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl SharedDisk for DirectDisk {
    fn geometry(&self) -> Geometry {
        let capabilities = Capabilities {
            storage_fence: false,
            late_writes_impossible: false,
            durable_on_complete: true,
            several_hosts: true,
            may_hang: true,
        };
        Geometry { block_count: self.block_count, capabilities }
    }

    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
        check_range(first, blocks.len(), self.block_count)?;
        let mut memory = Aligned::blocks(blocks.len().min(BLOCKS_MAX));
        let mut done = 0;
        while done < blocks.len() {
            let count = (blocks.len() - done).min(BLOCKS_MAX);
            let (read, begin) = (memory.first(count), offset(first, done));
            let mut call = || preadv2(&self.file, &mut [IoSliceMut::new(read)], begin, ReadWriteFlags::empty());
            let moved = whole_blocks(uninterrupted(&mut call)?, io::ErrorKind::UnexpectedEof)?;
            for (block, bytes) in blocks[done..][..moved].iter_mut().zip(read.chunks_exact(BLOCK_BYTES)) {
                block.0.copy_from_slice(bytes);
            }
            done += moved;
        }
        Ok(())
    }

    fn write_blocks(&self, first: BlockIndex, blocks: &[Block], _: Durability) -> io::Result<()> {
        check_range(first, blocks.len(), self.block_count)?;
        if !self.writable {
            let text = format!("`{}` was opened to be read only", self.path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let mut memory = Aligned::blocks(blocks.len().min(BLOCKS_MAX));
        let mut done = 0;
        while done < blocks.len() {
            let count = (blocks.len() - done).min(BLOCKS_MAX);
            let written = memory.first(count);
            for (bytes, block) in written.chunks_exact_mut(BLOCK_BYTES).zip(&blocks[done..]) {
                bytes.copy_from_slice(&block.0);
            }
            let call = || pwritev2(&self.file, &[IoSlice::new(written)], offset(first, done), ReadWriteFlags::DSYNC);
            done += whole_blocks(uninterrupted(call)?, io::ErrorKind::WriteZero)?;
        }
        Ok(())
    }

    fn verify(&self, first: BlockIndex, count: u64) -> io::Result<()> {
        let blocks = length(&self.file)? / BLOCK_BYTES as u64;
        verify_length(&self.path, first, count, blocks)
    }
}

/// What is left of a disk must hold those blocks.
pub(crate) fn verify_length(path: &Path, first: BlockIndex, count: u64, blocks: u64) -> io::Result<()> {
    if first.0.saturating_add(count) <= blocks {
        return Ok(());
    }
    let text = format!("`{}` was cut under a running node: {blocks} blocks are left of it", path.display());
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, text))
}

/// Length of a file or of a block device in bytes.
pub(crate) fn length(file: &File) -> io::Result<u64> {
    // Only a device is asked in this way, because it moves the position, which nobody uses.
    if is_device(file)? { (&*file).seek(SeekFrom::End(0)) } else { Ok(file.metadata()?.len()) }
}

pub(crate) fn is_device(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.file_type().is_block_device())
}

/// What direct I/O must be a multiple of, in memory and on the disk.
fn unit_bytes(file: &File) -> io::Result<u64> {
    let asked = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    if let Ok(found) = asked
        && StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::DIOALIGN)
        && found.stx_dio_offset_align > 0
    {
        return Ok(u64::from(found.stx_dio_offset_align.max(found.stx_dio_mem_align)));
    }
    // Kernels before 6.1, and file systems that do not say.
    if is_device(file)? {
        return Ok(u64::from(ioctl_blksszget(file)?));
    }
    Ok(BLOCK_BYTES as u64) // the largest unit that is in use; the first read would tell otherwise
}

fn no_direct_io(path: &Path, why: &str) -> io::Error {
    let text = format!("there is no direct I/O on `{}`: {why}", path.display());
    io::Error::new(io::ErrorKind::Unsupported, text)
}

const fn offset(first: BlockIndex, done: usize) -> u64 {
    (first.0 + done as u64) * BLOCK_BYTES as u64
}

/// A call that a signal has interrupted has done nothing.
fn uninterrupted(mut call: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            answer => return answer.map_err(io::Error::from),
        }
    }
}

/// A part of a block that was moved is moved again with the rest.
fn whole_blocks(bytes: usize, none: io::ErrorKind) -> io::Result<usize> {
    let blocks = bytes / BLOCK_BYTES;
    if blocks == 0 { Err(none.into()) } else { Ok(blocks) }
}
