//! One node's event manager daemon as the spec describes it.

use std::sync::Arc;

use phalanx_messages::event::{EventDefinition, EventGroupDefinition, ParameterValue, Parameters};
use phalanx_messages::launch::LaunchResult;
use phalanx_messages::registration::{Presence, RegistrationRecord, RunState, ServiceRecord, ServiceRun, Sight};
use phalanx_messages::service::{Invocation, ServiceCommand, ServiceDefinition};
use phalanx_messages::{Incarnation, Instant, NodeId, NodeIncarnation, OperationId, Revision, Term};

use super::*;
use crate::moment::Moment;

const N0: NodeIncarnation = NodeIncarnation { node: NodeId(0), incarnation: Incarnation(1) };
const N1: NodeIncarnation = NodeIncarnation { node: NodeId(1), incarnation: Incarnation(4) };

fn at(ms: u64) -> Moment {
    Moment { now: Instant(1_000_000 + ms), open: true, may_act: true }
}

fn text(text: &str) -> ParameterValue {
    ParameterValue::Text(text.to_owned())
}

fn arguments(words: &[&str]) -> Option<ServiceCommand> {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    Some(ServiceCommand { run: Invocation::Arguments(words), timeout_ms: 1_000, retries: 0 })
}

/// Fires when no process of that name runs.
fn event(name: &str) -> EventDefinition {
    EventDefinition {
        name: name.to_owned(),
        watcher: "process".to_owned(),
        parameters: [("name".to_owned(), text("httpd"))].into(),
        action: arguments(&["repair", "--of=${in.name}", "${out.pid}"]),
        quiet_ms: 0,
    }
}

fn group(events: &[&str]) -> EventGroupDefinition {
    let events = events.iter().map(|event| (*event).to_owned()).collect();
    EventGroupDefinition { name: "web-events".to_owned(), events, nodes: Vec::new(), enabled: true }
}

fn service(name: &str, state: RunState, node: NodeIncarnation, seq: u64) -> ServiceRecord {
    let definition = ServiceDefinition { event_group: Some("web-events".to_owned()), ..ServiceDefinition::new(name) };
    let generation = OperationId { revision: Revision { term: Term(1), seq }, ..OperationId::default() };
    ServiceRecord::new(definition, ServiceRun { state, node, generation, ..ServiceRun::default() })
}

fn database(
    seq: u64,
    events: &[EventDefinition],
    group: EventGroupDefinition,
    services: &[ServiceRecord],
) -> Arc<RegistrationRecord> {
    let joined = |who: NodeIncarnation| (who.node, Sight { incarnation: who.incarnation, presence: Presence::Joined });
    Arc::new(RegistrationRecord {
        revision: Revision { term: Term(1), seq },
        events: events.iter().map(|event| (event.name.clone(), event.clone())).collect(),
        event_groups: [(group.name.clone(), group)].into_iter().collect(),
        services: services.iter().map(|service| (service.definition.name.clone(), service.clone())).collect(),
        view: [joined(N0), joined(N1)].into(),
        ..RegistrationRecord::default()
    })
}

fn give(desk: &mut EventDesk, record: Arc<RegistrationRecord>) -> Vec<DeskOutput> {
    desk.step(at(0), DeskInput::Database(record))
}

/// The only watching that was begun.
fn watch_of(outputs: &[DeskOutput]) -> WatchId {
    let begun: Vec<WatchId> = outputs
        .iter()
        .filter_map(|output| match output {
            DeskOutput::Watch { watch, .. } => Some(*watch),
            DeskOutput::Unwatch { .. }
            | DeskOutput::Run(_)
            | DeskOutput::Forget { .. }
            | DeskOutput::Tell(_)
            | DeskOutput::Tested { .. } => None,
        })
        .collect();
    assert_eq!(begun.len(), 1, "{outputs:?}");
    begun[0]
}

fn gone(pid: i64) -> Parameters {
    [("pid".to_owned(), ParameterValue::Number(pid)), ("process".to_owned(), text("httpd"))].into()
}

