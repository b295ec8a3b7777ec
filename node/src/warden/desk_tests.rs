use super::*;
use phalanx_messages::{OperationId, Revision, Term};

const T0: Instant = Instant(1_000);

fn clock() -> Owner {
    Owner::Service("clock".to_owned())
}

fn operation(seq: u64) -> OperationId {
    OperationId { revision: Revision { term: Term(1), seq }, index: 0 }
}

fn launch(seq: u64, action: Action, leaves: Leaves) -> LaunchRequest {
    LaunchRequest {
        owner: clock(),
        operation: Some(operation(seq)),
        action,
        command: Program::shell(format!("command {seq}")),
        environment: vec![("PHALANX_SERVICE".to_owned(), "clock".to_owned())],
        timeout_ms: 500,
        leaves,
        clean_up: Some(Program::shell("clean")),
        retries: 0,
    }
}

fn ask(desk: &mut Desk, ticket: u64, request: WardenRequest) -> Vec<Output> {
    desk.step(Input::Asked { ticket, request, now: T0 })
}

fn start(seq: u64) -> WardenRequest {
    WardenRequest::Launch(launch(seq, Action::Start, Leaves::Processes))
}

fn kill(seq: u64) -> WardenRequest {
    WardenRequest::Kill { owner: clock(), operation: Some(operation(seq)), timeout_ms: 500 }
}

fn ended(desk: &mut Desk, cell: u64, result: LaunchResult) -> Vec<Output> {
    desk.step(Input::Ended { owner: clock(), cell: CellId(cell), result, now: T0 })
}

fn started(cell: u64, seq: u64) -> Output {
    Output::Start { cell: CellId(cell), request: launch(seq, Action::Start, Leaves::Processes) }
}

fn refused(ticket: u64, text: &str) -> Output {
    Output::Answer(ticket, failed(text.to_owned()))
}

const OK: LaunchResult = LaunchResult::Succeeded;

/// Protocol RL-5: "the same op_id again repeats the result"; RL-4: an older one is refused.
#[test]
fn a_repeated_operation_runs_once_and_an_older_one_never() {
    let mut desk = Desk::default();
    assert_eq!(ask(&mut desk, 1, start(5)), [started(1, 5)]);
    assert_eq!(ask(&mut desk, 2, start(5)), [], "it waits for the first one's result");
    assert_eq!(ended(&mut desk, 1, OK), [watch(1), Output::Answer(1, OK), Output::Answer(2, OK)]);
    assert_eq!(ask(&mut desk, 3, start(5)), [Output::Answer(3, OK)]);
    assert_eq!(ask(&mut desk, 4, start(4)), [refused(4, "operation 1.4.0 is older than 1.5.0")]);
    assert_eq!(ask(&mut desk, 5, kill(4)), [refused(5, "operation 1.4.0 is older than 1.5.0")]);
    assert_eq!(ended(&mut desk, 1, OK), [], "a late word changes nothing");
}

/// Protocol RL-4: "Accepting aborts the running op of that service and voids its result".
#[test]
fn a_newer_launch_waits_until_the_aborted_command_is_gone() {
    let mut desk = Desk::default();
    ask(&mut desk, 1, start(5));
    let aborted = [refused(1, "aborted by operation 1.6.0"), Output::KillCell { owner: clock(), cell: CellId(1) }];
    assert_eq!(ask(&mut desk, 2, start(6)), aborted);
    assert_eq!(ended(&mut desk, 1, OK), [], "the aborted command's end says nothing");
    assert_eq!(ask(&mut desk, 3, start(6)), [], "a repeat waits with it");
    assert_eq!(
        ask(&mut desk, 4, start(7)),
        [refused(2, "aborted by operation 1.7.0"), refused(3, "aborted by operation 1.7.0"),]
    );
    let gone = Input::CellGone { owner: clock(), cell: CellId(1), now: T0 };
    assert_eq!(desk.step(gone.clone()), [started(2, 7)]);
    assert_eq!(desk.step(gone), []);
    assert_eq!(ended(&mut desk, 2, OK), [watch(2), Output::Answer(4, OK)]);
}

#[test]
fn a_kill_ends_everything_of_its_owner_and_is_verified() {
    let mut desk = Desk::default();
    ask(&mut desk, 1, start(5));
    assert_eq!(ask(&mut desk, 2, kill(6)), [refused(1, "aborted by operation 1.6.0"), Output::KillOwner(clock())]);
    assert_eq!(ask(&mut desk, 3, start(7)), [], "what follows waits");
    assert_eq!(desk.step(Input::OwnerGone { owner: clock(), now: T0 }), [Output::Answer(2, OK), started(2, 7)]);
}

