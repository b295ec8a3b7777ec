//! Which faults hit a cluster of hosts, and when, drawn from a seed alone: the same seed is the same plan, however the cluster does.

use std::fmt;

use phalanx_messages::profile::TimingProfile;
use phalanx_node::test_host::DiskPath;

use crate::draw::Draw;
use crate::host_cluster::Agent;

/// Faults of one run.
const FAULTS: usize = 8;
/// The longest time between the beginnings of two of them, in milliseconds: some overlap, some do not.
const APART_MS: usize = 1_200;
/// A host that lost its power or its node is on again after at most so many milliseconds.
const OFF_MS: usize = 2_500;

/// What is done to the cluster at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The daemon of a host is killed; its warden lives.
    KillDaemon(usize),
    /// Warden and daemon of a host are killed at once.
    KillNode(usize),
    /// A host loses its power.
    PowerOff(usize),
    /// Every host loses its power.
    EveryPowerOff,
    /// Whoever has ended, on whichever host, is started again.
    StartEnded,
    /// Every process of a host stops.
    Freeze(usize),
    /// They go on.
    Thaw(usize),
    /// Nothing passes between two hosts.
    Cut(usize, usize),
    /// Nothing of the first arrives at the second.
    CutOneWay(usize, usize),
    /// Everything passes between two hosts.
    Mend(usize, usize),
    /// The path of a host to the disk.
    Path(usize, DiskPath),
    /// The path of every host to the disk.
    EveryPath(DiskPath),
    /// The node of a host is asked to leave.
    Leave(usize),
    /// A service is moved.
    Transfer,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillDaemon(host) => write!(f, "the daemon of n{host} is killed"),
            Self::KillNode(host) => write!(f, "warden and daemon of n{host} are killed"),
            Self::PowerOff(host) => write!(f, "n{host} loses its power"),
            Self::EveryPowerOff => write!(f, "every host loses its power"),
            Self::StartEnded => write!(f, "whoever has ended is started"),
            Self::Freeze(host) => write!(f, "n{host} is frozen"),
            Self::Thaw(host) => write!(f, "n{host} is thawed"),
            Self::Cut(one, other) => write!(f, "the link between n{one} and n{other} is cut"),
            Self::CutOneWay(from, to) => write!(f, "nothing of n{from} arrives at n{to}"),
            Self::Mend(one, other) => write!(f, "the link between n{one} and n{other} is mended"),
            Self::Path(host, path) => write!(f, "the path of n{host} to the disk is {}", path.text()),
            Self::EveryPath(path) => write!(f, "every path to the disk is {}", path.text()),
            Self::Leave(host) => write!(f, "n{host} is asked to leave"),
            Self::Transfer => write!(f, "a service is moved"),
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Hosts.
    pub nodes: usize,
    /// Their fence agents, in the order in which they are tried.
    pub agents: Vec<Agent>,
    /// What is done, and when: milliseconds since the cluster has formed. In order.
    pub acts: Vec<(u64, Act)>,
}

impl Plan {
    /// The plan of a seed, against a cluster with that timing.
    #[must_use]
    pub fn of(seed: u64, profile: &TimingProfile) -> Self {
        let mut draw = Draw::new(seed);
        let nodes = 3 + draw.below(3);
        let agents: &[Agent] = match draw.below(4) {
            0 => &[Agent::Slow],
            1 => &[Agent::Failing, Agent::Good],
            2 => &[Agent::Lying, Agent::Good],
            _ => &[Agent::Good],
        };
        let mut acts = Vec::new();
        let mut at_ms = 0;
        for _ in 0..FAULTS {
            at_ms += ms(draw.below(APART_MS));
            let fault = Fault::draw(nodes, &mut draw, profile);
            acts.extend(fault.into_iter().map(|(after_ms, act)| (at_ms + after_ms, act)));
        }
        acts.sort_by_key(|(at_ms, _)| *at_ms); // stable: what was drawn first comes first
        Self { nodes, agents: agents.to_vec(), acts }
    }
}

fn ms(count: usize) -> u64 {
    u64::try_from(count).expect("a short time")
}

/// A fault with its end: acts by their milliseconds after its beginning.
type Acts = Vec<(u64, Act)>;

struct Fault;

