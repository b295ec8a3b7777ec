//! A service whose child tries everything to escape: forked twice, a session of its own, deaf to TERM, without environment.
//! After SIGKILL of the daemon it is dead before the recovery command's first line (protocol I-F3, I-R5).

use std::path::PathBuf;

use phalanx_tests::process_cluster::{DevCluster, signal_process};
use phalanx_tests::requirement::{Requirement, available};
use rustix::process::Signal;

/// The recovery command looks before it does anything else.
const CONFIG: &str = r#"
[[service]]
name = "escapee"
allowable_nodes = "*"
auto_register = "always"
start_command = { shell = '''
( ( env -i /usr/bin/setsid /bin/sh -c 'trap "" TERM; echo $$ >> "@DIR@/escaped"; while :; do /bin/sleep 1; done' & ) & )
while [ ! -s "@DIR@/escaped" ]; do /bin/sleep 0.01; done
''' }
recovery_command = { shell = '''
kill -0 "$(tail -n 1 "@DIR@/escaped")" && echo alive >> "@DIR@/verdict" || echo dead >> "@DIR@/verdict"
''' }
leaves = "processes"
recover_lost_start = true
"#;

fn config() -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("escapee.toml");
    std::fs::write(&path, CONFIG).expect("the file can be written");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("readable by all");
    (directory, path)
}

fn it_is_dead_before_recovery_begins(cluster: &DevCluster, containment: &str) {
    let victim = cluster.wait_registered("escapee");
    let status = cluster.wait_joined(3);
    let node = phalanx_tests::process_cluster::find(&status, "nodes", &victim).expect("a node");
    assert_eq!(node["containment"], containment);
    let (_, daemon) = cluster.processes_of(&victim);
    signal_process(daemon, Signal::KILL);
    cluster.wait_status("the service elsewhere", |status| {
        phalanx_tests::process_cluster::find(status, "services", "escapee")
            .is_some_and(|service| service["state"] == "registered" && service["node"] != victim.as_str())
    });
    let verdict = std::fs::read_to_string(cluster.dir().join("verdict")).expect("the recovery command has run");
    assert_eq!(verdict, "dead\n");
}

#[test]
fn an_escapee_in_a_cgroup_is_dead_before_recovery() {
    if !available(&[Requirement::Root, Requirement::Cgroup]) {
        return;
    }
    let (_keep, path) = config();
    let cluster = DevCluster::start(3, &["--config", &path.to_string_lossy()]);
    it_is_dead_before_recovery_begins(&cluster, "cgroup");
}

/// As an ordinary user there are no cgroups.
#[test]
fn an_escapee_below_a_subreaper_is_dead_before_recovery() {
    let (_keep, path) = config();
    let arguments = ["--config", &path.to_string_lossy(), "--subreaper"];
    let root = Requirement::Root.missing().is_none();
    let cluster = if root { DevCluster::start_as_nobody(3, &arguments[..2]) } else { DevCluster::start(3, &arguments) };
    it_is_dead_before_recovery_begins(&cluster, "subreaper");
}
