//! The programs as pods run them: another user, no capability, no new privileges, a root that
//! cannot be written, and the system calls of `config/seccomp.json` only. All that they do there
//! they can still do.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    PATIENCE, Pod,
    cage::{self, Cage},
    eventually,
    hello::Hello,
    mesh::{Files, Service, gateway, gateway_for},
    pattern,
    process::{self, Process, diolkos},
    read_to_end, reset, tools,
};

mod runtime;

/// Larger than the buffers of a connection: what is on its way is spliced.
const BULK: usize = 8 << 20;

/// The profile that is shipped. One name can be taken out by hand, to see that it is needed:
/// `DIOLKOS_SECCOMP_WITHOUT=splice cargo test --test integration confined::`.
pub fn profile() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/seccomp.json");
    let text = fs::read_to_string(path).expect("a profile");
    let mut profile: Value = serde_json::from_str(&text).expect("JSON");
    let without = std::env::var("DIOLKOS_SECCOMP_WITHOUT").unwrap_or_default();
    deny(&mut profile, &without);
    profile
}

/// Takes a name out of the profile.
pub fn deny(profile: &mut Value, name: &str) {
    for rule in profile["syscalls"].as_array_mut().expect("rules") {
        rule["names"].as_array_mut().expect("names").retain(|allowed| allowed != name);
    }
}

/// The profile does what it says, also where the program would not notice.
pub fn is_confined(process: &Process) {
    let said = |name| cage::status(process.id(), name);
    let nobody = format!("{0}\t{0}\t{0}\t{0}", cage::USER);
    assert_eq!((said("Uid"), said("Gid")), (nobody.clone(), nobody));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&said(set), 16), Ok(0), "{set}");
    }
    assert_eq!((&*said("NoNewPrivs"), &*said("Seccomp")), ("1", "2"));
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", process.id())).expect("mounts");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("a root");
    assert!(root.split(' ').nth(5).is_some_and(|options| options.starts_with("ro")), "{root}");
}

/// A connection on which a byte came back.
fn served(process: &Process, pod: &Pod, key: &str) -> (TcpStream, TcpStream) {
    let mut client = process.ask(key);
    let mut server = pod.accept_hello(&Hello::new(key).wire());
    server.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("served");
    (client, server)
}

/// Sends so much each way at once, and compares.
fn exchange(client: &TcpStream, server: &TcpStream) {
    let send = |mut to: &TcpStream, seed| to.write_all(&pattern(seed, BULK)).expect("write");
    let take = |mut from: &TcpStream, seed| {
        let mut got = vec![0; BULK];
        from.read_exact(&mut got).expect("read");
        assert!(got == pattern(seed, BULK), "other bytes");
    };
    thread::scope(|scope| {
        scope.spawn(|| send(client, 1));
        scope.spawn(|| send(server, 2));
        scope.spawn(|| take(server, 1));
        scope.spawn(|| take(client, 2));
    });
}

