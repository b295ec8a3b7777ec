//! Bad input around starting: one clear error, the exit code of architecture §5, nothing lost.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use phalanx_tests::init_cluster::InitCluster;
use phalanx_tests::process_cluster::{MachineLock, NOBODY, PATIENCE, copy_program, find, phalanx, wait_for};
use phalanx_tests::requirement::{Requirement, available};

/// A cluster of two nodes with a disk.
fn made() -> InitCluster {
    let cluster = InitCluster::new(2);
    cluster.create_disk();
    cluster
}

/// What a command that fails says: its exit code, and its talk. It says what is wrong once.
fn talk(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code();
    assert_eq!(text.matches("error:").count(), 1, "{code:?} {text}");
    assert!(output.stdout.is_empty(), "{output:?}");
    (code, text)
}

/// `node run` fails with `code`, says all of `words`, and touches neither disk nor lock.
fn refuses(cluster: &InitCluster, code: i32, words: &[&str]) {
    let before = std::fs::read(cluster.disk()).unwrap_or_default();
    let config = cluster.config("n0").display().to_string();
    let (found, text) = talk(&cluster.run(&["node", "run", "--config", &config]));
    // Lines are broken where the terminal ends.
    let flat = text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert_eq!(found, Some(code), "{text}");
    for word in words {
        assert!(flat.contains(word), "no `{word}` in:\n{text}");
    }
    assert!(std::fs::read(cluster.disk()).unwrap_or_default() == before, "the disk was changed");
}

/// `node run` finds a mistake in its file.
fn refuses_configuration(change: impl Fn(&str) -> String, words: &[&str]) {
    let cluster = made();
    cluster.edit(change);
    refuses(&cluster, 78, words);
}

#[test]
fn an_unknown_key() {
    refuses_configuration(|text| text.replace("[disk]", "[disk]\ncolour = 7"), &["unknown field `colour`", "n0.toml"]);
}

#[test]
fn a_node_id_that_is_used_twice() {
    refuses_configuration(|text| text.replace("id = 1", "id = 0"), &["nodes `n0` and `n1` both have id 0"]);
}

#[test]
fn a_node_name_that_is_used_twice() {
    let twice = |text: &str| text.replace("name = \"n1\"", "name = \"n0\"");
    refuses_configuration(twice, &["nodes `n0` and `n0` both have name n0"]);
}

#[test]
fn an_address_that_is_used_twice() {
    let cluster = made();
    let (first, second) = (cluster.address(0), cluster.address(1));
    cluster.edit(|text| text.replace(second, first));
    refuses(&cluster, 78, &[&format!("nodes `n0` and `n1` both have address {first}")]);
}

#[test]
fn a_level_that_is_used_twice() {
    let two = "\n[[subsystem]]\nname = \"a\"\nlevel = 5\n[[subsystem]]\nname = \"b\"\nlevel = 5\n";
    refuses_configuration(|text| format!("{text}{two}"), &["subsystems `a` and `b` both have level 5"]);
}

#[test]
fn a_service_that_names_an_unknown_node() {
    let service = "\n[[service]]\nname = \"s\"\nallowable_nodes = [\"n7\"]\nstart_command = \"true\"\n";
    let words = ["allowable_nodes of service `s` names `n7`, which is no node", "the nodes are n0, n1"];
    refuses_configuration(|text| format!("{text}{service}"), &words);
}

#[test]
fn a_socket_path_that_is_too_long() {
    let long = "x".repeat(120);
    refuses_configuration(|text| text.replace("n0.sock", &long), &["the system allows 107", "node.socket"]);
    let socket = format!("/tmp/{long}.sock");
    let (code, text) = talk(&Command::new(phalanx()).args(["--socket", &socket, "status"]).output().expect("starts"));
    assert!(code == Some(2) && text.contains("the system takes 107"), "{code:?} {text}");
}

