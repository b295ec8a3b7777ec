//! The 96 bytes at the begin of every block (protocol §2), and the only place that knows where they lie.
//!
//! The checksum covers the whole block, so a torn block is seen; the address, cluster and owner are in the block, so a
//! misdirected write is seen; the write id is the same in all parts of one write, so a half-written record is seen.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | magic `PHLX` |
//! | 4..6 | record type |
//! | 6, 7 | format version, major and minor |
//! | 8..24 | cluster uuid |
//! | 24..32 | own address |
//! | 32..34, 34..36, 36..38, 38..40 | owner node, slot, part index, part count |
//! | 40..48 | incarnation of the writer |
//! | 48..56 | epoch: term or depoch |
//! | 56..64 | sequence of the register |
//! | 64..80 | write id: hash of the boot id, counter |
//! | 80..84 | bytes of payload in this block |
//! | 84..88 | CRC-32C of the block with this field zero |
//! | 88..96 | zero |

use phalanx_messages::{Incarnation, NodeId, Term};
use uuid::Uuid;

use crate::block::{BLOCK_BYTES, Block, BlockIndex};
use crate::error::BlockFault;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 96;
/// Bytes of payload a block can carry.
pub const PAYLOAD_BYTES: usize = BLOCK_BYTES - HEADER_BYTES;
/// Format version that is written and the only major version that is read.
pub const MAJOR: u8 = 5;
/// A block of a larger minor version is read; what follows the known fields is ignored.
pub const MINOR: u8 = 0;

const MAGIC: [u8; 4] = *b"PHLX";
const CHECKSUM_AT: usize = 84;

/// What kind of record a block belongs to. The numbers are on disks: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum RecordType {
    /// `SB`.
    Superblock = 1,
    /// `NB`.
    NodeRegister = 2,
    /// `MA`.
    Membership = 3,
    /// `CF`.
    Configuration = 4,
    /// `DL`.
    Decision = 5,
    /// `RD`.
    Registration = 6,
    /// `RL`: one entry of a redo log of the registration database.
    RegistrationRedo = 7,
}

/// Tells one write from every other: equal in all parts of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId {
    /// Hash of the boot id of the writer's host.
    pub boot: u64,
    /// Counts the writes of the writing process.
    pub counter: u64,
}

/// The decoded header of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Record type as it stands in the block.
    pub record_type: u16,
    /// Minor format version of the writer.
    pub minor: u8,
    /// Cluster.
    pub cluster: Uuid,
    /// Own address.
    pub address: BlockIndex,
    /// Node whose register this is.
    pub owner: NodeId,
    /// Slot 0 or 1.
    pub slot: u16,
    /// Index of this part.
    pub part: u16,
    /// Parts of the record.
    pub parts: u16,
    /// Incarnation of the writer.
    pub incarnation: Incarnation,
    /// Term or depoch of the record.
    pub epoch: Term,
    /// Sequence of the register; its lowest bit is the slot (protocol R-3).
    pub sequence: u64,
    /// The write.
    pub write: WriteId,
    /// Bytes of payload in this block.
    pub payload_bytes: u32,
}

/// Makes a whole block of a header and the payload of this part. `payload_bytes` is taken from the payload.
///
/// # Panics
/// If the payload is longer than [`PAYLOAD_BYTES`].
#[must_use]
pub fn seal(header: &Header, payload: &[u8]) -> Block {
    assert!(payload.len() <= PAYLOAD_BYTES, "a part of {} bytes does not fit a block", payload.len());
    let mut block = Block::default();
    let bytes = &mut block.0;
    bytes[0..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&header.record_type.to_le_bytes());
    bytes[6..8].copy_from_slice(&[MAJOR, header.minor]);
    bytes[8..24].copy_from_slice(header.cluster.as_bytes());
    bytes[24..32].copy_from_slice(&header.address.0.to_le_bytes());
    bytes[32..34].copy_from_slice(&header.owner.0.to_le_bytes());
    bytes[34..36].copy_from_slice(&header.slot.to_le_bytes());
    bytes[36..38].copy_from_slice(&header.part.to_le_bytes());
    bytes[38..40].copy_from_slice(&header.parts.to_le_bytes());
    bytes[40..48].copy_from_slice(&header.incarnation.0.to_le_bytes());
    bytes[48..56].copy_from_slice(&header.epoch.0.to_le_bytes());
    bytes[56..64].copy_from_slice(&header.sequence.to_le_bytes());
    bytes[64..72].copy_from_slice(&header.write.boot.to_le_bytes());
    bytes[72..80].copy_from_slice(&header.write.counter.to_le_bytes());
    let payload_bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX); // below 4096 by the assertion
    bytes[80..84].copy_from_slice(&payload_bytes.to_le_bytes());
    bytes[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(payload);
    reseal(&mut block);
    block
}

/// Checks a block by itself: written at all, ours, a version we know, not torn. `address` is where it was read.
///
/// # Errors
/// The first thing that is wrong.
pub fn unseal(block: &Block, address: BlockIndex) -> Result<Header, BlockFault> {
    let magic = field::<4>(block, 0);
    if magic != MAGIC {
        return Err(if block.is_blank() { BlockFault::Blank } else { BlockFault::Magic { found: magic } });
    }
    let [major, minor] = field::<2>(block, 6);
    if major != MAJOR {
        return Err(BlockFault::Version { major, minor });
    }
    let (stored, computed) = (u32::from_le_bytes(field(block, CHECKSUM_AT)), checksum(block));
    if stored != computed {
        return Err(BlockFault::Checksum { stored, computed });
    }
    let header = decode(block, minor);
    if header.address != address {
        return Err(BlockFault::Address { found: header.address });
    }
    if header.payload_bytes as usize > PAYLOAD_BYTES {
        let (found, expected) = (u64::from(header.payload_bytes), PAYLOAD_BYTES as u64);
        return Err(BlockFault::Place { field: "payload length", found, expected });
    }
    Ok(header)
}

