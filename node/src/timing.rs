//! How long the services of a dead node stay down, part by part, as a profile gives it (protocol §3.11, §4.1 to §4.6).
//!
//! Pure. Every figure is the longest wait that the protocol makes for its own safety. What follows in every case is the same
//! and is not waited for by a clock: the commits, the recovery of the levels, and the recovery and start commands of the service.

use phalanx_messages::profile::TimingProfile;
use phalanx_protocol::manager::PROBE_MS;
use phalanx_storage::Backend;

/// As [`PROBE_MS`], where each look is an I/O of a device.
const DEVICE_PROBE_MS: u64 = 50;

/// A closed connection is followed by a look at the register at once, and then this often (protocol §4.6 step 0).
#[must_use]
pub const fn probe_ms(backend: Backend) -> u64 {
    match backend {
        Backend::Mmap => PROBE_MS,
        Backend::Direct => DEVICE_PROBE_MS,
    }
}

/// How a death becomes certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// F0: the warden's word in the register.
    OwnWord,
    /// F3: a survivor on the same host kills what is left and sees it empty.
    Local,
    /// F2: an agent switches the host off or reports it off.
    Agent,
    /// F4: enough time has passed for the host's hardware watchdog to have fired.
    Deadline,
    /// F5: an administrator says so.
    Operator,
}

/// One part of a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// In symbols of protocol §3.11.
    pub formula: &'static str,
    /// Its value; none = the profile does not say.
    pub ms: Option<u64>,
    /// What it is for.
    pub why: &'static str,
}

/// One way to die.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Short name, stable.
    pub name: &'static str,
    /// What happened.
    pub when: &'static str,
    /// How the death becomes certain.
    pub proof: Proof,
    /// This version can do it.
    pub built: bool,
    /// What adds up if the dead node was not the master.
    pub terms: Vec<Term>,
    /// What adds up if it was.
    pub terms_of_master: Vec<Term>,
}

impl Case {
    /// The sum, if the profile says every part.
    #[must_use]
    pub fn total_ms(&self) -> Option<u64> {
        sum(&self.terms)
    }

    /// The sum for the master.
    #[must_use]
    pub fn total_of_master_ms(&self) -> Option<u64> {
        sum(&self.terms_of_master)
    }
}

fn sum(terms: &[Term]) -> Option<u64> {
    terms.iter().map(|term| term.ms).sum()
}

const fn term(formula: &'static str, ms: u64, why: &'static str) -> Term {
    Term { formula, ms: Some(ms), why }
}

const fn open_end(formula: &'static str, why: &'static str) -> Term {
    Term { formula, ms: None, why }
}

/// Every way to die on a disk that is reached so, the quickest first.
#[must_use]
pub fn cases(profile: &TimingProfile, backend: Backend) -> Vec<Case> {
    let p = profile;
    let probe = match backend {
        Backend::Mmap => "5 ms",
        Backend::Direct => "50 ms",
    };
    let clean = || {
        [
            term(
                "T_stop",
                p.stop_ms,
                "the warden kills the services, cleans up what they leave, and says so on the disk",
            ),
            term(
                probe,
                probe_ms(backend),
                "the others look at the register when the connection closes, and then this often",
            ),
        ]
    };
    let word = clean().to_vec();
    let frozen: Vec<Term> = [term("W", p.watchdog_ms, "the warden is not fed for this long, and kills the daemon")]
        .into_iter()
        .chain(clean())
        .collect();
    // A master that gave no proof of its death is replaced only when its lease is certainly over.
    let takeover = || {
        let why = "the register of the master is silent until its lease is certainly over (T_takeover)";
        term("D(L)", p.takeover_ms(), why)
    };
    let reading =
        || term("R", p.renewal_ms, "a register is read once in a renewal, so the last change is seen late by this");
    let kill =
        || term("T_kill", p.kill_ms, "a survivor kills what is left and sees it empty: at most, usually at once");
    let silence = || {
        let (by_net, by_disk) = (p.net_ms + 2 * p.watchdog_ms, p.takeover_ms());
        if by_net < by_disk {
            term("T_net + 2 W", by_net, "nothing is heard over the interconnect, and then no warden's word on the disk")
        } else {
            term("D(L)", by_disk, "the register is silent until the lease is certainly over")
        }
    };
    let after_silence = |last: Term| vec![silence(), reading(), last];
    let after_takeover = |last: Term| vec![takeover(), reading(), last];
    let late = || term("T_late", p.late_write_ms, "the latest landing of a write of the dead host");
    let agent = || open_end("agent", "the agent answers that the host is off");
    let with_agent = |mut terms: Vec<Term>| {
        terms.insert(terms.len() - 1, agent());
        terms
    };
    let case =
        |name, when, proof, built, terms, terms_of_master| Case { name, when, proof, built, terms, terms_of_master };
    vec![
        case("daemon-killed", "the daemon is killed, its warden lives", Proof::OwnWord, true, word.clone(), word),
        case("daemon-frozen", "the daemon hangs, its warden lives", Proof::OwnWord, true, frozen.clone(), frozen),
        case(
            "warden-killed",
            "warden and daemon are killed at once, the host and the cgroup of the node live",
            Proof::Local,
            true,
            vec![term("2 W", 2 * p.watchdog_ms, "the word of a warden may still come"), reading(), kill()],
            after_takeover(kill()),
        ),
        case(
            "host-dead-agent",
            "the host is dead or cut off; a fence agent proves it",
            Proof::Agent,
            true,
            with_agent(after_silence(late())),
            with_agent(after_takeover(late())),
        ),
        case(
            "host-dead-deadline",
            "the host is dead or cut off; its hardware watchdog is attested",
            Proof::Deadline,
            true,
            deadline(p),
            deadline(p),
        ),
        case(
            "host-dead-operator",
            "the host is dead or cut off; nothing proves it",
            Proof::Operator,
            true,
            after_silence(open_end(
                "operator",
                "an administrator confirms that it is dead (`phalanx fence confirm NODE`)",
            )),
            after_takeover(open_end(
                "operator",
                "an administrator confirms that it is dead (`phalanx fence confirm NODE`)",
            )),
        ),
    ]
}

