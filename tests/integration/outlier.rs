//! Endpoints that fail: one is not the clients' problem, is left alone and comes back by a probe;
//! and whoever sends hellos that nobody can answer harms no endpoint.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diolkos::{
    gateway::Ourselves,
    metrics::Metrics,
    routing::{EndpointSet, Outlier, Policy},
};

use crate::support::{PATIENCE, Pod, World, eventually, read_to_end, reset, table_of};

const SERVER_HELLO: &[u8] = &[22, 3, 3, 0, 4, 2, 0, 0, 0];
const ALERT_40: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// How a server answers a hello.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Manner {
    Answer,
    Alert,
    Reset,
    Close,
}

/// A server that plays its part on a thread of its own.
struct Server {
    address: SocketAddr,
    manner: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let server = Self {
            address: listener.local_addr().expect("address"),
            manner: Arc::new(AtomicU8::new(manner as u8)),
            asked: Arc::default(),
        };
        let (manner, asked) = (Arc::clone(&server.manner), Arc::clone(&server.asked));
        thread::spawn(move || {
            for stream in listener.incoming() {
                asked.fetch_add(1, Ordering::SeqCst);
                serve(stream.expect("a connection"), manner.load(Ordering::SeqCst));
            }
        });
        server
    }

    fn change(&self, manner: Manner) {
        self.manner.store(manner as u8, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, manner: u8) {
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    // The head of a record says how long the hello is: the gateway's own has another length.
    let mut head = [0; 5];
    if stream.read_exact(&mut head).is_err() {
        return;
    }
    let rest = u16::from_be_bytes([head[3], head[4]]).into();
    if stream.read_exact(&mut vec![0; rest]).is_err() {
        return;
    }
    match manner {
        m if m == Manner::Answer as u8 => {
            let _ = stream.write_all(SERVER_HELLO);
            let _ = stream.read(&mut [0]);
        }
        m if m == Manner::Alert as u8 => drop(stream.write_all(&ALERT_40)),
        m if m == Manner::Reset as u8 => reset(stream),
        _ => {}
    }
}

/// Three in a row eject, for `base` and twice `base` and so on.
fn policy(base: Duration) -> Policy {
    let times = Outlier { base_ejection_time: base, ..Outlier::default() };
    Policy { outlier: Some(times), ..Policy::default() }
}

const LONG: Duration = Duration::from_secs(60);

fn world(endpoints: &[SocketAddr], policy: Policy) -> World {
    World::serve(table_of(endpoints, policy), |config| {
        config.try_timeout = Duration::from_millis(200);
    })
}

fn set(world: &World) -> Arc<EndpointSet> {
    world.table.load().service("bar.ns2.global").expect("bar").routes[0].endpoints.load_full()
}

fn is_ejected(world: &World, address: SocketAddr) -> bool {
    let set = set(world);
    let mut endpoints = set.endpoints().iter();
    endpoints.find(|e| e.address == address).expect("it").state.ejection().is_some()
}

fn sample(world: &World, name: &str) -> u64 {
    let mut registry = Metrics::new();
    world.handle().register(&mut registry, Ourselves::default());
    let text = registry.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.expect(name).parse().expect("a number")
}

/// What the client hears first: all that comes in one go.
fn hears(world: &World) -> Vec<u8> {
    let mut client = world.dial();
    let mut answer = vec![0; SERVER_HELLO.len()];
    let n = client.read(&mut answer).unwrap_or_default();
    answer.truncate(n);
    answer
}

/// One of three endpoints is bad: every client is served, and soon nobody asks it any more.
fn check_costs_nothing(how: &str, bad: SocketAddr) {
    let good = [Server::start(Manner::Answer), Server::start(Manner::Answer)];
    let world = world(&[good[0].address, bad, good[1].address], policy(LONG));
    let mut asked = 0;
    while !is_ejected(&world, bad) {
        assert_eq!(hears(&world), SERVER_HELLO, "{how}");
        asked += 1;
        assert!(asked < 300, "{how}: never ejected");
    }
    let before = (sample(&world, "diolkos_replays_total"), failed_dials(&world));
    let begun = Instant::now();
    (0..50).for_each(|_| assert_eq!(hears(&world), SERVER_HELLO, "{how}"));
    let after = (sample(&world, "diolkos_replays_total"), failed_dials(&world));
    assert_eq!(before, after, "{how}: nobody asks it");
    assert!(begun.elapsed() < Duration::from_secs(5), "{how}: {:?}", begun.elapsed());
    assert_eq!(before.0 + before.1, 3, "{how}: three failures eject");
    assert_eq!(sample(&world, "diolkos_ejections_total"), 1, "{how}");
    assert!(good.iter().all(|server| !is_ejected(&world, server.address)), "{how}");
}

fn failed_dials(world: &World) -> u64 {
    sample(world, "diolkos_connect_attempts_total{result=\"failed\"}")
}

#[test]
fn one_bad_endpoint_costs_the_clients_nothing_and_is_ejected() {
    let lost = Pod::unreachable();
    let servers = [Manner::Reset, Manner::Close, Manner::Alert].map(Server::start);
    thread::scope(|scope| {
        scope.spawn(|| check_costs_nothing("it refuses", Pod::closed()));
        scope.spawn(|| check_costs_nothing("its host is gone", lost.address));
        for (server, how) in servers.iter().zip(["it resets", "it closes", "it alerts"]) {
            scope.spawn(move || check_costs_nothing(how, server.address));
        }
    });
}

#[test]
fn a_probe_goes_first_and_the_others_follow_when_it_was_answered() {
    let (bad, good) = (Server::start(Manner::Reset), Server::start(Manner::Answer));
    let world = world(&[bad.address, good.address], policy(Duration::from_millis(300)));
    let ask = || assert_eq!(hears(&world), SERVER_HELLO);
    while sample(&world, "diolkos_ejections_total") < 3 {
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(ask))));
    }
    // Three ejections: three failures for the first, one probe for each of the two others. What
    // was on its way at the first ejection came too.
    let asked = bad.asked();
    assert!((5..=8).contains(&asked), "{asked}");
    bad.change(Manner::Answer);
    eventually("it is back", || {
        ask();
        (sample(&world, "diolkos_ejections_ended_total") == 1).then_some(())
    });
    assert!(!is_ejected(&world, bad.address));
    let probed = bad.asked();
    assert_eq!(probed, asked + 1, "the probe alone found out");
    (0..30).for_each(|_| ask());
    assert!(bad.asked() > probed + 3, "it has its share again");
}

