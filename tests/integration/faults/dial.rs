//! New connections while an endpoint's host answers nothing, is refused on the way or is away, or
//! while ports run out: nobody waits longer than a try, and who is well stays in service.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use diolkos::{
    gateway::outcome::Outcome,
    routing::{Balance, Outlier, Policy},
};

use super::net::Net;
use crate::support::{HELLO, Pod, World, eventually, read_to_end, table_of};

const ALERT_80: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 80];

/// Endpoints are tried in their order, and three failures in a row eject for longer than any test.
fn in_turn() -> Policy {
    let minute = Duration::from_secs(60);
    let outlier = Some(Outlier { base_ejection_time: minute, ..Outlier::default() });
    Policy { balance: Balance::RoundRobin, outlier, ..Policy::default() }
}

/// One of the pods answers a new client; gives both ends, and how long that took.
#[track_caller]
fn served(net: &Net, world: &World, pods: &[Pod]) -> (TcpStream, TcpStream, Duration) {
    let begun = Instant::now();
    let mut client = net.client.within(|| world.dial());
    let mut server = eventually("a pod is dialled", || pods.iter().find_map(Pod::waiting));
    server.set_nonblocking(false).expect("blocking");
    server.read_exact(&mut [0; HELLO.len()]).expect("the hello");
    server.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("served");
    (client, server, begun.elapsed())
}

fn addresses(pods: &[Pod]) -> Vec<std::net::SocketAddr> {
    pods.iter().map(|pod| pod.address).collect()
}

#[test]
fn a_host_that_drops_everything_costs_a_client_no_more_than_a_try_until_it_is_ejected() {
    const TRY: Duration = Duration::from_millis(500);
    let Some(net) = Net::new(3) else { return };
    let pods = net.listeners();
    let world = net.serve(&addresses(&pods), in_turn(), |config| config.try_timeout = TRY);
    net.pods[0].drop_everything();
    let took: Vec<_> = (0..30).map(|_| served(&net, &world, &pods).2).collect();
    let slow = took.iter().filter(|took| **took >= TRY).count();
    assert_eq!(slow, 3, "three failures eject: {took:?}");
    assert!(took.iter().all(|took| *took < TRY + Duration::from_millis(400)), "{took:?}");
}

#[test]
fn an_endpoint_that_is_refused_on_the_way_is_left_as_soon_as_that_is_heard() {
    let Some(net) = Net::new(2) else { return };
    let pods = net.listeners();
    let policy = Policy { outlier: None, ..in_turn() };
    let patient = Duration::from_secs(8);
    let world = net.serve(&addresses(&pods), policy, |config| config.try_timeout = patient);
    for with in [
        "icmp type admin-prohibited",
        "icmp type host-unreachable",
        "icmp type port-unreachable",
        "tcp reset",
    ] {
        net.pods[0].filter("input", &format!("meta l4proto tcp reject with {with}"));
        for _ in 0..2 {
            let (.., took) = served(&net, &world, &pods);
            // These cables have no length: ICMP is back before `connect(2)` has returned. Who does
            // not ask for it then hears of the next, which answers the SYN of a second later.
            assert!(took < Duration::from_millis(900), "{with}: {took:?}");
        }
        net.pods[0].filter_nothing();
    }
    let failed = world.running().handle().ended(Outcome::ConnectFailed);
    assert_eq!(failed, 0);
}

#[test]
fn when_the_only_host_is_unplugged_the_client_is_told_as_soon_as_the_kernel_knows() {
    let Some(net) = Net::new(1) else { return };
    let pods = net.listeners();
    let world = net.serve(&addresses(&pods), in_turn(), |_| {});
    net.pods[0].run(&format!("ip link set {} down", net.gateway.plug()));
    let begun = Instant::now();
    let mut client = net.client.within(|| world.dial());
    assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), true));
    // Three questions for its hardware address, a second each; the connect timeout is ten.
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    drop(client);
    world.ended(Outcome::ConnectFailed);
}

