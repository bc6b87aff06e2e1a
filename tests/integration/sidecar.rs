//! `diolkos sidecar` at both ends of a gateway: an unmodified caller and an unmodified application.
//!
//! Everything runs as programs on loopback; each caller's sidecar has a virtual address of its
//! own.

use std::{
    io::{Read, Write},
    net::Shutdown,
    process::Command,
    thread,
};

use crate::{
    envoy::sidecars::{SLEEP, SNI},
    support::{Pod, http, pattern, read_to_end, reset, tools},
};

mod envoy;
mod live;
mod refusals;
pub mod world;

use world::{Mesh, Sidecar, World, connect, is_reset, vip};

const MEGABYTES_10: usize = 10 << 20;

/// The one connection that a sidecar told of ended well.
fn ended(sidecar: &Sidecar, outcome: &str) {
    let line = &sidecar.connections(1)[0];
    assert_eq!(line["outcome"], outcome, "{line}");
}

#[test]
fn an_ordinary_http_client_reaches_an_ordinary_http_server() {
    let Some(curl) = tools::find("curl") else { return };
    let mesh = Mesh::new();
    let pod = mesh.inbound(&mesh.bar(), http::echo(), &[]);
    let front = mesh.front(&[pod.address]);
    let vip = vip();
    mesh.entry("bar", "bar.ns2.global", vip, &[front.address], "");
    let client = mesh.outbound(&mesh.sleep(), &[]);
    let (body, file) = (pattern(7, 300_000), mesh.path("body"));
    std::fs::write(&file, &body).expect("written");
    let mut command = Command::new(curl);
    let resolve = format!("bar.ns2.global:{}:{}", vip.port(), vip.ip());
    command.args(["-sS", "--resolve", &resolve, "-w", "%{http_code}"]);
    command.arg("--data-binary").arg(format!("@{}", file.display()));
    command.arg("-o").arg(mesh.path("answer"));
    command.arg(format!("http://bar.ns2.global:{}/echo", vip.port()));
    let said = tools::run(&mut command, b"", crate::support::PATIENCE);
    assert!(said.good && said.stdout == "200", "{said:?}");
    assert!(std::fs::read(mesh.path("answer")).expect("an answer") == body);
    ended(&client, "ok");
    ended(&pod, "ok");
}

#[test]
fn each_end_tells_who_called_whom() {
    let world = World::start();
    let (client, mut server) = world.connect();
    (&client).write_all(b"question").expect("write");
    server.read_exact(&mut [0; 8]).expect("read");
    (&server).write_all(b"an answer").expect("write");
    drop(server);
    assert_eq!(read_to_end(&client), (b"an answer".to_vec(), true));
    drop(client);
    let outbound = &world.client.connections(1)[0];
    let told = |line: &serde_json::Value, key: &str| line[key].as_str().expect(key).to_owned();
    assert_eq!(told(outbound, "direction"), "outbound");
    assert_eq!(told(outbound, "local.addr"), world.vip.to_string());
    assert_eq!(told(outbound, "upstream.addr"), world.front.address.to_string());
    assert_eq!(told(outbound, "peer"), crate::envoy::sidecars::BAR);
    let inbound = &world.pod.connections(1)[0];
    assert_eq!(told(inbound, "direction"), "inbound");
    assert_eq!(told(inbound, "upstream.addr"), world.application.address.to_string());
    assert_eq!(told(inbound, "peer"), SLEEP);
    for line in [outbound, inbound] {
        assert_eq!(told(line, "server_name"), SNI);
        assert_eq!(told(line, "alpn"), "istio");
        assert_eq!(told(line, "outcome"), "ok");
        assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&8.into(), &9.into()));
    }
    let line = &world.front.lines(1)[0];
    assert_eq!(line["requested_server_name"], SNI);
    assert_eq!(line["outcome"], "ok");
    let count = "diolkos_sidecar_connections_total{direction=\"outbound\",outcome=\"ok\"}";
    assert_eq!(world.client.sample(count), Some(1));
    let bytes = "diolkos_sidecar_sent_bytes_total{direction=\"inbound\"}";
    assert_eq!(world.pod.sample(bytes), Some(9));
    let active = "diolkos_sidecar_connections_active{direction=\"inbound\"}";
    assert_eq!(world.pod.sample(active), Some(0));
}

#[test]
fn ten_megabytes_each_way_and_half_closes_lose_nothing() {
    let world = World::start();
    let (client, server) = world.connect();
    let (up, down) = (pattern(1, MEGABYTES_10), pattern(2, MEGABYTES_10));
    let (at_server, at_client) = thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&up).expect("up");
            client.shutdown(Shutdown::Write).expect("half-close");
        });
        scope.spawn(|| (&server).write_all(&down).expect("down"));
        let at_server = scope.spawn(|| read_to_end(&server));
        let mut at_client = vec![0; MEGABYTES_10];
        (&client).read_exact(&mut at_client).expect("down");
        (at_server.join().expect("server"), at_client)
    });
    assert!(at_server.1 && at_server.0 == up, "{} bytes, then FIN", at_server.0.len());
    assert!(at_client == down);
    // The caller has closed its half; the other one still works.
    (&server).write_all(b"last").expect("write");
    drop(server);
    assert_eq!(read_to_end(&client), (b"last".to_vec(), true));
    drop(client);
    ended(&world.client, "ok");
    ended(&world.pod, "ok");
}

#[test]
fn an_application_that_half_closes_first_still_gets_everything() {
    let world = World::start();
    let (mut client, server) = world.connect();
    // It speaks first, and is heard before the caller has said a word.
    (&server).write_all(b"welcome").expect("write");
    server.shutdown(Shutdown::Write).expect("half-close");
    assert_eq!(read_to_end(&client), (b"welcome".to_vec(), true));
    let rest = pattern(3, 200_000);
    client.write_all(&rest).expect("write");
    drop(client);
    let (bytes, fin) = read_to_end(&server);
    assert!(fin && bytes == rest);
    ended(&world.client, "ok");
}

