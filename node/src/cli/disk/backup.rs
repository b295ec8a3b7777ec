//! `phalanx disk backup` and `phalanx disk restore`: a whole disk as a file, and back.
//!
//! A restored disk is an older one: terms, depochs and incarnations that were used since would come again, and with them the
//! generations that services were told. So the restored registers claim to have used a million more of each.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use phalanx_messages::Incarnation;
use phalanx_messages::Term;
use phalanx_messages::register::{Claim, ClaimPhase, NodeRegister, OwnState};
use phalanx_messages::registration::DecisionRegister;
use phalanx_storage::{
    Access, BLOCK_BYTES, Backend, Block, BlockIndex, ClusterDisk, Durability, Geometry, MmapDisk, Occupant,
    Reservation, SharedDisk,
};

use super::alone::open_alone;
use super::create::{cannot_format, consent};
use super::open::unreadable;
use super::{EXIT_DISK, EXIT_REFUSED};
use crate::cli::Exit;
use crate::disk_check::{Image, check, is_sound};

/// Blocks moved at once.
const CHUNK_BLOCKS: u64 = 1_024;
/// What may have been used since a backup was made.
const SINCE_BACKUP: u64 = 1_000_000;

/// Copies a disk that nobody uses to a new file.
pub(super) fn backup(path: &Path, file: &Path) -> Result<(), Exit> {
    let disk = open_alone(path, Access::Alone)?;
    if !is_sound(&check(&Image::read(&disk).map_err(unreadable)?)) {
        anstream::eprintln!(
            "warning: {} is damaged; `phalanx disk check` says how, and the copy will be too",
            path.display()
        );
    }
    let failed = |error: io::Error| {
        Exit::code(EXIT_DISK, format!("failed to write {}: {error}", file.display())).hint("name another FILE")
    };
    let out = OpenOptions::new().write(true).create_new(true).open(file).map_err(failed)?;
    let blocks = disk.formatted_blocks();
    out.set_len(blocks * BLOCK_BYTES as u64).map_err(failed)?;
    for (first, chunk) in chunks(blocks) {
        let mut read = Block::zeroes(chunk);
        disk.read_blocks(first, &mut read).map_err(unreadable)?;
        for (index, block) in (first.0..).zip(&read).filter(|(_, block)| !block.is_blank()) {
            out.write_all_at(&block.0, index * BLOCK_BYTES as u64).map_err(failed)?;
        }
    }
    out.sync_all().map_err(failed)?;
    anstream::println!(
        "{}: cluster {}, {blocks} blocks, in {}",
        path.display(),
        disk.superblock().name,
        file.display()
    );
    Ok(())
}

fn chunks(blocks: u64) -> impl Iterator<Item = (BlockIndex, usize)> {
    let begins = (0..blocks.div_ceil(CHUNK_BLOCKS)).map(|chunk| chunk * CHUNK_BLOCKS);
    begins.map(move |first| (BlockIndex(first), usize::try_from(CHUNK_BLOCKS.min(blocks - first)).unwrap_or(0)))
}

/// Makes `path` the disk that `file` is a copy of.
pub(super) fn restore(file: &Path, path: &Path, force: Option<&str>) -> Result<(), Exit> {
    let copy = open_copy(file)?;
    let damaged = |why: &str| {
        let text = format!("{} is no sound copy of a disk: {why}", file.display());
        Exit::code(EXIT_DISK, text).hint("`phalanx disk check FILE` names what is damaged; nothing was written")
    };
    if !is_sound(&check(&Image::read(&copy).map_err(unreadable)?)) {
        return Err(damaged("it contradicts itself, or a pair of slots is unreadable"));
    }
    let look = |path: &Path| {
        Occupant::at(path)
            .map_err(|error| Exit::code(EXIT_DISK, format!("failed to look at {}: {error}", path.display())))
    };
    let judged = look(path)?;
    consent(path, &judged, force)?;
    let failed = |error: io::Error| cannot_format(path, &error);
    let mut reservation = Reservation::take(path).map_err(failed)?;
    let held = reservation.occupant().map_err(failed)?;
    if held != judged && !(held.is_free() && judged.is_free()) {
        let text = format!("{} has changed since it was looked at; nothing was written", path.display());
        return Err(Exit::code(EXIT_REFUSED, text).hint("run the command again"));
    }
    let blocks = copy.formatted_blocks();
    let target: Arc<dyn SharedDisk> = match copy.backend() {
        Backend::Mmap => Arc::new(reservation.allocate(blocks).map_err(failed)?),
        Backend::Direct => Arc::new(reservation.allocate_direct(blocks).map_err(failed)?),
    };
    fill(&copy, &target).map_err(failed)?;
    anstream::println!(
        "{}: cluster {}, restored from {}; start its nodes when nothing of it runs anywhere",
        path.display(),
        copy.superblock().name,
        file.display()
    );
    Ok(())
}

