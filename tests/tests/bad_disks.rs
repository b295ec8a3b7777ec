//! What administrators point `phalanx` at by mistake: each has one clear error, its exit code, and is left as it was.
//!
//! Only the live disk needs nodes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use phalanx_storage::header::MAJOR;
use phalanx_storage::{BLOCK_BYTES, Layout};
use phalanx_tests::command_line::{Bench, Told};
use phalanx_tests::process_cluster::{DevCluster, list, phalanx, signal_process};
use phalanx_tests::requirement::{Requirement, available};
use serde_json::Value;

/// A superblock that is cut, changed or zeroed is read from the first, the second and the last block.
fn superblock_places(bytes: &[u8]) -> [usize; 3] {
    [0, BLOCK_BYTES, bytes.len() - BLOCK_BYTES]
}

#[test]
fn a_disk_is_formatted_and_sound_and_shown() {
    let bench = Bench::formatted();
    let checked = bench.run(&["disk", "check", "disk", "--output", "json"]);
    let report: Value = serde_json::from_str(&checked.succeeds().out).expect("JSON");
    assert_eq!((&report["sound"], list(&report, "findings").len()), (&Value::Bool(true), 0), "{report:#}");
    assert_eq!((&report["name"], list(&report, "alive").len()), (&Value::from("alpha"), 0));
    let shown: Value =
        serde_json::from_str(&bench.run(&["disk", "show", "disk", "--output", "json"]).succeeds().out).expect("JSON");
    assert_eq!(shown["superblock"]["profile"]["lease_ms"], 2_000);
    assert_eq!(shown["registers"][0]["claim"]["phase"], "none");
    let status: Value =
        serde_json::from_str(&bench.run(&["status", "--disk", "disk", "--output", "json"]).succeeds().out)
            .expect("JSON");
    assert_eq!((&status["source"], &status["nodes"][0]["name"]), (&Value::from("disk"), &Value::from("n0")));
    let created = bench.create(&["--force", "alpha", "--output", "json"]);
    let created: Value = serde_json::from_str(&created.succeeds().out).expect("JSON");
    assert_eq!(created["bytes"], fs::metadata(bench.path("disk")).expect("there").len());
}

#[test]
fn a_path_that_is_not_the_one_of_the_file_is_refused_with_both() {
    let bench = Bench::new();
    bench.create(&["elsewhere"]).fails(78, &["PATH is elsewhere", "n0.toml is ", "/disk"]);
    assert!(!bench.path("elsewhere").exists() && !bench.path("disk").exists());
    bench.create(&["./disk"]).succeeds();
}

#[test]
fn a_smaller_file_of_zeroes_is_grown() {
    let bench = Bench::new();
    fs::write(bench.path("disk"), vec![0; 5000]).expect("written");
    bench.create(&[]).succeeds();
    bench.run(&["disk", "check", "disk"]).succeeds();
}

#[test]
fn a_file_system_is_named_and_needs_force() {
    let bench = Bench::new();
    let mut image = vec![0; 64 * 1024];
    image[1080..1082].copy_from_slice(&[0x53, 0xef]);
    image[1024 + 0x60] = 0x40;
    fs::write(bench.path("disk"), &image).expect("written");
    bench.create(&[]).fails(107, &["holds an ext4 file system (65536 bytes)", "`--force` overwrites it"]);
    bench.every_command_says(&["is not a Phalanx disk: it holds an ext4 file system"]);
    assert_eq!(fs::read(bench.path("disk")).expect("there"), image, "left as it was");
    bench.create(&["--force"]).succeeds();
    bench.run(&["disk", "check", "disk"]).succeeds();
}

#[test]
fn a_text_file_is_named_and_needs_force() {
    let bench = Bench::new();
    fs::write(bench.path("disk"), "notes\n").expect("written");
    bench.create(&[]).fails(107, &["holds text (6 bytes)"]);
    bench.every_command_says(&["it holds text"]);
    bench.create(&["--force", "whatever"]).succeeds();
}

#[test]
fn a_directory_and_a_symlink_loop_are_refused_even_with_force() {
    let bench = Bench::new();
    fs::create_dir(bench.path("disk")).expect("made");
    bench.create(&["--force"]).fails(74, &["is a directory; the shared disk must be a regular file or a block device"]);
    bench.every_command_says(&["disk` is a directory"]);
    fs::remove_dir(bench.path("disk")).expect("removed");
    std::os::unix::fs::symlink("disk", bench.path("disk")).expect("linked");
    bench.create(&["--force"]).fails(74, &["failed to look at ", "symbolic links"]);
}

