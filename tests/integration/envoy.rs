//! Envoy as the sidecar at both ends, the gateway between them.
//!
//! Protocols go through inside the mesh's own TLS, so what must hold is that every byte does, and
//! that each end knows the other by its certificate.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
};

use serde_json::Value;

use crate::support::{PATIENCE, eventually, http, pattern, read_to_end};

pub mod sidecars;
mod world;

use sidecars::{BAR, HTTP1_TLS12, HTTP1_TLS13, HTTP2, SLEEP, SNI, TCP, Way};
use world::{Misled, World};

/// More than all buffers on the way hold together.
const BULK: usize = 5 << 20;
/// Requests at once, each with a body of this size.
const AT_ONCE: u64 = 8;
const BODY: usize = 300_000;

/// Posts a body and gets it back, from the pod that was asked for, which knows who asked.
fn echoed(to: SocketAddr, seed: u64, protocol: &str, tls: &str) {
    let body = pattern(seed, BODY);
    let answer = http::request(to, "POST", "/echo", &body).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == body, "{} bytes came back, not the same", answer.body.len());
    assert_eq!(answer.header("x-protocol"), protocol);
    assert_eq!(answer.header("x-server-name"), SNI);
    assert_eq!(answer.header("x-caller"), SLEEP);
    assert_eq!(answer.header("x-server"), BAR);
    assert_eq!(answer.header("x-tls"), tls);
}

/// What the access log says of every connection here.
fn told(line: &Value, way: &Way) {
    assert_eq!(line["requested_server_name"], SNI);
    assert_eq!(line["alpn"], way.alpn.join(","));
    assert_eq!(line["upstream_workload"], "bar-a");
    assert_eq!(line["connect_attempts"], 1);
}

#[test]
fn http_1_goes_from_sidecar_to_sidecar() {
    for (way, tls) in [(HTTP1_TLS12, "TLSv1.2"), (HTTP1_TLS13, "TLSv1.3")] {
        let Some(world) = World::start(Misled::Nobody) else { return };
        let to = world.way(&way);
        (1..=3).for_each(|seed| echoed(to, seed, "HTTP/1.1", tls));
        assert_eq!(
            world.pod.count("http.http.downstream_cx_http1_total"),
            1,
            "one connection for all"
        );
        drop(world.client);
        let line = &world.front.lines(1)[0];
        told(line, &way);
        assert_eq!(line["tls"], "ok");
        assert!(line["bytes_received"].as_u64() > Some(3 * BODY as u64), "{line}");
    }
}

#[test]
fn http_2_goes_from_sidecar_to_sidecar_in_streams_of_one_connection() {
    let Some(world) = World::start(Misled::Nobody) else { return };
    let to = world.way(&HTTP2);
    thread::scope(|scope| {
        for seed in 1..=AT_ONCE {
            scope.spawn(move || echoed(to, seed, "HTTP/2", "TLSv1.3"));
        }
    });
    assert_eq!(world.pod.count("http.http.downstream_cx_http2_total"), 1);
    assert_eq!(world.pod.count("http.http.downstream_rq_total"), AT_ONCE);
    drop(world.client);
    told(&world.front.lines(1)[0], &HTTP2);
    assert_eq!(world.front.lines(1)[0]["tls"], "ok");
}

#[test]
fn raw_tcp_goes_from_sidecar_to_sidecar_with_half_closes() {
    let Some(world) = World::start(Misled::Nobody) else { return };
    let client = TcpStream::connect(world.way(&TCP)).expect("connect");
    client.set_read_timeout(Some(PATIENCE)).expect("timeout");
    (&client).write_all(b"first").expect("write");
    let server = world.tcp.accept().expect("accept").0;
    server.set_read_timeout(Some(PATIENCE)).expect("timeout");
    (&server).read_exact(&mut [0; 5]).expect("first");

    let (up, down) = (pattern(1, BULK), pattern(2, BULK));
    let (at_server, at_client) = thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&up).expect("up");
            client.shutdown(Shutdown::Write).expect("half-close");
        });
        scope.spawn(|| (&server).write_all(&down).expect("down"));
        let at_server = scope.spawn(|| read_to_end(&server));
        let mut at_client = vec![0; BULK];
        (&client).read_exact(&mut at_client).expect("down");
        (at_server.join().expect("server"), at_client)
    });
    assert!(at_server.1 && at_server.0 == up, "{} bytes, then FIN", at_server.0.len());
    assert!(at_client == down);

    // The client has closed its half; the other one still works.
    (&server).write_all(b"last").expect("write");
    drop(server);
    assert_eq!(read_to_end(&client), (b"last".to_vec(), true));
    let line = &world.front.lines(1)[0];
    told(line, &TCP);
    assert_eq!(line["outcome"], "ok");
    assert_eq!((&line["spliced"], &line["tls"]), (&true.into(), &"ok".into()));
}

/// Makes a call that the client's Envoy answers itself, and returns what it says.
/// The gateway's line names the side that does not trust the other.
fn refused(world: &World, way: &Way, before: usize, by: &str) -> String {
    let answer = http::request(world.way(way), "GET", "/", b"").expect("an answer");
    assert_eq!(answer.status, 503, "{}", answer.text());
    let line = &world.front.lines(before + 1)[before];
    told(line, way);
    assert_eq!(line["stage"], "relay", "the gateway has no part in it: {line}");
    let is_plain = way.tls_max != "TLSv1_3";
    let class = if is_plain { "alert:unknown_ca" } else { "suspected_auth_failure" };
    assert_eq!((&line["tls"], &line["tls_ended_by"]), (&class.into(), &by.into()), "{line}");
    answer.text()
}

#[test]
fn a_client_that_trusts_another_root_says_so() {
    let Some(world) = World::start(Misled::Client) else { return };
    for (before, way) in [HTTP1_TLS12, HTTP1_TLS13, HTTP2].iter().enumerate() {
        let text = refused(&world, way, before, "downstream");
        assert!(text.contains("CERTIFICATE_VERIFY_FAILED"), "{text}");
    }
    assert_eq!(world.pod.count("http.http.downstream_rq_total"), 0);
}

#[test]
fn a_client_hears_that_the_pod_trusts_another_root() {
    let Some(world) = World::start(Misled::Pod) else { return };
    let alert = "TLSV1_ALERT_UNKNOWN_CA";
    for (before, way) in [HTTP1_TLS12, HTTP1_TLS13, HTTP2].iter().enumerate() {
        let text = refused(&world, way, before, "upstream");
        // In TLS 1.3 the handshake is over for the client when the alert comes, and Envoy answers
        // that the connection was terminated. Its log says why.
        assert!(way.tls_max == "TLSv1_3" || text.contains(alert), "{text}");
        eventually("the alert is in the log", || (world.client.said(alert) > before).then_some(()));
    }
    assert_eq!(world.pod.count("http.http.downstream_rq_total"), 0);
}