fn occurs(desk: &mut EventDesk, moment: Moment, watch: WatchId, out: Parameters) -> Vec<DeskOutput> {
    desk.step(moment, DeskInput::Occurred { event: "httpd-gone".to_owned(), watch, out })
}

/// What was run, and what was told: done and repeats.
fn effects(outputs: &[DeskOutput]) -> (Vec<String>, Vec<(Done, u64)>) {
    let (mut runs, mut told) = (Vec::new(), Vec::new());
    for output in outputs {
        match output {
            DeskOutput::Run(run) => runs.push(in_words(&run.command.run)),
            DeskOutput::Tell(occurrence) => told.push((occurrence.done, occurrence.repeats)),
            DeskOutput::Watch { .. }
            | DeskOutput::Unwatch { .. }
            | DeskOutput::Forget { .. }
            | DeskOutput::Tested { .. } => {}
        }
    }
    (runs, told)
}

/// A desk on N0 with the event watched for service `web`, which is registered there.
fn watching(quiet_ms: u64) -> (EventDesk, WatchId) {
    let mut desk = EventDesk::new(N0);
    let event = EventDefinition { quiet_ms, ..event("httpd-gone") };
    let web = service("web", RunState::Registered, N0, 3);
    let outputs = give(&mut desk, database(3, &[event], group(&["httpd-gone"]), &[web]));
    let watch = watch_of(&outputs);
    (desk, watch)
}

fn run_of(outputs: &[DeskOutput]) -> Option<&Run> {
    outputs.iter().find_map(|output| match output {
        DeskOutput::Run(run) => Some(run.as_ref()),
        DeskOutput::Watch { .. }
        | DeskOutput::Unwatch { .. }
        | DeskOutput::Forget { .. }
        | DeskOutput::Tell(_)
        | DeskOutput::Tested { .. } => None,
    })
}

/// Spec, Table 4: the name identifies the event; IN parameters define it and are all that the watcher is given; OUT parameters
/// describe the occurrence; the command line of the action function refers to values of both.
#[test]
fn table_4_an_event_has_a_name_in_and_out_parameters_and_an_action_that_refers_to_both() {
    let (mut desk, watch) = watching(0);
    let outputs = occurs(&mut desk, at(1), watch, gone(41));
    let run = run_of(&outputs).unwrap();
    assert_eq!(run.event, "httpd-gone");
    assert_eq!(run.command, arguments(&["repair", "--of=httpd", "41"]).unwrap());
    let variable = |name: &str| run.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(variable("PHALANX_IN_NAME"), Some("httpd"));
    assert_eq!(variable("PHALANX_IN_INTERVAL"), Some("1000"), "defaults are IN parameters too");
    assert_eq!(variable("PHALANX_OUT_PID"), Some("41"));
    assert_eq!(run.purpose.as_ref().unwrap().generation.revision.seq, 3);
    // The set of pairs is fixed: a watcher that tells other ones is not believed.
    let other: Parameters = [("colour".to_owned(), text("red"))].into();
    assert_eq!(effects(&occurs(&mut desk, at(2), watch, other)).0, [""; 0]);
    assert!(desk.watched("httpd-gone").problem.unwrap().contains("`colour`"));
}

/// Spec, Fig. 21: the daemon is the centre. A registration enables the group, so a watcher is started; what it detects ends in an
/// action function; registration-and-launch is told nothing, since there is no output for it; a de-registration disables it.
#[test]
fn fig_21_a_registration_enables_the_group_and_a_de_registration_disables_it() {
    let events = [event("httpd-gone")];
    let mut desk = EventDesk::new(N0);
    let states = |seq, state, node| database(seq, &events, group(&["httpd-gone"]), &[service("web", state, node, 3)]);
    for (seq, state) in [(1, RunState::DeRegistered), (2, RunState::Starting)] {
        assert_eq!(give(&mut desk, states(seq, state, N0)), [], "{state:?}");
    }
    let watch = watch_of(&give(&mut desk, states(3, RunState::Registered, N0)));
    assert_eq!(give(&mut desk, states(4, RunState::Registered, N0)), [], "nothing new, nothing done");
    let occurred = occurs(&mut desk, at(1), watch, gone(41));
    assert_eq!(effects(&occurred), (vec!["repair --of=httpd 41".to_owned()], vec![(Done::Running, 0)]));
    let ended = DeskInput::ActionEnded { run: run_of(&occurred).unwrap().id, result: LaunchResult::Succeeded };
    assert_eq!(effects(&desk.step(at(2), ended)).1, [(Done::Succeeded, 0)]);
    let unwatch = DeskOutput::Unwatch { event: "httpd-gone".to_owned(), watch };
    assert_eq!(give(&mut desk, states(5, RunState::Stopping, N0)), [unwatch]);
    assert_eq!(occurs(&mut desk, at(3), watch, gone(42)), [], "a watching that has ended is not heard");
}

