//! Envoy and our sidecar in each other's places, the gateway between them.
//!
//! Envoy to Envoy is in the tests of Envoy itself; here are the three others, with raw TCP and with
//! HTTP.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
};

use super::world::{Application, Mesh, Sidecar, connect, vip};
use crate::{
    envoy::sidecars::{self, BAR, HTTP1_TLS12, HTTP1_TLS13, INBOUND, SLEEP, TCP},
    support::{
        PATIENCE, envoy::Envoy, eventually, front::Front, http, pattern, read_to_end, tools,
    },
};

const BULK: usize = 5 << 20;

/// Bytes both ways, half-closes both ways.
fn raw(client: &TcpStream, server: &TcpStream) {
    client.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let (up, down) = (pattern(1, BULK), pattern(2, BULK));
    let (at_server, at_client) = thread::scope(|scope| {
        scope.spawn(|| {
            (&*client).write_all(&up).expect("up");
            client.shutdown(Shutdown::Write).expect("half-close");
        });
        scope.spawn(|| (&*server).write_all(&down).expect("down"));
        let at_server = scope.spawn(|| read_to_end(server));
        let mut at_client = vec![0; BULK];
        (&*client).read_exact(&mut at_client).expect("down");
        (at_server.join().expect("server"), at_client)
    });
    assert!(at_server.1 && at_server.0 == up, "{} bytes, then FIN", at_server.0.len());
    assert!(at_client == down);
    (&*server).write_all(b"last").expect("write");
    server.shutdown(Shutdown::Write).expect("the end");
    assert_eq!(read_to_end(client), (b"last".to_vec(), true));
}

fn posts(to: SocketAddr, seed: u64) {
    let body = pattern(seed, 300_000);
    let answer = http::request(to, "POST", "/echo", &body).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == body);
}

/// The application with our sidecar, and the caller with Envoy.
fn envoy_calls_us(application: SocketAddr) -> Option<(Envoy, Front, Sidecar, Mesh)> {
    let binary = tools::find("envoy")?;
    let mesh = Mesh::new();
    let pod = mesh.inbound(&mesh.bar(), application, &["--allow-principal", SLEEP]);
    let front = mesh.front(&[pod.address]);
    let own = mesh.sleep();
    let resources = sidecars::of_client(front.address, &own, &own.join("root-cert.pem"));
    let client = Envoy::start(&binary, &mesh.path("."), "client", resources);
    Some((client, front, pod, mesh))
}

#[test]
fn envoy_calls_our_sidecar_over_raw_tcp() {
    let application = Application::new();
    let Some((client, front, pod, _mesh)) = envoy_calls_us(application.address) else { return };
    let client_end = connect(client.listener(TCP.name));
    raw(&client_end, &application.accept());
    drop(client_end);
    let line = &pod.connections(1)[0];
    assert_eq!((&line["outcome"], &line["peer"]), (&"ok".into(), &SLEEP.into()));
    assert_eq!(line["alpn"], "istio", "it offers istio-peer-exchange first");
    assert_eq!(front.lines(1)[0]["outcome"], "ok");
}

#[test]
fn envoy_calls_our_sidecar_over_http() {
    for (seed, way) in [(1, HTTP1_TLS12), (2, HTTP1_TLS13)] {
        let Some((client, _front, pod, _mesh)) = envoy_calls_us(http::echo()) else { return };
        posts(client.listener(way.name), seed);
        // The pod's application closes after its answer.
        let line = &pod.connections(1)[0];
        assert_eq!((&line["peer"], &line["alpn"]), (&SLEEP.into(), &"istio".into()));
    }
}

#[test]
fn a_reset_reaches_envoy_through_our_sidecar() {
    let application = Application::new();
    let Some((client, _front, pod, _mesh)) = envoy_calls_us(application.address) else { return };
    let client_end = connect(client.listener(TCP.name));
    let server = application.accept();
    (&server).write_all(b"half").expect("write");
    (&client_end).read_exact(&mut [0; 4]).expect("read");
    crate::support::reset(server);
    assert_eq!(read_to_end(client_end).0, b"");
    assert_eq!(pod.connections(1)[0]["outcome"], "upstream_reset");
}

/// The application with Envoy, and the caller with our sidecar.
fn we_call_envoy(
    http: SocketAddr,
    tcp: SocketAddr,
) -> Option<(Sidecar, Front, Envoy, Mesh, SocketAddr)> {
    let binary = tools::find("envoy")?;
    let mesh = Mesh::new();
    let own = mesh.bar();
    let resources = sidecars::of_pod(http, tcp, &own, &own.join("root-cert.pem"));
    let pod = Envoy::start(&binary, &mesh.path("."), "pod", resources);
    let front = mesh.front(&[pod.listener(INBOUND)]);
    let vip = vip();
    let names = format!("  subjectAltNames: [\"{BAR}\"]\n");
    mesh.entry("bar", "bar.ns2.global", vip, &[front.address], &names);
    let client = mesh.outbound(&mesh.sleep(), &[]);
    Some((client, front, pod, mesh, vip))
}

#[test]
fn our_sidecar_calls_envoy_over_raw_tcp() {
    let application = Application::new();
    let parts = we_call_envoy(http::echo(), application.address);
    let Some((client, front, _pod, _mesh, vip)) = parts else { return };
    let client_end = connect(vip);
    raw(&client_end, &application.accept());
    drop(client_end);
    let line = &client.connections(1)[0];
    assert_eq!((&line["outcome"], &line["peer"]), (&"ok".into(), &BAR.into()));
    assert_eq!(front.lines(1)[0]["outcome"], "ok");
}

#[test]
fn our_sidecar_calls_envoy_over_http() {
    // To the pod's Envoy it is `istio`, which it takes for raw TCP; the application speaks HTTP.
    let parts = we_call_envoy(http::echo(), http::echo());
    let Some((client, _front, _pod, _mesh, vip)) = parts else { return };
    (1..=3).for_each(|seed| posts(vip, seed));
    let lines = client.connections(3);
    assert!(lines.iter().all(|line| line["outcome"] == "ok"), "{lines:#?}");
}

#[test]
fn envoy_refuses_us_when_we_are_somebody_else() {
    let Some(binary) = tools::find("envoy") else { return };
    let mesh = Mesh::new();
    let (own, application) = (mesh.bar(), Application::new());
    let address = application.address;
    let resources = sidecars::of_pod(address, address, &own, &own.join("root-cert.pem"));
    let pod = Envoy::start(&binary, &mesh.path("."), "pod", resources);
    let front = mesh.front(&[pod.listener(INBOUND)]);
    let vip = vip();
    mesh.entry("bar", "bar.ns2.global", vip, &[front.address], "");
    let certs = mesh.sleep();
    mesh.renew_sleep(&SLEEP.replace("sleep", "other"));
    let client = mesh.outbound(&certs, &[]);
    super::is_reset(connect(vip));
    let line = &client.connections(1)[0];
    assert_eq!(line["outcome"], "handshake_failed", "{line}");
    assert!(line["reason"].as_str().expect("a text").contains("does not want our"), "{line}");
    eventually("Envoy says so", || {
        (pod.count("listener.127.0.0.1_0.ssl.fail_verify_san") > 0).then_some(())
    });
}
