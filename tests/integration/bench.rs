//! `diolkos bench` as it is run: that it starts, does its work without a failure, and says so.
//! What the work costs is no matter of a test.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{eventually, tools::Process};

fn diolkos() -> Command {
    Command::new(env!("CARGO_BIN_EXE_diolkos"))
}

#[test]
fn compare_gives_both_gateways_the_same_work_and_writes_it_down() {
    let dir = tempfile::tempdir().expect("a directory");
    let (json, html) = (dir.path().join("compare.json"), dir.path().join("compare.html"));
    let works = ["connect", "request", "download", "upload", "hold", "storm", "churn"];
    let output = diolkos()
        .args(["bench", "compare", "--quick", "--peers", "floor,diolkos"])
        .args(["--routes", "2,20", "--scenarios", &works.join(",")])
        .arg("--json")
        .arg(&json)
        .arg("--html")
        .arg(&html)
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert_eq!(errors, "", "no progress where there is no terminal");
    let json = std::fs::read_to_string(json).expect("the file");
    let results: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(results["quick"], true);
    let cells = results["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 2 * works.len());
    for (cell, work) in cells.iter().zip(works.iter().flat_map(|work| [work; 2])) {
        let (peer, sample) = (&cell["peer"], &cell["samples"][0]);
        assert_eq!(cell["work"], *work);
        assert_eq!(sample["report"]["errors"], serde_json::json!({}), "{peer} {work}");
        assert!(sample["report"]["operations"].as_u64() > Some(0), "{peer} {work}");
        assert!(sample["report"]["latency_us"]["p99.99"].is_number(), "{peer} {work}");
        assert!(sample["cost"]["cpu_ns"].as_u64() > Some(0), "{peer} {work}");
        assert!(cell["value"]["median"].is_number(), "{peer} {work}");
    }
    let changes = &cells[13]["samples"][0]["report"]["changes"];
    assert!(changes["made"].as_u64() > Some(0), "diolkos was changed meanwhile: {changes}");
    assert_eq!(changes["failed"], serde_json::json!({}));
    let held = &cells[8]["samples"][0]["memory"];
    let last = held.as_array().and_then(|m| m.last()).expect("steps");
    assert_eq!(last[0], 64, "all are held");
    assert_eq!(results["memory"].as_array().map(Vec::len), Some(4), "two gateways, twice");
    assert!(text.contains("connect: CPU µs per connection"), "{text}");
    let html = std::fs::read_to_string(html).expect("the file");
    assert!(html.contains("<svg") && html.contains("diolkos"));
    for outside in ["src=", "href=", "url(", "@import"] {
        assert!(!html.contains(outside), "the page needs nothing from outside: {outside}");
    }
}

#[test]
fn run_says_what_went_wrong_and_fails() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = gone.local_addr().expect("address").to_string();
    drop(gone);
    let output = diolkos()
        .args(["bench", "run", "--target", &address, "--sni", "outbound_.8080_._.bar.ns2.global"])
        .args(["--scenario", "connect", "--count", "3", "--json"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["errors"]["connect: connection refused"], 3);
    assert_eq!((&report["operations"], &report["latency_us"]), (&0.into(), &Value::Null));
}

#[test]
fn faults_prints_and_writes_what_was_measured_and_what_was_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let json = dir.path().join("faults.json");
    let output = diolkos()
        .args(["bench", "faults", "--quick", "--only", "G1,g2,G5", "--peers", "", "--json"])
        .arg(&json)
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert_eq!(errors, "", "no progress where there is no terminal");
    let rows: Value =
        serde_json::from_str(&std::fs::read_to_string(json).expect("the file")).expect("JSON");
    let ours = |row: usize| &rows[row]["ours"];
    assert_eq!(ours(0)["not_measured"], "by test: tests/hellos.rs");
    for row in [1, 2] {
        assert_eq!(ours(row)["measured"]["met"], true, "{rows}");
    }
    assert!(text.contains("diolkos   yes  18 of 18 RST"), "{text}");
    assert!(
        text.ends_with(
            "2 of 2 measured goals reached; 1 not measured here, the reason beside each\n"
        ),
        "{text}"
    );
}

#[test]
fn a_command_changes_things_while_there_is_load_and_is_counted() {
    let mut pods = diolkos();
    pods.args(["bench", "serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut pods = Process::start(&mut pods);
    let mut said = BufReader::new(pods.stdout());
    let mut line = String::new();
    said.read_line(&mut line).expect("its address");
    let address = line.trim().strip_prefix("listening ").expect("its address");
    let run = |command: &str| {
        let mut run = diolkos();
        run.args(["bench", "run", "--scenario", "churn", "--duration", "1s", "--json"]);
        run.args(["--target", address, "--sni", "outbound_.8080_._.bar.ns2.global"]);
        run.args(["--rate", "100", "--churn-rate", "10", "--churn-command", command]);
        let output = run.output().expect("run");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), report)
    };
    let dir = tempfile::tempdir().expect("a directory");
    let (code, report) = run(&format!("touch {}/$CHURN_TURN", dir.path().display()));
    let made = std::fs::read_dir(dir.path()).expect("the directory").count();
    assert_eq!((code, &report["changes"]["made"]), (Some(0), &made.into()));
    assert!(made > 0 && report["kinds"]["connect"]["operations"].as_u64() > Some(0), "{report}");
    let (code, report) = run("false");
    assert_eq!((code, &report["changes"]["made"]), (Some(1), &0.into()), "no change was made");
}