#[test]
fn the_gateway_serves_reloads_and_leaves_with_what_a_pod_may_do() {
    let Some(cage) = Cage::new(&profile()) else { return };
    let pod = Pod::new();
    let bar = Service::new("bar", &[Pod::closed(), pod.address]);
    let files =
        Files::with(&[("gateway.yaml", &gateway(&["*.global"])[..]), ("bar.yaml", &bar.yaml())]);
    let cgroup = Files::with(&[
        ("memory.max", "1000\n"),
        ("memory.current", "100\n"),
        ("memory.stat", "inactive_file 50\n"),
    ]);
    let place = format!("limits.cgroup={}", cgroup.path().display());
    let settings = [&*place, "drain.pause=100ms", "relay.abort_linger=200ms"];
    let command = process::gateway(files.path(), &settings);
    let mut process = Process::spawn(cage.command(&command, &[files.path(), cgroup.path()], &[]));
    is_confined(&process);

    // By copy, by splice, half-closed, reset, refused.
    let (client, server) = served(&process, &pod, &bar.key());
    exchange(&client, &server);
    let connections = process.json("/connections");
    assert_eq!(connections["connections"][0]["spliced"], true, "{connections}");
    assert_eq!(process.sample("diolkos_splice_fallbacks_total"), Some(0.0));
    client.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(read_to_end(&server), (vec![], true));
    drop(server);
    assert_eq!(read_to_end(&client), (vec![], true));
    let (client, server) = served(&process, &pod, &bar.key());
    reset(server);
    assert_eq!(read_to_end(&client), (vec![], false));
    let unknown = process.ask("outbound_.8080_._.none.ns2.global");
    assert_eq!(read_to_end(&unknown), (vec![21, 3, 3, 0, 2, 2, 112], true));

    // Told by inotify, and by SIGHUP.
    let second = Service::new("second", &[pod.address]);
    files.write("second.yaml", &second.yaml());
    process.explains(&second.key(), true);
    process.signal(Signal::HUP);
    process.said("settings and manifests were read again");

    // Short of memory, and not any more.
    cgroup.write("memory.current", "960\n");
    eventually("short", || (process.sample("diolkos_memory_short") == Some(1.0)).then_some(()));
    assert_eq!(read_to_end(process.ask(&bar.key())), (vec![], false));
    cgroup.write("memory.current", "100\n");
    eventually("not", || (process.sample("diolkos_memory_short") == Some(0.0)).then_some(()));

    for (port, path) in [
        ("health", "/healthz/ready"),
        ("agent", "/healthz/ready"),
        ("metrics", "/stats/prometheus"),
    ] {
        assert_eq!(process.get(port, path).status, 200, "{port}");
    }

    // Leaves: one that is quiet is ended by FIN.
    let (client, server) = served(&process, &pod, &second.key());
    process.signal(Signal::TERM);
    assert_eq!(read_to_end(&client), (vec![], true));
    drop((client, server));
    assert_eq!(process.ended(Duration::from_secs(20)).code(), Some(0));
    let lines = process.lines();
    for reason in [" ok ", " endpoint_rst ", " unknown_name ", " quiet_drain "] {
        assert!(lines.iter().any(|line| line.contains(reason)), "{reason}: {lines:#?}");
    }
}

#[test]
fn names_are_answered_and_followed_with_what_a_pod_may_do() {
    let Some(cage) = Cage::new(&profile()) else { return };
    let entry = |host: &str, of: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: e, namespace: ns1}}\nspec:\n  hosts: [{host}]\n  {of}\n"
        )
    };
    let zone = Files::with(&[("gw.yaml", &entry("gw.two.test", "addresses: [127.0.0.1]")[..])]);
    let mut command = diolkos();
    command.arg("dns").arg("--manifests").arg(zone.path());
    command.args(["--listen", "127.0.0.1:0", "--suffix", "test", "--set", "log.format=json"]);
    let mut dns = Process::launch(cage.command(&command, &[zone.path()], &[]));
    let server = dns.said("listening for DNS")["address"].clone();
    dns.said("ready: the manifests are loaded");
    is_confined(&dns);

    let pod = Pod::new();
    let remote = format!(
        "location: MESH_INTERNAL\n  resolution: DNS\n  ports: [{{name: tcp, number: 8080, protocol: TCP}}]\n  endpoints: \
         [{{address: gw.two.test, network: external, ports: {{tcp: {}}}}}]",
        pod.address.port()
    );
    let selector = gateway_for("istio: egressgateway", &["*.global"]);
    let files = Files::with(&[
        ("gateway.yaml", &selector[..]),
        ("bar.yaml", &entry("bar.ns2.global", &remote)),
    ]);
    let servers = format!("resolver.servers=[{}]", server.as_str().expect("an address"));
    let settings = [
        &*servers,
        "resolver.ttl_min=50ms",
        "resolver.ttl_max=50ms",
        "gateway.role=egress",
        "gateway.labels={istio: egressgateway}",
        "gateway.requested_network_view=[external]",
    ];
    let command = process::gateway(files.path(), &settings);
    let process = Process::spawn(cage.command(&command, &[files.path()], &[]));
    is_confined(&process);
    let fresh = "diolkos_resolved_names{state=\"fresh\"}";
    eventually("the name is known", || (process.sample(fresh) == Some(1.0)).then_some(()));
    served(&process, &pod, "outbound_.8080_._.bar.ns2.global");

    // And over TCP, after a change of the files.
    zone.write("gw.yaml", &entry("other.two.test", "addresses: [127.0.0.7]"));
    let to: SocketAddr = server.as_str().and_then(|a| a.parse().ok()).expect("an address");
    eventually("the new name is answered", || answers(to, "other.two.test").then_some(()));
    dns.signal(Signal::TERM);
    assert_eq!(dns.ended(Duration::from_secs(20)).code(), Some(0));
}

