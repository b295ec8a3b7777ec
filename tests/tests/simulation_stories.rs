//! Scripted stories on the simulated cluster: rows of the fault table as named tests.

use phalanx_messages::NodeId;
use phalanx_messages::membership::FenceMethod;
use phalanx_messages::profile::TimingProfile;
use phalanx_tests::simulation::log::Detail;
use phalanx_tests::simulation::scripted::Story;
use phalanx_tests::simulation::{Oddity, Setup};

fn joined(nodes: u16) -> Story {
    let mut story = Story::of(nodes);
    story.all_join();
    story
}

/// How the death of a node that is being forced out was proved.
fn proof(story: &Story, node: u16) -> Option<FenceMethod> {
    story.record().nodes.get(&NodeId(node)).and_then(|entry| entry.fence.method)
}

#[test]
fn a_cluster_forms_with_one_master_and_stays_as_it_is() {
    let mut story = joined(5);
    let revision = story.record().revision;
    story.run_for(30_000);
    assert_eq!(story.record().revision, revision, "nothing happens by itself");
    assert!(story.master().is_some() && story.is_at_rest());
}

/// Protocol §4.6 step 0: the warden's word replaces suspicion, silence and the survivor rule.
#[test]
fn a_daemon_that_dies_is_out_by_its_wardens_word_before_any_silence_counts() {
    let mut story = joined(3);
    story.kill(2);
    let ms = story.until("node 2 is out", 20_000, |story| story.state(2) == "inactive");
    assert!(ms < story.world.setup().profile.watchdog_ms, "recovered after {ms} ms");
    assert_eq!((story.state(0), story.state(1)), ("joined", "joined"));
    story.start(2);
    story.until("node 2 is joined again", 20_000, |story| story.is_at_rest());
}

#[test]
fn a_node_that_dies_with_its_warden_is_fenced_by_a_survivor() {
    let mut story = joined(3);
    story.kill_with_warden(1);
    story.until("the mark", 20_000, |story| story.state(1) == "forced-leaving");
    story.until("the proof", 20_000, |story| proof(story, 1) == Some(FenceMethod::Local));
    story.until("node 1 is out", 20_000, |story| story.state(1) == "inactive");
}

/// Without a warden nothing on this host can count what is left: recovery waits for the administrator.
#[test]
fn without_a_warden_a_subreapers_death_is_confirmed_by_hand() {
    let mut story = Story::with(Setup { subreaper: true, ..Setup::calm(3) });
    story.all_join();
    story.kill_with_warden(1);
    story.until("the mark", 20_000, |story| story.state(1) == "forced-leaving");
    story.run_for(10_000);
    assert_eq!(story.count("DeathConfirmed"), 0, "something of its services runs there");
    story.clean_by_hand(1);
    story.until("node 1 is out", 60_000, |story| story.state(1) == "inactive");
    assert!(story.count("DeathConfirmed") > 0);
}

#[test]
fn a_master_that_dies_is_followed_by_exactly_one() {
    let mut story = joined(4);
    let (first, term) = (story.master().expect("somebody leads"), story.term());
    story.kill(first);
    story.until("another one leads", 20_000, |story| story.master().is_some_and(|master| master != first));
    assert!(story.term() > term);
    story.until("the old one is out", 20_000, |story| story.state(first) == "inactive");
}

#[test]
fn a_frozen_daemon_is_killed_by_its_warden() {
    let mut story = joined(3);
    story.freeze(2, 60_000);
    story.until("node 2 is started again", 20_000, |story| story.incarnation(2).0 == 2 && story.is_at_rest());
}

/// Protocol §4.7: on an mmap disk a frozen node may come back if nobody has counted its silence as death.
#[test]
fn a_freeze_shorter_than_the_lease_costs_nothing() {
    let mut story = joined(3);
    let revision = story.record().revision;
    story.freeze_with_warden(2, 600);
    story.run_for(10_000);
    assert_eq!(story.record().revision, revision);
}

#[test]
fn a_node_frozen_with_its_warden_is_fenced_and_never_writes_again() {
    let mut story = joined(3);
    story.freeze_with_warden(1, 30_000);
    story.until("node 1 is out", 20_000, |story| story.state(1) != "joined");
    story.until("it is back with its next incarnation", 60_000, |story| {
        story.incarnation(1).0 == 2 && story.is_at_rest()
    });
}

/// Protocol §4.3, first row: A-B cut, both see C. One of the two goes, and only that one.
#[test]
fn one_cut_link_costs_one_node() {
    let mut story = joined(3);
    let master = story.master().expect("somebody leads");
    let others: Vec<u16> = (0..3).filter(|node| *node != master).collect();
    story.cut(others[0], others[1]);
    story.until("the higher one goes", 30_000, |story| story.state(others[1]) != "joined");
    assert_eq!((story.state(others[0]), story.state(master)), ("joined", "joined"));
    story.heal();
    story.until("everybody is back", 30_000, Story::is_at_rest);
}