#[test]
fn a_cluster_key_that_is_missing_readable_by_others_or_no_key() {
    let cluster = made();
    let key = cluster.out().join("cluster.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).expect("chmod");
    refuses(&cluster, 78, &["has mode 0644", "chmod 600", "`key_file`"]);
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("chmod");
    std::fs::write(&key, "secret").expect("written");
    refuses(&cluster, 78, &["must hold 64 hexadecimal digits"]);
    std::fs::remove_file(&key).expect("removed");
    refuses(&cluster, 78, &["failed to use key file", "No such file", "`key_file`"]);
}

#[test]
fn a_disk_of_another_cluster_or_of_nobody_never_waits() {
    let cluster = made();
    cluster.edit(|text| text.replace("name = \"alpha\"", "name = \"beta\""));
    refuses(&cluster, 78, &["belongs to cluster `alpha`, not `beta`"]);
    std::fs::write(cluster.disk(), vec![7; 1 << 20]).expect("written");
    refuses(&cluster, 74, &["is not a Phalanx disk"]);
}

/// The state directory is below a file, so it cannot be made.
#[test]
fn a_state_directory_that_cannot_be_made() {
    let cluster = made();
    cluster.edit(|text| text.replace("state/n0", "cluster.key/n0"));
    refuses(&cluster, 1, &["failed to make", "cluster.key/n0", "`state_dir`"]);
}

/// A disk that is not there is waited for, with a line; SIGTERM ends it cleanly.
#[test]
fn a_disk_that_is_not_there() {
    let cluster = InitCluster::new(1);
    let config = cluster.config("n0").display().to_string();
    let (code, text) = talk(&cluster.run(&["node", "run", "--no-wait", "--config", &config]));
    assert!(code == Some(74) && text.contains("phalanx disk create"), "{code:?} {text}");
    let mut node = cluster.start("n0", &[], None);
    node.wait_said("waiting for the shared disk");
    node.terminate();
    assert_eq!(node.wait_exit(), Some(0), "{}", node.said());
    assert!(node.said().contains("ended while waiting for the shared disk"), "{}", node.said());
}

/// The first waits for its address and holds the id lock: a second one of that node waits for the lock, with words, or fails.
#[test]
fn an_address_that_is_taken_and_a_second_daemon_of_the_node() {
    let _lock = MachineLock::take();
    let cluster = InitCluster::new(1);
    cluster.create_disk();
    let taken = TcpListener::bind(cluster.address(0)).expect("still free");
    let config = cluster.config("n0").display().to_string();
    let (code, text) = talk(&cluster.run(&["node", "run", "--no-wait", "--config", &config]));
    assert!(code == Some(75) && text.contains(cluster.address(0)) && text.contains("in use"), "{code:?} {text}");

    let mut first = cluster.start("n0", &[], None);
    first.wait_said("waiting for the address");
    let (code, text) = talk(&cluster.run(&["node", "run", "--no-wait", "--config", &config]));
    assert!(code == Some(75) && text.contains("node-id lock") && text.contains("holds it"), "{code:?} {text}");
    let mut second = cluster.start("n0", &[], None);
    second.wait_said("waiting for the node-id lock");
    second.terminate();
    assert_eq!(second.wait_exit(), Some(0), "{}", second.said());

    drop(taken);
    first.wait_said(": here after");
    let _ = cluster.wait_joined(1);
    first.terminate();
    assert_eq!(first.wait_exit(), Some(0), "{}", first.said());

    let taken = TcpListener::bind(cluster.address(0)).expect("free again");
    let mut third = cluster.start("n0", &[], None);
    third.wait_said("waiting for the address");
    third.terminate();
    assert_eq!(third.wait_exit(), Some(0), "{}", third.said());
    assert!(third.said().contains("ended while waiting for the address"), "{}", third.said());
    drop(taken);
}

/// The first node of a level fixes its barrier counts; the next one is told both.
#[test]
fn barrier_counts_that_differ_between_nodes() {
    let _lock = MachineLock::take();
    let cluster = made();
    let level =
        |joining: u8| format!("\n[[subsystem]]\nname = \"a\"\nlevel = 5\nbarriers = {{ joining = {joining} }}\n");
    cluster.edit(|text| text.to_owned() + &level(if text.contains("socket = \"n0.sock\"") { 1 } else { 2 }));
    let first = cluster.start("n0", &[], None);
    let _ = cluster.wait_joined(1);
    let mut second = cluster.start("n1", &[], None);
    assert_eq!(second.wait_exit(), Some(1), "{}", second.said());
    let said = second.said();
    assert!(said.contains("cannot join") && said.contains("level 5 is `a`"), "{said}");
    assert!(said.contains("joining: 1") && said.contains("joining: 2") && said.contains("[[subsystem]]"), "{said}");
    let _ = cluster.wait_joined(1);
    drop(first);
}

#[test]
fn a_socket_that_nobody_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("n0.sock");
    drop(UnixListener::bind(&socket).expect("bound")); // the file stays
    for arguments in [["--socket", "n0.sock", "status"], ["--dir", ".", "status"], ["--socket", "no.sock", "status"]] {
        let output = Command::new(phalanx()).current_dir(dir.path()).args(arguments).output().expect("starts");
        let (code, text) = talk(&output);
        assert!(code == Some(69) && text.contains("hint: `phalanx"), "{arguments:?}: {code:?} {text}");
    }
    let output = Command::new(phalanx()).arg("--dir").arg(dir.path()).args(["--node", "n0", "status"]).output();
    let (code, text) = talk(&output.expect("starts"));
    assert_eq!(code, Some(3), "{text}");
}

