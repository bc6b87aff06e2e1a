//! Too many, too large, from the wrong place: who is served all the same, and who is not.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use diolkos::gateway::{
    Config, NamePattern, SourceAction, SourceRule,
    outcome::Outcome::{self, *},
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::{
    HELLO, PATIENCE, Pod, World, eventually,
    hello::Hello,
    mesh::{Files, Service, gateway},
    process::Process,
    read_to_end,
};

/// RST, and no byte before it.
const RESET: (Vec<u8>, bool) = (Vec::new(), false);

fn ended(world: &World, outcome: Outcome) -> u64 {
    world.running().handle().ended(outcome)
}

/// Connects from an address of this machine.
fn connect_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let source = SocketAddr::from((Ipv4Addr::from(source), 0));
    socket.bind(&source.into()).expect("every address of 127/8 is ours");
    socket.connect(&to.into()).expect("connect");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    socket.into()
}

fn dial_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let mut client = connect_from(source, to);
    let _ = client.write_all(HELLO);
    client
}

/// A connection that the pod answered.
fn served(mut client: TcpStream, pod: &Pod) -> (TcpStream, TcpStream) {
    let mut server = pod.accept();
    server.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("served");
    (client, server)
}

fn ping(client: &mut impl Read, server: &mut impl Write) {
    server.write_all(b"ping").expect("write");
    client.read_exact(&mut [0; 4]).expect("read");
}

#[test]
fn short_of_memory_it_resets_newcomers_and_the_silent_and_cuts_nobody() {
    let pod = Pod::new();
    let bar = Service::new("bar", &[pod.address]);
    let files =
        Files::with(&[("gateway.yaml", &gateway(&["*.global"])[..]), ("bar.yaml", &bar.yaml())]);
    let cgroup = Files::with(&[
        ("memory.max", "1000\n"),
        ("memory.current", "100\n"),
        ("memory.stat", "inactive_file 50\n"),
    ]);
    let place = format!("limits.cgroup={}", cgroup.path().display());
    let process = Process::start(files.path(), &[&place, "sniff.timeout=60s"]);
    let wire = Hello::new(&bar.key()).wire();
    let serve = || {
        let mut client = process.ask(&bar.key());
        let mut server = pod.accept_hello(&wire);
        ping(&mut client, &mut server);
        (client, server)
    };
    let (mut client, mut server) = serve();
    let mut silent: Vec<_> = (0..20).map(|_| process.send(&wire[..9])).collect();
    let short = |value: f64| {
        eventually("memory", || {
            (process.sample("diolkos_memory_short") == Some(value)).then_some(())
        });
    };
    eventually("all wait", || {
        (process.sample("diolkos_hellos_waiting") == Some(20.0)).then_some(())
    });

    cgroup.write("memory.current", "960\n");
    short(1.0);
    let begun = Instant::now();
    for client in &mut silent {
        assert_eq!(read_to_end(client), RESET);
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(read_to_end(&mut process.ask(&bar.key())), RESET);
    ping(&mut client, &mut server);
    assert_eq!(process.json("/server_info")["limits"]["memory_short"], true);

    cgroup.write("memory.current", "899\n");
    short(0.0);
    serve();
    ping(&mut client, &mut server);
    let shed = process.sample("diolkos_connections_total{outcome=\"shed_memory\"}");
    assert_eq!(shed, Some(21.0));
}

#[test]
fn of_too_many_that_are_silent_those_who_waited_longest_make_room() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], |config| {
        config.limits.hellos_max = Some(10);
        config.sniff.timeout = Duration::from_secs(3);
    });
    let mut silent = Vec::new();
    for n in 1..=30_u64 {
        silent.push(world.send(&HELLO[..9]));
        eventually("it is read", || {
            let waiting = n.saturating_sub(ended(&world, ShedHellos));
            (world.running().handle().accepted() == n && waiting <= 10).then_some(())
        });
    }
    for _ in 0..20 {
        drop(served(world.dial(), &pod));
    }
    let last = silent.split_off(20);
    for client in &mut silent {
        assert_eq!(read_to_end(client), RESET);
    }
    for mut client in last {
        assert_eq!(read_to_end(&mut client), (vec![], true), "these have all their time");
    }
    assert_eq!((ended(&world, ShedHellos), ended(&world, HelloTimeout)), (20, 10));
}

