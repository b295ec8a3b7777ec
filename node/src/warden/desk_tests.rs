use super::*;
use phalanx_messages::{Revision, Term};

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
        command: format!("command {seq}"),
        environment: vec![("PHALANX_SERVICE".to_owned(), "clock".to_owned())],
        timeout_ms: 500,
        leaves,
        clean_up: Some("clean".to_owned()),
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
    assert_eq!(ended(&mut desk, 1, OK), [Output::Answer(1, OK), Output::Answer(2, OK)]);
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
    assert_eq!(ended(&mut desk, 2, OK), [Output::Answer(4, OK)]);
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
        command: Some("clean".to_owned()),
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
    assert_eq!(desk.clean_ups(), []);
}
