//! The floating address of the spec on two hosts: a client on their network never sees two owners.
//!
//! The capture is made on the bridge between the hosts, and the client there asks for the address every few milliseconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use phalanx_tests::host_cluster::HostCluster;
use phalanx_tests::process_cluster::{PATIENCE, find, wait_for};
use phalanx_tests::requirement::{Requirement, available};
use serde_json::Value;

const NEEDED: [Requirement; 3] = [Requirement::Root, Requirement::Namespaces, Requirement::Python];
const ADDRESS: &str = "10.77.0.100";

/// Prints `frame MAC` for each frame whose sender has the address, and `answer NODE` for each answer from it.
const CLIENT: &str = r#"
import socket, struct, sys, threading, time
address = socket.inet_aton(sys.argv[1])
frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
frames.bind(("bridge", 0))
def say(line): sys.stdout.write(line + "\n"); sys.stdout.flush()
def capture():
    while True:
        frame = frames.recv(2048)
        kind = struct.unpack("!H", frame[12:14])[0]
        sender = frame[28:32] if kind == 0x0806 else frame[26:30] if kind == 0x0800 else b""
        if sender == address: say("frame " + frame[6:12].hex(":"))
threading.Thread(target=capture, daemon=True).start()
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(0.02)
while True:
    try:
        client.sendto(b"who", (sys.argv[1], 7000))
        say("answer " + client.recv(64).decode())
    except OSError:
        time.sleep(0.005)
"#;

struct World {
    cluster: HostCluster,
    client: Child,
}

impl Drop for World {
    fn drop(&mut self) {
        self.client.kill().ok();
        self.client.wait().ok();
    }
}

impl World {
    /// Two hosts, the service on one of them, and a client that has had an answer.
    fn new() -> Self {
        let cluster = HostCluster::form_without_services(2, &[]);
        let out = cluster.directory();
        let said = fs::File::create(out.join("client")).expect("a file can be made");
        let client = Command::new("nsenter")
            .args([&format!("--net=/run/netns/{}", cluster.lan.client()), "python3", "-c", CLIENT, ADDRESS])
            .stdout(said)
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is installed");
        let world = Self { cluster, client };
        let file = out.join("address.toml");
        fs::write(&file, service(&out)).expect("written");
        let applied = world.cluster.run(&["service", "apply", &file.display().to_string()]);
        assert!(applied.status.success(), "{applied:?}");
        wait_for("an answer", PATIENCE, || (!world.client_saw("answer").is_empty()).then_some(()));
        world
    }

    fn directory(&self) -> PathBuf {
        self.cluster.directory()
    }

    /// What the client saw of that kind, each stretch once.
    fn client_saw(&self, kind: &str) -> Vec<String> {
        let text = fs::read_to_string(self.directory().join("client")).unwrap_or_default();
        let mut seen: Vec<String> =
            text.lines().filter_map(|line| Some(line.strip_prefix(kind)?.trim().to_owned())).collect();
        seen.dedup();
        seen
    }

    /// Ends of the commands, in order.
    fn commands(&self) -> Vec<String> {
        fs::read_to_string(self.directory().join("commands")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn owner(&self) -> Option<usize> {
        let status = self.cluster.status()?;
        owner(&status)
    }

    fn has_address(&self, host: usize) -> bool {
        let shown = Command::new("ip").args(["-n", self.cluster.lan.host(host), "-o", "address"]).output();
        String::from_utf8_lossy(&shown.expect("ip is installed").stdout).contains(&format!(" {ADDRESS}/"))
    }
}

fn owner(status: &Value) -> Option<usize> {
    let service = find(status, "services", "address").filter(|service| service["state"] == "registered")?;
    service["node"].as_str()?.strip_prefix('n')?.parse().ok()
}

/// The service of `configs/floating-address.toml`, with a journal of its commands and somebody who answers.
fn service(out: &Path) -> String {
    let program = env!("CARGO_BIN_EXE_floating_address");
    let configured = include_str!("../../configs/floating-address.toml");
    let journal = out.join("commands").display().to_string();
    let broken = out.join("broken").display().to_string();
    configured
        .replace(
            "\"floating_address add 10.0.0.100/24 eth0\"",
            &format!(
                "{{ shell = '{program} add {ADDRESS}/24 eth0 && echo added $PHALANX_NODE >> {journal} && \
                 ({program} answer {ADDRESS}:7000 >/dev/null 2>&1 &)' }}"
            ),
        )
        .replace(
            "\"floating_address remove 10.0.0.100/24 eth0\"",
            &format!(
                "{{ shell = '[ ! -e {broken} ] && {program} remove {ADDRESS}/24 eth0 && \
                 echo removed $PHALANX_NODE >> {journal}' }}"
            ),
        )
}

#[test]
fn an_address_is_gone_from_a_killed_node_before_another_one_has_it() {
    if !available(&NEEDED) {
        return;
    }
    let world = World::new();
    let from = world.owner().expect("it answers");
    assert!(world.has_address(from) && !world.has_address(1 - from));
    world.cluster.kill_daemon(from);
    let (old, new) = (format!("n{from}"), format!("n{}", 1 - from));
    wait_for("an answer of the other node", PATIENCE, || {
        (world.client_saw("answer").last() == Some(&new)).then_some(())
    });
    assert_eq!(world.client_saw("answer"), [old.clone(), new.clone()], "never back to the former owner");
    let frames = world.client_saw("frame");
    assert_eq!(frames.len(), 2, "every frame of the address came from one owner, then from the other: {frames:?}");
    assert_eq!(world.commands(), [format!("added {old}"), format!("removed {old}"), format!("added {new}")]);
    assert!(!world.has_address(from) && world.has_address(1 - from));
}

#[test]
fn an_address_that_cannot_be_taken_away_keeps_the_others_waiting_and_the_reason_is_shown() {
    if !available(&NEEDED) {
        return;
    }
    let mut world = World::new();
    let from = world.owner().expect("it answers");
    fs::write(world.directory().join("broken"), "").expect("written");
    world.cluster.kill_daemon(from);
    let status = world.cluster.wait("the others waiting for a proof", |status| {
        find(status, "nodes", &format!("n{from}")).is_some_and(|node| node["state"] == "forced-leaving")
    });
    let awaiting = find(&status, "nodes", &format!("n{from}")).expect("a node")["fence"]["awaiting"].to_string();
    assert!(awaiting.contains(&format!("phalanx fence confirm n{from}")), "{awaiting}");
    world.cluster.wait_exit(from);
    let said = world.cluster.said(from);
    assert!(said.contains("failed to clean up service address") && said.contains("may have left something"), "{said}");
    assert_eq!((owner(&status), world.has_address(from), world.has_address(1 - from)), (Some(from), true, false));
    assert_eq!(world.commands(), [format!("added n{from}")]);

    // The administrator takes the address away and says so.
    let device = ["-n", world.cluster.lan.host(from), "address", "delete", &format!("{ADDRESS}/24"), "dev", "eth0"];
    assert!(Command::new("ip").args(device).status().expect("ip is installed").success());
    let name = format!("n{from}");
    let confirm = || world.cluster.run(&["fence", "confirm", &name, "--force"]).status.success();
    wait_for("the word of the administrator to be taken", PATIENCE, || confirm().then_some(()));
    let last = format!("n{}", 1 - from);
    wait_for("an answer of the other node", PATIENCE, || {
        (world.client_saw("answer").last() == Some(&last)).then_some(())
    });
    assert_eq!(world.client_saw("answer"), [name, last]);
}
