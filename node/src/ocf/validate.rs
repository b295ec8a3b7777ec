//! What an agent says of its parameters before anything is started with them: its action `validate-all` (OCF resource agent API
//! 1.1). It changes nothing.
//!
//! Only a refusal counts. An agent that does not know the action, fails in another way or does not come to an end says nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitStatus};

use super::{heard, path, root, run};

/// OCF_ERR_CONFIGURED: the parameters are wrong on whatever host.
const WRONG_EVERYWHERE: i32 = 6;
/// OCF_ERR_ARGS, OCF_ERR_PERM, OCF_ERR_INSTALLED: something is wrong on this host.
const WRONG_HERE: [i32; 3] = [2, 4, 5];
/// What an agent's own words about its exit status begin with.
const REASON: &str = "ocf-exit-reason:";

/// An agent does not want to be started like that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its exit status.
    pub status: i32,
    /// The last line that it has written.
    pub words: String,
    /// Everything that it has written.
    pub output: String,
}

impl Refusal {
    /// It would refuse on any other host too.
    #[must_use]
    pub const fn is_everywhere(&self) -> bool {
        self.status == WRONG_EVERYWHERE
    }

    fn of(status: ExitStatus, output: String) -> Option<Self> {
        let status = status.code().filter(|code| *code == WRONG_EVERYWHERE || WRONG_HERE.contains(code))?;
        let last = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
        let words = last.trim().strip_prefix(REASON).unwrap_or_else(|| last.trim()).to_owned();
        Some(Self { status, words, output })
    }
}

/// Asks an agent of this host about parameters by name, for a service of that name. None = it is content, or says nothing.
#[must_use]
pub fn refusal(provider: &str, agent: &str, service: &str, parameters: &BTreeMap<String, String>) -> Option<Refusal> {
    let named = parameters.iter().map(|(name, value)| (format!("OCF_RESKEY_{name}"), value.clone()));
    let environment = named.chain([("OCF_RESOURCE_INSTANCE".to_owned(), service.to_owned())]).collect();
    refusal_in(&root(), provider, agent, &environment)
}

/// The same, with whatever else is in the environment.
pub(super) fn refusal_in(
    root: &Path,
    provider: &str,
    agent: &str,
    environment: &BTreeMap<String, String>,
) -> Option<Refusal> {
    let (output, end) = std::io::pipe().ok()?;
    let mut command = Command::new(path(root, provider, agent));
    command.arg("validate-all").envs(environment).envs(run::surroundings(root, provider, agent, "validate-all"));
    command.stdout(end.try_clone().ok()?).stderr(end);
    let (status, output) = heard(command, output).ok()?;
    Refusal::of(status, output)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// An agent `ocf:test:Thing` that does this when it is asked to validate.
    fn agent(script: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let file = path(root.path(), "test", "Thing");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        // Written by another process: nobody who is just started may hold a program open for writing.
        let text = format!("#!/bin/sh\n[ \"$1\" = validate-all ] || exit 1\n{script}\n");
        let written = std::process::Command::new("/bin/sh")
            .args(["-c", "printf %s \"$1\" > \"$2\"", "sh", &text])
            .arg(&file)
            .status();
        assert!(written.unwrap().success());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        root
    }

    fn asked(script: &str) -> Option<Refusal> {
        let root = agent(script);
        let environment = [("OCF_RESKEY_port".to_owned(), "http".to_owned())].into();
        refusal_in(root.path(), "test", "Thing", &environment)
    }

    /// OCF resource agent API 1.1, "Exit status codes".
    #[test]
    fn a_refusal_has_the_last_words_of_the_agent_and_says_whether_it_is_of_this_host_alone() {
        let script = "echo looking; echo \"ocf-exit-reason:port $OCF_RESKEY_port is no number\" >&2; exit";
        for (status, everywhere) in [(6, true), (2, false), (4, false), (5, false)] {
            let refusal = asked(&format!("{script} {status}")).unwrap();
            assert_eq!((refusal.status, refusal.words.as_str()), (status, "port http is no number"));
            assert_eq!(refusal.is_everywhere(), everywhere, "{status}");
            assert!(refusal.output.starts_with("looking\n"), "both of its outputs, in order");
        }
        assert_eq!(asked("exit 6").unwrap().words, "it does not say why");
    }

    #[test]
    fn whatever_else_it_says_is_no_refusal() {
        for content in ["exit 0", "exit 1", "exit 3 # it does not know the action", "exit 7", "kill -9 $$"] {
            assert_eq!(asked(content), None, "{content}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(refusal_in(empty.path(), "test", "Thing", &BTreeMap::new()), None, "there is no such agent");
    }
}