/// A hello in two segments, in the middle of a flood of halves.
#[test]
fn a_slow_hello_gets_through_a_flood_of_halves() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], |config| config.limits.hellos_max = Some(50));
    let _crowd: Vec<_> = (0..200).map(|_| world.send(&HELLO[..9])).collect();
    for _ in 0..20 {
        let mut client = world.send(&HELLO[..100]);
        client.write_all(&HELLO[100..]).expect("write");
        drop(served(client, &pod));
    }
}

/// Room for 50; 40 are a crowd.
fn small(config: &mut Config) {
    config.connections_max = 50;
    config.limits.source_max = Some(5);
}

#[test]
fn under_pressure_the_largest_source_is_reset_and_others_are_served() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], small);
    let (large, small) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    let mut held: Vec<_> = (0..39).map(|_| served(dial_from(large, world.address), &pod)).collect();
    assert_eq!(read_to_end(&mut dial_from(large, world.address)), RESET);
    held.push(served(dial_from(small, world.address), &pod));
    held.push(served(dial_from(small, world.address), &pod));
    assert_eq!(ended(&world, ShedSource), 1);
    for (client, server) in &mut held {
        ping(client, server);
    }
    held.drain(..20);
    eventually("there is room", || (world.running().handle().live() <= 22).then_some(()));
    served(dial_from(large, world.address), &pod);
}

#[test]
fn a_trusted_source_is_served_while_there_is_room() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], |config| {
        small(config);
        config.limits.trusted_sources = vec!["127.0.0.0/8".parse().expect("a range")];
    });
    let held: Vec<_> =
        (0..50).map(|_| served(dial_from([127, 0, 0, 2], world.address), &pod)).collect();
    assert_eq!((held.len(), ended(&world, ShedSource)), (50, 0));
}

/// As many as open files allow: each takes one descriptor of the client, two of the gateway and
/// one of the pod, all of this process, which other tests share.
fn crowd() -> usize {
    let files = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files / 10).map_or(5_000, |n| n.min(5_000))
}

fn all_reconnect_at_once(change: impl FnOnce(&mut Config)) {
    let pod = Pod::new();
    let n = crowd();
    let world = World::start(&[pod.address], |config| {
        config.connections_max = n * 2;
        change(config);
    });
    let mut clients: Vec<(TcpStream, TcpStream)> = Vec::new();
    for round in 0..2 {
        drop(std::mem::take(&mut clients));
        thread::scope(|scope| {
            let servers = scope.spawn(|| (0..n).map(|_| pod.accept()).collect::<Vec<_>>());
            let dialled: Vec<_> = (0..n).map(|_| world.dial()).collect();
            let servers = servers.join().expect("the pod");
            clients = dialled.into_iter().zip(servers).collect();
        });
        // Which server a client has is the gateway's doing.
        clients.iter_mut().for_each(|(_, server)| server.write_all(b"x").expect("write"));
        for (client, _) in &mut clients {
            client.read_exact(&mut [0]).unwrap_or_else(|e| panic!("round {round}: {e}"));
        }
    }
    assert_eq!(ended(&world, ShedSource) + ended(&world, ShedHellos), 0);
}

#[test]
fn thousands_behind_one_address_that_come_back_at_once_are_all_served() {
    all_reconnect_at_once(|_| {});
}

#[test]
fn a_limit_for_each_source_does_nothing_while_there_is_no_pressure() {
    all_reconnect_at_once(|config| config.limits.source_max = Some(1));
}

