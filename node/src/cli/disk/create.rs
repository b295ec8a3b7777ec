//! `phalanx disk create` (architecture §5): what is at the path decides whether it may be formatted.
//!
//! Nothing is touched before everything that can be refused has been refused, and what was judged is looked at again once
//! nobody else can change it.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use phalanx_actors::clock::wall_now_ms;
use phalanx_messages::configuration::ConfigurationRecord;
use phalanx_messages::registration::RegistrationRecord;
use phalanx_storage::opening::{self, OpenError};
use phalanx_storage::{
    Access, BLOCK_BYTES, Backend, ClusterDisk, Format, Layout, Occupant, Reservation, StorageError, Superblock,
};

use super::open::cannot_open;
use super::watch::{Sight, Until, watch};
use super::{EXIT_DISK, EXIT_REFUSED};
use crate::cli::args::{CreateArguments, Output};
use crate::cli::node::{EXIT_CONFIGURATION, load};
use crate::cli::report::disk::CreatedReport;
use crate::cli::{Exit, print};
use crate::config::{EventDefinitions, NodeConfig};

pub(super) fn run(arguments: &CreateArguments, output: Output) -> Result<(), Exit> {
    let config = load(&arguments.config)?;
    if let Some(path) = arguments.path.as_deref().filter(|path| !is_same(path, &config.disk)) {
        let text = format!(
            "PATH is {}, and `path` under [disk] in {} is {}",
            path.display(),
            arguments.config.display(),
            config.disk.display()
        );
        return Err(Exit::code(EXIT_CONFIGURATION, text).hint("name the same disk twice, or leave PATH out"));
    }
    let plan = Plan::new(&config, arguments.nodes_max, arguments.services_max)?;
    let occupant = look(&config)?;
    consent(&config.disk, &occupant, arguments.force.as_deref())?;
    plan.carry_out(&config.disk, &occupant)?;
    match output {
        Output::Json => anstream::println!("{}", print::json(&plan.report(&config.disk))?),
        Output::Text => {
            anstream::print!("{}", plan.layout);
            anstream::println!("{} formatted for cluster {}", config.disk.display(), config.cluster);
        }
    }
    Ok(())
}

/// Formats the disk of a configuration where nothing is yet.
pub(crate) fn create(config: &NodeConfig, nodes_max: u16, services_max: u32) -> Result<(), Exit> {
    let plan = Plan::new(config, nodes_max, services_max)?;
    let occupant = look(config)?;
    consent(&config.disk, &occupant, None)?;
    plan.carry_out(&config.disk, &occupant)
}

/// One path or two for the same file.
fn is_same(given: &Path, configured: &Path) -> bool {
    let whole = |path: &Path| -> PathBuf {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // Of a file that is not there yet, the directory may still have several names.
        let directory = absolute.parent().and_then(|directory| directory.canonicalize().ok());
        let in_directory = directory.zip(absolute.file_name()).map(|(directory, name)| directory.join(name));
        absolute.canonicalize().ok().or(in_directory).unwrap_or(absolute)
    };
    whole(given) == whole(configured)
}

fn look(config: &NodeConfig) -> Result<Occupant, Exit> {
    let path = &config.disk;
    if config.backend == Backend::Mmap && is_block_device(path) {
        let text = format!("{} is a block device, and an mmap disk must be a regular file", path.display());
        return Err(Exit::code(EXIT_DISK, text).hint("use `backend = \"direct\"` under [disk]"));
    }
    Occupant::at(path).map_err(|error| {
        Exit::code(EXIT_DISK, format!("failed to look at {}: {error}", path.display()))
            .hint("is `path` under [disk] right, and may this user read it?")
    })
}

fn is_block_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

/// Everything that will be written.
struct Plan {
    layout: Layout,
    superblock: Superblock,
    backend: Backend,
    configuration: ConfigurationRecord,
    services: RegistrationRecord,
}