/// Gives a block that was changed a right checksum: for tests of what lies behind it.
pub fn reseal(block: &mut Block) {
    let checksum = checksum(block);
    block.0[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// True if these bytes begin as a block of ours does, whatever became of the rest.
#[must_use]
pub fn has_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The payload of a block that [`unseal`] has accepted.
#[must_use]
pub fn payload<'a>(block: &'a Block, header: &Header) -> &'a [u8] {
    let end = (HEADER_BYTES + header.payload_bytes as usize).min(BLOCK_BYTES);
    &block.0[HEADER_BYTES..end]
}

fn decode(block: &Block, minor: u8) -> Header {
    Header {
        record_type: u16::from_le_bytes(field(block, 4)),
        minor,
        cluster: Uuid::from_bytes(field(block, 8)),
        address: BlockIndex(u64::from_le_bytes(field(block, 24))),
        owner: NodeId(u16::from_le_bytes(field(block, 32))),
        slot: u16::from_le_bytes(field(block, 34)),
        part: u16::from_le_bytes(field(block, 36)),
        parts: u16::from_le_bytes(field(block, 38)),
        incarnation: Incarnation(u64::from_le_bytes(field(block, 40))),
        epoch: Term(u64::from_le_bytes(field(block, 48))),
        sequence: u64::from_le_bytes(field(block, 56)),
        write: WriteId { boot: u64::from_le_bytes(field(block, 64)), counter: u64::from_le_bytes(field(block, 72)) },
        payload_bytes: u32::from_le_bytes(field(block, 80)),
    }
}

/// CRC-32C of the block with the checksum field zero.
fn checksum(block: &Block) -> u32 {
    let before = crc32c::crc32c(&block.0[..CHECKSUM_AT]);
    let field = crc32c::crc32c_append(before, &[0; 4]);
    crc32c::crc32c_append(field, &block.0[CHECKSUM_AT + 4..])
}

fn field<const BYTES: usize>(block: &Block, at: usize) -> [u8; BYTES] {
    let mut field = [0; BYTES];
    field.copy_from_slice(&block.0[at..at + BYTES]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            record_type: RecordType::NodeRegister as u16,
            minor: MINOR,
            cluster: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            address: BlockIndex(7),
            owner: NodeId(2),
            slot: 1,
            part: 0,
            parts: 1,
            incarnation: Incarnation(41),
            epoch: Term(3),
            sequence: 0x0102_0304_0506_0709,
            write: WriteId { boot: 0xaa, counter: 0xbb },
            payload_bytes: 5,
        }
    }

    #[test]
    fn golden_bytes_of_a_header() {
        let block = seal(&header(), b"hello");
        #[rustfmt::skip]
        let golden = [
            b'P', b'H', b'L', b'X', 2, 0, 5, 0,
            0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
            7, 0, 0, 0, 0, 0, 0, 0,
            2, 0, 1, 0, 0, 0, 1, 0,
            41, 0, 0, 0, 0, 0, 0, 0,
            3, 0, 0, 0, 0, 0, 0, 0,
            9, 7, 6, 5, 4, 3, 2, 1,
            0xaa, 0, 0, 0, 0, 0, 0, 0, 0xbb, 0, 0, 0, 0, 0, 0, 0,
            5, 0, 0, 0,
        ];
        assert_eq!(block.0[..84], golden);
        assert_eq!(block.0[88..101], *b"\0\0\0\0\0\0\0\0hello");
        assert!(block.0[101..].iter().all(|byte| *byte == 0));
        assert_eq!(unseal(&block, BlockIndex(7)), Ok(header()));
        assert_eq!(payload(&block, &header()), b"hello");
    }

    #[test]
    fn every_changed_byte_is_seen() {
        let block = seal(&header(), b"hello");
        for at in 0..BLOCK_BYTES {
            let mut changed = block.clone();
            changed.0[at] ^= 0x10;
            assert!(unseal(&changed, BlockIndex(7)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_fault_names_what_is_wrong() {
        let mut block = Block::default();
        assert_eq!(unseal(&block, BlockIndex(7)), Err(BlockFault::Blank));
        block.0[..4].copy_from_slice(b"LVM2");
        assert_eq!(unseal(&block, BlockIndex(7)), Err(BlockFault::Magic { found: *b"LVM2" }));
        let mut block = seal(&header(), b"hello");
        assert_eq!(unseal(&block, BlockIndex(8)), Err(BlockFault::Address { found: BlockIndex(7) }));
        block.0[2000] = 1;
        assert!(matches!(unseal(&block, BlockIndex(7)), Err(BlockFault::Checksum { .. })));
        // Records of other major versions have other fields: they are never read, neither older nor newer ones.
        for major in [MAJOR - 1, MAJOR + 1] {
            block.0[6] = major;
            assert_eq!(unseal(&block, BlockIndex(7)), Err(BlockFault::Version { major, minor: 0 }));
        }
    }
}
