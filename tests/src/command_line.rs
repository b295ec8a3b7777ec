//! A node's file in a directory of its own, and what single commands say there: no cluster runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::process_cluster::phalanx;

/// The file of node n0 of cluster `alpha` in a directory of its own.
#[derive(Debug)]
pub struct Bench {
    dir: TempDir,
}

impl Bench {
    /// A file and no disk.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a bench is a directory on the disk, not a value")]
    pub fn new() -> Self {
        let bench = Self { dir: tempfile::tempdir().expect("a directory") };
        bench.configure("alpha", "\"dev\"");
        let key = phalanx_actors::interconnect::ClusterKey::generate().expect("a key");
        key.save(&bench.path("cluster.key")).expect("written");
        bench
    }

    /// Writes the file anew, for that cluster and that value of `disk.timing`.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure(&self, cluster: &str, timing: &str) {
        let text = format!(
            "[node]\nname = \"n0\"\nstate_dir = \"state\"\nsocket = \"n0.sock\"\npanic = \"exit\"\n[cluster]\nname = \"{cluster}\"\n\
             key_file = \"cluster.key\"\nnode = [{{ name = \"n0\", id = 0, address = \"127.0.0.1:7600\" }}]\n\
             [disk]\nbackend = \"mmap\"\npath = \"disk\"\ntiming = {timing}\n"
        );
        fs::write(self.path("n0.toml"), text).expect("written");
    }

    /// The directory, in which every command runs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs one command.
    ///
    /// # Panics
    /// If `phalanx` cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Told {
        let mut command = Command::new(phalanx());
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null()).env("NO_COLOR", "1");
        Told::of(&command.output().expect("phalanx starts"))
    }

    /// `disk create` with these further words, for a small disk.
    #[must_use]
    pub fn create(&self, more: &[&str]) -> Told {
        self.run(
            &[&["disk", "create", "--config", "n0.toml", "--nodes-max", "2", "--services-max", "4"], more].concat(),
        )
    }

    /// A file and its formatted disk.
    #[must_use]
    pub fn formatted() -> Self {
        let bench = Self::new();
        bench.create(&[]).succeeds();
        bench
    }

    /// Every command that opens a disk says the same of it, with exit code 74, and leaves it as it was.
    ///
    /// # Panics
    /// If one does not.
    pub fn every_command_says(&self, what: &[&str]) {
        let before = fs::read(self.path("disk")).ok();
        let commands: [&[&str]; 5] = [
            &["disk", "show", "disk"],
            &["disk", "check", "disk"],
            &["status", "--disk", "disk"],
            &["timing", "--disk", "disk"],
            &["node", "run", "--config", "n0.toml", "--no-wait"],
        ];
        for command in commands {
            let told = self.run(command);
            told.fails(74, what);
        }
        assert_eq!(fs::read(self.path("disk")).ok(), before, "only read");
    }
}

/// What a command said.
#[derive(Debug)]
pub struct Told {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its results.
    pub out: String,
    /// Its talk.
    pub err: String,
}

impl Told {
    /// What an ended command said.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// It succeeded.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn succeeds(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self
    }

    /// Fails with this code, one error and one hint, and every part of `what` in it.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn fails(&self, code: i32, what: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.err, self.out);
        assert_eq!((self.err.matches("error: ").count(), self.err.matches("hint: ").count()), (1, 1), "{}", self.err);
        for part in what {
            assert!(self.err.contains(part), "{part:?} is not in\n{}", self.err);
        }
        self
    }
}