/// Protocol I-R11, for every state and place: enabled iff Registered at this start of this node, and not disabled by hand.
#[test]
fn a_group_of_a_service_is_enabled_just_where_that_is_registered() {
    let earlier = NodeIncarnation { incarnation: Incarnation(0), ..N0 };
    for state in RunState::ALL {
        for node in [N0, N1, earlier] {
            for enabled in [true, false] {
                let group = EventGroupDefinition { enabled, ..group(&["httpd-gone"]) };
                let services = [service("web", state, node, 1)];
                let mut desk = EventDesk::new(N0);
                give(&mut desk, database(1, &[event("httpd-gone")], group, &services));
                let expected = state == RunState::Registered && node == N0 && enabled;
                assert_eq!(desk.watched("httpd-gone").watching, expected, "{state:?} on {node:?}, enabled {enabled}");
            }
        }
    }
}

/// A service that is registered on all nodes has an instance on each, and each node watches for its own.
#[test]
fn instances_of_a_service_on_all_nodes_are_watched_each_on_its_node() {
    let mut web = service("web", RunState::DeRegistered, N0, 1);
    for (node, state) in [(N0, RunState::Registered), (N1, RunState::Stopping)] {
        web.instances.insert(node.node, service("web", state, node, 1).run);
    }
    let record = database(1, &[event("httpd-gone")], group(&["httpd-gone"]), &[web]);
    let found = places(&record, &record.event_groups["web-events"]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].on, found[0].purpose.lane.as_str()), (N0, "web@0"));
}

#[test]
fn a_group_that_no_service_names_is_enabled_on_its_nodes_as_long_as_they_are_joined() {
    for (nodes, expected) in [(vec![], true), (vec![N0.node], true), (vec![N1.node], false)] {
        let group = EventGroupDefinition { nodes, ..group(&["httpd-gone"]) };
        let mut desk = EventDesk::new(N0);
        let record = database(1, &[event("httpd-gone")], group, &[]);
        give(&mut desk, record.clone());
        assert_eq!(desk.watched("httpd-gone").watching, expected);
        let mut record = RegistrationRecord { revision: Revision { term: Term(1), seq: 2 }, ..(*record).clone() };
        record.view.insert(N0.node, Sight { incarnation: N0.incarnation, presence: Presence::Leaving });
        give(&mut desk, Arc::new(record));
        assert!(!desk.watched("httpd-gone").watching, "a leaving node watches no more");
    }
}

/// Spec: "disable the event_group in response to de-registration"; a registration after it is a new one, whatever was seen before.
#[test]
fn a_new_registration_is_watched_anew() {
    let (mut desk, first) = watching(0);
    let again = service("web", RunState::Registered, N0, 9);
    let outputs = give(&mut desk, database(9, &[event("httpd-gone")], group(&["httpd-gone"]), &[again]));
    assert_eq!(outputs[0], DeskOutput::Unwatch { event: "httpd-gone".to_owned(), watch: first });
    let second = watch_of(&outputs);
    assert_eq!(occurs(&mut desk, at(1), first, gone(1)), []);
    let outputs = occurs(&mut desk, at(1), second, gone(1));
    assert_eq!(run_of(&outputs).unwrap().purpose.as_ref().unwrap().generation.revision.seq, 9);
}

