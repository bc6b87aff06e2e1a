//! The ports as a raw HTTP client sees them. Must not know: how answers are made.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use axum::{Extension, body::Body, http::Request};
use hyper::service::Service as _;

use super::*;

mod support;

use support::{Fake, body, read_answer, serve, serve_with};

#[test]
fn each_port_answers_its_paths_and_no_others() {
    let admin = [
        "/",
        "/ready",
        "/clusters",
        "/config_dump",
        "/stats",
        "/stats/prometheus",
        "/server_info",
        "/logging",
        "/connections",
        "/explain?sni=a",
    ];
    for (port, own) in [
        (Port::Admin, &admin[..]),
        (Port::Health, &["/healthz/ready"]),
        (Port::Agent, &["/healthz/ready", "/stats/prometheus"]),
        (Port::Metrics, &["/stats/prometheus"]),
    ] {
        let served = serve(port);
        for path in admin.iter().chain(&["/healthz/ready", "/etc/passwd", "//"]) {
            let (status, answer) = served.ask(&format!("GET {path}"));
            let expected = if own.contains(path) { 200 } else { 404 };
            assert_eq!(status, expected, "{port} {path}: {answer}");
        }
    }
}

#[test]
fn readiness_is_a_status_and_reasons_stay_on_the_admin_port() {
    for (port, path, reason) in
        [(Port::Admin, "/ready", true), (Port::Health, "/healthz/ready", false)]
    {
        let served = serve(port);
        let guard = served.views.guards.wait_for("first load");
        let (status, answer) = served.ask(&format!("GET {path}"));
        assert_eq!((status, answer.contains("first load")), (503, reason), "{answer}");
        drop(guard);
        assert_eq!(served.ask(&format!("GET {path}")).0, 200);
    }
    let served = serve(Port::Admin);
    assert_eq!(body(&served.ask("GET /ready").1), "LIVE\n");
}

#[test]
fn commands_are_taken_by_post_only() {
    for (port, path, done) in [
        (Port::Admin, "/drain_listeners", "drain"),
        (Port::Admin, "/quitquitquit", "quit"),
        (Port::Agent, "/drain", "drain"),
        (Port::Agent, "/quitquitquit", "quit"),
    ] {
        let served = serve(port);
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let (status, answer) = served.ask(&format!("{method} {path}"));
            assert_eq!(status, 405, "{method} {path}: {answer}");
            assert!(answer.to_lowercase().contains("allow: post"), "{answer}");
        }
        let hint = served.ask(&format!("GET {path}")).1;
        assert!(hint.contains(&format!("curl -X POST http://ADDRESS{path}")), "{hint}");
        assert_eq!(served.views.done(), [""; 0]);
        assert_eq!(served.ask(&format!("POST {path}")).0, 200);
        assert_eq!(served.views.done(), [done]);
    }
}

#[test]
fn the_log_level_is_shown_and_changed() {
    let served = serve(Port::Admin);
    assert_eq!(served.ask("POST /logging?level=debug").0, 200);
    assert_eq!(body(&served.ask("GET /logging").1), "debug\n");
    assert_eq!(served.ask("GET /logging?level=info").0, 200);
    let (status, answer) = served.ask("POST /logging?level=loud");
    assert!(status == 400 && answer.contains("\"loud\" is not a level"), "{answer}");
    assert_eq!(served.ask("POST /logging").0, 400);
    assert_eq!(served.views.log_level(), "debug");
}

