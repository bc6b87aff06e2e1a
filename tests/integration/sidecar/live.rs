//! What changes under a running sidecar: manifests, ports, certificates, its own end.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    net::TcpListener,
    time::Duration,
};

use diolkos::{dns, metrics::Metrics};
use rustix::process::Signal;

use super::world::{Application, Mesh, World, connect, vip};
use crate::{
    envoy::sidecars::SLEEP,
    support::{PATIENCE, eventually, process::Process, read_to_end, tools},
};

/// Makes a connection carry a byte each way.
fn exchange(client: &mut (impl Read + Write), server: &mut (impl Read + Write)) {
    client.write_all(b"a").expect("write");
    server.read_exact(&mut [0]).expect("read");
    server.write_all(b"b").expect("write");
    client.read_exact(&mut [0]).expect("read");
}

#[test]
fn an_entry_that_is_added_is_served_and_one_that_is_removed_harms_no_connection() {
    let world = World::start();
    let (mut client, mut server) = world.connect();
    exchange(&mut client, &mut server);
    let new = vip();
    world.mesh.entry("new", "bar.ns2.global", new, &[world.front.address], "");
    // The host is defined already; a second entry of it has no say.
    world.client.says("bar.ns2.global is defined by another object");
    world.mesh.remove("bar");
    world.client.says("no longer listening");
    let mut second =
        eventually("the new address is served", || std::net::TcpStream::connect(new).ok());
    let mut at_server = world.application.accept();
    exchange(&mut second, &mut at_server);
    assert!(std::net::TcpStream::connect(world.vip).is_err(), "the old address is closed");
    exchange(&mut client, &mut server);
    drop(server);
    assert_eq!(read_to_end(client), (Vec::new(), true));
}

#[test]
fn a_port_that_is_taken_is_told_and_the_rest_serve() {
    let taken = vip();
    let holder = TcpListener::bind(taken).expect("bind");
    let world = World::start();
    world.mesh.entry("taken", "taken.ns2.global", taken, &[world.front.address], "");
    world.client.says("cannot listen on");
    world.client.says("\"ready: 1 of 1 addresses are listened on");
    let ready = world.client.status("/healthz/ready");
    assert_eq!(ready.status, 200, "the rest serve");
    let failed = "diolkos_sidecar_listeners{state=\"failed\"}";
    assert_eq!(world.client.sample(failed), Some(1));
    let log = world.client.process.log();
    let line = log.iter().find(|line| line["entry"] == "ns1/taken").expect("a line");
    let said = line["message"].as_str().expect("a text");
    assert!(said.contains(&taken.to_string()) && said.contains("another program"), "{said}");
    let (mut client, mut server) = world.connect();
    exchange(&mut client, &mut server);
    drop(holder);
    world.client.process.signal(Signal::HUP);
    eventually("what was taken is bound", || {
        (world.client.sample(failed) == Some(0)).then_some(())
    });
}

#[test]
fn listeners_leave_descriptors_for_connections_and_the_operator() {
    let (mesh, application) = (Mesh::new(), Application::new());
    let pod = mesh.inbound(&mesh.bar(), application.address, &[]);
    let front = mesh.front(&[pod.address]);
    // The first by address, so that it is among those within the budget.
    let vip = vip();
    let mut ports: String = String::new();
    for port in vip.port()..vip.port() + 300 {
        writeln!(ports, "  - {{number: {port}, name: tcp{port}, protocol: TCP}}").expect("text");
    }
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: bar, namespace: ns1}}\nspec:\n  hosts: [bar.ns2.global]\n  \
         addresses: [{}]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  ports:\n{ports}  \
         endpoints: [{{address: {}, ports: {{tcp{}: {}}}}}]\n",
        vip.ip(),
        front.address.ip(),
        vip.port(),
        front.address.port(),
    );
    mesh.write("bar", &entry);
    let client = mesh.outbound_within(200, &mesh.sleep());
    client.says("164 addresses of ServiceEntries are not listened on");
    let said = |line: &&serde_json::Value| line.to_string().contains("not listened on");
    assert_eq!(client.process.log().iter().filter(said).count(), 1, "told once");
    let bound = "diolkos_sidecar_listeners{state=\"bound\"}";
    assert_eq!(client.sample(bound), Some(136), "200 but 64");
    assert_eq!(client.status("/healthz/ready").status, 200, "the rest serve");
    let mut callers: Vec<_> = (0..8).map(|_| (connect(vip), application.accept())).collect();
    callers.iter_mut().for_each(|(client, server)| exchange(client, server));
}

