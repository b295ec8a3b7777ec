//! The Python example as a process: a subsystem outside its node (`examples/python/audit_subsystem.py`).

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use phalanx_node::dev::node_socket;

use crate::process_cluster::{DevCluster, PATIENCE, wait_for};

/// The example.
#[must_use]
pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python/audit_subsystem.py")
}

/// One process of it.
#[derive(Debug)]
pub struct PythonSubsystem(Child);

impl PythonSubsystem {
    /// Attaches the example to a node of the cluster; its journal is one that [`DevCluster::check_order`] reads.
    ///
    /// # Panics
    /// If Python cannot be started.
    #[must_use]
    pub fn start(cluster: &DevCluster, node: &str, more: &[&str]) -> Self {
        Self::start_as(cluster, node, more, None)
    }

    /// The same as that user and group, from a copy of the example that they can read.
    ///
    /// # Panics
    /// If Python cannot be started.
    #[must_use]
    pub fn start_as(cluster: &DevCluster, node: &str, more: &[&str], user: Option<(u32, u32)>) -> Self {
        let program = cluster.dir().join("audit_subsystem.py");
        std::fs::copy(script(), &program).expect("the example can be copied");
        let mut command = Command::new("python3");
        command.arg(program).arg("--socket").arg(node_socket(cluster.dir(), node));
        command.arg("--journal").arg(journal(cluster, node)).args(more);
        if let Some((user, group)) = user {
            command.uid(user).gid(group);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().expect("python3 can be started"))
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end; gives its exit code and what it said on stderr.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait(&mut self) -> (Option<i32>, String) {
        let child = &mut self.0;
        let status = wait_for("the end of the Python example", PATIENCE, || {
            child.try_wait().expect("a child can be waited for")
        });
        let mut said = String::new();
        child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut said));
        (status.code(), said)
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn kill(&mut self) {
        self.0.kill().expect("a child can be killed");
        self.0.wait().expect("a child can be waited for");
    }
}

impl Drop for PythonSubsystem {
    fn drop(&mut self) {
        self.0.kill().ok(); // it may have ended
        self.0.wait().ok();
    }
}

/// Where the example on a node writes.
#[must_use]
pub fn journal(cluster: &DevCluster, node: &str) -> PathBuf {
    cluster.dir().join(format!("{node}-audit-steps.log"))
}