#[test]
fn a_foreign_disk_needs_its_own_name() {
    let bench = Bench::formatted();
    let before = fs::read(bench.path("disk")).expect("there");
    bench.configure("beta", "\"dev\"");
    let told = bench.create(&[]);
    told.fails(
        107,
        &["is the disk of cluster `alpha`; no node of it is alive", "`--force alpha` destroys that cluster"],
    );
    for part in ["NODE", "HEARTBEAT", "n0", "watching the heartbeats for 1250 ms", "no heartbeat has moved for"] {
        assert!(told.err.contains(part), "{}", told.err);
    }
    assert_eq!(fs::read(bench.path("disk")).expect("there"), before);
    bench.create(&["--force", "alpha"]).succeeds();
    assert!(bench.run(&["disk", "show", "disk"]).succeeds().out.contains("cluster beta"));
}

#[test]
fn force_with_a_wrong_name_is_refused_with_both() {
    let bench = Bench::formatted();
    let before = fs::read(bench.path("disk")).expect("there");
    bench
        .create(&["--force", "beta"])
        .fails(107, &["is the disk of cluster `alpha`, and --force names cluster `beta`"]);
    bench.create(&["--force"]).fails(107, &["cluster `alpha`, and --force names no cluster"]);
    assert_eq!(fs::read(bench.path("disk")).expect("there"), before);
}

/// A frozen node writes no heartbeat, but it holds the disk.
#[test]
fn a_disk_that_a_process_holds_is_refused_even_if_no_heartbeat_moves() {
    let bench = Bench::formatted();
    let before = fs::read(bench.path("disk")).expect("there");
    let held = fs::File::open(bench.path("disk")).expect("there");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockShared).expect("locked as a node does");
    let told = bench.create(&["--force", "alpha"]);
    told.fails(107, &["no heartbeat has moved", "is in use: another process has locked it"]);
    assert_eq!(fs::read(bench.path("disk")).expect("there"), before);
}

#[test]
fn an_interrupt_while_watching_leaves_everything_as_it_was() {
    let bench = Bench::formatted();
    let before = fs::read(bench.path("disk")).expect("there");
    let mut command = Command::new(phalanx());
    command.args(["disk", "create", "--config", "n0.toml", "--force", "alpha"]).current_dir(bench.dir());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("phalanx starts");
    let mut said = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(said.any(|line| line.starts_with("watching the heartbeats")));
    // Not SIGINT: whoever runs the tests in the background may have it ignored.
    signal_process(child.id(), rustix::process::Signal::TERM);
    assert!(!child.wait().expect("it ends").success());
    drop(said); // its talk was heard to the end
    assert_eq!(fs::read(bench.path("disk")).expect("there"), before);
    bench.run(&["disk", "check", "disk"]).succeeds();
}

#[test]
fn a_truncated_disk_says_the_bytes_there_and_the_bytes_needed() {
    let bench = Bench::formatted();
    let disk = fs::OpenOptions::new().write(true).open(bench.path("disk")).expect("there");
    let whole = disk.metadata().expect("there").len();
    for (left, what) in [(3 * 4096, 12_288), (5_000, 5_000)] {
        disk.set_len(left).expect("cut");
        bench.every_command_says(&[&format!("is cut off: it has {what} bytes and needs {whole}")]);
    }
    // Without a whole superblock nobody knows how large it was: at least the smallest disk.
    disk.set_len(100).expect("cut");
    let least = Layout::new(1, 1).expect("a layout").blocks_needed() * BLOCK_BYTES as u64;
    bench.every_command_says(&[&format!("it has 100 bytes and needs {least}")]);
}

#[test]
fn an_empty_or_blank_file_is_not_formatted() {
    let bench = Bench::new();
    fs::write(bench.path("disk"), []).expect("written");
    bench.every_command_says(&["is not a Phalanx disk: its 0 bytes are all zero", "disk create"]);
    fs::write(bench.path("disk"), vec![0; 8 * BLOCK_BYTES]).expect("written");
    bench.every_command_says(&["its 32768 bytes are all zero"]);
}

#[test]
fn another_format_version_says_both() {
    for other in [MAJOR - 1, MAJOR + 1] {
        let bench = Bench::formatted();
        let mut bytes = fs::read(bench.path("disk")).expect("there");
        for place in superblock_places(&bytes) {
            bytes[place + 6] = other;
        }
        fs::write(bench.path("disk"), &bytes).expect("written");
        bench.every_command_says(&[
            &format!("has disk format version {other}.0; this program reads version {MAJOR}"),
            "of the version that formatted it",
        ]);
        bench.create(&[]).fails(107, &[&format!("holds a Phalanx disk of format version {other}.0")]);
    }
}

