//! Between the hello and the endpoint's first byte: another endpoint is asked while nothing can
//! be said twice, and not a moment longer.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use diolkos::{
    gateway::{AccessLogConfig, Config, Format, LogTo, outcome::Outcome},
    routing::{Balance, Policy},
};
use tokio::sync::mpsc::unbounded_channel;

use crate::support::{
    HELLO, Pod, World, eventually, hello::Hello, pattern, read_to_end, reset, table_of,
};

const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];
const SERVER_HELLO: &[u8] = &[22, 3, 3, 0, 2, 2, 0];
const NAME: &str = "outbound_.8080_._.bar.ns2.global";

fn alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// A gateway that asks the first pod first, the second one second, and so on.
fn world(pods: &[&Pod], change: impl FnOnce(&mut Config)) -> World {
    let addresses: Vec<_> = pods.iter().map(|pod| pod.address).collect();
    let policy = Policy { balance: Balance::RoundRobin, ..Policy::default() };
    World::serve(table_of(&addresses, policy), change)
}

/// The pods in the order in which they are asked: the first is the one that is asked now.
fn asked_first<'a>(a: &'a Pod, b: &'a Pod, hello: &[u8]) -> (TcpStream, &'a Pod) {
    let (mut stream, other) = eventually("a pod is asked", || {
        a.waiting().map(|s| (s, b)).or_else(|| b.waiting().map(|s| (s, a)))
    });
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(crate::support::PATIENCE)).expect("timeout");
    let mut got = vec![0; hello.len()];
    stream.read_exact(&mut got).expect("the hello");
    assert_eq!(got, hello);
    (stream, other)
}

/// The first endpoint fails so; the second one must get the same hello, and serves.
fn check_replayed(how: &str, fail: impl Fn(TcpStream), change: impl FnOnce(&mut Config)) {
    let (a, b) = (Pod::new(), Pod::new());
    let world = world(&[&a, &b], change);
    let mut client = world.dial();
    let (first, other) = asked_first(&a, &b, HELLO);
    fail(first);
    let mut server = other.accept();
    server.write_all(SERVER_HELLO).expect("write");
    let mut answer = vec![0; SERVER_HELLO.len()];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, SERVER_HELLO, "{how}: the client sees the second endpoint's answer only");
    client.write_all(b"more").expect("write");
    server.read_exact(&mut [0; 4]).expect("the relay goes on");
    drop((client, server));
    world.ended(Outcome::Finished);
}

#[test]
fn an_endpoint_that_joined_while_the_only_one_failed_is_asked() {
    let (fails, refuses, joins) = (Pod::new(), Pod::closed(), Pod::new());
    let policy = Policy { balance: Balance::RoundRobin, ..Policy::default() };
    let world = World::serve(table_of(&[fails.address], policy.clone()), |_| {});
    let mut client = world.dial();
    let server = fails.accept();
    world.table.publish(table_of(&[fails.address, refuses, joins.address], policy));
    reset(server);
    let mut server = joins.accept();
    server.write_all(SERVER_HELLO).expect("write");
    client.read_exact(&mut [0; SERVER_HELLO.len()]).expect("an answer");
    assert!(fails.waiting().is_none(), "who was tried stays tried");
    drop((client, server));
    world.ended(Outcome::Finished);
}

#[test]
fn an_endpoint_that_resets_or_closes_or_alerts_is_left_for_another() {
    check_replayed("reset", reset, |_| {});
    check_replayed("close", drop, |_| {});
    let half = |stream: TcpStream| stream.shutdown(Shutdown::Write).expect("shutdown");
    check_replayed("half-close", half, |_| {});
    let whole = |mut stream: TcpStream| stream.write_all(&alert(40)).expect("write");
    check_replayed("alert", whole, |_| {});
    let in_parts = |mut stream: TcpStream| {
        stream.set_nodelay(true).expect("nodelay");
        for part in alert(40).chunks(3) {
            stream.write_all(part).expect("write");
            // For the kernel to send each on its own.
            thread::park_timeout(Duration::from_millis(20));
        }
    };
    check_replayed("an alert in three parts", in_parts, |_| {});
}

#[test]
fn an_endpoint_that_is_silent_is_left_for_another() {
    let silent = std::cell::RefCell::new(Vec::new());
    check_replayed(
        "silence",
        |stream| silent.borrow_mut().push(stream),
        |config| config.server_hello_timeout = Some(Duration::from_millis(300)),
    );
}

