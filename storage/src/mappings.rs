//! Where the shared disks of this process are mapped: for whoever must tell, in a signal handler, whether a fault is theirs.
//!
//! A fixed table of atomics, so that it may be read in a signal handler. A mapping beyond its length is not found in it: a fault
//! there is what it would be without any table.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Disks that one process maps at once: nodes have one, tests some.
const MAPPINGS_MAX: usize = 64;

static BEGINS: [AtomicUsize; MAPPINGS_MAX] = [const { AtomicUsize::new(0) }; MAPPINGS_MAX];
static ENDS: [AtomicUsize; MAPPINGS_MAX] = [const { AtomicUsize::new(0) }; MAPPINGS_MAX];

/// True if the address lies in the mapping of a disk. May be called in a signal handler.
#[must_use]
pub fn contain(address: usize) -> bool {
    let inside = |(begin, end): (&AtomicUsize, &AtomicUsize)| {
        let begin = begin.load(Ordering::SeqCst);
        begin != 0 && begin <= address && address < end.load(Ordering::SeqCst)
    };
    BEGINS.iter().zip(&ENDS).any(inside)
}

/// A row of the table, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Entry(Option<usize>);

impl Entry {
    pub fn new(begin: usize, bytes: usize) -> Self {
        let free = |row: &usize| BEGINS[*row].compare_exchange(0, begin, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        let row = (0..MAPPINGS_MAX).find(free);
        if let Some(row) = row {
            ENDS[row].store(begin.saturating_add(bytes), Ordering::SeqCst);
        }
        Self(row)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(row) = self.0 {
            ENDS[row].store(0, Ordering::SeqCst);
            BEGINS[row].store(0, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MmapDisk;

    #[test]
    fn a_disk_is_found_where_it_is_mapped() {
        let dir = tempfile::tempdir().unwrap();
        let disk = MmapDisk::create(&dir.path().join("disk"), 3).unwrap();
        assert!(contain(disk.address()) && contain(disk.address() + 3 * 4096 - 1));
    }

    /// At an address that no mapping of another test has.
    #[test]
    fn nothing_is_found_beside_a_mapping_and_where_one_was() {
        let begin = usize::MAX - 10 * 4096;
        let entry = Entry::new(begin, 4096);
        assert_eq!([begin - 1, begin, begin + 4095, begin + 4096].map(contain), [false, true, true, false]);
        drop(entry);
        assert!(!contain(begin) && !contain(0));
    }
}