#[test]
fn a_kill_that_leaves_something_fails_at_its_time_out() {
    let mut desk = Desk::default();
    assert_eq!(ask(&mut desk, 1, kill(5)), [Output::KillOwner(clock())]);
    assert_eq!(desk.step(Input::Tick(T0.plus(499))), []);
    assert_eq!(desk.next_deadline(), Some(T0.plus(500)));
    let text = "processes of service clock do not end";
    assert_eq!(desk.step(Input::Tick(T0.plus(500))), [refused(1, text)]);
    assert_eq!(ask(&mut desk, 2, kill(5)), [refused(2, text)], "a repeat gets the same");
}

/// Architecture §4: a command is killed at its time-out, and only what that launch started.
#[test]
fn a_launch_that_takes_too_long_is_killed_and_answered_when_it_is_gone() {
    let mut desk = Desk::default();
    ask(&mut desk, 1, start(5));
    assert_eq!(desk.step(Input::Tick(T0.plus(500))), [Output::KillCell { owner: clock(), cell: CellId(1) }]);
    let gone = Input::CellGone { owner: clock(), cell: CellId(1), now: T0.plus(510) };
    assert_eq!(desk.step(gone), [refused(1, "timed out after 500 ms and was killed")]);
    assert_eq!(desk.next_deadline(), None);

    ask(&mut desk, 2, start(6));
    desk.step(Input::Tick(T0.plus(500)));
    let text = "timed out after 500 ms and was killed, but some of its processes do not end";
    assert_eq!(desk.step(Input::Tick(T0.plus(500 + CLEAR_MS))), [refused(2, text)]);
}

#[test]
fn a_frozen_node_starts_nothing_and_kills_all_the_same() {
    let mut desk = Desk::default();
    assert_eq!(desk.step(Input::Lease { valid: true, now: T0 }), [], "the first lease: nothing was frozen");
    assert_eq!(desk.step(Input::Lease { valid: false, now: T0 }), [Output::Freeze(true)]);
    assert_eq!(ask(&mut desk, 2, start(5)), [refused(2, "this node has lost its lease; nothing is started")]);
    assert_eq!(ask(&mut desk, 3, kill(6)), [Output::KillOwner(clock())]);
    desk.step(Input::OwnerGone { owner: clock(), now: T0 });
    assert_eq!(desk.step(Input::Lease { valid: true, now: T0 }), [Output::Freeze(false)]);
    assert_eq!(ask(&mut desk, 5, start(7)), [started(1, 7)]);
}

#[test]
fn the_time_of_a_command_stands_still_while_it_is_frozen() {
    let mut desk = Desk::default();
    ask(&mut desk, 1, start(5)); // may take 500 ms
    desk.step(Input::Lease { valid: false, now: T0.plus(100) });
    assert_eq!(desk.next_deadline(), None);
    assert_eq!(desk.step(Input::Tick(T0.plus(10_000))), []);
    desk.step(Input::Lease { valid: true, now: T0.plus(10_100) });
    assert_eq!(desk.next_deadline(), Some(T0.plus(10_500)));
    assert_eq!(desk.step(Input::Tick(T0.plus(10_499))), []);
    let late = desk.step(Input::Tick(T0.plus(10_500)));
    assert_eq!(late, [Output::KillCell { owner: clock(), cell: CellId(1) }]);
}

/// Architecture §4, "What outlives a process": told before each start, forgotten after a successful stop.
#[test]
fn what_may_remain_is_recorded_before_the_start_and_forgotten_after_the_stop() {
    let mut desk = Desk::default();
    ask(&mut desk, 1, start(4));
    assert_eq!(desk.clean_ups(), [], "processes are killed, not cleaned");
    ended(&mut desk, 1, OK);
    ask(&mut desk, 2, WardenRequest::Launch(launch(5, Action::Start, Leaves::State)));
    let recorded = CleanUp {
        owner: clock(),
        command: Some(Program::shell("clean")),
        environment: vec![("PHALANX_SERVICE".to_owned(), "clock".to_owned())],
    };
    assert_eq!(desk.clean_ups(), std::slice::from_ref(&recorded));
    ended(&mut desk, 2, failed("exit status 1".to_owned()));
    assert_eq!(desk.clean_ups(), std::slice::from_ref(&recorded), "a failed start may have left something");
    ask(&mut desk, 3, WardenRequest::Launch(launch(6, Action::Stop, Leaves::State)));
    ended(&mut desk, 3, failed("exit status 1".to_owned()));
    assert_eq!(desk.clean_ups(), [recorded], "so may a failed stop");
    ask(&mut desk, 4, WardenRequest::Launch(launch(7, Action::Stop, Leaves::State)));
    ended(&mut desk, 4, OK);
    assert_eq!(desk.clean_ups().len(), 1, "a stop that is not verified proves nothing");
    owner_gone(&mut desk, 0);
    assert_eq!(desk.clean_ups(), []);
}