#[test]
fn a_rule_keeps_a_source_from_a_name_and_tells_it_like_any_other() {
    let pod = Pod::new();
    let rule = |action, source: &str, name, dry_run| SourceRule {
        action,
        sources: vec![source.parse().expect("a range")],
        names: vec![NamePattern::parse(name).expect("a pattern")],
        dry_run,
    };
    let world = World::start(&[pod.address], |config| {
        config.limits.policy = vec![
            rule(SourceAction::Deny, "127.0.0.5", "*.ns2.global", true),
            rule(SourceAction::Allow, "127.0.0.4", "bar.ns2.global", false),
            rule(SourceAction::Deny, "127.0.0.0/29", "*.ns2.global", false),
        ];
    });
    let unrecognized_name = (vec![21, 3, 3, 0, 2, 2, 112], true);
    for (source, admitted) in [(4, true), (5, false), (6, false), (9, true)] {
        let mut client = dial_from([127, 0, 0, source], world.address);
        if admitted {
            drop(served(client, &pod));
        } else {
            assert_eq!(read_to_end(&mut client), unrecognized_name, "{source}");
        }
    }
    assert_eq!(ended(&world, SourceDenied), 2);
    let mut registry = diolkos::metrics::Metrics::new();
    world.running().handle().register(&mut registry, diolkos::gateway::Ourselves::default());
    assert!(registry.text().contains("diolkos_policy_dry_run_denied_total 1\n"));
}

/// Takes away every descriptor that is not in use, and gives them back.
#[test]
fn without_a_descriptor_left_it_waits_and_goes_on() {
    let pod = Pod::new();
    let bar = Service::new("bar", &[pod.address]);
    let files =
        Files::with(&[("gateway.yaml", &gateway(&["*.global"])[..]), ("bar.yaml", &bar.yaml())]);
    let mut process = Process::start(files.path(), &["access_log.format=off"]);
    let wire = Hello::new(&bar.key()).wire();
    let mut held = process.ask(&bar.key());
    let mut held_server = pod.accept_hello(&wire);
    ping(&mut held, &mut held_server);
    let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid")).expect("a pid");
    // Ours, which a child inherits: a scrape would hold a descriptor for a moment.
    let max = rustix::process::getrlimit(Resource::Nofile);
    let limit = |current| {
        let limit = Rlimit { current, ..max };
        prlimit(Some(pid), Resource::Nofile, limit).expect("a limit of a child of ours");
    };
    // Who listens for signals during the load gives descriptors back.
    eventually("the start is over", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).expect("tasks");
        let names = tasks.flatten().map(|task| std::fs::read(task.path().join("comm")));
        names.flatten().all(|name| name != b"signals\n").then_some(())
    });
    // The limit is on the numbers of descriptors: below the first free one there is none to be had.
    let is_open = |n: &u64| Path::new(&format!("/proc/{}/fd/{n}", process.id())).exists();
    limit((0..).find(|n| !is_open(n)));
    let mut waiting: Vec<_> = (0..20).map(|_| process.ask(&bar.key())).collect();
    let begun = Instant::now();
    let cpu = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("stat");
        let fields: Vec<i64> = stat
            .rsplit(") ")
            .next()
            .expect("fields")
            .split(' ')
            .filter_map(|f| f.parse().ok())
            .collect();
        // utime and stime, the state in front being no number: proc(5).
        fields[10] + fields[11]
    };
    let before = cpu();
    while begun.elapsed() < Duration::from_secs(2) {
        ping(&mut held, &mut held_server);
        thread::park_timeout(Duration::from_millis(100));
    }
    let ticks = cpu() - before;
    assert!(ticks <= 20, "{ticks} of 200 hundredths of a second: it spins");
    assert!(pod.waiting().is_none(), "nobody could be accepted");

    limit(max.current);
    let servers: Vec<_> = waiting
        .iter()
        .map(|_| {
            let mut server = pod.accept_hello(&wire);
            server.write_all(b"x").expect("write");
            server
        })
        .collect();
    for client in &mut waiting {
        client.read_exact(&mut [0]).expect("each is served after all");
    }
    drop(servers);
    ping(&mut held, &mut held_server);
    let errors = process.sample("diolkos_accept_errors_total");
    assert!(errors > Some(0.0), "{errors:?}");
    assert!(process.is_alive());
}