#[test]
fn an_interrupted_format_is_told_from_damage_elsewhere() {
    let bench = Bench::formatted();
    let mut bytes = fs::read(bench.path("disk")).expect("there");
    for place in superblock_places(&bytes) {
        bytes[place..place + BLOCK_BYTES].fill(0);
    }
    fs::write(bench.path("disk"), &bytes).expect("written");
    bench.every_command_says(&["is a Phalanx disk without a readable superblock"]);
    bench.create(&[]).fails(107, &["whose formatting was interrupted"]);
    bench.create(&["--force"]).succeeds();
}

#[test]
fn a_damaged_disk_is_checked_with_region_blocks_and_advice() {
    let bench = Bench::formatted();
    let mut bytes = fs::read(bench.path("disk")).expect("there");
    // The register of node 0: both slots; of node 1: one.
    for block in [2, 3, 4] {
        bytes[block * BLOCK_BYTES + 200] ^= 1;
    }
    fs::write(bench.path("disk"), &bytes).expect("written");
    let told = bench.run(&["disk", "check", "disk", "--output", "json"]);
    told.fails(74, &["is damaged: 1 error"]);
    let report: Value = serde_json::from_str(&told.out).expect("JSON");
    let [both, one] = list(&report, "findings") else { panic!("{report:#}") };
    assert_eq!((&both["severity"], &both["region"], &both["node"]), (&"error".into(), &"NB".into(), &"n0".into()));
    assert_eq!((&both["first_block"], &both["last_block"]), (&2.into(), &3.into()));
    assert_eq!((&one["severity"], &one["first_block"], &one["last_block"]), (&"note".into(), &4.into(), &4.into()));
    let text = bench.run(&["disk", "check", "disk"]);
    assert!(
        text.out.contains("error: NB of n0 blocks 2-3: both slots are unreadable") && text.out.contains("  do: "),
        "{}",
        text.out
    );
    // With the other slot alone it is sound.
    bytes[2 * BLOCK_BYTES + 200] ^= 1;
    fs::write(bench.path("disk"), &bytes).expect("written");
    assert!(bench.run(&["disk", "check", "disk"]).succeeds().out.contains("is sound"));
}

#[test]
fn the_disk_of_another_cluster_is_refused_by_a_node() {
    let bench = Bench::formatted();
    bench.configure("beta", "\"dev\"");
    let told = bench.run(&["node", "run", "--config", "n0.toml", "--no-wait"]);
    told.fails(78, &["belongs to cluster `alpha`, not `beta`"]);
}

#[test]
fn a_missing_disk_is_told_with_the_command_that_makes_it() {
    let bench = Bench::new();
    for command in [["disk", "show", "disk"], ["disk", "check", "disk"], ["status", "--disk", "disk"]] {
        bench.run(&command).fails(74, &["there is nothing at `disk`", "`phalanx disk create --config FILE` makes it"]);
    }
    let told = bench.run(&["node", "run", "--config", "n0.toml", "--no-wait"]);
    told.fails(74, &["it is not there (`phalanx disk create --config ", "without `--no-wait` it would be waited for"]);
}

#[test]
fn a_full_file_system_names_both_numbers_and_leaves_nothing_behind() {
    if !available(&[Requirement::Root]) {
        return;
    }
    let bench = Bench::new();
    let mount = Tmpfs::mount(bench.path("small"), "64k");
    let text = fs::read_to_string(bench.path("n0.toml")).expect("there");
    fs::write(bench.path("n0.toml"), text.replace("path = \"disk\"", "path = \"small/disk\"")).expect("written");
    let needed = Layout::new(2, 4).expect("a layout").blocks_needed() * BLOCK_BYTES as u64;
    let what = [format!("needs {needed} bytes more"), "its file system has 65536 available".to_owned()];
    bench.create(&[]).fails(74, &[&what[0], &what[1]]);
    assert!(!mount.0.join("disk").exists());
    fs::write(mount.0.join("disk"), "kept").expect("written");
    bench.create(&["--force"]).fails(74, &["bytes more; its file system has 61440 available"]);
    assert_eq!(fs::read_to_string(mount.0.join("disk")).expect("there"), "kept");
}

/// A file system in memory, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: PathBuf, size: &str) -> Self {
        fs::create_dir(&path).expect("made");
        let options = format!("size={size}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&path).status();
        assert!(status.expect("mount is installed").success(), "tmpfs can be mounted");
        Self(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().ok();
    }
}