#[test]
fn the_endpoint_that_was_left_gets_nothing_more() {
    let (a, b) = (Pod::new(), Pod::new());
    let world = world(&[&a, &b], |c| c.server_hello_timeout = Some(Duration::from_millis(200)));
    let mut client = world.dial();
    let (mut first, other) = asked_first(&a, &b, HELLO);
    let mut server = other.accept();
    client.write_all(b"secret").expect("write");
    server.read_exact(&mut [0; 6]).expect("read");
    let (rest, _) = read_to_end(&mut first);
    assert!(rest.is_empty());
    // And what it says now reaches nobody.
    let _ = first.write_all(b"late");
    server.write_all(b"mine").expect("write");
    drop(server);
    client.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(read_to_end(&mut client), (b"mine".to_vec(), true));
}

#[test]
fn the_second_alert_is_the_clients() {
    let (a, b, c) = (Pod::new(), Pod::new(), Pod::new());
    let world = world(&[&a, &b, &c], |_| {});
    let mut client = world.dial();
    let mut asked = 0;
    let mut ask = || {
        let found = [&a, &b, &c].into_iter().find_map(Pod::waiting)?;
        asked += 1;
        Some(found)
    };
    let mut first = eventually("the first is asked", &mut ask);
    first.set_nonblocking(false).expect("blocking");
    first.write_all(&alert(42)).expect("write");
    let mut second = eventually("the second is asked", &mut ask);
    second.set_nonblocking(false).expect("blocking");
    second.read_exact(&mut vec![0; HELLO.len()]).expect("the same hello");
    second.write_all(&alert(42)).expect("write");
    drop(second);
    let mut got = [0; 7];
    client.read_exact(&mut got).expect("the alert");
    assert_eq!(got, alert(42));
    drop((client, first));
    assert!(ask().is_none() && asked == 2, "the third is not asked: the client deserves it");
}

#[test]
fn an_alert_is_the_answer_when_the_next_endpoint_has_none() {
    // The endpoint after the one that alerts refuses the connection, resets it, closes it or says
    // nothing.
    type End = fn(TcpStream);
    let silent = |stream| std::mem::forget::<TcpStream>(stream);
    for end in [Some(reset as End), Some(drop as End), Some(silent as End), None] {
        let (a, b) = (Pod::new(), Pod::new());
        let b_address = if end.is_some() { b.address } else { Pod::closed() };
        let policy = Policy { balance: Balance::RoundRobin, ..Policy::default() };
        let (lines, mut log) = unbounded_channel();
        let world = World::serve(table_of(&[a.address, b_address], policy), |config| {
            config.access_log = AccessLogConfig { format: Format::Json, to: LogTo::Lines(lines) };
            config.server_hello_timeout = Some(Duration::from_millis(300));
        });
        let mut client = world.dial();
        let (mut first, other) = asked_first(&a, &b, HELLO);
        first.write_all(&alert(46)).expect("write");
        if let Some(end) = end {
            end(other.accept());
        }
        assert_eq!(read_to_end(&mut client), (alert(46).to_vec(), true));
        let line = log.blocking_recv().expect("a line");
        assert!(line.contains("\"bytes_sent\":7,"), "{line}");
    }
}

#[test]
fn an_alert_is_relayed_when_nobody_else_can_be_asked() {
    let pod = Pod::new();
    let world = world(&[&pod], |_| {});
    let mut client = world.dial();
    let mut server = pod.accept();
    server.write_all(&alert(48)).expect("write");
    drop(server);
    assert_eq!(read_to_end(&mut client), (alert(48).to_vec(), true));
}

#[test]
fn a_reset_is_passed_on_when_nobody_else_can_be_asked() {
    let pod = Pod::new();
    let world = world(&[&pod], |_| {});
    let mut client = world.dial();
    reset(pod.accept());
    assert_eq!(read_to_end(&mut client), (vec![], false));
    drop(client);
    world.ended(Outcome::FirstFlightFailed);
}