/// Somebody else's node: by its socket, and by a directory that may not be looked into.
#[test]
fn a_user_without_the_privilege() {
    if !available(&[Requirement::Root]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("phalanx");
    copy_program(&phalanx(), &program);
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).expect("made");
    let socket = closed.join("n0.sock");
    let _listener = UnixListener::bind(&socket).expect("bound");
    let ask = |flag: &str, path: &Path| {
        let mut command = Command::new(&program);
        command.arg(flag).arg(path).arg("status").uid(NOBODY).gid(NOBODY);
        talk(&command.output().expect("starts"))
    };
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o600)).expect("chmod");
    for mode in [0o755, 0o700] {
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(mode)).expect("chmod");
        for (flag, path) in [("--socket", &socket), ("--dir", &closed)] {
            let (code, text) = ask(flag, path);
            assert!(code == Some(4) && text.contains("not allowed"), "{mode:o} {flag}: {code:?} {text}");
        }
    }
}

/// A file system of 64 kB.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Self {
        std::fs::create_dir_all(path).expect("made");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "small"]).arg(path).status();
        assert!(mount.expect("mount can be started").success());
        Self(path.to_owned())
    }

    fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.0).expect("mounted").f_bfree
    }

    fn fill(&self) {
        // As much as fits.
        std::fs::write(self.0.join("filler"), vec![b'x'; 1 << 20]).expect_err("larger than the file system");
        assert_eq!(self.free(), 0);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").args(["-l"]).arg(&self.0).status().ok();
    }
}

/// The first start says so and leaves no half of a key; one that fills while the node runs harms nothing.
#[test]
fn a_state_directory_that_is_full() {
    if !available(&[Requirement::Mount]) {
        return;
    }
    let _lock = MachineLock::take();
    let cluster = InitCluster::new(1);
    let alive = cluster.out().join("alive");
    let service = format!(
        "\n[[service]]\nname = \"loud\"\nleaves = \"processes\"\n\
         start_command = {{ shell = '''head -c 300000 /dev/zero | tr '\\0' x; (while sleep 0.05; do date >\"{0}\"; echo loud; done) & true''' }}\n\
         stop_command = {{ shell = '''echo stopped; touch \"{0}-stopped\"''' }}\n",
        alive.display()
    );
    cluster.edit(|text| format!("{text}{service}"));
    cluster.create_disk();
    let small = Small::mount(&cluster.out().join("state/n0"));
    small.fill();
    let config = cluster.config("n0").display().to_string();
    let (code, text) = talk(&cluster.run(&["node", "run", "--config", &config]));
    assert!(code == Some(1) && text.contains("No space left") && text.contains("state_dir"), "{code:?} {text}");

    std::fs::remove_file(small.0.join("filler")).expect("removed");
    let mut node = cluster.start("n0", &[], None);
    let registered = |status: &serde_json::Value| {
        find(status, "services", "loud").is_some_and(|service| service["state"] == "registered")
    };
    cluster.wait_status("registered service", registered);
    wait_for("a full file system", PATIENCE, || (small.free() == 0).then_some(()));
    wait_for("an instance that lives", PATIENCE, || alive.exists().then_some(()));
    std::fs::remove_file(&alive).expect("removed");
    wait_for("it lives on", PATIENCE, || alive.exists().then_some(()));
    node.terminate();
    assert_eq!(node.wait_exit(), Some(0), "{}", node.said());
    assert!(cluster.out().join("alive-stopped").exists(), "its stop command ran");
}

/// Architecture §7: "nodes that find another boot id in the cluster refuse to join over an mmap disk". Here another kernel goes on
/// writing the register of n1; one that rests is of an earlier boot, and the cluster forms.
#[test]
fn an_mmap_disk_that_another_kernel_writes() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use phalanx_messages::register::{NodeRegister, OwnState};
    use phalanx_messages::{Incarnation, NodeId};
    use phalanx_storage::{Access, Durability, opening};

    let _lock = MachineLock::take();
    let cluster = made();
    let disk = opening::open(&cluster.disk(), Access::ReadWrite).expect("formatted");
    let mut writer = disk.registers().writer(NodeId(1), Incarnation(1)).expect("its place");
    let other = NodeRegister {
        incarnation: Incarnation(1),
        host: uuid::Uuid::from_u128(1),
        boot: uuid::Uuid::from_u128(2),
        own_state: OwnState::Member,
        ..NodeRegister::default()
    };
    writer.write(&other, Durability::Volatile).expect("written");
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for heartbeat in 1.. {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                writer.write(&NodeRegister { heartbeat, ..other.clone() }, Durability::Volatile).expect("written");
                std::thread::yield_now();
            }
        });
        let config = cluster.config("n0").display().to_string();
        let output = cluster.run(&["node", "run", "--config", &config]);
        over.store(true, Ordering::SeqCst);
        let (code, text) = talk(&output);
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("node 1 runs on another host") && text.contains("serves the nodes of one kernel"),
            "{text}"
        );
    });
    let mut node = cluster.start("n0", &[], None);
    let _ = cluster.wait_status("n0 in the cluster", |status| {
        find(status, "nodes", "n0").is_some_and(|node| node["state"] == "joined")
    });
    assert!(node.said().contains("waiting for the registers that an earlier boot of this host"), "{}", node.said());
    node.terminate();
    assert_eq!(node.wait_exit(), Some(0), "{}", node.said());
}