fn watch(cell: u64) -> Output {
    Output::Watch { owner: clock(), cell: CellId(cell) }
}

fn owner_gone(desk: &mut Desk, ms: u64) -> Vec<Output> {
    desk.step(Input::OwnerGone { owner: clock(), now: T0.plus(ms) })
}

fn cell_gone(desk: &mut Desk, cell: u64, ms: u64) -> Vec<Output> {
    desk.step(Input::CellGone { owner: clock(), cell: CellId(cell), now: T0.plus(ms) })
}

fn stop(seq: u64) -> WardenRequest {
    WardenRequest::Launch(launch(seq, Action::Stop, Leaves::Processes))
}

/// Issue 7: "A stop command that succeeds is verified".
#[test]
fn a_stop_succeeds_only_when_nothing_of_the_service_is_left() {
    let mut desk = Desk::default();
    ask(&mut desk, 1, stop(5));
    assert_eq!(ended(&mut desk, 1, OK), [Output::EndOwner(clock())]);
    assert_eq!(ask(&mut desk, 2, stop(5)), [], "a repeat waits with it");
    assert_eq!(owner_gone(&mut desk, 0), [Output::Answer(1, OK), Output::Answer(2, OK)]);

    ask(&mut desk, 3, stop(6));
    ended(&mut desk, 2, OK);
    assert_eq!(desk.next_deadline(), Some(T0.plus(END_MS)));
    assert_eq!(desk.step(Input::Tick(T0.plus(END_MS))), [Output::KillOwner(clock())], "who does not end is killed");
    assert_eq!(owner_gone(&mut desk, END_MS + 1), [Output::Answer(3, OK)]);

    ask(&mut desk, 4, stop(7));
    ended(&mut desk, 3, OK);
    desk.step(Input::Tick(T0.plus(END_MS)));
    let text = "it was stopped, but processes of service clock do not end";
    assert_eq!(desk.step(Input::Tick(T0.plus(END_MS + CLEAR_MS))), [refused(4, text)], "and whoever decides escalates");
}

#[test]
fn a_stop_that_is_being_verified_gives_way_to_a_kill_and_keeps_a_start_waiting() {
    let mut desk = Desk::default();
    ask(&mut desk, 1, stop(5));
    ended(&mut desk, 1, OK);
    assert_eq!(ask(&mut desk, 2, start(6)), []);
    assert_eq!(
        ask(&mut desk, 3, kill(7)),
        [
            refused(2, "aborted by operation 1.7.0"),
            refused(1, "aborted by operation 1.7.0"),
            Output::KillOwner(clock())
        ]
    );
    assert_eq!(owner_gone(&mut desk, 0), [Output::Answer(3, OK)]);
}

fn tried(seq: u64, retries: u16) -> WardenRequest {
    WardenRequest::Launch(LaunchRequest { retries, ..launch(seq, Action::Recovery, Leaves::Processes) })
}

/// Issue 7: retries within one operation, each after what the last one left is gone, each with its own time-out.
#[test]
fn a_command_is_run_again_as_often_as_it_may_be() {
    let mut desk = Desk::default();
    ask(&mut desk, 1, tried(5, 2));
    let cleared = |cell| Output::KillCell { owner: clock(), cell: CellId(cell) };
    let bad = || failed("exit status 1".to_owned());
    assert_eq!(ended(&mut desk, 1, bad()), [cleared(1)]);
    assert_eq!(ask(&mut desk, 2, tried(5, 2)), [], "it is one operation");
    let WardenRequest::Launch(request) = tried(5, 2) else { panic!("a launch") };
    assert_eq!(cell_gone(&mut desk, 1, 400), [Output::Start { cell: CellId(2), request: request.clone() }]);
    assert_eq!(desk.next_deadline(), Some(T0.plus(900)), "with the whole time-out before it");
    assert_eq!(desk.step(Input::Tick(T0.plus(900))), [cleared(2)]);
    assert_eq!(cell_gone(&mut desk, 2, 910), [Output::Start { cell: CellId(3), request }]);
    let text = "failed 3 times, at last: exit status 1";
    assert_eq!(ended(&mut desk, 3, bad()), [refused(1, text), refused(2, text)]);
}