#[test]
fn a_one_way_cut_counts_as_a_cut() {
    let mut story = joined(2);
    let master = story.master().expect("somebody leads");
    story.cut_one_way(1 - master, master);
    story.until("the other one goes", 30_000, |story| story.state(1 - master) != "joined");
    assert_eq!(story.state(master), "joined");
    story.heal();
    story.until("everybody is back", 30_000, Story::is_at_rest);
}

/// Protocol §4.3: five nodes, two against three, the master among the two.
#[test]
fn a_master_on_the_smaller_side_gives_way() {
    let mut story = joined(5);
    let master = story.master().expect("somebody leads");
    let friend = (master + 1) % 5;
    story.split_off(&[master, friend]);
    story.until("the larger side stays", 60_000, |story| {
        (0..5).all(|node| (story.state(node) == "joined") == (node != master && node != friend))
    });
    story.heal();
    story.until("everybody is back", 60_000, Story::is_at_rest);
}

#[test]
fn a_stall_of_everybody_shorter_than_the_lease_costs_nothing() {
    let mut story = joined(3);
    let revision = story.record().revision;
    story.stall_all(700);
    story.run_for(10_000);
    assert_eq!(story.record().revision, revision);
}

#[test]
fn a_second_death_in_the_middle_of_a_recovery_restarts_it() {
    let mut story = joined(4);
    let victims: Vec<u16> = (0..4).filter(|node| Some(*node) != story.master()).take(2).collect();
    story.kill(victims[0]);
    story.until("its recovery runs", 20_000, |story| story.state(victims[0]) == "forced-leaving");
    story.kill(victims[1]);
    story.until("both are out", 20_000, |story| victims.iter().all(|node| story.state(*node) == "inactive"));
}

#[test]
fn a_cluster_that_lost_power_forms_anew_and_recovers_what_it_was() {
    let mut story = joined(3);
    let formation = story.record().formation;
    story.lose_power();
    story.until("all are back", 60_000, |story| story.is_at_rest() && story.incarnation(0).0 == 2);
    assert!(story.record().formation > formation);
}

#[test]
fn a_node_leaves_and_comes_back() {
    let mut story = joined(3);
    story.leave(1);
    story.until("it has left", 20_000, |story| story.state(1) == "inactive" && !story.runs(1));
    assert_eq!(story.count("dead and drained") + story.count("local fence"), 0, "no proof of death is needed");
    story.start(1);
    story.until("it is back", 20_000, Story::is_at_rest);
}

#[test]
fn a_master_that_leaves_hands_over() {
    let mut story = joined(3);
    let master = story.master().expect("somebody leads");
    story.leave(master);
    story.until("it has left", 20_000, |story| story.state(master) == "inactive" && !story.runs(master));
    story.until("another one leads", 20_000, |story| story.master().is_some());
}

/// Protocol T-14: the first node of a level fixes its barriers.
#[test]
fn a_node_with_other_barriers_is_refused() {
    let mut story = joined(2);
    story.leave(1);
    story.until("it has left", 20_000, |story| story.state(1) == "inactive" && !story.runs(1));
    let mut levels = story.world.setup().levels.clone();
    levels[0].barriers.joining += 1;
    story.world.start_as(NodeId(1), Oddity { levels: Some(levels), other_boot: false });
    story.run_for(5_000);
    assert!(story.world.coverage.count("refused: barrier mismatch") > 0 && story.state(1) == "inactive");
}

/// An mmap disk serves one boot of one host.
#[test]
fn a_node_of_another_boot_is_refused() {
    let mut story = joined(2);
    story.leave(1);
    story.until("it has left", 20_000, |story| story.state(1) == "inactive" && !story.runs(1));
    story.world.start_as(NodeId(1), Oddity { levels: None, other_boot: true });
    story.run_for(5_000);
    assert!(story.world.coverage.count("refused: other host") > 0 && story.state(1) == "inactive");
}

/// A level without a barrier for some kind would not know who leaves (spec, Table 1).
#[test]
fn a_level_without_barriers_is_refused() {
    let mut setup = Setup::calm(2);
    setup.levels[0].barriers.joining = 0;
    let mut story = Story::with(setup);
    story.world.start_all();
    story.run_for(10_000);
    assert!(story.world.coverage.count("refused: level order") > 0);
    assert!(!story.is_at_rest());
}