#[test]
fn a_reset_of_the_caller_is_one_for_the_application() {
    let world = World::start();
    let (client, mut server) = world.connect();
    (&client).write_all(b"half a").expect("write");
    server.read_exact(&mut [0; 6]).expect("read");
    reset(client);
    assert_eq!(read_to_end(server), (Vec::new(), false));
    ended(&world.client, "downstream_reset");
    ended(&world.pod, "downstream_reset");
}

#[test]
fn a_reset_of_the_application_is_one_for_the_caller() {
    let world = World::start();
    let (client, server) = world.connect();
    (&server).write_all(b"half an").expect("write");
    (&client).read_exact(&mut [0; 7]).expect("read");
    reset(server);
    assert_eq!(read_to_end(client), (Vec::new(), false));
    ended(&world.client, "upstream_reset");
    ended(&world.pod, "upstream_reset");
}

#[test]
fn an_application_that_is_away_is_a_reset() {
    let mesh = Mesh::new();
    let pod = mesh.inbound(&mesh.bar(), Pod::closed(), &[]);
    let front = mesh.front(&[pod.address]);
    let vip = vip();
    mesh.entry("bar", "bar.ns2.global", vip, &[front.address], "");
    let _client = mesh.outbound(&mesh.sleep(), &[]);
    is_reset(connect(vip));
    let line = &pod.connections(1)[0];
    assert_eq!(line["outcome"], "connect_failed");
    assert!(line["reason"].as_str().expect("a text").starts_with("the application: "), "{line}");
}

#[test]
fn a_subset_is_asked_for_by_flag() {
    let world = World::with("", &["--subset", "bar.ns2.global=V1"]);
    let without_rule = connect(world.vip);
    is_reset(without_rule);
    let line = &world.client.connections(1)[0];
    assert_eq!((&line["outcome"], &line["tries"]), (&"no_route".into(), &0.into()));
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: bar, namespace: ns1}\nspec:\n  host: bar.ns2.global\n  \
                trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n  subsets: [{name: v1}]\n";
    world.mesh.write("rule", rule);
    world.client.says("no more: ServiceEntry ns1/bar");
    let (client, server) = world.connect();
    drop((client, server));
    let lines = world.front.lines(1);
    assert_eq!(lines[0]["requested_server_name"], SNI.replace("_._.", "_.v1_."));
}

#[test]
fn a_dead_gateway_costs_nobody_a_call() {
    let world = World::start();
    let second = world.mesh.front(&[world.pod.address]);
    // One that nobody listens on, and one that takes connections and hangs up.
    let rude = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let endpoints =
        [Pod::closed(), rude.local_addr().expect("address"), world.front.address, second.address];
    thread::spawn(move || rude.incoming().for_each(drop));
    world.mesh.entry("bar", "bar.ns2.global", world.vip, &endpoints, "");
    world.client.read_manifests(2);
    let call = |world: &World| {
        let (client, server) = world.connect();
        (&client).write_all(b"x").expect("write");
        (&server).read_exact(&mut [0]).expect("read");
    };
    (0..20).for_each(|_| call(&world));
    // Those that live when a gateway ends are cut, as they must be.
    world.client.connections(20);
    let World { client, front, pod, application, vip, mesh } = world;
    drop(front);
    let world = World { client, front: second, pod, application, vip, mesh };
    (0..20).for_each(|_| call(&world));
    let lines = world.client.connections(40);
    assert!(lines.iter().all(|line| line["outcome"] == "ok"), "{lines:#?}");
    assert!(lines.iter().any(|line| line["tries"].as_u64() > Some(1)), "nobody was tried twice");
    world.client.says("endpoint ejected");
}

#[test]
fn an_endpoint_that_is_silent_gives_way_to_the_next() {
    // Long enough for a handshake on a busy machine: a good endpoint that is too slow is left too.
    let times = ["--set", "sidecar.try_timeout=1s", "--set", "sidecar.handshake_timeout=2s"];
    let world = World::with("", &times);
    // A host that answers nothing, and one that takes the connection and says nothing.
    let (away, mute) = (Pod::unreachable(), Pod::new());
    let endpoints = [away.address, mute.address, world.front.address];
    world.mesh.entry("bar", "bar.ns2.global", world.vip, &endpoints, "");
    world.client.read_manifests(2);
    for _ in 0..8 {
        let (client, server) = world.connect();
        (&client).write_all(b"x").expect("write");
        (&server).read_exact(&mut [0]).expect("read");
    }
    let lines = world.client.connections(8);
    assert!(lines.iter().all(|line| line["outcome"] == "ok"), "{lines:#?}");
    let timeouts =
        "diolkos_sidecar_handshake_failures_total{direction=\"outbound\",cause=\"timeout\"}";
    assert!(world.client.sample(timeouts) > Some(0), "the mute one was never asked");
}

#[test]
fn when_nobody_is_left_the_caller_is_reset_within_the_connect_timeout() {
    let world = World::with("", &["--set", "sidecar.connect_timeout=500ms"]);
    let mute = Pod::new();
    world.mesh.entry("bar", "bar.ns2.global", world.vip, &[mute.address], "");
    world.client.read_manifests(2);
    is_reset(connect(world.vip));
    let line = &world.client.connections(1)[0];
    assert_eq!(line["outcome"], "connect_timeout", "{line}");
    let took = line["duration_ms"].as_u64().expect("a number");
    assert!((500..2500).contains(&took), "{took} ms");
}