#[test]
fn a_try_that_succeeds_is_the_last_and_one_that_cannot_be_cleared_too() {
    let mut desk = Desk::default();
    ask(&mut desk, 1, tried(5, 2));
    ended(&mut desk, 1, failed("exit status 1".to_owned()));
    cell_gone(&mut desk, 1, 0);
    assert_eq!(ended(&mut desk, 2, OK), [Output::Answer(1, OK)]);

    ask(&mut desk, 2, tried(6, 2));
    ended(&mut desk, 3, failed("exit status 1".to_owned()));
    let text = "exit status 1, but some of its processes do not end";
    assert_eq!(desk.step(Input::Tick(T0.plus(CLEAR_MS))), [refused(2, text)]);
}

#[test]
fn a_node_that_has_lost_its_lease_tries_nothing_again() {
    let mut desk = Desk::default();
    ask(&mut desk, 1, tried(5, 2));
    ended(&mut desk, 1, failed("exit status 1".to_owned()));
    desk.step(Input::Lease { valid: false, now: T0 });
    assert_eq!(cell_gone(&mut desk, 1, 0), [refused(1, NO_LEASE)]);
}

fn ask_watch(desk: &mut Desk, ticket: u64, seq: u64) -> Vec<Output> {
    ask(desk, ticket, WardenRequest::Watch { owner: clock(), operation: operation(seq) })
}

fn emptied(desk: &mut Desk, cell: u64, left: bool) -> Vec<Output> {
    desk.step(Input::Emptied { owner: clock(), cell: CellId(cell), left })
}

/// Issue 7: "process death seen at once".
#[test]
fn whoever_watches_is_told_when_what_the_start_left_has_ended() {
    let gone = |ticket| refused(ticket, "its processes have ended");
    let mut desk = Desk::default();
    assert_eq!(ask_watch(&mut desk, 1, 5), [Output::Answer(1, OK)], "nothing was ever started");
    ask(&mut desk, 2, start(5));
    assert_eq!(ended(&mut desk, 1, OK), [watch(1), Output::Answer(2, OK)]);
    assert_eq!(ask_watch(&mut desk, 3, 5), []);
    assert_eq!(emptied(&mut desk, 7, true), [], "of another launch");
    assert_eq!(emptied(&mut desk, 1, true), [gone(3)]);
    assert_eq!(ask_watch(&mut desk, 4, 5), [gone(4)], "who asks late hears it too");
    assert_eq!(ask_watch(&mut desk, 5, 4), [Output::Answer(5, OK)], "of another registration");
}

#[test]
fn what_left_nothing_or_is_being_stopped_is_not_watched() {
    let mut desk = Desk::default();
    ask(&mut desk, 1, start(5));
    ended(&mut desk, 1, OK);
    assert_eq!(ask_watch(&mut desk, 2, 5), []);
    assert_eq!(emptied(&mut desk, 1, false), [Output::Answer(2, OK)]);

    ask(&mut desk, 3, start(6));
    ended(&mut desk, 2, OK);
    ask_watch(&mut desk, 4, 6);
    let WardenRequest::Launch(request) = stop(7) else { panic!("a launch") };
    assert_eq!(ask(&mut desk, 5, stop(7)), [Output::Answer(4, OK), Output::Start { cell: CellId(3), request }]);
    assert_eq!(emptied(&mut desk, 2, true), [], "it ends because it is stopped");
}

/// A monitor has no operation, and nothing of it stays.
#[test]
fn what_a_monitor_leaves_is_killed_without_anybody_waiting_for_it() {
    let mut desk = Desk::default();
    let monitor = LaunchRequest { operation: None, ..launch(0, Action::Watch, Leaves::Processes) };
    let request = WardenRequest::Launch(monitor.clone());
    assert_eq!(ask(&mut desk, 1, request), [Output::Start { cell: CellId(1), request: monitor }]);
    let kill = Output::KillCell { owner: clock(), cell: CellId(1) };
    assert_eq!(ended(&mut desk, 1, OK), [Output::Answer(1, OK), kill]);
}
