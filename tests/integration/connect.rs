//! Reaching an endpoint: the next one when one does not answer, never ourselves, never more than
//! allowed, and the limits of its route.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use diolkos::{
    gateway::outcome::Outcome,
    routing::{Balance, Policy},
};

use crate::support::{
    HELLO, Pod, World, eventually, hello::Hello, pattern, read_to_end, reset, table_of,
};

const ALERT_80: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 80];

/// Endpoints are tried in their order.
fn in_turn() -> Policy {
    Policy { balance: Balance::RoundRobin, ..Policy::default() }
}

fn answers(pod: &Pod, client: &mut std::net::TcpStream) {
    let mut server = pod.accept();
    server.write_all(b"here").expect("write");
    let mut answer = [0; 4];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"here");
}

#[test]
fn an_endpoint_that_refuses_costs_nothing_but_a_try() {
    let pod = Pod::new();
    let endpoints = [Pod::closed(), Pod::closed(), pod.address, Pod::closed()];
    let world = World::start(&endpoints, |_| {});
    for _ in 0..20 {
        let mut client = world.dial();
        answers(&pod, &mut client);
    }
}

#[test]
fn when_all_refuse_the_client_is_told_at_once() {
    let world = World::start(&[Pod::closed(), Pod::closed()], |_| {});
    let begun = Instant::now();
    let mut client = world.dial();
    assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), true));
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    drop(client);
    world.ended(Outcome::ConnectFailed);
}

#[test]
fn a_try_is_cut_while_another_endpoint_is_left() {
    const TRY: Duration = Duration::from_millis(300);
    let (lost, pod) = (Pod::unreachable(), Pod::new());
    let table = table_of(&[lost.address, pod.address], in_turn());
    let world = World::serve(table, |config| config.try_timeout = TRY);
    let mut waited = Vec::new();
    for _ in 0..2 {
        let begun = Instant::now();
        let mut client = world.dial();
        answers(&pod, &mut client);
        waited.push(begun.elapsed());
    }
    waited.sort_unstable();
    assert!(waited[0] < TRY && waited[1] >= TRY, "one of two began with it: {waited:?}");
    assert!(waited[1] < TRY + Duration::from_secs(1), "{waited:?}");
}

#[test]
fn the_last_endpoint_has_all_the_rest_of_the_connect_timeout() {
    let lost = Pod::unreachable();
    let connect_timeout = Duration::from_millis(1_200);
    let policy = Policy { connect_timeout, ..Policy::default() };
    let table = table_of(&[lost.address], policy);
    let world = World::serve(table, |config| config.try_timeout = Duration::from_millis(100));
    let begun = Instant::now();
    let mut client = world.dial();
    assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), true));
    let took = begun.elapsed();
    assert!(took >= connect_timeout && took < connect_timeout * 2, "{took:?}");
    drop(client);
    world.ended(Outcome::ConnectTimeout);
}

#[test]
fn a_client_that_resets_during_the_dial_ends_it_whatever_it_sent_before() {
    let extra: [&[u8]; 4] = [b"", &[20, 3, 3, 0, 1, 1], &pattern(1, 1000), &pattern(2, 200_000)];
    thread::scope(|scope| {
        for extra in extra {
            scope.spawn(move || {
                let lost = Pod::unreachable();
                let world = World::start(&[lost.address], |_| {});
                let mut client = world.dial();
                let handle = world.running().handle();
                eventually("the gateway has the hello", || (handle.live() == 1).then_some(()));
                if !extra.is_empty() {
                    // What the gateway reads with the hello, or leaves in the kernel.
                    client.set_write_timeout(Some(Duration::from_millis(50))).expect("timeout");
                    let _ = client.write_all(extra);
                }
                let begun = Instant::now();
                reset(client);
                world.ended(Outcome::ClientGoneBeforeConnect);
                assert!(begun.elapsed() < Duration::from_secs(2), "{} bytes", extra.len());
            });
        }
    });
}

