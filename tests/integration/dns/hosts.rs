//! Resolvers as they are: a host of its own (a network namespace) with a resolv.conf as pods have
//! it, and the server on port 53 there.
//!
//! The host has no DNS of a cluster beside it, which would answer the first names of the search
//! list; the server plays its part with `cluster.local` as a second, empty suffix.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::{
    PATIENCE, eventually,
    host::Host,
    tools::{self, Process},
};

const RESOLV_CONF: &str = "nameserver 127.0.0.1
search ns1.svc.cluster.local svc.cluster.local cluster.local global ns1.global
options ndots:5
";

/// What glibc's getaddrinfo finds, as most programs ask it; none when it finds none.
fn getent(host: &Host, name: &str) -> Vec<String> {
    let said = tools::run(&mut host.command("getent", &["ahostsv4", name]), b"", PATIENCE);
    let stream = said.stdout.lines().filter(|line| line.contains("STREAM"));
    stream.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn short_names_are_found_by_the_search_list_of_a_host() {
    let Some(host) = Host::new() else { return };
    host.resolves_by(RESOLV_CONF);
    // A host with loopback addresses only is taken to have no IPv4, and asks for none.
    host.run("ip address add 10.9.9.9/32 dev lo");
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("entries.yaml"), super::ENTRIES).expect("write");
    let manifests = dir.path().to_string_lossy().into_owned();
    let mut server = host.command(
        env!("CARGO_BIN_EXE_diolkos"),
        &["dns", "--manifests", &manifests, "--listen", "127.0.0.1:53"],
    );
    server.args(["--suffix", "global", "--suffix", "cluster.local", "--set", "log.level=warn"]);
    let _server = Process::start(server.stdin(Stdio::null()));
    eventually("the server answers", || {
        (getent(&host, "bar.ns2.global") == ["127.255.0.2"]).then_some(())
    });
    for (name, expected) in [
        ("bar.ns2", &["127.255.0.2"][..]),
        ("BAR.ns2", &["127.255.0.2"]),
        ("bar.ns2.global", &["127.255.0.2"]),
        ("bar.ns2.global.", &["127.255.0.2"]),
        ("a.wild", &["127.255.1.1"]),
        ("nobody.ns2", &[]),
        ("bar", &[]),
    ] {
        assert_eq!(getent(&host, name), expected, "getent {name}");
    }
    let hosts = tools::run(&mut host.command("getent", &["hosts", "bar.ns2"]), b"", PATIENCE);
    assert_eq!(hosts.stdout.split_whitespace().next(), Some("127.255.0.2"), "{hosts:?}");

    let Some(go) = tools::find("go") else { return };
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/go-lookup/main.go");
    let binary = concat!(env!("CARGO_TARGET_TMPDIR"), "/go-lookup");
    let mut build = Command::new(go);
    build.args(["build", "-o", binary, source]);
    build.envs([
        ("GOPROXY", "off"),
        ("GOTOOLCHAIN", "local"),
        ("GOFLAGS", ""),
        ("CGO_ENABLED", "0"),
    ]);
    let built = tools::run(&mut build, b"", Duration::from_secs(300));
    assert!(built.good, "{}", built.stderr);
    let names = ["bar.ns2", "bar.ns2.global", "a.wild", "merged.ns2", "nobody.ns2.global"];
    let said = tools::run(&mut host.command(binary, &names), b"", PATIENCE).stdout;
    let said: Vec<_> = said.lines().collect();
    assert_eq!(
        said[..4],
        [
            "bar.ns2: 127.255.0.2",
            "bar.ns2.global: 127.255.0.2",
            "a.wild: 127.255.1.1",
            "merged.ns2: 127.255.0.3 127.255.0.9 fd00::9",
        ]
    );
    assert!(said[4].ends_with("no such host"), "{}", said[4]);
}
