//! The demo as anybody runs it, on a host of its own, so that its addresses are free: what it says
//! of itself, and the same looked at from outside.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PATIENCE, eventually, process, tools};

/// The demo without anybody else's network: only loopback, which is up. SIGHUP ends it, also where
/// the tests themselves run under `nohup`.
pub fn demo(arguments: &str) -> Option<Command> {
    let (unshare, _) = (tools::find("unshare")?, tools::find("ip")?);
    let probe = tools::run(Command::new(&unshare).args(["-n", "true"]), b"", PATIENCE);
    if !probe.good {
        let reason = format!("no network namespace can be made: {}", probe.stderr.trim());
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        eprintln!("skipped: {reason}");
        return None;
    }
    let program = env!("CARGO_BIN_EXE_diolkos");
    let line =
        format!("ip link set lo up && exec env --default-signal=HUP {program} demo {arguments}");
    let mut command = Command::new(unshare);
    command.args(["-n", "sh", "-c", &line]);
    Some(command)
}

#[test]
fn every_scene_is_as_it_should_be() {
    let Some(mut demo) = demo("--once") else { return };
    let said = tools::run(&mut demo, b"", Duration::from_secs(120));
    assert!(said.good, "{}{}", said.stdout, said.stderr);
    assert!(!said.stdout.contains("WRONG"), "{}", said.stdout);
    let scenes = "gateway plain tcp subset egress canary pod-dies cluster-dies automation wrong-root \
                  not-exported";
    for scene in scenes.split_whitespace() {
        assert!(said.stdout.contains(&format!("\n{scene}: ")), "{scene} in {}", said.stdout);
    }
}

#[test]
fn what_it_prints_to_be_pasted_works_and_nothing_is_left_running() {
    let Some(command) = demo("--scene plain --keep") else { return };
    let (Some(curl), Some(dig)) = (tools::find("curl"), tools::find("dig")) else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let line = command.get_args().last().expect("the line").to_os_string();
    let line = format!("{} {}", line.to_string_lossy(), dir.path().display());
    let mut command = Command::new(command.get_program());
    let mut child = command.args(["-n", "sh", "-c", &line]).stdout(Stdio::piped()).spawn();
    let child = child.as_mut().expect("started");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    // Open to the end: a demo whose reader is gone has ended.
    let mut out = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut pasted = Vec::new();
    for line in out.by_ref().map(|line| line.expect("text")) {
        assert!(!line.contains("WRONG"), "{line}");
        if line.starts_with("dig ") || line.starts_with("curl ") {
            pasted.push(line);
        }
        if pasted.len() == 2 {
            break;
        }
    }
    let paste = |program: &std::path::Path, line: &str| {
        let rest = line.split_once(' ').expect("arguments").1;
        let mut there = Command::new("nsenter");
        there.arg(format!("--net=/proc/{}/ns/net", i32::from(pid.as_raw_nonzero())));
        there.arg(program).args(rest.split(' '));
        tools::run(&mut there, b"", PATIENCE)
    };
    assert_eq!(paste(&dig, &pasted[0]).stdout, "127.255.0.2\n", "{pasted:?}");
    let answer = paste(&curl, &pasted[1]);
    assert!(answer.stdout.starts_with("pod: bar-"), "{pasted:?}: {answer:?}");
    assert!(answer.stdout.contains("host: bar.ns2.global:8080"), "{answer:?}");
    // The call is in the gateway's own log, and no key of it left its cluster.
    let log = dir.path().join("logs/gateway-2-stable.access.json");
    let count = || fs::read_to_string(&log).expect("the log").lines().count();
    eventually("the call is logged", || (count() >= 4).then_some(()));

    // Killed, it takes everything that it started with it.
    let started = || {
        let all = fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
        let line = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
        let marker = dir.path().to_string_lossy().into_owned();
        all.filter_map(line).filter(|line| String::from_utf8_lossy(line).contains(&marker)).count()
    };
    assert!(started() > 10, "the demo and its parts: {}", started());
    kill_process(pid, Signal::KILL).expect("killed");
    let _ = child.wait();
    eventually("all have ended", || (started() == 0).then_some(()));
}

