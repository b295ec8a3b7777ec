use std::sync::{Arc, Mutex, PoisonError};

use super::*;

/// A device that notes what is done with it.
#[derive(Debug, Default)]
struct Noted {
    abilities: Abilities,
    /// What it makes of the period that is set; none = it uses that one.
    rounds_to: Option<u32>,
    timeout: u32,
    done: Vec<String>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Noted>>);

impl Fake {
    fn new(identity: &str) -> Self {
        let abilities = Abilities {
            identity: identity.to_owned(),
            sets_timeout: true,
            sets_pretimeout: true,
            lets_go: true,
            has_fired: false,
        };
        Self::of(Noted { abilities, timeout: 60, ..Noted::default() })
    }

    fn of(noted: Noted) -> Self {
        Self(Arc::new(Mutex::new(noted)))
    }

    fn with<R>(&self, look: impl FnOnce(&mut Noted) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn done(&self) -> Vec<String> {
        self.with(|noted| std::mem::take(&mut noted.done))
    }

    fn armed(&self) -> Result<Armed, WatchdogError> {
        Armed::new(Box::new(self.clone()), &TimingProfile::SAN_FAST, 2) // W 5 s, fed every 1250 ms
    }
}

impl Calls for Fake {
    fn abilities(&mut self) -> io::Result<Abilities> {
        Ok(self.with(|noted| noted.abilities.clone()))
    }

    fn set_timeout(&mut self, seconds: u32) -> io::Result<()> {
        self.with(|noted| {
            noted.timeout = noted.rounds_to.unwrap_or(seconds);
            noted.done.push(format!("timeout {seconds}"));
        });
        Ok(())
    }

    fn timeout(&mut self) -> io::Result<u32> {
        Ok(self.with(|noted| noted.timeout))
    }

    fn set_pretimeout(&mut self, seconds: u32) -> io::Result<()> {
        self.with(|noted| noted.done.push(format!("pretimeout {seconds}")));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let what = if bytes == LET_GO { "let go" } else { "fed" };
        self.with(|noted| noted.done.push(what.to_owned()));
        Ok(())
    }
}

#[test]
fn a_device_is_armed_with_the_period_of_the_disk_and_fed_at_once() {
    let fake = Fake::new("iTCO_wdt");
    let mut armed = fake.armed().unwrap();
    assert_eq!(fake.done(), ["timeout 5", "pretimeout 2", "fed"]);
    armed.feed().unwrap();
    assert_eq!(fake.done(), ["fed"]);
    drop(armed);
    assert_eq!(fake.done(), [""; 0], "the end of a daemon does not disarm it");
}

/// T_fence counts on W: a device that has rounded it up fires later than the others believe.
#[test]
fn a_period_that_reads_back_as_another_one_is_refused_and_the_device_let_go() {
    for (reads_back, refused) in [(4, false), (3, false), (6, true), (60, true), (2, true), (0, true)] {
        let fake = Fake::new("iTCO_wdt");
        fake.with(|noted| noted.rounds_to = Some(reads_back));
        let armed = fake.armed();
        assert_eq!(armed.is_err(), refused, "{reads_back} s");
        assert_eq!(fake.done().last().map(String::as_str), Some(if refused { "let go" } else { "fed" }));
        if let Err(error) = armed {
            let text = error.to_string();
            assert!(text.contains(&format!("{reads_back} s")) && text.contains("5000 ms"), "{text}");
        }
    }
}

#[test]
fn a_device_of_a_fixed_period_is_used_if_the_period_fits() {
    for (fixed, fits) in [(5, true), (30, false)] {
        let fake = Fake::new("fixed");
        fake.with(|noted| {
            noted.abilities.sets_timeout = false;
            noted.abilities.sets_pretimeout = false;
            noted.timeout = fixed;
        });
        assert_eq!(fake.armed().is_ok(), fits);
        assert!(fake.done().iter().all(|done| !done.contains("timeout")), "what it cannot do is not tried");
    }
}

#[test]
fn the_warden_lets_go_of_a_device_that_can_be_let_go() {
    let mut fake = Fake::new("iTCO_wdt");
    assert_eq!(disarm(&mut fake), Ok(()));
    assert_eq!(fake.done(), ["let go"]);
    fake.with(|noted| noted.abilities.lets_go = false);
    assert!(disarm(&mut fake).unwrap_err().contains("resets this host"));
    assert_eq!(fake.done(), [""; 0]);
}

/// Condition C2: what is paused together with the node can never reset it, so a deadline would prove nothing.
#[test]
fn fault_12_an_attestation_of_a_watchdog_that_can_be_paused_is_refused() {
    let kind = |identity: &str, virtual_host| Fake::new(identity).armed().unwrap().kind(virtual_host);
    assert_eq!(kind("iTCO_wdt", false), WatchdogKind::Hardware);
    assert_eq!(kind("iTCO_wdt", true), WatchdogKind::Software, "the machine is paused with its watchdog");
    assert_eq!(kind("Software Watchdog", false), WatchdogKind::Software);

    let refused = |kind, host_is_virtual| mistake_in_attestation(true, kind, host_is_virtual).is_some();
    assert!(!refused(WatchdogKind::Hardware, false));
    assert!(refused(WatchdogKind::Software, true) && refused(WatchdogKind::Software, false));
    assert!(refused(WatchdogKind::None, false));
    for kind in [WatchdogKind::None, WatchdogKind::Software, WatchdogKind::Hardware] {
        assert_eq!(mistake_in_attestation(false, kind, true), None, "nobody takes it for a proof");
    }
}

#[test]
fn a_file_is_no_watchdog() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = arm_device(file.path(), &TimingProfile::SAN_FAST, 0).unwrap_err();
    assert!(matches!(error, WatchdogError::Device { what: "open", .. }), "{error}");
    assert!(DevicePath(file.path().to_owned()).disarm().is_err());
    assert_eq!(std::fs::read(file.path()).unwrap(), b"", "nothing was written");
}
