//! Hosts that vanish without a word, restart, or only stop reading; connections that somebody else
//! ends. Whoever is left hears RST, never FIN, and in time.

use std::{
    thread,
    time::{Duration, Instant},
};

use diolkos::{
    gateway::{Config, outcome::Outcome},
    routing::{Keepalive, Policy},
};

use super::{
    net::Net,
    peer::{
        Act::{Fin, Hear, HearFin, HearReset, Say, Try},
        Peer,
    },
};
use crate::support::{World, eventually, host::Host};

const VANISHED_AFTER: Duration = Duration::from_secs(1);

/// How a host is gone.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Its cable is pulled: the neighbours see that, and can send it nothing.
    Pulled,
    /// Its cable is up and nothing comes back.
    Mute,
    /// The router before it says that it is not there, which says nothing for sure.
    Unreachable,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Client,
    Endpoint,
}

/// Everything that a test of this file needs.
struct Scene {
    net: Net,
    world: World,
    client: Peer,
    server: Peer,
}

impl Scene {
    fn new(change: impl FnOnce(&mut Config) + Send) -> Option<Self> {
        let net = Net::new(1)?;
        let pod = net.listeners().remove(0);
        let world = net.serve(&[pod.address], Policy::default(), |config| {
            config.relay.vanished_after = VANISHED_AFTER;
            config.relay.abort_linger = Duration::from_millis(200);
            change(config);
        });
        let (mut client, mut server) = net.connect(&world, &pod, 1);
        server.act(&[Say(100_000)]);
        client.act(&[Hear(100_000), Say(100_000)]);
        server.act(&[Hear(100_000)]);
        Some(Self { net, world, client, server })
    }

    fn host(&self, side: Side) -> &Host {
        match side {
            Side::Client => &self.net.client,
            Side::Endpoint => &self.net.pods[0],
        }
    }

    /// The host is gone, and the gateway's host with it knows nothing but what it sees.
    fn vanish(&self, side: Side, way: Way) {
        let host = self.host(side);
        match way {
            Way::Pulled => host.run(&format!("ip link set {} down", self.net.gateway.plug())),
            Way::Mute => host.drop_everything(),
            Way::Unreachable => {
                host.filter("input", "meta l4proto tcp reject with icmp type host-unreachable");
                host.filter("output", "meta l4proto tcp drop");
            }
        }
    }

    /// Who is left.
    fn other(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.server,
            Side::Endpoint => &mut self.client,
        }
    }
}

/// Each side and way at once, on hosts of its own.
fn each(case: impl Fn(Side, Way) + Sync) {
    thread::scope(|scope| {
        for side in [Side::Client, Side::Endpoint] {
            for way in [Way::Pulled, Way::Mute, Way::Unreachable] {
                let case = &case;
                scope.spawn(move || case(side, way));
            }
        }
    });
}

fn vanished(side: Side) -> Outcome {
    match side {
        Side::Client => Outcome::ClientVanished,
        Side::Endpoint => Outcome::EndpointVanished,
    }
}

#[test]
fn a_host_that_vanishes_with_bytes_on_their_way_to_it_is_noticed_and_the_other_side_reset() {
    each(|side, way| {
        // Whoever is gone is not waited for: nothing more comes, not even an end.
        let hour = Duration::from_secs(3600);
        let scene = Scene::new(|config| config.relay.abort_linger = hour);
        let Some(mut scene) = scene else { return };
        scene.vanish(side, way);
        let begun = Instant::now();
        scene.other(side).act(&[Say(1000), HearReset]);
        let took = begun.elapsed();
        let late = VANISHED_AFTER + Duration::from_secs(4);
        assert!(took >= VANISHED_AFTER && took < late, "{side:?} {way:?}: {took:?}");
        scene.world.ended(vanished(side));
    });
}

#[test]
fn a_reset_behind_a_fin_is_passed_on_though_nobody_reads_there_any_more() {
    // One after the other, so that the slow look for lost peers is due at another time.
    for age in [0, 1200, 2400].map(Duration::from_millis) {
        let minute = Duration::from_secs(60);
        let Some(mut scene) = Scene::new(|c| c.relay.vanished_after = minute) else { return };
        scene.client.act(&[Fin]);
        scene.server.act(&[HearFin]);
        thread::park_timeout(age);
        let Scene { client, mut server, world, .. } = scene;
        let begun = Instant::now();
        client.reset();
        world.ended(Outcome::ClientReset);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "{age:?}: {took:?}");
        eventually("the endpoint hears it", || (!server.can_say(1)).then_some(()));
    }
}

#[test]
fn a_host_that_vanishes_is_noticed_while_the_other_side_goes_on_talking() {
    let Some(mut scene) = Scene::new(|_| {}) else { return };
    scene.vanish(Side::Endpoint, Way::Mute);
    let begun = Instant::now();
    // Slowly: the buffers of the kernel take it for minutes.
    while scene.client.can_say(1) {
        assert!(begun.elapsed() < Duration::from_secs(30), "it talks to nobody");
        thread::park_timeout(Duration::from_millis(20));
    }
    scene.world.ended(vanished(Side::Endpoint));
}