impl Fault {
    fn draw(nodes: usize, draw: &mut Draw, profile: &TimingProfile) -> Acts {
        let host = draw.below(nodes);
        let other = (host + 1 + draw.below(nodes - 1)) % nodes;
        let off_ms = ms(draw.below(OFF_MS));
        let lasting = |first: Act, last: Act, ms: u64| vec![(0, first), (ms, last)];
        let ended = |first: Act| lasting(first, Act::StartEnded, off_ms);
        match draw.below(15) {
            0 | 1 => ended(Act::KillDaemon(host)),
            2 => ended(Act::KillNode(host)),
            3 => ended(Act::PowerOff(host)),
            4 => ended(Act::Leave(host)),
            5 | 6 => lasting(Act::Freeze(host), Act::Thaw(host), around(profile.lease_ms, draw)),
            7 => lasting(Act::Cut(host, other), Act::Mend(host, other), 2 * off_ms),
            8 => lasting(Act::CutOneWay(host, other), Act::Mend(host, other), 2 * off_ms),
            9 => flap(host, other, draw, profile),
            10 => {
                let path = if draw.below(2) == 0 { DiskPath::Hanging } else { DiskPath::Lost };
                lasting(Act::Path(host, path), Act::Path(host, DiskPath::Good), around(profile.lease_ms, draw))
            }
            11 => {
                let slow = DiskPath::Slow(ms(50 + draw.below(300)));
                lasting(Act::Path(host, slow), Act::Path(host, DiskPath::Good), 2 * off_ms)
            }
            12 => {
                let (first, last) = (Act::EveryPath(DiskPath::Hanging), Act::EveryPath(DiskPath::Good));
                lasting(first, last, around(profile.lease_ms, draw))
            }
            13 => ended(Act::EveryPowerOff),
            _ => vec![(0, Act::Transfer)],
        }
    }
}

/// Something clearly shorter than `limit_ms`, or clearly longer.
fn around(limit_ms: u64, draw: &mut Draw) -> u64 {
    if draw.below(2) == 0 {
        limit_ms / 8 + ms(draw.below(usize::try_from(limit_ms / 2).expect("a short time")))
    } else {
        limit_ms + limit_ms / 4 + ms(draw.below(usize::try_from(limit_ms).expect("a short time")))
    }
}

/// A link that is cut and back some times, never for as long as makes it lost.
fn flap(one: usize, other: usize, draw: &mut Draw, profile: &TimingProfile) -> Acts {
    let mut at_ms = 0;
    let mut acts = Vec::new();
    for _ in 0..2 + draw.below(4) {
        for act in [Act::Cut(one, other), Act::Mend(one, other)] {
            acts.push((at_ms, act));
            at_ms += profile.net_ms / 8 + ms(draw.below(usize::try_from(profile.net_ms / 3).expect("a short time")));
        }
    }
    acts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan::of(seed, &TimingProfile::DEV)
    }

    #[test]
    fn a_seed_is_a_plan_and_the_first_seeds_have_every_fault() {
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        let mut kinds = BTreeSet::new();
        for plan in (0..40).map(plan) {
            assert!((3..=5).contains(&plan.nodes));
            assert!(plan.acts.is_sorted_by_key(|(at_ms, _)| *at_ms));
            kinds.extend(
                plan.acts.iter().map(|(_, act)| format!("{act:?}").split('(').next().unwrap_or_default().to_owned()),
            );
        }
        let all = [
            "Cut",
            "CutOneWay",
            "EveryPath",
            "EveryPowerOff",
            "Freeze",
            "KillDaemon",
            "KillNode",
            "Leave",
            "Mend",
            "Path",
            "PowerOff",
            "StartEnded",
            "Thaw",
            "Transfer",
        ];
        assert_eq!(kinds, all.map(str::to_owned).into());
    }

    #[test]
    fn stalls_and_freezes_are_shorter_and_longer_than_the_lease() {
        let lasts = |begin: fn(&Act) -> bool, end: fn(&Act) -> bool| -> BTreeSet<bool> {
            let of = |plan: Plan| {
                let first = plan.acts.iter().find(|(_, act)| begin(act))?.0;
                let last = plan.acts.iter().find(|(at_ms, act)| *at_ms >= first && end(act))?.0;
                Some(last - first > TimingProfile::DEV.lease_ms)
            };
            (0..80).map(plan).filter_map(of).collect()
        };
        let both: BTreeSet<bool> = [false, true].into();
        assert_eq!(lasts(|act| matches!(act, Act::Freeze(_)), |act| matches!(act, Act::Thaw(_))), both);
        let hangs = |act: &Act| *act == Act::EveryPath(DiskPath::Hanging);
        assert_eq!(lasts(hangs, |act| *act == Act::EveryPath(DiskPath::Good)), both);
    }
}
