//! Fence agents of a test: scripts that speak the protocol of `fence_*`, and switch a host off by killing whatever runs in its
//! namespace.

use std::path::Path;

use crate::program::write_program;

/// A fence agent of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// Ends every process of the host.
    Good,
    /// Takes a second for it.
    Slow,
    /// Says that it cannot.
    Failing,
    /// Says that it has, and has not; its `status` tells the truth.
    Lying,
    /// The same, and its `status` lies too: what no cluster can see through.
    Deceiving,
    /// Shuts the host out of the shared storage, and leaves it running (F1).
    Storage,
}

impl Agent {
    /// Name of its program.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "fence_good",
            Self::Slow => "fence_slow",
            Self::Failing => "fence_failing",
            Self::Lying => "fence_lying",
            Self::Deceiving => "fence_deceiving",
            Self::Storage => "fence_scsi", // one of those that Phalanx knows
        }
    }

    const fn off(self) -> &'static str {
        match self {
            Self::Good => "off",
            Self::Slow => "sleep 1; off",
            Self::Failing => "echo 'no route to the power switch' >&2; exit 1",
            Self::Lying | Self::Deceiving => "exit 0",
            Self::Storage => "echo shut-out > $switch",
        }
    }

    const fn status(self) -> &'static str {
        match self {
            Self::Good | Self::Slow | Self::Failing | Self::Lying => {
                "[ -z \"$(ip netns pids \"$plug\")\" ] && exit 2; exit 0"
            }
            Self::Deceiving => "exit 2",
            Self::Storage => "grep -q shut-out $switch 2>/dev/null && exit 2; exit 0",
        }
    }

    /// Writes its program there. Each call leaves a line in `calls` of that directory.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn install(self, directory: &Path) {
        let file = directory.join(self.name());
        write_program(&file, &self.script(&directory.join("calls").display().to_string()));
    }

    fn script(self, calls: &str) -> String {
        format!(
            "#!/bin/sh\nwhile IFS='=' read -r name value; do case $name in action) action=$value;; plug) plug=$value;; switch) switch=$value;; esac; done\n\
             echo \"{} $action $plug\" >> {calls}\n\
             off() {{\n\
               for attempt in 1 2 3 4 5 6 7 8 9; do\n\
                 pids=$(ip netns pids \"$plug\"); [ -z \"$pids\" ] && exit 0; kill -9 $pids 2>/dev/null\n\
               done\n\
               exit 1\n\
             }}\n\
             case $action in\n\
             off) {};;\n\
             on) echo good > $switch;;\n\
             status) {};;\n\
             esac\n",
            self.name(),
            self.off(),
            self.status()
        )
    }
}