#[test]
fn a_host_that_vanishes_while_its_connection_is_idle_frees_it() {
    each(|side, way| {
        let second = Some(Duration::from_secs(1));
        let keepalive = Keepalive { time: second, interval: second, probes: Some(5) };
        let scene = Scene::new(|config| config.relay.keepalive = keepalive);
        let Some(mut scene) = scene else { return };
        scene.vanish(side, way);
        let begun = Instant::now();
        scene.other(side).act(&[HearReset]);
        let took = begun.elapsed();
        // Set after a second; then one of silence and five probes.
        assert!(took < Duration::from_secs(10), "{side:?} {way:?}: {took:?}");
        scene.world.ended(vanished(side));
    });
}

#[test]
fn a_reader_that_stopped_before_its_host_vanished_is_given_up() {
    each(|side, way| {
        let Some(mut scene) = Scene::new(|_| {}) else { return };
        scene.other(side).say_until_full(Duration::from_millis(100));
        scene.vanish(side, way);
        // Three window probes, each twice as late as the one before.
        scene.other(side).has_patience(Duration::from_secs(30));
        scene.other(side).act(&[HearReset]);
        scene.world.ended(vanished(side));
    });
}

#[test]
fn a_reader_that_stops_is_never_cut_while_its_host_acknowledges() {
    thread::scope(|scope| {
        for side in [Side::Client, Side::Endpoint] {
            scope.spawn(move || {
                let Some(mut scene) = Scene::new(|_| {}) else { return };
                let sent = scene.other(side).say_until_full(Duration::from_millis(200));
                let stalled = Instant::now();
                while stalled.elapsed() < VANISHED_AFTER * 3 {
                    let live = scene.world.running().handle().live();
                    assert_eq!(live, 1, "{side:?}: cut after {:?}", stalled.elapsed());
                    thread::park_timeout(Duration::from_millis(50));
                }
                let Scene { client, server, world, .. } = &mut scene;
                let (reader, writer) = match side {
                    Side::Client => (client, server),
                    Side::Endpoint => (server, client),
                };
                writer.act(&[Fin]);
                reader.act(&[Hear(sent), HearFin, Fin]);
                writer.act(&[HearFin]);
                world.ended(Outcome::Finished);
            });
        }
    });
}

/// Both sides have ended in order, and one of them has yet to take what was said to it.
fn settling(side: Side) -> Option<Scene> {
    let mut scene = Scene::new(|_| {})?;
    let Scene { client, server, .. } = &mut scene;
    let (reader, writer) = match side {
        Side::Client => (client, server),
        Side::Endpoint => (server, client),
    };
    reader.act(&[Fin]);
    writer.act(&[HearFin, Say(LAST_WORDS), Fin]);
    Some(scene)
}

/// More than a peer takes that does not read, and less than the gateway's kernel does.
const LAST_WORDS: usize = 1_000_000;

#[test]
fn a_reader_that_stops_after_both_ended_is_waited_for() {
    thread::scope(|scope| {
        for side in [Side::Client, Side::Endpoint] {
            scope.spawn(move || {
                let Some(mut scene) = settling(side) else { return };
                let settled = Instant::now();
                while settled.elapsed() < VANISHED_AFTER * 3 {
                    let live = scene.world.running().handle().live();
                    assert_eq!(live, 1, "{side:?}: left after {:?}", settled.elapsed());
                    thread::park_timeout(Duration::from_millis(50));
                }
                let reader = match side {
                    Side::Client => &mut scene.client,
                    Side::Endpoint => &mut scene.server,
                };
                reader.act(&[Hear(LAST_WORDS), HearFin]);
                scene.world.ended(Outcome::Finished);
            });
        }
    });
}

#[test]
fn a_host_that_vanishes_after_both_ended_is_given_up() {
    thread::scope(|scope| {
        for side in [Side::Client, Side::Endpoint] {
            scope.spawn(move || {
                let Some(scene) = settling(side) else { return };
                scene.vanish(side, Way::Mute);
                scene.world.ended(vanished(side));
            });
        }
    });
}

#[test]
fn a_host_that_restarted_answers_by_reset_which_reaches_the_other_side() {
    thread::scope(|scope| {
        for side in [Side::Client, Side::Endpoint] {
            scope.spawn(move || {
                let Some(scene) = Scene::new(|_| {}) else { return };
                // Its connection is gone, and nobody was told.
                scene.vanish(side, Way::Mute);
                let Scene { net, world, client, server } = scene;
                let (gone, mut other, host, outcome) = match side {
                    Side::Client => (client, server, &net.client, Outcome::ClientReset),
                    Side::Endpoint => (server, client, &net.pods[0], Outcome::EndpointReset),
                };
                gone.reset();
                host.filter_nothing();
                // Unless a segment that was not acknowledged has asked already.
                other.act(&[Try(1), HearReset]);
                world.ended(outcome);
            });
        }
    });
}

/// The kernel can end a connection of a process that knows nothing of it.
#[test]
fn a_socket_that_is_destroyed_is_a_reset_for_the_other_side() {
    thread::scope(|scope| {
        for side in [Side::Client, Side::Endpoint] {
            for at_the_gateway in [true, false] {
                scope.spawn(move || {
                    let Some(mut scene) = Scene::new(|_| {}) else { return };
                    let (peer, outcome) = match side {
                        Side::Client => ("10.1.0.2", Outcome::ClientReset),
                        Side::Endpoint => ("10.2.0.2", Outcome::EndpointReset),
                    };
                    if at_the_gateway {
                        scene.net.gateway.run(&format!("ss -K -t dst {peer}"));
                    } else {
                        scene.host(side).run(&format!("ss -K -t state established src {peer}"));
                    }
                    scene.other(side).act(&[HearReset]);
                    scene.world.ended(outcome);
                });
            }
        }
    });
}