#[test]
fn clusters_come_in_both_of_envoys_forms() {
    let served = serve(Port::Admin);
    let (_, text) = served.ask("GET /clusters");
    let name = "outbound_.80_._.a.b";
    for line in [
        format!("{name}::default_priority::max_connections::9\n"),
        format!("{name}::10.0.0.1:8080::cx_active::0\n"),
        format!("{name}::10.0.0.1:8080::health_flags::healthy\n"),
        format!("{name}::10.0.0.1:8080::weight::2\n"),
        format!("{name}::10.0.0.1:8080::sub_zone::s\n"),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
    let (_, answer) = served.ask("GET /clusters?format=json");
    assert!(answer.contains("content-type: application/json"), "{answer}");
    let json: Value = serde_json::from_str(body(&answer)).expect("JSON");
    let cluster = &json["cluster_statuses"][0];
    assert_eq!(cluster["name"], name);
    let host = &cluster["host_statuses"][0];
    assert_eq!(host["address"]["socket_address"]["port_value"], 8080);
    assert_eq!(host["stats"][0]["value"], "0");
}

#[test]
fn questions_reach_the_views_as_they_were_asked() {
    let served = serve(Port::Admin);
    let ask = |request: &str| served.ask(request);
    let (_, text) = ask("GET /explain?sni=a.b&alpn=h2,istio&source=10.0.0.7");
    assert_eq!(body(&text), "a.b [\"h2\", \"istio\"] Some(10.0.0.7)\n");
    let (_, text) = ask("GET /explain?sni=a%20b");
    assert_eq!(body(&text), "a b [\"istio-peer-exchange\", \"istio\"] None\n");
    let (_, text) = ask("GET /explain?sni=a&alpn=&source=");
    assert_eq!(body(&text), "a [] None\n");
    let (_, text) = ask("GET /explain?sni=a&format=json");
    assert_eq!(body(&text), "{\n  \"sni\": \"a\"\n}\n");
    assert_eq!(ask("GET /explain").0, 400);
    assert_eq!(ask("GET /explain?sni=a&source=here").0, 400);
    assert_eq!(ask("GET /explain?sni=a&alnp=x").0, 400);
    let (_, text) = ask("GET /connections?source=10.0.0.7&limit=5");
    assert!(text.contains("Some(10.0.0.7)") && text.contains("\"limit\": 5"), "{text}");
    let (_, text) = ask("GET /connections?failed&limit=5");
    assert!(text.contains("\"failed_limit\": 5"), "{text}");
    assert!(ask("GET /connections?failed&format=text").1.ends_with("a line\n"));
    assert_eq!(ask("GET /connections?limit=-1").0, 400);
    assert_eq!(ask("GET /connections?srouce=10.0.0.7").0, 400);
}

#[test]
fn a_view_that_does_not_answer_is_given_up() {
    let limits = server::Limits { answer_timeout: Duration::from_millis(50), ..Default::default() };
    let served = serve_with(Port::Admin, limits);
    assert_eq!(served.ask("GET /connections?sni=never").0, 504);
}

#[test]
fn a_scrape_names_its_format() {
    let served = serve(Port::Metrics);
    let (_, answer) = served.ask("GET /stats/prometheus");
    let content_type = format!("content-type: {}", crate::metrics::CONTENT_TYPE);
    assert!(answer.contains(&content_type), "{answer}");
    assert_eq!(body(&answer), "scrapes 1\n");
}

#[test]
fn many_scrapers_cost_as_much_as_a_few() {
    let served = serve(Port::Agent);
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(served.ask("GET /stats/prometheus").0, 200);
    }
    let windows = start.elapsed().as_millis() / 250 + 1;
    let scrapes = served.views.scrapes.load(Ordering::Relaxed);
    assert!(u128::from(scrapes) <= windows, "{scrapes} scrapes in {windows} windows");
    let served = serve(Port::Admin);
    served.ask("GET /stats");
    assert_eq!(body(&served.ask("GET /stats").1), "scrapes 2\n", "an operator sees now");
}

#[test]
fn pages_of_other_sites_command_nothing() {
    let served = serve(Port::Admin);
    let address = served.address;
    let post = |host: &str, origin: &str| {
        let head = format!("POST /quitquitquit HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}");
        served.send(&head).0
    };
    let own = address.to_string();
    assert_eq!(post(&own, "http://evil.example"), 403);
    assert_eq!(post(&own, "null"), 403);
    assert_eq!(post(&own, &format!("https://{own}")), 403);
    assert_eq!(post("evil.example", "http://evil.example"), 403);
    assert_eq!(served.views.done(), [""; 0]);
    assert_eq!(post(&own, &format!("http://{own}")), 200);
    assert_eq!(post("localhost:1", "http://localhost:1"), 200);
    let read = served.send("GET /config_dump HTTP/1.1\r\nHost: evil.example:15000");
    assert_eq!(read.0, 403, "a name that points here");
}

