//! Lines that lose packets, take only small ones, or are slow: every byte comes, once and in
//! order, and who has a bad line has it alone.

use std::{
    io::Read,
    thread,
    time::{Duration, Instant},
};

use diolkos::{gateway::outcome::Outcome, routing::Policy};

use super::{
    net::Net,
    peer::{
        Act::{Fin, Hear, HearFin, Say},
        Peer,
    },
};
use crate::support::{PATIENCE, Pod, World, eventually, host::Host, tools};

/// What a client and its server say and hear, whole and with half-closes.
fn talk(world: &World, net: &Net, pod: &Pod, numbers: std::ops::Range<u64>, size: usize) {
    let patience = Duration::from_secs(30);
    thread::scope(|scope| {
        for number in numbers.clone() {
            scope.spawn(move || {
                let stream = net.client.within(|| world.dial());
                let mut client = Peer::client(stream, number);
                client.has_patience(patience);
                client.act(&[Say(size), Hear(size), Say(size), Fin, Hear(size), HearFin]);
            });
        }
        for _ in numbers.clone() {
            let server = pod.accept_unread();
            scope.spawn(move || {
                let mut hello = vec![0; crate::support::HELLO.len()];
                server.set_read_timeout(Some(patience)).expect("timeout");
                (&server).read_exact(&mut hello).expect("the hello");
                assert_eq!(hello, crate::support::HELLO);
                let mut server = Peer::server(server);
                server.has_patience(patience);
                server.act(&[Hear(size), Say(size), Hear(size), HearFin, Say(size), Fin]);
            });
        }
    });
    let handle = world.running().handle();
    let all = numbers.end - numbers.start;
    eventually("all have ended", || (handle.ended(Outcome::Finished) == all).then_some(()));
}

/// Each packet carries one segment, so that one that is lost is not forty.
fn in_single_segments(host: &Host, plug: &str) {
    host.run(&format!("ip link set {plug} gso_max_segs 1"));
}

#[test]
fn of_every_hundred_packets_five_are_lost_and_no_byte() {
    thread::scope(|scope| {
        for splice in [true, false] {
            scope.spawn(move || {
                let Some(net) = Net::new(1) else { return };
                let pod = net.listeners().remove(0);
                let world = net.serve(&[pod.address], Policy::default(), |config| {
                    config.relay.splice = splice;
                });
                for host in [&net.client, &net.pods[0]] {
                    in_single_segments(host, &net.gateway.plug());
                    in_single_segments(&net.gateway, &host.plug());
                }
                for hook in ["input", "output"] {
                    net.gateway
                        .filter(hook, "meta l4proto tcp numgen random mod 100 < 5 counter drop");
                }
                talk(&world, &net, &pod, 1..9, 150_000);
                let lost = net.gateway.filtered();
                assert!(lost > 50, "only {lost} packets were lost");
            });
        }
    });
}

#[test]
fn a_line_that_takes_only_small_packets_loses_nothing() {
    let Some(net) = Net::new(1) else { return };
    let Some(router) = Host::new() else { return };
    // A second way to the pod's host: through a router whose further cable is narrow. The gateway
    // learns of it by ICMP only.
    router.tune("ipv4/ip_forward", "1");
    net.gateway.link("10.8.0.1/24", &router, "10.8.0.2/24");
    router.link("10.9.0.1/24", &net.pods[0], "10.9.0.2/24");
    router.run(&format!("ip link set {} mtu 600", net.pods[0].plug()));
    net.pods[0].run(&format!("ip link set {} mtu 600", router.plug()));
    net.gateway.run("ip route add 10.9.0.0/24 via 10.8.0.2");
    // The pod offers to take larger segments than its cable: as if only a cable between were narrow.
    net.pods[0].run("ip route add 10.8.0.0/24 via 10.9.0.1 advmss 1460");
    let pod = net.pods[0].within(|| Pod::at(([10, 9, 0, 2], 0).into()));
    let world = net.serve(&[pod.address], Policy::default(), |_| {});
    talk(&world, &net, &pod, 1..5, 300_000);
    let way =
        tools::run(&mut net.gateway.command("ip", &["route", "get", "10.9.0.2"]), b"", PATIENCE);
    assert!(way.stdout.contains("mtu 600"), "the gateway's host never had to learn: {way:?}");
}

#[test]
fn a_client_behind_a_slow_line_has_it_alone() {
    let Some(net) = Net::new(1) else { return };
    let Some(slow) = Host::new() else { return };
    slow.link("10.3.0.2/24", &net.gateway, "10.3.0.1/24");
    slow.run("ip route add 10.1.0.0/24 via 10.3.0.1");
    net.gateway.run(&format!(
        "tc qdisc add dev {} root tbf rate 8mbit burst 8k latency 50ms",
        slow.plug()
    ));
    let pod = net.listeners().remove(0);
    let world = net.serve(&[pod.address], Policy::default(), |_| {});
    let size = 2 << 20;
    let mut reader = Peer::client(slow.within(|| world.dial()), 1);
    let mut writer = Peer::server(pod.accept());
    let (mut client, mut server) = net.connect(&world, &pod, 2);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            reader.act(&[Hear(size), HearFin]);
            Instant::now()
        });
        scope.spawn(|| writer.act(&[Say(size), Fin]));
        let mut worst = Duration::ZERO;
        for _ in 0..100 {
            let begun = Instant::now();
            client.act(&[Say(100)]);
            server.act(&[Hear(100), Say(100)]);
            client.act(&[Hear(100)]);
            worst = worst.max(begun.elapsed());
        }
        let pings = Instant::now();
        assert!(reading.join().expect("all came") > pings, "the slow line was not slow");
        assert!(worst < Duration::from_millis(500), "{worst:?}");
    });
}