#[test]
fn a_client_that_only_ends_its_half_during_the_dial_is_served() {
    let (lost, pod) = (Pod::unreachable(), Pod::new());
    let table = table_of(&[lost.address, pod.address], in_turn());
    let world = World::serve(table, |config| config.try_timeout = Duration::from_millis(200));
    for _ in 0..2 {
        let mut client = world.dial();
        client.shutdown(Shutdown::Write).expect("shutdown");
        let mut server = pod.accept();
        assert_eq!(read_to_end(&mut server), (vec![], true));
        server.write_all(b"whole").expect("write");
        drop(server);
        assert_eq!(read_to_end(&mut client), (b"whole".to_vec(), true));
    }
}

#[test]
fn our_own_listener_is_never_dialled() {
    let ways = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::UNSPECIFIED];
    for way in ways {
        for listen in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
            if listen == Ipv4Addr::LOCALHOST && way == Ipv4Addr::new(127, 0, 0, 2) {
                continue; // nobody listens there
            }
            let world = World::start(&[], |config| config.listen = vec![(listen, 0).into()]);
            let port = world.address.port();
            let own = SocketAddr::from((way, port));
            let route = world.table.load();
            let route = &route.service("bar.ns2.global").expect("bar").routes[0];
            let other = table_of(&[own], Policy::default());
            let other = other.service("bar.ns2.global").expect("bar");
            route.endpoints.store(other.routes[0].endpoints.load_full());
            let mut client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("up");
            client.write_all(HELLO).expect("hello");
            assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), true), "{own} at {listen}");
            drop(client);
            // One connection accepted: it did not come back to us.
            world.ended(Outcome::ConnectFailed);
        }
    }
}

#[test]
fn connections_beyond_the_limit_of_the_route_are_refused_until_one_ends() {
    let pod = Pod::new();
    let policy = Policy { max_connections: Some(2), ..Policy::default() };
    let world = World::serve(table_of(&[pod.address], policy), |_| {});
    let mut held: Vec<_> = (0..2).map(|_| (world.dial(), pod.accept())).collect();
    let mut third = world.dial();
    assert_eq!(read_to_end(&mut third), (ALERT_80.to_vec(), true));
    drop(third);
    assert_eq!(world.running().handle().ended(Outcome::ConnectionLimit), 1);
    drop(held.pop());
    let handle = world.running().handle();
    eventually("one has ended", || (handle.live() == 1).then_some(()));
    let mut fourth = world.dial();
    answers(&pod, &mut fourth);
}

#[test]
fn an_endpoint_that_was_removed_is_never_dialled_again() {
    let (stays, leaves) = (Pod::new(), Pod::new());
    let world = World::start(&[stays.address, leaves.address], |_| {});
    let table = world.table.load();
    let route = &table.service("bar.ns2.global").expect("bar").routes[0];
    let after = table_of(&[stays.address], Policy::default());
    let after = after.service("bar.ns2.global").expect("bar").routes[0].endpoints.load_full();
    route.endpoints.store(after);
    for _ in 0..50 {
        let mut client = world.dial();
        answers(&stays, &mut client);
    }
    assert!(leaves.waiting().is_none());
}

#[test]
fn an_endpoint_that_is_removed_while_another_is_tried_is_not_dialled() {
    let (lost, leaves) = (Pod::unreachable(), Pod::new());
    let world = World::serve(table_of(&[lost.address, leaves.address], in_turn()), |config| {
        config.try_timeout = Duration::from_millis(500);
    });
    let mut client = world.dial();
    let handle = world.running().handle();
    eventually("the first is tried", || (handle.live() == 1).then_some(()));
    world.table.publish(table_of(&[lost.address], in_turn()));
    assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), true));
    assert!(leaves.waiting().is_none(), "its address may be another pod's by now");
}