/// Nothing is started for them: an address that nobody can have would fail with 1.
#[test]
fn what_cannot_be_done_is_wrong_usage_and_the_flag_is_named() {
    let check_for = |line: &str, more: &[&str], flag: &str| {
        let output = diolkos().arg("bench").args(line.split(' ')).args(more).output();
        let output = output.expect("run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line} {more:?}: {said}");
        assert!(said.contains(flag), "{line} {more:?}: {said}");
    };
    let check = |line: &str, flag: &str, value: &str| check_for(line, &[flag, value], flag);
    check_for("run --target 127.0.0.1:1 --sni a", &[], "--duration or --count");
    let run = "run --target 127.0.0.1:1 --count 1 --sni a";
    for (flag, values) in [
        ("--rate", &["0", "nan", "inf", "-1", "1e-300", "many"][..]),
        ("--concurrency", &["0", "100001", "99999999999"]),
        ("--size", &["0", "15", "18446744073709551615"]),
        ("--duration", &["0s"]),
        ("--timeout", &["0s"]),
        ("--source", &["", "here", "127.0.0.0/8", "::1"]),
        ("--sni", &["", "no name"]),
        ("--mode", &["mutual"]),
    ] {
        values.iter().for_each(|value| check(run, flag, value));
    }
    check("run --target 127.0.0.1:1 --sni a", "--count", "0");
    let churn = "run --target 127.0.0.1:1 --count 1 --sni a --churn-command true";
    ["0", "-1", "inf"].iter().for_each(|rate| check(churn, "--churn-rate", rate));
    for (flag, values) in [
        ("--routes", &["0", "-1", "1000001", "99999999999", "1,0"][..]),
        ("--repeat", &["0", "1001"]),
        ("--rate", &["0", "nan"]),
        ("--churn", &["0", "inf"]),
    ] {
        values.iter().for_each(|value| check("compare --peers floor --quick", flag, value));
    }
    ["G99", "G3", "", "G1,"].iter().for_each(|goal| check("faults --quick", "--only", goal));
}

/// The state and the parent of a process: proc(5). `None` when it is gone.
fn state(pid: &str) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
    Some((fields.next()?, fields.next()?))
}

/// What this process has started and not waited for yet.
fn children(of: u32) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
    let names = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|pid| state(pid).is_some_and(|(_, parent)| parent == of.to_string())).collect()
}

/// The terminal is closed: SIGHUP comes, and what is said from then on is read by nobody.
#[test]
fn a_terminal_that_is_closed_ends_what_was_started_and_leaves_no_files() {
    for line in [
        "compare --peers floor --scenarios connect --repeat 1000",
        "faults --only G5 --peers haproxy",
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        // The tests themselves may run under `nohup`.
        let mut bench = Command::new("env");
        bench.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_diolkos"), "bench"]);
        bench.args(line.split(' ')).env("TMPDIR", dir.path());
        let mut bench = bench.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("run");
        drop(bench.stderr.take());
        let pid = Pid::from_child(&bench);
        let started = eventually("it has started a program", || {
            let started = children(bench.id());
            (!started.is_empty()).then_some(started)
        });
        kill_process(pid, Signal::HUP).expect("told");
        let status = eventually("it ends", || bench.try_wait().expect("wait"));
        assert_eq!(status.code(), Some(1), "{line}");
        eventually("what it started has ended", || {
            started.iter().all(|pid| state(pid).is_none_or(|(state, _)| state == "Z")).then_some(())
        });
        let left = fs::read_dir(dir.path()).expect("the directory").count();
        assert_eq!(left, 0, "{line}: nothing is left behind");
    }
}

/// `nohup` is this, and what is said to a file.
#[test]
fn where_sighup_is_ignored_a_terminal_that_is_closed_ends_nothing() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" bench faults --quick --only G5 --peers ''"]);
    shell.arg(env!("CARGO_BIN_EXE_diolkos")).stdout(Stdio::piped());
    let bench = shell.spawn().expect("run");
    let pid = Pid::from_child(&bench);
    eventually("it has started a program", || (!children(bench.id()).is_empty()).then_some(()));
    kill_process(pid, Signal::HUP).expect("told");
    let output = bench.wait_with_output().expect("its end");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 of 1 measured goals reached"), "{text}");
}
