//! Disk requests of registration-and-launch: decision registers and registration databases (`phalanx_actors::disk`).

use std::sync::Arc;

use phalanx_messages::NodeId;
use phalanx_protocol::launcher::{LauncherInput, LauncherRead, LauncherWrite, RegistrationReader};

use super::World;
use super::disk_actor::FAILED;

impl World {
    pub(super) fn begin_service_write(&mut self, node: NodeId, write: &LauncherWrite) {
        match write {
            LauncherWrite::Decision(register) => {
                if let Some(cell) = self.disk.decisions.get_mut(&node) {
                    cell.begin(Arc::new(*register), true);
                }
            }
            LauncherWrite::Registration { record, durable } => {
                let base = self.services(node).map(|services| services.base).unwrap_or_default();
                let found = self.truth.services.database_written(record, base);
                self.broken_all(found);
                if let Some(cell) = self.disk.registrations.get_mut(&node) {
                    cell.begin(Arc::clone(record), *durable);
                }
            }
        }
    }

    pub(super) fn end_service_write(&mut self, node: NodeId, write: &LauncherWrite) -> LauncherInput {
        let (fate, result) = self.write_fate();
        match write {
            LauncherWrite::Decision(_) => {
                if let Some(cell) = self.disk.decisions.get_mut(&node) {
                    cell.end(fate);
                }
            }
            LauncherWrite::Registration { record, .. } => {
                if let Some(cell) = self.disk.registrations.get_mut(&node) {
                    cell.end(fate);
                }
                if result.is_ok() {
                    self.truth.services.database_completed(record.revision);
                }
            }
        }
        LauncherInput::Written(result)
    }

    pub(super) fn service_read(&mut self, node: NodeId, read: LauncherRead) -> LauncherInput {
        let failed = self.random.chance(self.setup.weather.read_error);
        match read {
            LauncherRead::Decisions if failed => LauncherInput::DecisionsRead(Err(FAILED.to_owned())),
            LauncherRead::Decisions => {
                let unreadable = self.setup.weather.unreadable;
                let random = &mut self.random;
                let cells = self.disk.decisions.iter();
                let read = cells.map(|(id, cell)| (*id, (!random.chance(unreadable)).then(|| *cell.read(random))));
                LauncherInput::DecisionsRead(Ok(read.collect()))
            }
            LauncherRead::Registration(reader) if failed => {
                LauncherInput::RegistrationRead(reader, Err(FAILED.to_owned()))
            }
            LauncherRead::Registration(reader) => {
                let newest = self.disk.newest_registration(&mut self.random);
                if reader == RegistrationReader::Decisions
                    && let Some(services) = self.services_mut(node)
                {
                    services.base = newest.revision;
                }
                LauncherInput::RegistrationRead(reader, Ok(Some((*newest).clone())))
            }
        }
    }
}
