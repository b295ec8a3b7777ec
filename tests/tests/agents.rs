//! Services through OCF resource agents as Debian ships them, unmodified, and one real server.

use std::path::Path;

use phalanx_tests::process_cluster::{DevCluster, PATIENCE, find, signal_process, wait_for};
use phalanx_tests::requirement::{Requirement, available};
use rustix::process::Signal;
use serde_json::Value;

fn cluster() -> DevCluster {
    DevCluster::start(2, &["--no-demo-service"])
}

fn file(cluster: &DevCluster, name: &str, keys: &str) -> String {
    let file = cluster.dir().join(format!("{name}.services"));
    std::fs::write(&file, format!("[[service]]\nname = \"{name}\"\n{keys}")).expect("a file can be written");
    file.to_string_lossy().into_owned()
}

fn apply(cluster: &DevCluster, name: &str, keys: &str) {
    let _ = cluster.succeed(&["service", "apply", &file(cluster, name, keys)]);
}

fn service(cluster: &DevCluster, name: &str) -> Value {
    find(&cluster.status().expect("a node answers"), "services", name).expect("the service is there").clone()
}

fn wait_next(cluster: &DevCluster, name: &str, before: &Value) -> Value {
    cluster.wait_status("the service is registered anew", |status| {
        let service = find(status, "services", name).expect("the service is there");
        service["state"] == "registered" && service["generation"] != before["generation"]
    });
    service(cluster, name)
}

#[test]
fn an_ocf_agent_starts_monitors_and_stops_a_service_with_its_parameters() {
    if !available(&[Requirement::Agents]) {
        return;
    }
    let cluster = cluster();
    let state = cluster.dir().join("dummy.state");
    let keys = format!(
        "agent = \"ocf:heartbeat:Dummy\"\nagent_parameters = {{ state = \"{}\" }}\n\
         monitor = {{ interval = \"100ms\" }}\nrestart = {{ limit = 3, window = \"10m\", backoff = \"10ms\" }}\n",
        state.display()
    );
    apply(&cluster, "dummy", &keys);
    let first = service(&cluster, "dummy");
    assert!(state.exists(), "its parameter was heard");
    let shown = cluster.succeed(&["service", "show", "dummy"]);
    assert!(shown.contains("start_timeout = \"20s\""), "the agent's own time-out: {shown}");

    std::fs::remove_file(&state).expect("it is there");
    let second = wait_next(&cluster, "dummy", &first);
    assert_eq!(second["node"], first["node"], "restarted in place, for its agent says: not running");
    assert!(state.exists());
    assert!(cluster.logs().contains("its monitor says that it does not run: exit status 7"), "{}", cluster.logs());

    let _ = cluster.succeed(&["service", "deregister", "dummy"]);
    assert!(!state.exists(), "it was stopped by its agent");
}

#[test]
fn what_an_agent_does_not_take_is_refused_with_its_place() {
    if !available(&[Requirement::Agents]) {
        return;
    }
    let cluster = cluster();
    for (keys, said) in [
        ("agent = \"ocf:heartbeat:Dummy\"\nagent_parameters = { colour = \"red\" }\n", "has no parameter `colour`"),
        ("agent = \"ocf:heartbeat:IPaddr2\"\n", "needs the parameter `ip`"),
        (
            "agent = \"ocf:heartbeat:IPaddr2\"\nagent_parameters = { ip = \"127.0.0.9\", cidr_netmask = \"77\" }\n",
            "refuses the parameters of service `wrong`",
        ),
        ("agent = \"ocf:heartbeat:Nothing\"\n", "is not installed here"),
        ("agent = \"heartbeat:Dummy\"\n", "names no agent"),
        ("agent = \"ocf:heartbeat:Dummy\"\nstart_command = \"true\"\n", "both agent and start_command"),
    ] {
        let file = file(&cluster, "wrong", keys);
        let output = cluster.run(&["service", "apply", &file]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{keys}: {text}");
        let plain = text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain.contains(said) && text.contains("wrong.services:"), "{keys}: {text}");
    }
}