#[test]
fn without_a_port_left_towards_one_endpoint_the_next_is_asked_and_nobody_is_blamed() {
    const PORTS: usize = 32;
    let Some(net) = Net::new(2) else { return };
    let pods = net.listeners();
    let world = net.serve(&addresses(&pods), in_turn(), |_| {});
    // The listener's port is none of these.
    net.gateway.tune("ipv4/ip_local_port_range", "20000 20031");
    // Only one endpoint's ports are used up: it is the only one at first.
    let alone = table_of(&addresses(&pods[..1]), in_turn());
    let both = table_of(&addresses(&pods), in_turn());
    world.table.publish(alone);
    let mut held: Vec<_> = (0..PORTS).map(|_| served(&net, &world, &pods)).collect();
    let refused = || {
        let begun = Instant::now();
        let mut client = net.client.within(|| world.dial());
        assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), true));
        begun.elapsed()
    };
    let took = refused();
    assert!(took < Duration::from_millis(300), "{took:?}");

    world.table.publish(both);
    for n in 0..PORTS {
        let (client, server, took) = served(&net, &world, &pods[1..]);
        assert!(took < Duration::from_millis(500), "{n}: {took:?}");
        held.push((client, server, took));
    }
    for _ in 0..5 {
        refused();
    }

    // One connection of each ends, the endpoint first: its port is free at once.
    for n in [0, PORTS] {
        let (mut client, server, _) = held.swap_remove(n);
        drop(server);
        assert_eq!(read_to_end(&mut client), (vec![], true));
    }
    let live = || world.running().handle().live();
    eventually("two have ended", || (live() == 2 * PORTS - 2).then_some(()));
    let ours: Vec<_> = (0..2).map(|_| served(&net, &world, &pods)).collect();
    let slowest = ours.iter().map(|(.., took)| *took).max().expect("two");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    let table = world.table.load();
    let set = table.service("bar.ns2.global").expect("bar").routes[0].endpoints.load();
    for endpoint in set.endpoints() {
        assert!(endpoint.state.ejection().is_none(), "{} was ejected", endpoint.address);
    }
    refused();
}

#[test]
fn a_host_that_is_full_of_connections_not_accepted_is_left_after_a_try() {
    const TRY: Duration = Duration::from_millis(500);
    let Some(net) = Net::new(2) else { return };
    // A backlog of one, which nobody empties; further SYNs are dropped.
    net.pods[0].tune("core/somaxconn", "1");
    let pods = net.listeners();
    let fill = || {
        let to = pods[0].address;
        let dial = || TcpStream::connect_timeout(&to, Duration::from_millis(200));
        let mut held = Vec::new();
        while let Ok(stream) = dial() {
            held.push(stream);
            assert!(held.len() < 10, "its backlog takes all");
        }
        held
    };
    let _held = net.pods[0].within(fill);
    let world = net.serve(&addresses(&pods), in_turn(), |config| config.try_timeout = TRY);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    let begun = Instant::now();
                    let mut client = net.client.within(|| world.dial());
                    client.read_exact(&mut [0]).expect("served");
                    begun.elapsed()
                })
            })
            .collect();
        let _servers: Vec<_> = clients
            .iter()
            .map(|_| {
                let mut server = pods[1].accept();
                server.write_all(b"x").expect("write");
                server
            })
            .collect();
        for client in clients {
            let took = client.join().expect("served");
            assert!(took < TRY + Duration::from_millis(800), "{took:?}");
        }
    });
}

#[test]
fn a_backlog_of_the_gateway_that_overflows_costs_time_and_no_client() {
    const CLIENTS: usize = 8;
    let Some(net) = Net::new(1) else { return };
    net.gateway.tune("core/somaxconn", "1");
    let pods = net.listeners();
    let world = net.serve(&addresses(&pods), in_turn(), |config| config.connections_max = 2);
    let held: Vec<_> = (0..2).map(|_| served(&net, &world, &pods)).collect();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = net.client.within(|| world.dial());
                client.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
                client.read_exact(&mut [0]).expect("served in the end");
            });
        }
        eventually("the backlog overflows", || {
            (net.gateway.counted("ListenOverflows") > 0).then_some(())
        });
        drop(held);
        for _ in 0..CLIENTS {
            pods[0].accept().write_all(b"x").expect("write");
        }
    });
}
