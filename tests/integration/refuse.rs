//! What is not relayed: the exact bytes a client gets, how the connection ends, when, and that no
//! endpoint hears of it.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use diolkos::{
    gateway::{
        Config,
        outcome::Outcome::{self, *},
    },
    net::sys::unacknowledged,
    routing::{Policy, RouteTable},
};

use crate::support::{
    PATIENCE, Pod, World, eventually,
    hello::{Hello, records},
    pattern, read_to_end, reset, service,
};

const NAME: &str = "outbound_.8080_._.bar.ns2.global";

/// One first flight, what is answered, and why.
struct Case {
    what: &'static str,
    sent: Vec<u8>,
    alert: Option<u8>,
    outcome: Outcome,
}

fn case(what: &'static str, sent: Vec<u8>, alert: impl Into<Option<u8>>, outcome: Outcome) -> Case {
    Case { what, sent, alert: alert.into(), outcome }
}

fn named(name: &str) -> Vec<u8> {
    Hello::new(name).wire()
}

/// A good hello with one byte of its record replaced.
fn with(at: usize, byte: u8) -> Vec<u8> {
    let mut wire = named(NAME);
    wire[at] = byte;
    wire
}

fn not_tls() -> Vec<Case> {
    let case = |what, sent: &[u8]| case(what, sent.to_vec(), None, NotTls);
    vec![
        case("HTTP", b"GET / HTTP/1.1\r\nhost: bar.ns2.global\r\n\r\n"),
        case("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        case("SSLv2", &[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]),
        case("a proxy header", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"),
        case("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        case("zeroes", &[0; 64]),
        case("an alert of no TLS version", &[21, 9]),
    ]
}

fn bad_versions() -> Vec<Case> {
    let old = |legacy_version| Hello { legacy_version, ..Hello::new(NAME) }.wire();
    vec![
        case("record of major version 2", with(1, 2), 70, BadVersion),
        case("record of major version 4", with(1, 4), 70, BadVersion),
        case("a hello of SSL 3.0", old(0x0300), 70, BadVersion),
        case("a hello of SSL 2.0", old(0x0002), 70, BadVersion),
    ]
}

fn malformed() -> Vec<Case> {
    let case = |what, sent| case(what, sent, 50, HelloMalformed);
    let message = Hello::new(NAME).message();
    let mut excess = message.clone();
    excess.push(0);
    let mut twice = Hello::new(NAME);
    twice.server_name = Some(String::new());
    vec![
        case("an alert record first", vec![21, 3, 3, 0, 2, 2, 40]),
        case("a ChangeCipherSpec first", vec![20, 3, 3, 0, 1, 1]),
        case("application data first", vec![23, 3, 3, 0, 1, 0]),
        case("an empty record", vec![22, 3, 1, 0, 0]),
        case("a record of more than 16 KiB", vec![22, 3, 1, 0x40, 1]),
        case("a ServerHello", with(5, 2)),
        case("bytes behind the hello in its record", records(&excess, 1 << 14)),
        case("an empty server name", twice.wire()),
        case("a session id that runs past the end", with(5 + 4 + 2 + 32, 255)),
    ]
}

fn too_large() -> Vec<Case> {
    // Two records; their headers count.
    let overhead = Hello { padding: Some(0), ..Hello::new(NAME) }.message().len() + 2 * 5;
    let exact = |len: usize| Hello { padding: Some(len - overhead), ..Hello::new(NAME) }.message();
    let wire = records(&exact((16 << 10) + 1), 9_000);
    assert_eq!(wire.len(), (16 << 10) + 1);
    vec![
        case("16 KiB and one byte", wire, 50, HelloTooLarge),
        case("a length of 16 MiB", vec![22, 3, 1, 0, 4, 1, 255, 255, 255], 50, HelloTooLarge),
    ]
}

fn not_served() -> Vec<Case> {
    let alpn = |alpn: &[&'static str]| Hello { alpn: alpn.to_vec(), ..Hello::new(NAME) }.wire();
    let no_name = Hello { server_name: None, ..Hello::new(NAME) }.wire();
    let name = |name: &'static str, outcome| case(name, named(name), 112, outcome);
    vec![
        case("no ALPN", alpn(&[]), 120, AlpnRefused),
        case("a browser's ALPN", alpn(&["h2", "http/1.1"]), 120, AlpnRefused),
        case("nearly Istio's ALPN", alpn(&["istio-peer-exchangeX", "ISTIO"]), 120, AlpnRefused),
        case("no server name", no_name, 112, NoServerName),
        name("bar.ns2.global", BadName),
        name("10.0.0.1", BadName),
        name("inbound_.8080_._.bar.ns2.global", BadName),
        name("outbound|8080||bar.ns2.global", BadName),
        name("outbound_.08080_._.bar.ns2.global", BadName),
        name("outbound_.+8080_._.bar.ns2.global", BadName),
        name("outbound_.0_._.bar.ns2.global", BadName),
        name("outbound_.65536_._.bar.ns2.global", BadName),
        name("outbound_.8080_.bar.ns2.global", BadName),
        name("outbound_.8080_._.baz.ns2.global", UnknownName),
        name("outbound_.8080_._.bar.ns2.global.", UnknownName),
        name("outbound_.8080_._.bar.ns2.global.evil.com", UnknownName),
        name("outbound_.8080_._.hidden.ns2.global", NotExported),
        name("outbound_.8081_._.bar.ns2.global", NoSuchPort),
        name("outbound_.8080_.v1_.bar.ns2.global", NoSuchSubset),
        case("no endpoint", named("outbound_.8080_._.empty.ns2.global"), 80, NoEndpoint),
        case("all refuse", named("outbound_.8080_._.down.ns2.global"), 80, ConnectFailed),
    ]
}

/// `bar` is up, `down` refuses, `empty` has nobody, `hidden` is not exported.
fn world(pod: &Pod, change: impl FnOnce(&mut Config)) -> World {
    let down = [Pod::closed(), Pod::closed(), Pod::closed()];
    let of = |host, endpoints: &[_], exposed| service(host, endpoints, Policy::default(), exposed);
    let services = vec![
        of("bar.ns2.global", &[pod.address], true),
        of("down.ns2.global", &down, true),
        of("empty.ns2.global", &[], true),
        of("hidden.ns2.global", &[pod.address], false),
    ];
    World::serve(RouteTable::new(services, None, 1), change)
}

fn word(alert: Option<u8>) -> Vec<u8> {
    alert.map_or(Vec::new(), |alert| vec![0x15, 3, 3, 0, 2, 2, alert])
}

/// Sends each case with `more` behind it and checks what comes back.
fn check_all(cases: Vec<Case>, more: usize) {
    let pod = Pod::new();
    let world = world(&pod, |_| {});
    for Case { what, mut sent, alert, outcome } in cases {
        let before = world.running().handle().ended(outcome);
        sent.extend(pattern(1, more));
        let mut client = world.connect();
        client.write_all(&sent).expect("write");
        assert_eq!(read_to_end(&mut client), (word(alert), true), "{what} and {more} bytes");
        let handle = world.running().handle();
        eventually(what, || (handle.ended(outcome) == before + 1).then_some(()));
    }
    assert!(pod.waiting().is_none(), "no endpoint hears of a refusal");
}

fn all_cases() -> Vec<Case> {
    [not_tls(), bad_versions(), malformed(), too_large(), not_served()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn every_refusal_is_its_alert_and_a_fin_and_no_endpoint_hears_of_it() {
    check_all(all_cases(), 0);
}

#[test]
fn a_refused_client_that_has_sent_more_still_gets_its_alert_and_a_fin() {
    // What is in flight when the answer is made, within what is discarded.
    check_all(all_cases(), 40 << 10);
}

#[test]
fn a_refused_client_may_go_on_writing_64_kib_without_a_reset() {
    let pod = Pod::new();
    let world = world(&pod, |_| {});
    thread::scope(|scope| {
        for name in [NAME.replace("bar", "none"), NAME.replace("bar", "empty")] {
            let world = &world;
            scope.spawn(move || {
                let mut client = world.send(&named(&name));
                let (bytes, fin) = read_to_end(&mut client);
                assert!(fin && bytes.len() == 7);
                for piece in pattern(2, 64 << 10).chunks(1 << 10) {
                    client.write_all(piece).expect("no reset");
                }
                eventually("all of it is acknowledged or the gateway is gone", || {
                    matches!(unacknowledged(&client), Ok(0) | Err(_)).then_some(())
                });
                assert_eq!(client.read(&mut [0]).expect("still no reset"), 0);
            });
        }
    });
}

#[test]
fn a_refused_client_that_stays_is_let_go_within_two_seconds() {
    let pod = Pod::new();
    let world = world(&pod, |_| {});
    let mut client = world.send(b"GET / HTTP/1.1\r\n\r\n");
    let begun = Instant::now();
    assert_eq!(read_to_end(&mut client), (vec![], true));
    let handle = world.running().handle();
    eventually("the connection is freed", || (handle.live() == 0).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn every_cut_of_a_refused_flight_is_refused_alike() {
    let pod = Pod::new();
    let world = world(&pod, |_| {});
    let unknown = named("outbound_.8080_._.baz.ns2.global");
    let alpn = Hello { alpn: vec!["h2"], ..Hello::new(NAME) };
    let cases = [
        (unknown.clone(), 112),
        (records(&Hello::new("outbound_.8080_._.baz.ns2.global").message(), 1), 112),
        (alpn.wire(), 120),
        (records(&alpn.message(), 3), 120),
        (with(5, 2), 50),
    ];
    thread::scope(|scope| {
        for (wire, alert) in cases {
            let world = &world;
            scope.spawn(move || {
                let mut client = world.connect();
                client.set_nodelay(true).expect("nodelay");
                for byte in wire {
                    // The last may come after the answer.
                    let _ = client.write_all(&[byte]);
                }
                assert_eq!(read_to_end(&mut client), (word(Some(alert)), true));
            });
        }
    });
    assert!(pod.waiting().is_none());
}

#[test]
fn a_hello_of_just_16_kib_in_one_byte_segments_or_records_is_served_unchanged() {
    let pod = Pod::new();
    let world = world(&pod, |_| {});
    let overhead = Hello { padding: Some(0), ..Hello::new(NAME) }.message().len() + 2 * 5;
    let largest = Hello { padding: Some((16 << 10) - overhead), ..Hello::new(NAME) };
    let wires = [
        (records(&largest.message(), 9_000), 1 << 14),
        (named(NAME), 1),
        (records(&Hello::new(NAME).message(), 1), 1),
        (records(&Hello::new(NAME).message(), 1), 1 << 14),
        (Hello::new("OUTBOUND_.8080_._.Bar.NS2.Global").wire(), 7),
    ];
    for (wire, segment) in wires {
        let mut client = world.connect();
        client.set_nodelay(true).expect("nodelay");
        for piece in wire.chunks(segment) {
            client.write_all(piece).expect("write");
        }
        let mut server = pod.accept_hello(&wire);
        server.write_all(b"x").expect("write");
        client.read_exact(&mut [0]).expect("read");
    }
}

/// Short, so that a test can wait for it.
const TIMEOUT: Duration = Duration::from_millis(700);
const MARGIN: Duration = Duration::from_secs(2);

fn waits_until_cut(mut client: TcpStream, since: Instant) -> Duration {
    assert_eq!(read_to_end(&mut client), (vec![], true), "a timeout is a FIN without a word");
    since.elapsed()
}

#[test]
fn a_hello_that_does_not_end_is_cut_at_the_deadline_however_it_trickles() {
    let pod = Pod::new();
    let world = world(&pod, |config| config.sniff.timeout = TIMEOUT);
    let hello = named(NAME);
    thread::scope(|scope| {
        for pause in [Duration::from_millis(20), Duration::from_millis(300)] {
            let (world, hello) = (&world, &hello);
            scope.spawn(move || {
                let client = world.connect();
                client.set_nodelay(true).expect("nodelay");
                let begun = Instant::now();
                let mut writer = client.try_clone().expect("clone");
                let trickle = scope.spawn(move || {
                    // All but the last byte, and stops when the gateway has gone.
                    for byte in &hello[..hello.len() - 1] {
                        if writer.write_all(&[*byte]).is_err() || begun.elapsed() > TIMEOUT * 2 {
                            return;
                        }
                        thread::park_timeout(pause);
                    }
                });
                let took = waits_until_cut(client, begun);
                assert!((TIMEOUT..TIMEOUT + MARGIN).contains(&took), "{took:?}");
                trickle.join().expect("trickle");
            });
        }
    });
    let handle = world.running().handle();
    eventually("both are counted", || (handle.ended(HelloTimeout) == 2).then_some(()));
    assert!(pod.waiting().is_none());
}

#[test]
fn a_silent_client_is_cut_after_the_second_that_it_is_deferred_and_the_deadline() {
    let pod = Pod::new();
    let world = world(&pod, |config| config.sniff.timeout = TIMEOUT);
    let begun = Instant::now();
    let client = world.connect();
    let took = waits_until_cut(client, begun);
    let deferred = Duration::from_secs(1);
    assert!((TIMEOUT..TIMEOUT + deferred + MARGIN).contains(&took), "{took:?}");
    world.ended(HelloTimeout);
}

#[test]
fn a_client_that_leaves_inside_its_hello_is_told_nothing() {
    let half = &named(NAME)[..40];
    type Leave = fn(TcpStream);
    let cases: [(&[u8], Leave, Outcome); 3] = [
        (b"", |client| client.shutdown(Shutdown::Write).expect("shutdown"), Probe),
        (half, |client| client.shutdown(Shutdown::Write).expect("shutdown"), ClientEofBeforeHello),
        (half, reset, ClientResetBeforeHello),
    ];
    for (sent, leave, outcome) in cases {
        let pod = Pod::new();
        let world = world(&pod, |_| {});
        let mut client = world.send(sent);
        if outcome == ClientResetBeforeHello {
            let handle = world.running().handle();
            eventually("the gateway reads", || (handle.live() == 1).then_some(()));
        }
        client.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let mut other = client.try_clone().expect("clone");
        if outcome == ClientResetBeforeHello {
            drop(other);
            leave(client);
        } else {
            leave(client.try_clone().expect("clone"));
            assert_eq!(read_to_end(&mut other), (vec![], true), "{outcome:?}");
            let _ = client.flush();
        }
        world.ended(outcome);
        assert!(pod.waiting().is_none());
    }
}

#[test]
fn all_refuse_is_answered_at_once() {
    let pod = Pod::new();
    let world = world(&pod, |_| {});
    let begun = Instant::now();
    let mut client = world.send(&named("outbound_.8080_._.down.ns2.global"));
    assert_eq!(read_to_end(&mut client), (word(Some(80)), true));
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}