impl Plan {
    fn new(config: &NodeConfig, nodes_max: u16, services_max: u32) -> Result<Self, Exit> {
        let highest = config.cluster_nodes.iter().map(|node| node.id.0).max().unwrap_or(0);
        if highest >= nodes_max {
            let text = format!("node id {highest} does not fit a disk for {nodes_max} nodes");
            return Err(Exit::error(text).hint(format!("`--nodes-max {}` makes it fit", highest + 1)));
        }
        if config.services.len() > services_max as usize {
            let count = config.services.len();
            let text = format!("{count} services do not fit a disk for {services_max}");
            return Err(Exit::error(text).hint(format!("`--services-max {count}` makes them fit")));
        }
        let layout = Layout::new(nodes_max, services_max).map_err(|error| Exit::error(error.to_string()))?;
        let superblock = Superblock {
            cluster: uuid::Uuid::now_v7(),
            name: config.cluster.clone(),
            nodes_max,
            services_max,
            profile: config.profile,
            created_at_ms: wall_now_ms(),
        };
        let EventDefinitions { events, groups } = config.events.clone();
        let services = RegistrationRecord {
            events: events.into_iter().map(|event| (event.name.clone(), event)).collect(),
            event_groups: groups.into_iter().map(|group| (group.name.clone(), group)).collect(),
            ..RegistrationRecord::of_definitions(config.services.iter().cloned())
        };
        let plan =
            Self { layout, superblock, backend: config.backend, configuration: config.configuration(), services };
        plan.format(plan.layout.blocks_needed())?; // refused before anything is looked at
        Ok(plan)
    }

    /// What will be written to a disk of so many blocks.
    fn format(&self, block_count: u64) -> Result<Format, Exit> {
        let Self { superblock, backend, configuration, services, .. } = self;
        Format::prepare(block_count, *backend, superblock, configuration, services).map_err(|error| {
            let raise = "`--nodes-max` and `--services-max` decide how large each record may be";
            Exit::error(with_causes(&error)).hint(raise)
        })
    }

    /// Formats `path`, if it still holds what was judged.
    fn carry_out(&self, path: &Path, judged: &Occupant) -> Result<(), Exit> {
        let failed = |error: std::io::Error| cannot_format(path, &error);
        let mut reservation = Reservation::take(path).map_err(failed)?;
        let held = reservation.occupant().map_err(failed)?;
        if held != *judged && !(held.is_free() && judged.is_free()) {
            let text = format!("{} has changed since it was looked at; nothing was written", path.display());
            return Err(Exit::code(EXIT_REFUSED, text).hint("run the command again"));
        }
        let needed = self.layout.blocks_needed();
        let blocks = reservation.blocks(needed).map_err(failed)?.max(needed);
        let format = self.format(blocks)?;
        let written = match self.backend {
            Backend::Mmap => format.write(&reservation.allocate(blocks).map_err(failed)?),
            Backend::Direct => format.write(&reservation.allocate_direct(blocks).map_err(failed)?),
        };
        written.map_err(|error| {
            if *judged == Occupant::Absent {
                std::fs::remove_file(path).ok(); // the error that led here is told
            }
            Exit::code(EXIT_DISK, format!("failed to format {}: {}", path.display(), with_causes(&error)))
                .hint("run the command again with --force; until then no node uses the disk")
        })
    }

    fn bytes(&self, path: &Path) -> u64 {
        let device = || opening::open(path, Access::ReadOnly).map(|disk| disk.geometry().block_count);
        let blocks = if is_block_device(path) { device().ok() } else { None };
        blocks.unwrap_or(self.layout.blocks_needed()) * BLOCK_BYTES as u64
    }

    fn report(&self, path: &Path) -> CreatedReport {
        CreatedReport {
            path: path.display().to_string(),
            name: self.superblock.name.clone(),
            cluster: self.superblock.cluster.to_string(),
            nodes_max: self.superblock.nodes_max,
            services_max: self.superblock.services_max,
            bytes: self.bytes(path),
            backend: self.backend.name().to_owned(),
        }
    }
}

