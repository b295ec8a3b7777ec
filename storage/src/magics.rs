//! What a file holds, by its first bytes: so that `disk create` names what it would destroy, and an error says what it found
//! instead of a disk of ours.
//!
//! Only what administrators keep on disks and in files beside them. A wrong name does no harm: whatever is not zero and not
//! ours needs `--force`, known or not.

/// Bytes from the begin of a file that are looked at; the farthest mark is that of btrfs.
pub const SAMPLE_BYTES: usize = 128 * 1024;

/// A mark and where it stands. The first row that fits counts, so a partition table comes after the file systems whose boot
/// sector ends like one.
const MARKS: [(usize, &[u8], &str); 27] = [
    (0, b"XFSB", "an xfs file system"),
    (0x1_0040, b"_BHRfS_M", "a btrfs file system"),
    (1024, &[0x10, 0x20, 0xf5, 0xf2], "an f2fs file system"),
    (0, b"LUKS\xba\xbe", "a LUKS encrypted volume"),
    (512, b"LABELONE", "an LVM physical volume"),
    (0, b"LABELONE", "an LVM physical volume"),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of a Linux RAID"),
    (0, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of a Linux RAID"),
    (4086, b"SWAPSPACE2", "Linux swap space"),
    (3, b"NTFS    ", "an NTFS file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (54, b"FAT", "a FAT file system"),
    (82, b"FAT32", "a FAT file system"),
    (0x8001, b"CD001", "an ISO 9660 image"),
    (0, b"hsqs", "a squashfs image"),
    (512, b"EFI PART", "a GPT partition table"),
    (4096, b"EFI PART", "a GPT partition table"),
    (0, b"QFI\xfb", "a qcow2 image"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, &[0x1f, 0x8b], "gzip data"),
    (0, &[0xfd, b'7', b'z', b'X', b'Z', 0], "xz data"),
    (0, &[0x28, 0xb5, 0x2f, 0xfd], "zstd data"),
    (0, b"PK\x03\x04", "a zip archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x7fELF", "an ELF program"),
    (0, b"#!", "a script"),
    (510, &[0x55, 0xaa], "an MBR partition table"),
];

/// Names what begins with `sample`, the first [`SAMPLE_BYTES`] of a file or all of it, if it is shorter.
#[must_use]
pub fn name(sample: &[u8]) -> &'static str {
    let marked = MARKS.iter().find(|(at, mark, _)| bytes(sample, *at, mark.len()) == Some(*mark));
    // The mark of ext is two bytes only: everything else is asked first but the partition table, which ext may carry.
    match (marked, ext(sample)) {
        (None | Some((510, _, _)), Some(ext)) => ext,
        (Some((_, _, name)), _) => name,
        (None, None) if is_text(sample) => "text",
        (None, None) => "unknown data",
    }
}

/// ext2, ext3 and ext4 share a mark; their features tell them apart.
fn ext(sample: &[u8]) -> Option<&'static str> {
    const SUPERBLOCK: usize = 1024;
    let flags = |at: usize| bytes(sample, SUPERBLOCK + at, 4)?.try_into().ok().map(u32::from_le_bytes);
    if bytes(sample, SUPERBLOCK + 0x38, 2)? != [0x53, 0xef] {
        return None;
    }
    const HAS_JOURNAL: u32 = 0x4;
    const EXTENTS_64BIT_FLEX: u32 = 0x40 | 0x80 | 0x200;
    let (compatible, incompatible) = (flags(0x5c)?, flags(0x60)?);
    Some(if incompatible & EXTENTS_64BIT_FLEX != 0 {
        "an ext4 file system"
    } else if compatible & HAS_JOURNAL != 0 {
        "an ext3 file system"
    } else {
        "an ext2 file system"
    })
}

fn is_text(sample: &[u8]) -> bool {
    let text = match std::str::from_utf8(sample) {
        Ok(text) => text,
        // The sample may end inside a character.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&sample[..error.valid_up_to()]).unwrap_or(""),
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|sign| !sign.is_control() || matches!(sign, '\n' | '\r' | '\t' | '\u{c}'))
}

fn bytes(sample: &[u8], at: usize, count: usize) -> Option<&[u8]> {
    sample.get(at..at.checked_add(count)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(marks: &[(usize, &[u8])]) -> Vec<u8> {
        let mut sample = vec![0; SAMPLE_BYTES];
        for (at, mark) in marks {
            sample[*at..at + mark.len()].copy_from_slice(mark);
        }
        sample
    }

    #[test]
    fn every_mark_names_what_bears_it() {
        for (at, mark, expected) in MARKS {
            assert_eq!(name(&with(&[(at, mark)])), expected);
        }
    }

    #[test]
    fn the_ext_family_is_told_apart_by_its_features() {
        let mark: (usize, &[u8]) = (0x438, &[0x53, 0xef]);
        assert_eq!(name(&with(&[mark])), "an ext2 file system");
        assert_eq!(name(&with(&[mark, (0x45c, &[4])])), "an ext3 file system");
        assert_eq!(name(&with(&[mark, (0x45c, &[4]), (0x460, &[0x40])])), "an ext4 file system");
        assert_eq!(name(&with(&[mark, (510, &[0x55, 0xaa])])), "an ext2 file system", "with a boot sector");
    }

    #[test]
    fn a_boot_sector_of_a_file_system_is_no_partition_table() {
        assert_eq!(name(&with(&[(3, b"NTFS    "), (510, &[0x55, 0xaa])])), "an NTFS file system");
        assert_eq!(name(&with(&[(510, &[0x55, 0xaa]), (512, b"EFI PART")])), "a GPT partition table");
    }

    #[test]
    fn what_bears_no_mark_is_text_or_unknown() {
        assert_eq!(name("Gr\u{fc}\u{df}e\n".as_bytes()), "text");
        assert_eq!(name(&"\u{fc}".as_bytes()[..1]), "unknown data");
        assert_eq!(name(&[1, 2, 3]), "unknown data");
        assert_eq!(name(&with(&[(700, b"x")])), "unknown data", "shorter marks than the sample do no harm");
    }
}