#[test]
fn while_there_is_an_endpoint_somebody_is_asked() {
    let all = [Server::start(Manner::Reset), Server::start(Manner::Reset)];
    let world = world(&[all[0].address, all[1].address], policy(LONG));
    eventually("both are ejected", || {
        hears(&world);
        all.iter().all(|server| is_ejected(&world, server.address)).then_some(())
    });
    all.iter().for_each(|server| server.change(Manner::Answer));
    assert_eq!(hears(&world), SERVER_HELLO, "an ejected endpoint is better than none");
    assert_eq!(sample(&world, "diolkos_ejections_ended_total"), 1);
}

#[test]
fn hellos_that_nobody_can_answer_eject_nobody_and_cost_a_fifth_more_dials() {
    const HELLOS: usize = 10_000;
    const STRANGERS: usize = 4;
    let servers = [Manner::Alert; 3].map(Server::start);
    let addresses = servers.each_ref().map(|server| server.address);
    let world = world(&addresses, policy(LONG));
    thread::scope(|scope| {
        for _ in 0..STRANGERS {
            scope.spawn(|| {
                for _ in 0..HELLOS / STRANGERS {
                    let mut client = world.dial();
                    assert_eq!(read_to_end(&mut client).0, ALERT_40, "the alert is theirs");
                }
            });
        }
    });
    let asked: usize = servers.iter().map(Server::asked).sum();
    assert!(asked > HELLOS, "a second opinion was asked for at times");
    assert!(asked <= HELLOS + HELLOS / 5, "{asked} dials for {HELLOS} hellos");
    assert!(sample(&world, "diolkos_replays_denied_total") > 0);
    assert_eq!(sample(&world, "diolkos_ejections_total"), 0);
    // Not even one failure is remembered: the next two in a row eject nobody.
    let set = set(&world);
    let fault = diolkos::routing::Fault::Connection;
    for endpoint in set.endpoints() {
        let ejected = (0..2).any(|_| set.failed(endpoint, fault, Instant::now()));
        assert!(!ejected, "{}", endpoint.address);
    }
}

#[test]
fn checks_find_a_bad_endpoint_before_a_client_does_and_its_return_too() {
    let servers = [Server::start(Manner::Answer), Server::start(Manner::Alert)];
    let addresses = servers.each_ref().map(|server| server.address);
    let base = Duration::from_millis(300);
    let world = World::serve(table_of(&addresses, policy(base)), |config| {
        config.check_interval = Some(Duration::from_millis(50));
    });
    eventually("it is ejected", || is_ejected(&world, addresses[1]).then_some(()));
    assert!(!is_ejected(&world, addresses[0]));
    servers[1].change(Manner::Answer);
    eventually("it is back", || (!is_ejected(&world, addresses[1])).then_some(()));
    // All refuse: that may be what our own hello deserves, and nobody is to blame.
    let ejections = sample(&world, "diolkos_ejections_total");
    servers.iter().for_each(|server| server.change(Manner::Alert));
    let failed = || sample(&world, "diolkos_health_checks_total{result=\"failed\"}");
    let before = failed();
    eventually("ten rounds", || (failed() > before + 20).then_some(()));
    assert_eq!(sample(&world, "diolkos_ejections_total"), ejections);
    assert_eq!(world.handle().accepted(), 0, "no client took part");
}

#[test]
fn an_outage_is_not_doubled() {
    const CLIENTS: usize = 1_000;
    let servers = [Manner::Reset; 3].map(Server::start);
    let addresses = servers.each_ref().map(|server| server.address);
    let world = world(&addresses, Policy::default());
    for _ in 0..CLIENTS {
        assert!(hears(&world).is_empty());
    }
    let asked: usize = servers.iter().map(Server::asked).sum();
    assert!(asked <= CLIENTS + CLIENTS / 5, "{asked} dials for {CLIENTS} connections");
}