/// After `wire` the connection is final: an endpoint that fails is passed on and nobody else asked.
fn check_final(what: &str, wire: &[u8], later: &[u8]) {
    let (a, b) = (Pod::new(), Pod::new());
    let world = world(&[&a, &b], |c| c.server_hello_timeout = Some(Duration::from_millis(300)));
    let mut client = world.send(wire);
    let (mut server, other) = asked_first(&a, &b, wire);
    if !later.is_empty() {
        client.write_all(later).expect("write");
        let mut got = vec![0; later.len()];
        server.read_exact(&mut got).expect("read");
        assert_eq!(got, later, "{what}: nothing is held back");
    }
    // Silent for longer than the timeout, and then gone.
    thread::park_timeout(Duration::from_millis(500));
    reset(server);
    assert_eq!(read_to_end(&mut client), (vec![], false), "{what}");
    assert!(other.waiting().is_none(), "{what}: said once");
    drop(client);
    world.ended(Outcome::EndpointReset);
}

#[test]
fn what_could_be_said_twice_makes_the_connection_final() {
    let early = Hello { early_data: true, ..Hello::new(NAME) }.wire();
    let plain = Hello::new(NAME).wire();
    let behind = [plain.clone(), b"x".to_vec()].concat();
    let twice = [&plain[..], &CHANGE_CIPHER_SPEC, &CHANGE_CIPHER_SPEC].concat();
    let ccs_and_byte = [&CHANGE_CIPHER_SPEC[..], b"x"].concat();
    let cases: [(&str, &[u8], &[u8]); 7] = [
        ("early data is announced", &early, b""),
        ("early data follows", &[early.clone(), pattern(1, 300)].concat(), b""),
        ("a byte in the same write", &behind, b""),
        ("a byte later", &plain, b"x"),
        ("two ChangeCipherSpec", &twice, b""),
        ("a ChangeCipherSpec and a byte", &plain, &ccs_and_byte),
        ("64 KiB later", &plain, &pattern(2, 64 << 10)),
    ];
    thread::scope(|scope| {
        for (what, wire, later) in &cases {
            scope.spawn(move || check_final(what, wire, later));
        }
    });
}

#[test]
fn one_change_cipher_spec_is_said_again_with_the_hello() {
    let whole = [HELLO, &CHANGE_CIPHER_SPEC].concat();
    for later in [false, true] {
        let (a, b) = (Pod::new(), Pod::new());
        let world = world(&[&a, &b], |_| {});
        let mut client = world.send(if later { HELLO } else { &whole });
        let first = if later {
            let (mut first, other) = asked_first(&a, &b, HELLO);
            client.write_all(&CHANGE_CIPHER_SPEC).expect("write");
            first.read_exact(&mut [0; 6]).expect("it is not held back");
            (first, other)
        } else {
            asked_first(&a, &b, &whole)
        };
        reset(first.0);
        let mut server = first.1.accept_hello(&whole);
        server.write_all(SERVER_HELLO).expect("write");
        client.read_exact(&mut [0; 7]).expect("an answer");
    }
}

#[test]
fn a_fin_is_passed_on_and_said_again_too() {
    let (a, b) = (Pod::new(), Pod::new());
    let world = world(&[&a, &b], |_| {});
    let mut client = world.dial();
    client.shutdown(Shutdown::Write).expect("shutdown");
    let (mut first, other) = asked_first(&a, &b, HELLO);
    assert_eq!(read_to_end(&mut first), (vec![], true), "passed on before any answer");
    reset(first);
    let mut server = other.accept();
    assert_eq!(read_to_end(&mut server), (vec![], true), "and again");
    let answer = pattern(3, 300_000);
    server.write_all(&answer).expect("write");
    drop(server);
    let (got, fin) = read_to_end(&mut client);
    assert!(fin && got == answer);
    drop(client);
    world.ended(Outcome::Finished);
}

#[test]
fn a_client_reset_before_the_answer_reaches_the_endpoint() {
    let (a, b) = (Pod::new(), Pod::new());
    let world = world(&[&a, &b], |_| {});
    let client = world.dial();
    let (mut server, other) = asked_first(&a, &b, HELLO);
    reset(client);
    assert_eq!(read_to_end(&mut server), (vec![], false));
    world.ended(Outcome::ClientReset);
    assert!(other.waiting().is_none());
}

#[test]
fn a_client_that_ended_its_half_and_then_resets_does_not_hold_the_endpoint() {
    let pod = Pod::new();
    let world = world(&[&pod], |_| {});
    let mut client = world.dial();
    let mut server = pod.accept();
    server.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("read");
    client.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(read_to_end(&mut server), (vec![], true));
    // Nobody reads from the client any more, and the endpoint has nothing to say.
    reset(client);
    world.ended(Outcome::ClientReset);
    eventually("the endpoint is told", || server.write_all(b"x").is_err().then_some(()));
}