/// What only the node that starts it can know: the agent is asked before each start, and its words are shown.
#[test]
fn what_an_agent_refuses_on_a_node_fails_its_start_there_with_its_words() {
    if !available(&[Requirement::Agents]) {
        return;
    }
    let cluster = cluster();
    let directory = cluster.dir().join("not-mounted");
    let state = directory.join("dummy.state");
    let keys = format!(
        "agent = \"ocf:heartbeat:Dummy\"\nagent_parameters = {{ state = \"{}\" }}\nstart_retries = 0\n",
        state.display()
    );
    let output = cluster.run(&["service", "apply", &file(&cluster, "dummy", &keys)]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(78), "it is no mistake of the file: {text}");
    cluster.wait_status("it has failed on every node", |status| {
        find(status, "services", "dummy").is_some_and(|service| service["state"] == "failed")
    });
    let reason = service(&cluster, "dummy")["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("exit status 2") && reason.contains("refuses to be started like that"), "{reason}");
    assert!(reason.contains("is not writable"), "the agent's last words: {reason}");
    std::fs::create_dir(&directory).expect("a directory can be made");
    let _ = cluster.succeed(&["service", "clear", "dummy"]);
    assert_eq!(service(&cluster, "dummy")["state"], "registered");
    assert!(state.exists());
}

#[test]
fn the_agents_of_a_host_are_listed_and_described() {
    if !available(&[Requirement::Agents]) {
        return;
    }
    let run = |words: &[&str]| {
        let output = std::process::Command::new(phalanx_tests::process_cluster::phalanx()).args(words).output();
        let output = output.expect("phalanx can be started");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert!(run(&["agent", "list"]).1.lines().any(|line| line == "ocf:heartbeat:Dummy"));
    let (_, described) = run(&["agent", "describe", "ocf:heartbeat:Dummy", "--output", "json"]);
    let described: Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!(described["parameters"][0]["name"], "state", "{described:#}");
    let (_, text) = run(&["agent", "describe", "ocf:heartbeat:IPaddr2"]);
    assert!(text.contains("(required)"), "{text}");
    assert_eq!(run(&["agent", "describe", "ocf:heartbeat:Nothing"]).0, Some(105));
}

/// Every agent of the package describes itself in a way that is understood.
#[test]
fn all_agents_of_the_package_can_be_described() {
    if !available(&[Requirement::Agents]) {
        return;
    }
    let agents = phalanx_node::ocf::installed();
    assert!(agents.len() > 50, "{agents:?}");
    let failures: Vec<String> = agents
        .iter()
        .filter_map(|name| {
            let [_, provider, agent] = name.split(':').collect::<Vec<_>>()[..] else { return Some(name.clone()) };
            phalanx_node::ocf::metadata(provider, agent).err()
        })
        // Some look for a program of theirs first, and say nothing without it.
        .filter(|error| !error.contains("it ended with exit status: 5"))
        .collect();
    assert_eq!(failures, Vec::<String>::new());
}

#[test]
fn a_real_server_is_watched_restarted_and_stopped() {
    if !available(&[Requirement::Redis]) {
        return;
    }
    let cluster = cluster();
    let directory = cluster.dir().join("redis");
    std::fs::create_dir(&directory).expect("a directory can be made");
    let keys = format!(
        "start_command = [\"redis-server\", \"--port\", \"0\", \"--unixsocket\", \"{0}/socket\", \"--pidfile\", \"{0}/pid\", \
         \"--dir\", \"{0}\", \"--daemonize\", \"yes\"]\n\
         stop_command = \"redis-cli -s '{0}/socket' shutdown nosave\"\nleaves = \"processes\"\n\
         monitor = {{ command = {{ shell = \"redis-cli -s '{0}/socket' ping | grep -q PONG\" }}, interval = \"200ms\", \
         tolerance = 2 }}\n\
         restart = {{ limit = 3, window = \"10m\", backoff = \"10ms\" }}\n",
        directory.display()
    );
    apply(&cluster, "redis", &keys);
    let before = service(&cluster, "redis");
    let pid = |directory: &Path| {
        let text = std::fs::read_to_string(directory.join("pid")).unwrap_or_default();
        text.trim().parse::<u32>().ok()
    };
    let first = wait_for("its process id", PATIENCE, || pid(&directory));
    signal_process(first, Signal::KILL);
    wait_next(&cluster, "redis", &before);
    let second = wait_for("another process", PATIENCE, || pid(&directory).filter(|second| *second != first));
    let _ = cluster.succeed(&["service", "deregister", "redis"]);
    assert!(!Path::new(&format!("/proc/{second}")).exists(), "it was stopped, and that was verified");
}