#[tokio::test(flavor = "current_thread")]
async fn an_agents_commands_come_from_this_machine() {
    for (peer, path, expected) in [
        ("10.0.0.1:5", "/quitquitquit", 403),
        ("10.0.0.1:5", "/drain", 403),
        ("[::ffff:10.0.0.1]:5", "/drain", 403),
        ("[::ffff:127.0.0.1]:5", "/drain", 200),
        ("[::1]:5", "/quitquitquit", 200),
    ] {
        let views: Arc<dyn Views> = Arc::new(Fake::default());
        let app = routes::App { views, answer_timeout: Duration::from_secs(1) };
        let peer = guards::Peer(peer.parse().expect("an address"));
        let router = routes::router(Port::Agent, app, false).layer(Extension(peer));
        let service = hyper_util::service::TowerToHyperService::new(router);
        let request = Request::post(path).body(Body::empty()).expect("a request");
        let response = service.call(request).await.expect("never fails");
        assert_eq!(response.status(), expected, "{peer:?} {path}");
    }
}

#[test]
fn a_slow_head_is_cut() {
    let limits = server::Limits { head_timeout: Duration::from_millis(200), ..Default::default() };
    let served = serve_with(Port::Health, limits);
    for sent in ["", "GET /healthz/ready HTTP/1.1\r\nHost: 127"] {
        let start = Instant::now();
        let mut stream = served.connect();
        stream.write_all(sent.as_bytes()).expect("sent");
        let (status, _) = read_answer(stream);
        assert!(status == 0 || status == 408, "{status}");
        let after = start.elapsed();
        assert!(after >= Duration::from_millis(200) && after < Duration::from_secs(3), "{after:?}");
    }
}

#[test]
fn a_connection_ends_with_its_time_even_when_it_is_used() {
    let limits = server::Limits { lifetime_max: Duration::from_millis(300), ..Default::default() };
    let served = serve_with(Port::Health, limits);
    let start = Instant::now();
    let mut stream = served.connect();
    let head = "GET /healthz/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let mut buffer = [0; 4096];
    while stream.write_all(head.as_bytes()).is_ok() && stream.read(&mut buffer).unwrap_or(0) > 0 {}
    let after = start.elapsed();
    assert!(after >= Duration::from_millis(300) && after < Duration::from_secs(3), "{after:?}");
}

#[test]
fn whoever_holds_all_places_keeps_nobody_out() {
    let limits = server::Limits { connections_max: 2, ..Default::default() };
    let served = serve_with(Port::Health, limits);
    let start = Instant::now();
    let oldest = served.connect();
    let _second = served.connect();
    assert_eq!(served.ask("GET /healthz/ready").0, 200);
    assert_eq!(read_answer(oldest).0, 0, "made room");
    assert!(start.elapsed() < Duration::from_secs(3), "not by its head's timeout");
}

#[test]
fn heads_without_end_and_garbage_are_refused() {
    let served = serve(Port::Metrics);
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(64 * 1024));
    let (status, _) = served.send(&endless);
    assert!([0, 400, 431].contains(&status), "{status}");
    let lines = "A: b\r\n".repeat(200);
    let (status, _) = served.send(&format!("GET / HTTP/1.1\r\n{lines}A: b"));
    assert_eq!(status, 431);
    assert_eq!(served.send("\u{16}\u{3}\u{1}").0, 400);
    assert_eq!(served.ask("GET /stats/prometheus").0, 200, "still there");
}

#[test]
fn a_taken_port_is_an_error_and_port_0_is_real() {
    let first = Server::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    assert_ne!(first.address().port(), 0);
    let error = Server::bind(first.address()).expect_err("taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn the_any_address_takes_ipv4_too() {
    let server = Server::bind("[::]:0".parse().expect("an address")).expect("a free port");
    let v4 = SocketAddr::from(([127, 0, 0, 1], server.address().port()));
    TcpStream::connect(v4).expect("connected");
}