#[test]
fn an_idle_connection_ends_by_fin_at_the_timeout_of_its_route() {
    let idle = Duration::from_millis(800);
    let pod = Pod::new();
    let policy = Policy { idle_timeout: Some(idle), ..Policy::default() };
    let world = World::serve(table_of(&[pod.address], policy), |_| {});
    let mut client = world.dial();
    let mut server = pod.accept();
    let begun = Instant::now();
    // A byte now and then keeps it.
    while begun.elapsed() < idle * 2 {
        server.write_all(b"x").expect("write");
        client.read_exact(&mut [0]).expect("alive");
        thread::park_timeout(Duration::from_millis(100));
    }
    let quiet = Instant::now();
    assert_eq!(read_to_end(&mut client), (vec![], true));
    assert_eq!(read_to_end(&mut server), (vec![], true));
    let took = quiet.elapsed();
    assert!(took + Duration::from_millis(200) >= idle && took < idle * 3, "{took:?}");
    world.ended(Outcome::IdleTimeout);
}

#[test]
fn an_endpoint_that_never_speaks_does_not_escape_the_limits_of_its_route() {
    let pods = [Pod::new(), Pod::new()];
    let second = Some(Duration::from_millis(500));
    let idle = Policy { idle_timeout: second, ..Policy::default() };
    let old = Policy { max_duration: second, ..Policy::default() };
    thread::scope(|scope| {
        let both = [(idle, Outcome::IdleTimeout), (old, Outcome::MaxDuration)];
        for ((policy, outcome), pod) in both.into_iter().zip(&pods) {
            scope.spawn(move || {
                let world = World::serve(table_of(&[pod.address], policy), |_| {});
                let mut client = world.dial();
                let mut server = pod.accept();
                assert_eq!(read_to_end(&mut client), (vec![], true));
                assert_eq!(read_to_end(&mut server), (vec![], true));
                world.ended(outcome);
            });
        }
    });
}

#[test]
fn a_connection_ends_by_fin_at_its_greatest_age_busy_or_not() {
    let age = Duration::from_millis(700);
    let pod = Pod::new();
    let policy = Policy { max_duration: Some(age), ..Policy::default() };
    let world = World::serve(table_of(&[pod.address], policy), |_| {});
    let begun = Instant::now();
    let mut client = world.dial();
    let mut server = pod.accept();
    let mut got = [0; 16];
    loop {
        // Fails once the gateway has closed.
        let _ = server.write_all(b"x");
        match client.read(&mut got) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    let took = begun.elapsed();
    assert!(took >= age && took < age + Duration::from_secs(2), "{took:?}");
    world.ended(Outcome::MaxDuration);
}

#[test]
fn a_full_gateway_leaves_clients_in_the_backlog_and_serves_them_when_there_is_room() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], |config| config.connections_max = 2);
    let first = (world.dial(), pod.accept());
    let second = (world.dial(), pod.accept());
    let mut third = world.dial();
    third.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
    assert!(third.read(&mut [0]).is_err(), "neither served nor refused");
    assert!(pod.waiting().is_none());
    drop((first, second));
    third.set_read_timeout(Some(crate::support::PATIENCE)).expect("timeout");
    answers(&pod, &mut third);
}

#[test]
fn a_hello_with_its_answer_pipelined_reaches_the_second_endpoint_whole() {
    let pod = Pod::new();
    let table = table_of(&[Pod::closed(), pod.address], in_turn());
    let world = World::serve(table, |_| {});
    let hello = Hello { early_data: true, ..Hello::new("outbound_.8080_._.bar.ns2.global") };
    let wire = [hello.wire(), pattern(3, 64 << 10)].concat();
    for _ in 0..2 {
        let client = world.connect();
        let (mut writer, sent) = (client.try_clone().expect("clone"), wire.clone());
        let writing = thread::spawn(move || writer.write_all(&sent).expect("write"));
        // A dial that was refused has taken nothing of it: it goes to the next as it is.
        drop(pod.accept_hello(&wire));
        writing.join().expect("writer");
    }
}