/// `T_fence` with its parts, counted from the death. A takeover of the master's term ends earlier and adds nothing.
fn deadline(p: &TimingProfile) -> Vec<Term> {
    vec![
        term("R", p.renewal_ms, "a register is read once in a renewal, so the last change is seen late by this"),
        term("L", p.lease_ms, "the last lease of the dead node"),
        term(
            "2 W",
            2 * p.watchdog_ms,
            "its watchdog was fed at the very end of the lease, and fires a period after the last feed",
        ),
        term("delta", p.watchdog_delta_ms, "from the firing to processor and bus really stopped"),
        term(
            "D(x) - x",
            p.safe_wait_ms(p.self_ms()) - p.self_ms(),
            "drift of the two clocks, and their granularity (rho, eps)",
        ),
        term("T_late", p.late_write_ms, "the latest landing of a write of the dead host"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(profile: &TimingProfile, name: &str) -> (Option<u64>, Option<u64>) {
        total_on(profile, Backend::Mmap, name)
    }

    fn total_on(profile: &TimingProfile, backend: Backend, name: &str) -> (Option<u64>, Option<u64>) {
        let cases = cases(profile, backend);
        let case = cases.iter().find(|case| case.name == name).unwrap();
        (case.total_ms(), case.total_of_master_ms())
    }

    #[test]
    fn what_adds_up_is_what_the_protocol_gives() {
        let local = TimingProfile::LOCAL_MMAP;
        assert_eq!(total(&local, "daemon-killed"), (Some(2_005), Some(2_005)));
        let killed_beside_a_device = total_on(&TimingProfile::SAN_FAST, Backend::Direct, "daemon-killed");
        assert_eq!(killed_beside_a_device, (Some(5_050), Some(5_050)), "each look is an I/O");
        assert_eq!(total(&local, "daemon-frozen"), (Some(4_005), Some(4_005)));
        assert_eq!(total(&local, "warden-killed"), (Some(4_000 + 1_000 + 10_000), Some(4_059 + 1_000 + 10_000)));
        assert_eq!(total(&local, "host-dead-operator"), (None, None));
        assert_eq!(total(&local, "host-dead-agent"), (None, None));
    }

    #[test]
    fn the_parts_of_the_deadline_add_up_to_t_fence() {
        for (name, profile) in TimingProfile::NAMED {
            let whole = Some(profile.renewal_ms + profile.fence_ms());
            assert_eq!(total(&profile, "host-dead-deadline"), (whole, whole), "{name}");
        }
    }

    #[test]
    fn a_silent_host_is_noticed_by_whichever_silence_ends_first() {
        let first = |profile: &TimingProfile| cases(profile, Backend::Mmap).pop().unwrap().terms[0].clone();
        assert_eq!(first(&TimingProfile::LOCAL_MMAP).ms, Some(4_059), "D(L) before 1500 + 2 x 2000");
        assert_eq!(first(&TimingProfile::SAN_SAFE).ms, Some(26_000), "6000 + 2 x 10000 before D(L)");
    }
}