#[test]
fn an_older_database_changes_nothing() {
    let (mut desk, _) = watching(0);
    let older = database(2, &[], group(&[]), &[]);
    assert_eq!(give(&mut desk, older), []);
    assert!(desk.watched("httpd-gone").watching);
}

#[test]
fn occurrences_within_the_quiet_time_are_counted_and_the_same_one_is_not_told_again() {
    let (mut desk, watch) = watching(10_000);
    let outputs = occurs(&mut desk, at(0), watch, gone(1));
    let run = run_of(&outputs).unwrap().id;
    assert_eq!(effects(&occurs(&mut desk, at(1_000), watch, gone(1))), (vec![], vec![(Done::Running, 1)]));
    let ended = desk.step(at(2_000), DeskInput::ActionEnded { run, result: LaunchResult::Succeeded });
    assert_eq!(effects(&ended).1, [(Done::Succeeded, 1)], "what was counted meanwhile is not lost");
    assert_eq!(effects(&occurs(&mut desk, at(3_000), watch, gone(1))), (vec![], vec![(Done::Succeeded, 2)]));
    assert_eq!(effects(&occurs(&mut desk, at(4_000), watch, gone(2))), (vec![], vec![(Done::Quiet, 0)]), "another one");
    assert_eq!(effects(&occurs(&mut desk, at(9_999), watch, gone(2))), (vec![], vec![(Done::Quiet, 1)]));
    let (runs, _) = effects(&occurs(&mut desk, at(10_000), watch, gone(2)));
    assert_eq!(runs, ["repair --of=httpd 2"], "the quiet time is counted from the one that was acted on");
    assert_eq!((desk.watched("httpd-gone").occurrences, desk.watched("httpd-gone").acted), (6, 2));
}

#[test]
fn one_action_function_runs_at_a_time() {
    let (mut desk, watch) = watching(0);
    let run = run_of(&occurs(&mut desk, at(0), watch, gone(1))).unwrap().id;
    assert_eq!(effects(&occurs(&mut desk, at(1), watch, gone(2))), (vec![], vec![(Done::Busy, 0)]));
    let failed = LaunchResult::Failed { text: "exit status 3".to_owned() };
    assert_eq!(effects(&desk.step(at(2), DeskInput::ActionEnded { run, result: failed })).1, [(Done::Failed, 0)]);
    assert_eq!(effects(&occurs(&mut desk, at(3), watch, gone(3))).0, ["repair --of=httpd 3"]);
}

/// An action of the registration before must not swallow what is seen of the new one.
#[test]
fn an_occurrence_waits_for_the_action_of_an_earlier_watching() {
    let (mut desk, watch) = watching(0);
    let run = run_of(&occurs(&mut desk, at(0), watch, gone(1))).unwrap().id;
    let again = service("web", RunState::Registered, N0, 9);
    let watch = watch_of(&give(&mut desk, database(9, &[event("httpd-gone")], group(&["httpd-gone"]), &[again])));
    assert_eq!(effects(&occurs(&mut desk, at(1), watch, gone(2))), (vec![], vec![(Done::Waiting, 0)]));
    let (runs, _) = effects(&desk.step(at(2), DeskInput::ActionEnded { run, result: LaunchResult::Succeeded }));
    assert_eq!(runs, ["repair --of=httpd 2"]);
}

/// Protocol §3.3: nothing is begun while the gate is closed; what was seen then is acted on when it opens, if it still matters.
#[test]
fn nothing_is_run_without_a_lease() {
    let (mut desk, watch) = watching(0);
    let closed = |ms| Moment { open: false, may_act: false, ..at(ms) };
    assert_eq!(effects(&occurs(&mut desk, closed(0), watch, gone(1))), (vec![], vec![(Done::Waiting, 0)]));
    assert!(desk.waits());
    assert_eq!(desk.step(closed(1), DeskInput::Tick), []);
    assert_eq!(effects(&desk.step(at(2), DeskInput::Tick)).0, ["repair --of=httpd 1"]);

    let (mut desk, watch) = watching(0);
    occurs(&mut desk, closed(0), watch, gone(1));
    let stopped = [service("web", RunState::DeRegistered, N0, 3)];
    let outputs = give(&mut desk, database(4, &[event("httpd-gone")], group(&["httpd-gone"]), &stopped));
    assert_eq!(effects(&outputs), (vec![], vec![(Done::Dropped, 0)]));
    assert!(!desk.waits());
}

