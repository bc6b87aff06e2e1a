//! Behind a proxy: its header is read from whom it is trusted, and from nobody else.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use diolkos::{
    gateway::{
        AccessLogConfig, Config, Format, LogTo, SourceAction, SourceRule,
        outcome::Outcome::{self, *},
    },
    routing::Policy,
};

use crate::support::{HELLO, Pod, World, read_to_end, table_of};

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.2 12345 15443\r\n";

/// Version 2, `PROXY`, TCP over IPv4, 192.0.2.7:12345, with an additional field.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x07\xc6\x33\x64\x02\x30\x39\x3c\x53\x04\0\0";
/// Version 2, `LOCAL`.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn trusting(config: &mut Config) {
    config.limits.proxies = vec!["127.0.0.0/8".parse().expect("a range")];
}

fn served(mut client: TcpStream, pod: &Pod) {
    // The pod gets the hello, and nothing of the header.
    let mut server = pod.accept();
    server.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("served");
}

/// Serves this, and gives the access log's one line.
fn logged(header: &[u8]) -> serde_json::Value {
    let pod = Pod::new();
    let (lines, mut log) = tokio::sync::mpsc::unbounded_channel();
    let mut world = World::serve(table_of(&[pod.address], Policy::default()), |config| {
        trusting(config);
        config.access_log = AccessLogConfig { format: Format::Json, to: LogTo::Lines(lines) };
    });
    served(world.send(&[header, HELLO].concat()), &pod);
    world.ended(Finished);
    world.stop();
    serde_json::from_str(&log.try_recv().expect("a line")).expect("JSON")
}

#[test]
fn the_source_that_a_trusted_proxy_names_stands_in_the_log() {
    for header in [LINE, BINARY] {
        let line = logged(header);
        assert_eq!(line["downstream_remote_address"], "192.0.2.7:12345");
        assert_eq!(line["bytes_received"], HELLO.len(), "the header is no byte of the client's");
    }
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let remote = logged(header)["downstream_remote_address"].to_string();
        assert!(remote.starts_with("\"127.0.0.1:"), "{remote}");
    }
}

#[test]
fn a_header_may_come_in_any_pieces() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], trusting);
    for header in [LINE, BINARY, LOCAL] {
        let whole = [header, HELLO].concat();
        for cut in [1, 5, 6, 12, 13, header.len() - 1, header.len(), header.len() + 3] {
            let mut client = world.send(&whole[..cut.min(whole.len())]);
            thread::park_timeout(Duration::from_millis(20));
            client.write_all(&whole[cut..]).expect("write");
            served(client, &pod);
        }
    }
}

fn check(sent: &[u8], close: bool, outcome: Outcome) {
    let pod = Pod::new();
    let world = World::start(&[pod.address], trusting);
    let mut client = world.send(sent);
    if close {
        client.shutdown(Shutdown::Write).expect("shutdown");
    }
    assert_eq!(read_to_end(&mut client), (vec![], true), "a FIN without a word");
    world.ended(outcome);
    assert!(pod.waiting().is_none());
}

#[test]
fn from_a_trusted_proxy_the_header_is_required_and_strict() {
    check(HELLO, false, BadProxyHeader);
    check(b"PROXY TCP4 192.0.2.7 198.51.100.2 12345\r\n", false, BadProxyHeader);
    check(&[&BINARY[..12], b"\x22\x11"].concat(), false, BadProxyHeader);
    check(&[LINE, b"GET / HTTP/1.1\r\n"].concat(), false, NotTls);
    check(&[LINE, LINE].concat(), false, NotTls);
    check(&LINE[..9], true, ClientEofBeforeHello);
}

#[test]
fn a_proxy_that_looks_whether_we_are_there_is_a_probe() {
    check(b"", true, Probe);
    check(LOCAL, true, Probe);
}

#[test]
fn the_deadline_of_the_hello_is_not_longer_for_a_header() {
    let pod = Pod::new();
    let timeout = Duration::from_millis(600);
    let world = World::start(&[pod.address], |config| {
        trusting(config);
        config.sniff.timeout = timeout;
    });
    let mut client = world.send(&LINE[..9]);
    let begun = Instant::now();
    thread::park_timeout(timeout / 2);
    client.write_all(&LINE[9..]).expect("write");
    assert_eq!(read_to_end(&mut client), (vec![], true));
    let took = begun.elapsed();
    assert!(took < timeout + Duration::from_millis(500), "{took:?}");
    world.ended(HelloTimeout);
}

#[test]
fn a_stranger_who_sends_a_header_does_not_speak_tls() {
    let pod = Pod::new();
    let elsewhere = vec!["192.0.2.0/24".parse().expect("a range")];
    for proxies in [vec![], elsewhere] {
        for header in [LINE, BINARY] {
            let proxies = proxies.clone();
            let world = World::start(&[pod.address], |c| c.limits.proxies = proxies);
            let mut client = world.send(&[header, HELLO].concat());
            assert_eq!(read_to_end(&mut client), (vec![], true));
            world.ended(NotTls);
        }
    }
}

#[test]
fn rules_and_limits_look_at_the_source_that_is_named() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], |config| {
        trusting(config);
        config.connections_max = 1;
        config.limits.source_max = Some(0);
        config.limits.trusted_sources = vec!["127.0.0.0/8".parse().expect("a range")];
    });
    let handle = world.running().handle();
    // The proxy's own address would be trusted; the client's is not.
    let reset = (vec![], false);
    assert_eq!(read_to_end(&mut world.send(&[LINE, HELLO].concat())), reset);
    assert_eq!(handle.ended(ShedSource), 1);
    served(world.send(&[LOCAL, HELLO].concat()), &pod);

    let world = World::start(&[pod.address], |config| {
        trusting(config);
        config.limits.policy = vec![SourceRule {
            action: SourceAction::Deny,
            sources: vec!["192.0.2.7".parse().expect("a range")],
            names: vec![],
            dry_run: false,
        }];
    });
    let answer = read_to_end(&mut world.send(&[LINE, HELLO].concat()));
    assert_eq!(answer, (vec![21, 3, 3, 0, 2, 2, 112], true));
    world.ended(SourceDenied);
}
