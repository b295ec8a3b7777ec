//! What can be wrong with the newest registration record.

use phalanx_messages::registration::{Presence, RegistrationRecord, RunState, ServiceRecord, ServiceRun, Sight};
use phalanx_messages::{Incarnation, NodeId, OperationId, Revision};

use super::super::check;
use super::{N0, N1, REVISION, error_after, image, put, registration, running};

#[track_caller]
fn service_error(change: impl FnOnce(&mut ServiceRun)) -> String {
    let found = error_after(|image| {
        let mut run = running();
        change(&mut run);
        put(&mut image.registrations, N0, registration(run));
    });
    assert_eq!((found.place.region, found.place.node), ("RD", Some(N0)));
    found.what
}

#[test]
fn a_service_is_placed_on_a_configured_node_that_has_started() {
    let what = service_error(|run| run.node.node = NodeId(5));
    assert_eq!(what, "service `s` is Registered on #5, which is not configured");
    let what = service_error(|run| run.node.incarnation = Incarnation(9));
    assert_eq!(what, "service `s` is Registered on incarnation 9 of n0, which never started");
}

#[test]
fn an_operation_lies_within_the_revision_and_a_move_within_its_states() {
    let ahead = OperationId { revision: Revision { seq: 8, ..REVISION }, index: 0 };
    let what = service_error(|run| run.operation = ahead);
    assert_eq!(what, "service `s` has operation 3.8.0 and generation 3.7.0 in revision 3.7");
    assert!(
        service_error(|run| run.operation = OperationId::default()).contains("operation 0.0.0 and generation 3.7.0")
    );
    let what = service_error(|run| (run.state, run.transfer_intent) = (RunState::Failed, true));
    assert_eq!(what, "service `s` is Failed and being moved (I-R10)");
    let what = service_error(|run| (run.state, run.moving) = (RunState::Stopping, true));
    assert_eq!(what, "service `s` is Stopping and about to stop for a move");
    let what = service_error(|run| run.state = RunState::Recovering);
    assert_eq!(what, "service `s` is Recovering after no victim (I-R5)");
}

#[track_caller]
fn registration_error(change: impl FnOnce(&mut RegistrationRecord)) -> String {
    let found = error_after(|image| {
        let mut record = registration(running());
        change(&mut record);
        put(&mut image.registrations, N0, record);
    });
    assert_eq!((found.place.region, found.place.node), ("RD", Some(N0)));
    found.what
}

#[test]
fn the_registration_database_fits_the_disk_and_saw_no_start_that_never_was() {
    let found = |change: fn(&mut RegistrationRecord)| registration_error(change);
    let sight = |record: &mut RegistrationRecord| {
        record.view.insert(N1, Sight { incarnation: Incarnation(4), presence: Presence::Joined });
    };
    assert_eq!(found(sight), "incarnation 4 of n1 was seen, and its register has less");
    let many = |record: &mut RegistrationRecord| {
        for name in ["t", "u", "v", "w"] {
            let mut service = record.services["s"].clone();
            service.definition.name = name.to_owned();
            record.services.insert(name.to_owned(), service);
        }
    };
    assert_eq!(found(many), "5 services are on a disk for 4");
    let renamed =
        |record: &mut RegistrationRecord| record.services.get_mut("s").unwrap().definition.name = "x".to_owned();
    assert_eq!(found(renamed), "service `s` has the definition of `x`");
}

/// An event, the group that names it, and the service that names the group; and a child.
fn define(record: &mut RegistrationRecord) {
    let text = "[[service]]\nname = \"s\"\nevent_group = \"g\"\n[[service]]\nname = \"t\"\nparent = \"s\"\n\
                [[event]]\nname = \"e\"\nwatcher = \"timer\"\nin = { interval = \"1s\" }\n\
                [[event]]\nname = \"o\"\nwatcher = \"external:queue\"\nin = { least = 3 }\n\
                [[event_group]]\nname = \"g\"\nevents = [\"e\", \"o\"]\n";
    let template = crate::config::ClusterTemplate::of_text("t", text, &["n0".to_owned()]).unwrap();
    for definition in template.services {
        let run = record.services.get(&definition.name).map(|service| service.run.clone()).unwrap_or_default();
        record.services.insert(definition.name.clone(), ServiceRecord::new(definition, run));
    }
    record.events = template.events.events.into_iter().map(|event| (event.name.clone(), event)).collect();
    record.event_groups = template.events.groups.into_iter().map(|group| (group.name.clone(), group)).collect();
}

#[test]
fn every_name_in_the_registration_database_means_something() {
    let mut sound = image();
    let mut record = registration(running());
    define(&mut record);
    put(&mut sound.registrations, N0, record);
    assert_eq!(check(&sound), []);
    let found = |change: fn(&mut RegistrationRecord)| {
        registration_error(|record| {
            define(record);
            change(record);
        })
    };
    let event = |record: &mut RegistrationRecord| record.events.get_mut("e").unwrap().watcher = "tmier".to_owned();
    assert_eq!(found(event), "event `e` has the watcher `tmier`, which is unknown");
    let event = |record: &mut RegistrationRecord| record.events.get_mut("e").unwrap().parameters.clear();
    assert_eq!(found(event), "event `e`: watcher `timer` needs IN parameter `interval`");
    let event = |record: &mut RegistrationRecord| record.events.get_mut("e").unwrap().name = "x".to_owned();
    assert_eq!(found(event), "event `e` has the definition of `x`");
    let event = |record: &mut RegistrationRecord| drop(record.events.remove("o"));
    assert_eq!(found(event), "event group `g` names `o`, which is no event");
    let group = |record: &mut RegistrationRecord| record.event_groups.get_mut("g").unwrap().nodes = vec![NodeId(5)];
    assert_eq!(found(group), "event group `g` names #5, which is not configured");
    let group = |record: &mut RegistrationRecord| record.event_groups.get_mut("g").unwrap().name = "h".to_owned();
    assert_eq!(found(group), "event group `g` has the definition of `h`");
    let group = |record: &mut RegistrationRecord| drop(record.event_groups.remove("g"));
    assert_eq!(found(group), "service `s` names `g`, which is no event group");
    let standby = |record: &mut RegistrationRecord| assert!(record.standby.insert(NodeId(5)));
    assert_eq!(found(standby), "#5 is on standby and not configured");
    let parent = |record: &mut RegistrationRecord| {
        record.services.get_mut("s").unwrap().definition.parent = Some("u".to_owned());
    };
    assert_eq!(found(parent), "service `s` has the parent `u`, which is no service");
    let circle = |record: &mut RegistrationRecord| {
        record.services.get_mut("s").unwrap().definition.parent = Some("t".to_owned());
    };
    assert_eq!(found(circle), "parents of services form a circle: s -> t -> s");
}