/// One watcher, whatever number of services it watches for; an action for each, with its own generation.
#[test]
fn an_event_that_two_services_share_is_watched_once_and_acted_on_for_each() {
    let services = [service("a", RunState::Registered, N0, 2), service("b", RunState::Registered, N0, 3)];
    let mut desk = EventDesk::new(N0);
    let watch = watch_of(&give(&mut desk, database(3, &[event("httpd-gone")], group(&["httpd-gone"]), &services)));
    let outputs = occurs(&mut desk, at(0), watch, gone(1));
    let lanes: Vec<&str> = outputs
        .iter()
        .filter_map(|output| run_of(std::slice::from_ref(output)))
        .map(|run| run.purpose.as_ref().unwrap().lane.as_str())
        .collect();
    assert_eq!(lanes, ["a", "b"]);
}

#[test]
fn an_external_watcher_is_asked_for_once_it_is_connected_and_its_schema_fits() {
    use phalanx_messages::watcher::{Parameter, ParameterKind, WatcherSchema};
    let queue = EventDefinition {
        watcher: "external:queue".to_owned(),
        parameters: [("least".to_owned(), ParameterValue::Number(3))].into(),
        action: arguments(&["drain", "${in.least}", "${out.length}"]),
        ..event("httpd-gone")
    };
    let mut desk = EventDesk::new(N0);
    assert_eq!(give(&mut desk, database(1, &[queue], group(&["httpd-gone"]), &[])), []);
    assert!(desk.watched("httpd-gone").problem.unwrap().contains("no program that provides watcher `queue`"));
    let number = |name: &str| Parameter {
        name: name.to_owned(),
        kind: ParameterKind::Number { least: 0, most: 9 },
        required: true,
        default: None,
    };
    let schema = WatcherSchema { input: vec![number("least")], output: vec![number("length")] };
    let connects = |schema| DeskInput::External { watcher: "external:queue".to_owned(), schema };
    let other = WatcherSchema { output: vec![number("size")], ..schema.clone() };
    assert_eq!(desk.step(at(0), connects(Some(other))), [], "the action refers to what it does not tell");
    assert!(desk.watched("httpd-gone").problem.unwrap().contains("${out.length}"));
    let watch = watch_of(&desk.step(at(0), connects(Some(schema))));
    let outputs = desk.step(at(1), connects(None));
    assert_eq!(outputs, [DeskOutput::Unwatch { event: "httpd-gone".to_owned(), watch }]);
}

#[test]
fn a_test_runs_the_action_without_the_condition_and_a_dry_one_says_what_it_would_run() {
    let (mut desk, _) = watching(60_000);
    let out =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let ask = |name: &str, out, dry_run| DeskInput::Test { ticket: 7, name: name.to_owned(), out, dry_run };
    let refusal = |outputs: &[DeskOutput]| match outputs {
        [DeskOutput::Tested { ticket: 7, answer: Err(text) }] => text.clone(),
        other => panic!("{other:?}"),
    };
    assert!(
        refusal(&desk.step(at(0), ask("nothing", out(&[]), true))).contains("no event and no event group `nothing`")
    );
    assert!(refusal(&desk.step(at(0), ask("httpd-gone", out(&[]), true))).contains("${out.pid}"));
    assert!(refusal(&desk.step(at(0), ask("httpd-gone", out(&[("pid", "x")]), true))).contains("`pid` is `x`"));
    assert!(
        refusal(&desk.step(at(0), ask("httpd-gone", out(&[("colour", "x")]), true)))
            .contains("its watcher has pid, process")
    );
    let dry = desk.step(at(0), ask("web-events", out(&[("pid", "5")]), true));
    assert_eq!(effects(&dry), (vec![], vec![(Done::WouldRun, 0)]));
    let real = desk.step(at(0), ask("httpd-gone", out(&[("pid", "5")]), false));
    assert_eq!(effects(&real).0, ["repair --of=httpd 5"]);
    assert_eq!(run_of(&real).unwrap().purpose.as_ref().unwrap().service.as_deref(), Some("web"));
    let watched = desk.watched("httpd-gone");
    assert_eq!((watched.occurrences, watched.acted), (0, 0), "it did not occur");
}