/// A copy is a file, whatever the disk was.
fn open_copy(file: &Path) -> Result<ClusterDisk, Exit> {
    let mapped = MmapDisk::open_read_only(file).map_err(|error| {
        Exit::code(EXIT_DISK, format!("failed to open {}: {error}", file.display()))
            .hint("`phalanx disk backup` makes it")
    })?;
    ClusterDisk::open(Arc::new(mapped)).map_err(|error| {
        Exit::code(EXIT_DISK, format!("{} is no copy of a disk: {error}", file.display()))
            .hint("`phalanx disk backup` makes one")
    })
}

/// Everything but the superblocks, then the claims, then the superblocks: at no point does a half of it open.
fn fill(copy: &ClusterDisk, target: &Arc<dyn SharedDisk>) -> io::Result<()> {
    let blocks = copy.formatted_blocks();
    let mut superblocks = BTreeMap::new();
    let places: Vec<BlockIndex> = copy.inspect_superblocks()?.into_iter().map(|(place, _)| place).collect();
    for (first, chunk) in chunks(blocks) {
        let mut read = Block::zeroes(chunk);
        copy.read_blocks(first, &mut read)?;
        for place in places.iter().copied() {
            if let Some(index) = place.0.checked_sub(first.0).and_then(|index| usize::try_from(index).ok())
                && index < chunk
            {
                superblocks.insert(place, std::mem::take(&mut read[index]));
            }
        }
        target.write_blocks(first, &read, Durability::Durable)?;
    }
    let overlaid = Overlaid { target: target.clone(), blocks, superblocks: superblocks.clone() };
    raise_claims(&ClusterDisk::open(Arc::new(overlaid)).map_err(io::Error::from)?)?;
    for (place, block) in superblocks {
        target.write_blocks(place, &[block], Durability::Durable)?;
    }
    target.flush()
}

fn raise_claims(disk: &ClusterDisk) -> io::Result<()> {
    let raised = |claim: Claim| {
        let term = Term(claim.term.max(claim.owned).0 + SINCE_BACKUP);
        Claim { term, phase: ClaimPhase::Withdrawn, owned: term }
    };
    for (node, register) in disk.registers().read_all()? {
        let Some(register) = register.filter(|register| register.own_state != OwnState::Never) else { continue };
        let incarnation = Incarnation(register.incarnation.0 + SINCE_BACKUP);
        let record = NodeRegister { incarnation, claim: raised(register.claim), pills: Vec::new(), ..register };
        let mut writer = disk.registers().writer(node, incarnation)?;
        writer.write(&record, Durability::Durable).map_err(io::Error::from)?;
    }
    for (node, decision) in disk.decisions().read_all()? {
        let Some(decision) = decision.filter(|decision| decision.claim != Claim::default()) else { continue };
        let incarnation = Incarnation(decision.incarnation.0 + SINCE_BACKUP);
        let record = DecisionRegister { incarnation, claim: raised(decision.claim) };
        let mut writer = disk.decisions().writer(node, incarnation)?;
        writer.write(&record, Durability::Durable).map_err(io::Error::from)?;
    }
    Ok(())
}

/// A disk whose superblocks are not written yet.
struct Overlaid {
    target: Arc<dyn SharedDisk>,
    blocks: u64,
    superblocks: BTreeMap<BlockIndex, Block>,
}

impl SharedDisk for Overlaid {
    fn geometry(&self) -> Geometry {
        Geometry { block_count: self.blocks, ..self.target.geometry() }
    }

    fn read_blocks(&self, first: BlockIndex, blocks: &mut [Block]) -> io::Result<()> {
        self.target.read_blocks(first, blocks)?;
        for (index, block) in (first.0..).zip(blocks) {
            if let Some(superblock) = self.superblocks.get(&BlockIndex(index)) {
                block.clone_from(superblock);
            }
        }
        Ok(())
    }

    fn write_blocks(&self, first: BlockIndex, blocks: &[Block], durability: Durability) -> io::Result<()> {
        self.target.write_blocks(first, blocks, durability)
    }
}