/// Asks for an address over TCP; whether there is one.
fn answers(server: SocketAddr, name: &str) -> bool {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("a label"));
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let length = u16::try_from(query.len()).expect("short").to_be_bytes();
    let mut stream = TcpStream::connect(server).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.write_all(&[&length[..], &query].concat()).expect("write");
    let mut head = [0; 14];
    stream.read_exact(&mut head).expect("an answer");
    head[8..10] == [0, 1]
}

#[test]
fn entries_are_exported_with_what_a_pod_may_do() {
    let Some(cage) = Cage::new(&profile()) else { return };
    let work = Files::new();
    let put = |path: &str, text: &str| {
        let path = work.at(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    };
    let bar = Service::new("bar", &[([192, 0, 2, 7], 8080).into()]);
    put("two/gateway.yaml", &gateway(&["*.global"]));
    put("two/bar.yaml", &bar.yaml());
    let path = |name: &str| work.at(name).display().to_string();
    let mut command = diolkos();
    command.args(["export", "--watch", "--for", "one", "--set", "log.format=json"]);
    command.arg("--cluster").arg(format!("two={},gateway=192.0.2.2", path("two")));
    command.args(["--addresses", &path("book/addresses"), "--to-dir", &path("book/out")]);
    put("book/.keep", "");
    let book = work.at("book");
    let caged = cage.command(&command, &[work.path(), Path::new(&path("two"))], &[&book]);
    let mut export = Process::launch(caged);
    let written = |name: &str, is_there: bool| {
        let file = work.at(&format!("book/out/{name}.ns2.global.yaml"));
        eventually(name, || (file.exists() == is_there).then_some(()));
    };
    written("bar", true);
    is_confined(&export);
    put("two/second.yaml", &Service::new("second", &bar.pods).yaml());
    written("second", true);
    fs::remove_file(work.at("two/second.yaml")).expect("removed");
    written("second", false);
    export.signal(Signal::TERM);
    assert_eq!(export.ended(Duration::from_secs(20)).code(), Some(0));
}

/// What a profile is for.
#[test]
fn a_confined_program_can_start_no_other_and_open_no_other_kind_of_socket() {
    let Some(cage) = Cage::new(&profile()) else { return };
    let Some(perl) = tools::find("perl") else { return };
    let script = "
        sub refused { my ($what, $done) = @_; die \"$what: done\" if $done;
                      die \"$what: $!\" unless $!{EPERM} }
        refused('fork', defined(fork));
        refused('a socket of this machine', socket(A, 1, 1, 0));
        refused('a netlink socket', socket(B, 16, 3, 0));
        refused('a link', symlink('a', '/tmp/b'));
        refused('another root', chroot('/'));
        socket(C, 10, 1, 0) or die \"an IPv6 socket: $!\";
        socket(D, 2, 1, 0) or die \"an IPv4 socket: $!\";
    ";
    let mut command = Command::new(perl);
    command.args(["-MErrno", "-e", script]);
    let said = tools::run(&mut cage.command(&command, &[], &[]), b"", PATIENCE);
    assert!(said.good, "{said:?}");
}