#[test]
fn a_sidecar_that_listens_nowhere_is_not_ready() {
    let (mesh, taken) = (Mesh::new(), vip());
    let holder = TcpListener::bind(taken).expect("bind");
    mesh.entry("bar", "bar.ns2.global", taken, &[([10, 0, 0, 1], 15443).into()], "");
    let client = mesh.outbound(&mesh.sleep(), &[]);
    client.says("not ready: none of the 1 addresses of ServiceEntries could be listened on");
    assert_eq!(client.status("/healthz/ready").status, 503);
    assert_eq!(client.sample("diolkos_ready"), Some(0));
    drop(holder);
    client.process.signal(Signal::HUP);
    client.says("\"ready: 1 of 1 addresses are listened on");
    assert_eq!(client.status("/healthz/ready").status, 200);
    // A scrape may be that of a moment ago.
    eventually("the metric follows", || (client.sample("diolkos_ready")? == 1).then_some(()));
}

#[test]
fn a_subset_of_a_host_that_nobody_has_is_told() {
    let world = World::with("", &["--subset", "new.ns2.global=v1"]);
    world.client.says("--subset new.ns2.global: no ServiceEntry that is listened for");
    world.mesh.entry("new", "new.ns2.global", vip(), &[world.front.address], "");
    world.client.says("no more: --subset new.ns2.global");
}

#[test]
fn an_address_of_nobody_is_told_with_what_to_do() {
    let world = World::start();
    let foreign = ([192, 0, 2, 7], 8080).into();
    world.mesh.entry("away", "away.ns2.global", foreign, &[world.front.address], "");
    world.client.says("ip route add local 192.0.2.7/32 dev lo");
    let (mut client, mut server) = world.connect();
    exchange(&mut client, &mut server);
}

#[test]
fn an_endpoint_that_is_a_host_name_is_looked_up() {
    let (mesh, application) = (Mesh::new(), Application::new());
    let pod = mesh.inbound(&mesh.bar(), application.address, &[]);
    let front = mesh.front(&[pod.address]);
    let names = mesh.path("names.yaml");
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {name: gateway, namespace: ns1}\n\
                 spec: {hosts: [gateway.c2.example], addresses: [127.0.0.1]}\n";
    std::fs::write(&names, entry).expect("written");
    let config = dns::Config {
        listen: vec![([127, 0, 0, 1], 0).into()],
        suffixes: vec![dns::DnsName::parse("example").expect("a name")],
        ttl: Duration::from_secs(30),
        tcp_connections_max: 16,
        tcp_timeout: PATIENCE,
    };
    let server = dns::start(&config, &[names], &mut Metrics::default()).expect("DNS");
    let vip = vip();
    let port = front.address.port();
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: bar, namespace: ns1}}\nspec:\n  hosts: [bar.ns2.global]\n  \
         addresses: [{}]\n  location: MESH_INTERNAL\n  resolution: DNS\n  \
         ports: [{{number: {}, name: tcp, protocol: TCP}}]\n  \
         endpoints: [{{address: gateway.c2.example, ports: {{tcp: {port}}}}}]\n",
        vip.ip(),
        vip.port(),
    );
    mesh.write("bar", &entry);
    let resolver = format!("resolver.servers={}", server.addresses()[0]);
    let _client = mesh.outbound(&mesh.sleep(), &["--set", &resolver]);
    // Until the answer is there, callers are reset at once.
    let mut client = eventually("the name is known", || {
        let client = connect(vip);
        client.set_read_timeout(Some(Duration::from_millis(500))).expect("timeout");
        let silent = client.peek(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        silent.then_some(client)
    });
    client.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut server_end = application.accept();
    exchange(&mut client, &mut server_end);
    server.stop();
}