/// What the replay program shows beside the events.
#[test]
fn watching_the_machines_changes_nothing() {
    let run = |detail| {
        let mut story = Story::with(Setup { detail, ..Setup::calm(2) });
        story.all_join();
        (story.world.log.hash(), story.world.log.lines().iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let ((hash, events), (watched, steps)) = (run(Detail::Events), run(Detail::Machines));
    assert_eq!(hash, watched);
    for shown in ["lease <- ", "lease -> ", "manager <- ", "manager -> ", "launcher <- ", "-         seq: "] {
        let shows = |lines: &[String]| lines.iter().any(|line| line.contains(shown));
        assert!(shows(&steps) && !shows(&events), "{shown}");
    }
}

/// Protocol §3.5, M-5: an owner that goes on after its lease has expired may find a claim of somebody who took it for gone. However
/// the two meet, one of them at most leads: the claimant sees it alive, or it sees the claim and suspends.
#[test]
fn an_owner_that_goes_on_beside_a_claim_does_not_lead() {
    let mut deposed = 0;
    for frozen_ms in (TimingProfile::DEV.lease_ms - 500..TimingProfile::DEV.lease_ms + 1_000).step_by(10) {
        let mut story = joined(3);
        let Some(master) = story.master() else { panic!("nobody leads") };
        let term = story.term();
        story.freeze_with_warden(master, frozen_ms);
        story.run_for(frozen_ms);
        story.until("all is well again", 60_000, |story| story.runs(master) && story.is_at_rest());
        deposed += usize::from(story.term() > term);
    }
    assert!((1..150).contains(&deposed), "{deposed} of 150 lost the term: the freezes miss the moment");
}

/// Protocol §4.4: with three votes of nodes and none of the disk, two are needed.
fn majority_of_three() -> Story {
    let mut story = Story::with(Setup { disk_votes: Some(0), ..Setup::calm(3) });
    story.all_join();
    story
}

/// Protocol §4.4: an administrator decides no more than a master may.
#[test]
fn a_fence_that_would_cost_quorum_is_refused_by_name() {
    let mut story = majority_of_three();
    let (first, second) = match story.master() {
        Some(0) => (1, 2),
        Some(1) => (0, 2),
        _ => (0, 1),
    };
    story.world.keep_down(NodeId(first));
    story.fence(first);
    story.until("the first one is out", 20_000, |story| story.state(first) == "inactive");
    assert_eq!(story.count("there would be no quorum"), 0, "two of three are left");
    story.fence(second);
    story.until("the request is answered", 20_000, |story| story.count("there would be no quorum") == 1);
    assert_eq!(story.count("Refused { code: 1, text: \"without node n"), 1);
    story.run_for(10_000);
    assert_eq!(story.state(second), "joined");
    story.start(first);
    story.until("the first one is joined again", 20_000, |story| story.is_at_rest());
}

/// Whoever cannot let go is forced out, but for its vote: then it panics when it is asked to, and comes back with its vote.
#[test]
fn a_majority_cluster_asks_whom_it_needs_to_end_itself() {
    let mut story = Story::with(Setup { disk_votes: Some(0), ..Setup::calm(2) });
    story.all_join();
    let Some(master) = story.master() else { panic!("nobody leads") };
    let other = 1 - master;
    story.world.cannot_let_go(NodeId(other));
    let panics = |story: &Story| story.count("the master may not force it out without its vote") > 0;
    story.until("it panics", 20_000, panics);
    assert_eq!((story.count("KeptForQuorum"), story.count("ForcingOut")), (1, 0));
    story.until("it is back", 60_000, |story| story.incarnation(other).0 == 2 && story.is_at_rest());
    // The master itself panics too.
    story.world.cannot_let_go(NodeId(master));
    story.until("the master is back", 60_000, |story| story.incarnation(master).0 == 2 && story.is_at_rest());
    assert_eq!((story.count("KeptForQuorum"), story.incarnation(other).0), (1, 2));
}

/// The votes of whoever is marked count no more, though it may still be heard.
#[test]
fn of_two_fences_at_once_only_one_is_carried_out() {
    let mut story = majority_of_three();
    let victims: Vec<u16> = (0..3).filter(|node| Some(*node) != story.master()).collect();
    victims.iter().for_each(|node| story.fence(*node));
    story.until("one is refused", 20_000, |story| story.count("there would be no quorum") == 1);
    story.until("the other is out and in again", 60_000, |story| story.is_at_rest());
    let again = victims.iter().filter(|node| story.incarnation(**node).0 == 2).count();
    assert_eq!(again, 1, "one was forced out");
}

/// I-F6: a minority marks nobody, whatever it cannot hear, and goes on when the others are back.
#[test]
fn the_last_of_a_majority_cluster_waits_for_the_others() {
    let mut story = majority_of_three();
    let master = story.master().expect("somebody leads");
    let others: Vec<u16> = (0..3).filter(|node| *node != master).collect();
    others.iter().for_each(|node| story.kill_with_warden(*node));
    story.run_for(60_000);
    let marked = others.iter().filter(|node| story.state(**node) != "joined").count();
    assert!(marked <= 1, "the second mark leaves one vote of three");
    assert!(story.count("Quorum { reached: false") > 0);
    others.iter().for_each(|node| story.start(*node));
    story.until("all are joined", 60_000, |story| story.is_at_rest());
}

/// Nobody is notified of the end of a leave: the membership record tells it. Until it did, whoever stayed alone was not alone for
/// registration-and-launch (docs/design/model-checking.md, MC6).
#[test]
fn whoever_stays_knows_that_the_other_one_has_gone() {
    let mut story = joined(2);
    story.leave(1);
    story.until("it has left", 20_000, |story| story.state(1) == "inactive" && !story.runs(1));
    story.until("it is down for services too", 5_000, |story| story.world.services_see_down(NodeId(0), NodeId(1)));
    story.start(1);
    story.until("it is back", 20_000, |story| {
        story.is_at_rest() && !story.world.services_see_down(NodeId(0), NodeId(1))
    });
}
