//! `phalanx disk ...`.

mod alone;
mod backup;
mod check;
mod create;
pub(crate) mod open;
mod repair;
mod show;
mod watch;

pub(crate) use create::create;
pub(super) use show::{configuration, configuration_and_definitions};

use super::Exit;
use super::args::{DiskCommand, Global};

/// Exit code "shared-disk I/O".
pub(crate) const EXIT_DISK: u8 = 74;
/// Exit code "refused without --force".
const EXIT_REFUSED: u8 = 107;

pub(super) fn run(command: DiskCommand, global: &Global) -> Result<(), Exit> {
    match command {
        DiskCommand::Create(arguments) => create::run(&arguments, global.output),
        DiskCommand::Show { path } => show::show(&path, global.output),
        DiskCommand::Check { path } => check::run(&path, global.output),
        DiskCommand::Repair { path, give_up_lost_records, dry_run } => {
            repair::run(&path, give_up_lost_records, dry_run, global.output)
        }
        DiskCommand::Backup { path, file } => backup::backup(&path, &file),
        DiskCommand::Restore { file, path, force } => backup::restore(&file, &path, force.as_deref()),
    }
}