/// The terminal is closed: SIGHUP comes, and nobody reads any more.
#[test]
fn a_terminal_that_is_closed_ends_the_demo_and_takes_its_files_away() {
    let Some(mut command) = demo("--scene plain") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let child = command.env("TMPDIR", dir.path()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("started");
    let pid = Pid::from_child(&child);
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let line = out.lines().map(|line| line.expect("text")).find(|line| line.starts_with("tail "));
    assert!(line.is_some_and(|line| line.contains(&*dir.path().to_string_lossy())), "it is up");
    kill_process(pid, Signal::HUP).expect("told");
    let status = eventually("it ends", || child.try_wait().expect("wait"));
    assert!(status.success(), "all was as it should be: {status}");
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 0, "no files are left");
}

#[test]
fn told_to_end_before_it_has_said_anything_it_leaves_no_files() {
    for arguments in ["--once", "--scene plain"] {
        let Some(mut command) = demo(arguments) else { return };
        let dir = tempfile::tempdir().expect("a directory");
        let files = || fs::read_dir(dir.path()).expect("the directory").count();
        let child = command.env("TMPDIR", dir.path()).stdout(Stdio::null()).spawn();
        let mut child = child.expect("started");
        eventually("it has made its directory", || (files() > 0).then_some(()));
        kill_process(Pid::from_child(&child), Signal::TERM).expect("told");
        let status = eventually("it ends", || child.try_wait().expect("wait"));
        assert_eq!((status.code(), files()), (Some(1), 0), "{arguments}");
    }
}

#[test]
fn told_to_end_in_the_first_story_it_plays_no_other() {
    let Some(mut command) = demo("--once") else { return };
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.expect("started");
    let pid = Pid::from_child(&child);
    let mut out = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut lines = out.by_ref().map(|line| line.expect("text"));
    // The first call is made: now it listens for what is told.
    assert!(lines.any(|line| line.starts_with("OK ")), "it plays");
    kill_process(pid, Signal::TERM).expect("told");
    let rest: Vec<_> = lines.collect();
    assert!(rest.iter().any(|line| line.starts_with("Stopped before all")), "{rest:?}");
    assert!(!rest.iter().any(|line| line.starts_with("plain: ")), "{rest:?}");
    assert_eq!(child.wait().expect("wait").code(), Some(1));
}

#[test]
fn a_directory_that_cannot_be_kept_is_named_before_anything_is_played() {
    for arguments in [&["--once"][..], &["--scene", "gateway"], &["--scene", "plain"]] {
        for dir in ["/etc/passwd", "/proc/x"] {
            let mut demo = process::diolkos();
            demo.arg("demo").args(arguments).args(["--keep", dir]);
            let said = tools::run(&mut demo, b"", PATIENCE);
            assert!(!said.good && said.stderr.contains(&format!("--keep {dir}: ")), "{said:?}");
            assert_eq!(said.stdout, "", "nothing is played");
        }
    }
}

#[test]
fn the_walk_through_of_the_readme_goes_as_it_stands_there() {
    let root = env!("CARGO_MANIFEST_DIR");
    let readme = fs::read_to_string(format!("{root}/README.md")).expect("the README");
    let (_, rest) = readme.split_once("<!-- walk -->\n```sh\n").expect("the walk");
    let (walk, _) = rest.split_once("```\n<!-- end of walk -->").expect("its end");
    // A busy machine needs more than the second that a person waits.
    let ready = "until curl -sf -o /dev/null http://127.2.0.11:8080/ && curl -s -o /dev/null \
                 http://127.255.0.2:8080/; do sleep 0.1; done";
    let walk = walk.replace("sleep 1\n", &format!("{ready}\n"));
    if ["curl", "dig", "python3", "unshare"].into_iter().any(|name| tools::find(name).is_none()) {
        return;
    }
    if demo("").is_none() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(format!("{root}/config"), dir.path().join("config")).expect("link");
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_diolkos")).parent().expect("parent");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    // What it leaves in the background ends with the namespace of processes.
    let mut shell = Command::new("unshare");
    shell.args(["--net", "--pid", "--fork", "--kill-child", "sh", "-ec"]);
    shell.arg(format!("ip link set lo up\n{walk}\ntrue"));
    shell.current_dir(dir.path()).env("PATH", path);
    shell.env("DIOLKOS_LOG_LEVEL", "warn");
    let said = tools::run(&mut shell, b"", Duration::from_secs(60));
    assert!(said.good, "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("\n127.255.0.2\n"), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("Directory listing for /"), "{}{}", said.stdout, said.stderr);
}