pub(super) fn cannot_format(path: &Path, error: &std::io::Error) -> Exit {
    if error.kind() == std::io::ErrorKind::ResourceBusy {
        let text = format!("{} is in use: another process has locked it", path.display());
        return Exit::code(EXIT_REFUSED, text)
            .hint("a node of this host runs on it, or somebody formats it; `phalanx node leave` ends a node");
    }
    if error.kind() == std::io::ErrorKind::StorageFull {
        return Exit::code(EXIT_DISK, error.to_string())
            .hint("make room, choose another `path`, or format for fewer with `--nodes-max` and `--services-max`");
    }
    Exit::code(EXIT_DISK, format!("failed to format {}: {error}", path.display()))
        .hint("is `path` under [disk] right, and may this user write there?")
}

fn with_causes(error: &StorageError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text += &format!(": {source}");
        cause = source.source();
    }
    text
}

/// May what is there be overwritten?
pub(super) fn consent(path: &Path, occupant: &Occupant, force: Option<&str>) -> Result<(), Exit> {
    let named = |what: &str| match force {
        Some(_) => Ok(()),
        None => {
            let text = format!("{} holds {what}", path.display());
            Err(Exit::code(EXIT_REFUSED, text).hint("is `path` under [disk] right? `--force` overwrites it"))
        }
    };
    match occupant {
        Occupant::Absent | Occupant::Blank { .. } => Ok(()),
        Occupant::NotAFile { what } => Err(Exit::code(
            EXIT_DISK,
            format!("{} is {what}; the shared disk must be a regular file or a block device", path.display()),
        )
        .hint("let `path` under [disk] name a file")),
        Occupant::Foreign { what, bytes } => named(&format!("{what} ({bytes} bytes)")),
        Occupant::OtherVersion { major, minor } => named(&format!("a Phalanx disk of format version {major}.{minor}")),
        Occupant::Headless { .. } => {
            named("a Phalanx disk whose formatting was interrupted or whose superblocks are damaged")
        }
        Occupant::Phalanx { superblock, .. } => cluster_consent(path, &superblock.name, force),
    }
}

fn cluster_consent(path: &Path, cluster: &str, force: Option<&str>) -> Result<(), Exit> {
    if let Some(name) = force.filter(|name| *name != cluster) {
        let given = if name.is_empty() { "no cluster".to_owned() } else { format!("cluster `{name}`") };
        let text = format!("{} is the disk of cluster `{cluster}`, and --force names {given}", path.display());
        return Err(Exit::code(EXIT_REFUSED, text).hint(format!("`--force {cluster}` would destroy that cluster")));
    }
    match opening::open(path, Access::ReadOnly) {
        Ok(disk) => refuse_if_alive(path, &disk)?,
        Err(error @ (OpenError::Busy { .. } | OpenError::Io { .. } | OpenError::Missing { .. })) => {
            return Err(cannot_open(&error));
        }
        // Damaged, so there is nothing to watch; a node of this host that has it open still holds its lock.
        Err(error) => anstream::eprintln!("{error}"),
    }
    if force.is_some() {
        return Ok(());
    }
    let text = format!("{} is the disk of cluster `{cluster}`; no node of it is alive", path.display());
    Err(Exit::code(EXIT_REFUSED, text).hint(format!("`--force {cluster}` destroys that cluster for good")))
}

fn refuse_if_alive(path: &Path, disk: &ClusterDisk) -> Result<(), Exit> {
    let sight = Sight::take(disk)?;
    let (superblock, nodes) = (disk.superblock(), sight.configuration.nodes.len());
    let (name, cluster) = (&superblock.name, superblock.cluster);
    anstream::eprint!(
        "{} is the disk of cluster `{name}` ({cluster}), {nodes} nodes\n{}",
        path.display(),
        sight.table()
    );
    let alive = watch(disk, &sight, Until::First)?;
    if alive.is_empty() {
        return Ok(());
    }
    let text = format!("cluster `{name}` on {} is alive: {} wrote a heartbeat", path.display(), alive.join(", "));
    Err(Exit::code(EXIT_REFUSED, text)
        .hint("take its nodes out with `phalanx node leave` first; --force never overwrites a live disk"))
}