/// In a network namespace of its own, where the range is made local as the message says.
#[test]
fn a_range_that_is_made_local_is_listened_on() {
    let root = rustix::process::geteuid().is_root();
    let (Some(unshare), Some(_)) = (tools::find("unshare"), tools::find("ip")) else { return };
    if !root {
        assert!(std::env::var_os("CI").is_none(), "CI makes network namespaces");
        return eprintln!("skipped: network namespaces want root");
    }
    let mesh = Mesh::new();
    let vip = ([240, 240, 0, 2], 8080).into();
    mesh.entry("bar", "bar.ns2.global", vip, &[([10, 0, 0, 1], 15443).into()], "");
    let script = "ip link set lo up && ip route add local 240.240.0.0/16 dev lo && exec \"$@\"";
    let mut command = std::process::Command::new(unshare);
    command.args(["--net", "sh", "-c", script, "sh"]).arg(env!("CARGO_BIN_EXE_diolkos"));
    command.arg("sidecar").arg("--certs").arg(mesh.sleep());
    command.arg("--manifests").arg(mesh.path("entries")).args(["--set", "log.format=json"]);
    let process = Process::launch(command);
    assert_eq!(process.said("listening")["address"], "240.240.0.2:8080");
}

#[test]
fn a_renewed_certificate_is_shown_from_the_next_connection_on() {
    let world = World::start();
    let (mut old, mut at_old) = world.connect();
    exchange(&mut old, &mut at_old);
    let other = SLEEP.replace("sleep", "awake");
    world.mesh.renew_sleep(&other);
    world.client.says("certificate read again");
    let (mut client, mut server) = world.connect();
    exchange(&mut client, &mut server);
    exchange(&mut old, &mut at_old);
    drop((client, server));
    assert_eq!(world.pod.connections(1)[0]["peer"], other);
    drop((old, at_old));
    assert_eq!(world.pod.connections(2)[1]["peer"], SLEEP);
}

#[test]
fn half_of_a_pair_is_told_and_changes_nothing() {
    let world = World::start();
    let other = world.mesh.stale("other", SLEEP);
    let key = world.mesh.path("sleep/key.pem");
    std::fs::copy(other.join("key.pem"), &key).expect("copied");
    world.client.says("is not the key of");
    let (mut client, mut server) = world.connect();
    exchange(&mut client, &mut server);
}

#[test]
fn the_end_lets_connections_finish_and_resets_what_stays() {
    let world = World::with("", &["--set", "sidecar.drain=3s"]);
    let (mut finishing, mut at_finishing) = world.connect();
    let (mut staying, mut at_staying) = world.connect();
    exchange(&mut finishing, &mut at_finishing);
    exchange(&mut staying, &mut at_staying);
    let World { mut client, vip, .. } = world;
    client.process.signal(Signal::TERM);
    eventually("nothing is accepted", || std::net::TcpStream::connect(vip).is_err().then_some(()));
    assert_eq!(client.status("/healthz/ready").status, 503);
    exchange(&mut finishing, &mut at_finishing);
    drop(at_finishing);
    assert_eq!(read_to_end(finishing), (Vec::new(), true));
    assert_eq!(read_to_end(staying), (Vec::new(), false));
    assert!(client.process.ended(Duration::from_secs(10)).success());
    let mut lines = client.connections(2);
    // Those that came while it was told may have been cut too.
    lines.retain(|line| line["bytes_received"] != 0);
    let outcomes: Vec<_> = lines.iter().map(|l| l["outcome"].as_str().expect("a text")).collect();
    assert_eq!(outcomes, ["ok", "drained"]);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let world = World::with("", &["--set", "sidecar.drain=1h"]);
    let (mut client, mut server) = world.connect();
    exchange(&mut client, &mut server);
    let World { client: mut sidecar, .. } = world;
    sidecar.process.signal(Signal::TERM);
    sidecar.says("live connections may finish");
    sidecar.process.signal(Signal::TERM);
    assert!(sidecar.process.ended(Duration::from_secs(10)).success());
}

#[test]
fn limits_of_the_destination_rule_hold() {
    let world = World::start();
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: bar, namespace: ns1}\nspec:\n  host: bar.ns2.global\n  \
                trafficPolicy:\n    tls: {mode: ISTIO_MUTUAL}\n    \
                connectionPool: {tcp: {maxConnections: 1, idleTimeout: 300ms}}\n";
    world.mesh.write("rule", rule);
    world.client.read_manifests(2);
    let (mut client, mut server) = world.connect();
    exchange(&mut client, &mut server);
    super::is_reset(connect(world.vip));
    assert_eq!(world.client.connections(1)[0]["outcome"], "connection_limit");
    assert_eq!(read_to_end(client), (Vec::new(), false), "idle");
    assert_eq!(world.client.connections(2)[1]["outcome"], "idle_timeout");
}