/// A value is part of one argument, whatever it holds, and no shell ever sees it.
#[test]
fn values_are_never_interpreted() {
    let evil = "x; rm -rf / $(reboot) ${out.other} 'a b'";
    let out: Parameters = [("line".to_owned(), text(evil))].into();
    let run = substitute(&arguments(&["tell", "<${out.line}>", "$HOME"]).unwrap().run, &Parameters::new(), &out);
    assert_eq!(run, Ok(Invocation::Arguments(vec!["tell".to_owned(), format!("<{evil}>"), "$HOME".to_owned()])));
    assert_eq!(variables(&Parameters::new(), &out), [("PHALANX_OUT_LINE".to_owned(), evil.to_owned())]);
}

#[test]
fn definitions_that_mean_nothing_are_refused_with_the_key_and_what_to_do() {
    let with = |change: &dyn Fn(&mut EventDefinition)| {
        let mut definition = event("e");
        change(&mut definition);
        let schema = builtin(&definition.watcher);
        check(&definition, schema.as_ref()).map_err(|mistake| (mistake.key(), mistake.to_string(), mistake.hint()))
    };
    assert_eq!(with(&|_| {}), Ok(()));
    let shell = |text: &'static str| move |it: &mut EventDefinition| it.action = Some(ServiceCommand::shell(text, 1));
    let mistakes: Vec<(&str, String, String)> = vec![
        with(&|it| drop(it.parameters.insert("nmae".to_owned(), text("x")))),
        with(&|it| it.parameters.clear()),
        with(&|it| drop(it.parameters.insert("pid_file".to_owned(), text("/run/x.pid")))),
        with(&|it| drop(it.parameters.insert("interval".to_owned(), ParameterValue::DurationMs(1)))),
        with(&|it| drop(it.parameters.insert("interval".to_owned(), text("often")))),
        with(&|it| it.action = arguments(&["x", "${out.percent}"])),
        with(&|it| it.action = arguments(&["x", "${HOME}"])),
        with(&|it| it.action = arguments(&["x", "${out.pid"])),
        with(&|it| it.action = arguments(&[])),
        with(&|it| it.action = arguments(&["x", "${in.pid_file}"])),
        with(&shell("kill ${out.pid}")),
        with(&shell("kill $PHALANX_OUT_PIDS")),
        with(&|it| it.action = Some(ServiceCommand { run: Invocation::Agent, timeout_ms: 1, retries: 0 })),
        with(&|it| {
            (it.watcher, it.parameters) =
                ("log".to_owned(), [("path".to_owned(), text("/l")), ("pattern".to_owned(), text("("))].into())
        }),
        with(&|it| (it.watcher, it.parameters) = ("timer".to_owned(), Parameters::new())),
        with(&|it| (it.watcher, it.parameters) = ("http".to_owned(), [("url".to_owned(), text("https://x/"))].into())),
    ]
    .into_iter()
    .map(Result::unwrap_err)
    .collect();
    let found: Vec<String> = mistakes
        .iter()
        .map(|(key, text, hint)| format!("{key}: {}; {}", text.lines().next().unwrap_or(""), hint))
        .collect();
    let expected = [
        ("in: watcher `process` has no IN parameter `nmae`", "it has pid_file, name, interval"),
        ("in: watcher `process` needs one of `pid_file` and `name`", "give either"),
        ("in: watcher `process` needs one of `pid_file` and `name`", "give either"),
        ("in: IN parameter `interval` is `1`; it takes a duration", "docs/events.md"),
        ("in: IN parameter `interval` is `often`; it takes a duration", "docs/events.md"),
        (
            "action: the action refers to `${out.percent}`, and watcher `process` has the OUT parameters pid, process",
            "use ${in.NAME}",
        ),
        ("action: the action refers to `${HOME}`, and only ${in.NAME} and ${out.NAME} are references", "use"),
        ("action: the action refers to `${out.pid`, and it has no closing brace", "use"),
        ("action: the action is empty", "name a program"),
        ("action: the action refers to `${in.pid_file}`, and the event does not give that IN parameter", "use"),
        ("action: the action is given to a shell and refers to `${out.pid}`", "use \"$PHALANX_OUT_PID\""),
        ("action: the action refers to `${out.pids}`", "use"),
        ("action: an event has no agent", "give a program"),
        ("in: IN parameter `pattern` is no regular expression", "see"),
        ("in: watcher `timer` needs IN parameter `interval`", "add `interval = ...`"),
        ("in: IN parameter `url` is `https://x/`", "use a `health` event"),
    ];
    for (found, (text, hint)) in found.iter().zip(expected) {
        assert!(found.starts_with(text) && found.contains(hint), "{found}\nis not\n{text} ... {hint}");
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn every_watcher_has_a_schema_with_names_that_can_be_variables() {
    for watcher in WATCHERS {
        let schema = builtin(watcher).unwrap();
        for parameter in schema.input.iter().chain(&schema.output) {
            assert_eq!(mistake_in_parameter_name(&parameter.name), None, "{watcher}");
        }
    }
    assert_eq!(builtin("tmier"), None);
}

/// What a watcher tells is made to fit: it comes from files and programs.
#[test]
fn values_of_an_occurrence_are_cut_and_cleaned() {
    let schema = builtin("log").unwrap();
    let long = format!("{}ä\0", "a".repeat(4_095));
    let told = |line: &str| [("path".to_owned(), text("/l")), ("line".to_owned(), text(line))].into();
    let values = out_values(&schema, told(&long)).unwrap();
    assert_eq!(values["line"], text(&"a".repeat(4_095)), "cut before the letter that does not fit");
    assert_eq!(out_values(&schema, told("a\0b")).unwrap()["line"], text("a\u{fffd}b"));
    assert!(out_values(&schema, [("path".to_owned(), text("/l"))].into()).unwrap_err().contains("`line` is missing"));
}

/// What its action functions have written is kept as long as the event is defined, and as long as one of them runs.
#[test]
fn what_is_kept_of_an_event_goes_when_it_is_removed_and_nothing_of_it_runs() {
    let (mut desk, watch) = watching(0);
    let occurred = occurs(&mut desk, at(1), watch, gone(41));
    let run = run_of(&occurred).unwrap().id;
    let web = [service("web", RunState::Registered, N0, 3)];
    let none = || database(4, &[], group(&[]), &web);
    let unwatch = DeskOutput::Unwatch { event: "httpd-gone".to_owned(), watch };
    assert_eq!(give(&mut desk, none()), [unwatch], "its action function runs");
    let ended = desk.step(at(2), DeskInput::ActionEnded { run, result: LaunchResult::Succeeded });
    let forget = DeskOutput::Forget { event: "httpd-gone".to_owned() };
    assert_eq!(ended.last(), Some(&forget), "{ended:?}");
    assert_eq!(give(&mut desk, none()), [], "once");

    let (mut desk, watch) = watching(0);
    let unwatch = DeskOutput::Unwatch { event: "httpd-gone".to_owned(), watch };
    assert_eq!(give(&mut desk, none()), [unwatch, forget]);
    let (mut desk, watch) = watching(0);
    let unwatch = DeskOutput::Unwatch { event: "httpd-gone".to_owned(), watch };
    let disabled = EventGroupDefinition { enabled: false, ..group(&["httpd-gone"]) };
    let still_defined = database(4, &[event("httpd-gone")], disabled, &web);
    assert_eq!(give(&mut desk, still_defined), [unwatch], "it may be enabled again");
}