#[test]
fn a_timing_that_breaks_an_inequality_is_refused_everywhere_with_its_place() {
    let bench = Bench::new();
    bench.configure("alpha", "{ profile = \"dev\", stop = \"3s\", watchdog = \"2s\" }");
    let commands: [&[&str]; 3] = [
        &["config", "check", "n0.toml"],
        &["node", "run", "--config", "n0.toml", "--no-wait"],
        &["disk", "create", "--config", "n0.toml"],
    ];
    for command in commands {
        let told = bench.run(command);
        assert_eq!(told.code, Some(78), "{}", told.err);
        for part in
            ["`stop` (3000 ms)", "`watchdog` is 2000 ms", "n0.toml:13:", "lower `stop` to 2000ms, or raise `watchdog`"]
        {
            // The picture wraps long lines.
            let flat = told.err.replace(['\n', '│'], " ").split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(part), "{part:?} is not in\n{}", told.err);
        }
    }
    assert!(!bench.path("disk").exists());
}

#[test]
fn timing_explains_a_profile_a_disk_and_a_file() {
    let bench = Bench::new();
    bench.configure("alpha", "{ profile = \"dev\", io_timeout = \"200ms\" }");
    bench.create(&[]).succeeds();
    let report = |arguments: &[&str]| -> Value {
        let told = bench.run(&[&["timing", "--output", "json"], arguments].concat());
        serde_json::from_str(&told.succeeds().out).expect("JSON")
    };
    let all = report(&[]);
    let names: Vec<_> = list(&all, "profiles").iter().map(|profile| profile["name"].as_str()).collect();
    assert_eq!(names, ["dev", "local-mmap", "san-nvme", "san-fast", "san-safe", "etcd"].map(Some));
    for from in [["--disk", "disk"], ["--config", "n0.toml"]] {
        let one = report(&from);
        let [profile] = list(&one, "profiles") else { panic!("{one:#}") };
        assert_eq!((&profile["name"], &profile["inputs"][2]["value"]), (&Value::Null, &1_600.into()));
        assert_eq!(profile["cases"][0]["total_ms"], 1_005);
    }
    let text = bench.run(&["timing", "--profile", "local-mmap"]);
    assert!(text.succeeds().out.contains("D(L + 2 W + delta) + T_late"), "{}", text.out);
    bench.run(&["timing", "--profile", "slow"]).fails(1, &["no timing profile `slow`", "san-fast"]);
    assert_eq!(bench.run(&["timing", "--profile", "dev", "--disk", "disk"]).code, Some(2), "one source");
}

#[test]
fn a_node_takes_the_timing_of_the_disk_and_says_so() {
    let bench = Bench::formatted();
    bench.configure("alpha", "{ profile = \"dev\", kill = \"5s\" }");
    // Somebody has its address, this test or another process, so the node ends by itself soon after.
    let _taken = std::net::TcpListener::bind("127.0.0.1:7600");
    let told = bench.run(&["node", "run", "--config", "n0.toml", "--no-wait"]);
    assert_eq!(told.code, Some(75), "{}", told.err);
    assert_eq!(told.err.matches("kill is 10000 ms, not 5000 ms").count(), 1, "{}", told.err);
    assert!(!told.err.contains("lease is"), "{}", told.err);
}

/// The only test here that needs nodes: a disk on which one lives is never overwritten, and `disk check` says that it lives.
#[test]
fn a_live_disk_is_refused_even_with_its_name_and_checks_as_alive_and_sound() {
    let cluster = DevCluster::start(2, &[]);
    let config = cluster.dir().join("n0.toml").to_string_lossy().into_owned();
    let disk = cluster.dir().join("cluster.disk").to_string_lossy().into_owned();
    let create = ["disk", "create", "--config", &config];
    for force in [&["--force", "dev"][..], &[]] {
        let told = Told::of(&cluster.run(&[&create, force].concat()));
        told.fails(107, &["cluster `dev` on ", "is alive: ", "wrote a heartbeat", "never overwrites a live disk"]);
    }
    let report = cluster.succeed(&["disk", "check", &disk, "--output", "json"]);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["sound"], true, "{report:#}");
    assert_eq!(report["alive"], serde_json::json!(["n0", "n1"]), "{report:#}");
    let text = cluster.succeed(&["disk", "check", &disk]);
    assert!(text.starts_with("alive: n0, n1 - ") && text.contains("findings may be transient"), "{text}");
}
