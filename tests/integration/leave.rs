//! Leaving well: who is ended when, how fast, and who is not.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diolkos::{
    gateway::{
        Config, OnEndpointRemoved,
        outcome::Outcome::{self, *},
    },
    routing::{Endpoint, EndpointSet, Policy},
};

use crate::support::{
    HELLO, PATIENCE, Pod, World, deaf, eventually, pattern, read_to_end, table_of,
};

const IDLE: Duration = Duration::from_millis(300);
/// The sweep looks at a connection twice a second, and a worker ticks ten times.
const SLACK: Duration = Duration::from_secs(2);

/// Short times; late in the window nothing is quiet that was not before, unless a test says so.
fn short(config: &mut Config) {
    config.leave.quiet.idle = IDLE;
    config.leave.quiet.late_idle = Duration::from_secs(3600);
}

/// A connection on which the server spoke last.
fn relayed(world: &World, pod: &Pod) -> (TcpStream, TcpStream) {
    let mut client = world.dial();
    let mut server = pod.accept();
    server.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("read");
    (client, server)
}

/// Waits until the peer closes, which it must do by FIN and without a byte.
fn ends_by_fin(stream: &mut TcpStream) -> Instant {
    assert_eq!(read_to_end(&mut *stream), (vec![], true));
    Instant::now()
}

fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("nonblocking");
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("blocking");
    peeked.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
}

/// Ends the gateway as a shutdown does, and gives how long it waited.
fn shut_down(world: &mut World, deadline: Duration) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let begun = Instant::now();
    world.running().drain(deadline, true);
    runtime.expect("a runtime").block_on(world.running().finished(deadline));
    let waited = begun.elapsed();
    world.stop();
    waited
}

#[test]
fn a_quiet_connection_ends_by_fin_on_both_sides() {
    let pod = Pod::new();
    let mut world = World::start(&[pod.address], short);
    let (mut client, mut server) = relayed(&world, &pod);
    thread::scope(|scope| {
        for side in [&mut client, &mut server] {
            scope.spawn(|| {
                ends_by_fin(side);
                side.shutdown(Shutdown::Both).expect("shutdown");
            });
        }
        let waited = shut_down(&mut world, Duration::from_secs(20));
        assert!((IDLE..IDLE + SLACK).contains(&waited), "{waited:?}");
    });
    assert_eq!(world.handle().ended(QuietDrain), 1);
}

#[test]
fn a_side_that_never_closes_delays_the_end_by_a_second() {
    let pod = Pod::new();
    let mut world = World::start(&[pod.address], short);
    let (client, server) = relayed(&world, &pod);
    let waited = shut_down(&mut world, Duration::from_secs(20));
    let second = Duration::from_secs(1);
    assert!((IDLE + second..IDLE + second + SLACK).contains(&waited), "{waited:?}");
    drop((client, server));
}

#[test]
fn whoever_waits_for_an_answer_is_not_cut_before_the_deadline() {
    let pod = Pod::new();
    let mut world = World::start(&[pod.address], short);
    let (mut client, mut server) = relayed(&world, &pod);
    client.write_all(b"a question").expect("write");
    server.read_exact(&mut [0; 10]).expect("read");
    let deadline = Duration::from_secs(2);
    let waited = shut_down(&mut world, deadline);
    assert!((deadline..deadline + SLACK).contains(&waited), "{waited:?}");
    assert_eq!(read_to_end(&mut client), (vec![], false), "cut by RST at the deadline");
    assert_eq!(read_to_end(&mut server), (vec![], false));
    assert_eq!((world.handle().ended(Drained), world.handle().ended(QuietDrain)), (1, 0));
}

/// Clients that are never quiet for long: each is cut at the deadline, and none inside a request
/// that is answered soon after.
#[test]
fn at_the_deadline_whoever_is_always_busy_is_cut_between_two_requests() {
    const WORK: Duration = Duration::from_millis(100);
    let pod = Pod::new();
    let mut world = World::start(&[pod.address], |config| {
        short(config);
        config.leave.quiet.idle = Duration::from_secs(3600);
    });
    let handle = world.handle();
    let deadline = Duration::from_secs(1);
    let clients = 8;
    let pairs: Vec<_> = (0..clients).map(|_| relayed(&world, &pod)).collect();
    let begun = Instant::now();
    thread::scope(|scope| {
        for (n, (mut client, mut server)) in (0_u32..).zip(pairs) {
            scope.spawn(move || {
                let mut got = [0; 4];
                while server.read_exact(&mut got).is_ok() {
                    thread::park_timeout(WORK);
                    server.write_all(&got).expect("an answer is taken");
                }
            });
            scope.spawn(move || {
                // So that at the deadline some are at work and some rest.
                thread::park_timeout(WORK / 4 * n);
                loop {
                    client.write_all(b"work").expect("a request is taken");
                    client.read_exact(&mut [0; 4]).expect("every request is answered");
                    client.set_read_timeout(Some(WORK * 2)).expect("timeout");
                    let rested = client.read(&mut [0]);
                    client.set_read_timeout(Some(PATIENCE)).expect("timeout");
                    match rested {
                        Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
                        Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
                        Ok(n) => panic!("{n} bytes instead of rest"),
                    }
                }
                assert!(begun.elapsed() >= deadline, "{:?}", begun.elapsed());
            });
        }
        shut_down(&mut world, deadline);
    });
    assert_eq!((handle.ended(Drained), handle.ended(QuietDrain)), (clients, 0));
}

#[test]
fn in_the_last_third_a_long_silence_is_enough_whoever_spoke() {
    let pod = Pod::new();
    let mut world = World::start(&[pod.address], |config| {
        config.leave.quiet.idle = IDLE;
        config.leave.quiet.late_idle = IDLE;
    });
    let (mut client, mut server) = relayed(&world, &pod);
    client.write_all(b"a question").expect("write");
    server.read_exact(&mut [0; 10]).expect("read");
    let begun = Instant::now();
    thread::scope(|scope| {
        let client = scope.spawn(move || ends_by_fin(&mut client));
        scope.spawn(move || ends_by_fin(&mut server));
        shut_down(&mut world, Duration::from_secs(3));
        let ended = client.join().expect("the client") - begun;
        let third = Duration::from_secs(2);
        assert!((third..third + SLACK).contains(&ended), "{ended:?}");
    });
    assert_eq!(world.handle().ended(QuietDrain), 1);
}

/// As an order to drain does, after which the process goes on.
#[test]
fn whoever_waits_for_an_answer_may_wait_on_where_nobody_is_cut_in_the_end() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], |config| {
        config.leave.quiet.idle = IDLE;
        config.leave.quiet.late_idle = IDLE;
    });
    let (mut waiting, mut server) = relayed(&world, &pod);
    waiting.write_all(b"a question").expect("write");
    server.read_exact(&mut [0; 10]).expect("read");
    let window = Duration::from_secs(1);
    let begun = Instant::now();
    world.running().drain(window, false);
    // Others are ended as ever, also when the window is over.
    while begun.elapsed() < window * 3 {
        let (mut quiet, _server) = relayed(&world, &pod);
        ends_by_fin(&mut quiet);
    }
    server.write_all(b"an answer").expect("write");
    waiting.read_exact(&mut [0; 9]).expect("the answer");
    ends_by_fin(&mut waiting);
}

/// Whoever is connecting while the listeners close is served or never was connected.
#[test]
fn the_end_of_accepting_resets_nobody() {
    for _ in 0..3 {
        let mut world = World::start(&[Pod::closed()], |config| config.workers = 2);
        let address = world.address;
        let served = AtomicUsize::new(0);
        let client = || {
            loop {
                let Ok(mut client) = TcpStream::connect_timeout(&address, PATIENCE) else {
                    return;
                };
                client.set_read_timeout(Some(PATIENCE)).expect("timeout");
                client.write_all(HELLO).expect("whoever is connected is listened to");
                let (answer, in_order) = read_to_end(&mut client);
                assert!(!answer.is_empty() && in_order, "{answer:?}, {in_order}");
                served.fetch_add(1, Ordering::Relaxed);
            }
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
            eventually("steady arrivals", || (served.load(Ordering::Relaxed) > 100).then_some(()));
            world.stop_accepting();
            clients.into_iter().for_each(|client| client.join().expect("nobody is reset"));
        });
    }
}

/// Requests with pauses below the idle time, answered late: none may be lost.
#[test]
fn a_client_that_asks_and_is_answered_loses_nothing_while_others_leave() {
    let pod = Pod::new();
    let mut world = World::start(&[pod.address], short);
    let handle = world.handle();
    let busy: Vec<_> = (0..5).map(|_| relayed(&world, &pod)).collect();
    let idle: Vec<_> = (0..20).map(|_| relayed(&world, &pod)).collect();
    let until = Instant::now() + Duration::from_secs(4);
    thread::scope(|scope| {
        for (mut client, mut server) in busy {
            scope.spawn(move || {
                let mut got = [0; 4];
                while server.read_exact(&mut got).is_ok() {
                    // Longer than the idle time: the client waits, so that nothing is quiet.
                    thread::park_timeout(IDLE * 2);
                    server.write_all(&got).expect("an answer is taken");
                }
            });
            scope.spawn(move || {
                let mut asked = 0_u32;
                while Instant::now() < until {
                    asked += 1;
                    client.write_all(&asked.to_be_bytes()).expect("a request is taken");
                    let mut answer = [0; 4];
                    client.read_exact(&mut answer).expect("every request is answered");
                    assert_eq!(answer, asked.to_be_bytes());
                }
                assert!(asked >= 4, "{asked}");
            });
        }
        for (mut client, server) in idle {
            scope.spawn(move || {
                ends_by_fin(&mut client);
                drop(server);
            });
        }
        shut_down(&mut world, Duration::from_secs(8));
    });
    assert_eq!((handle.ended(QuietDrain), handle.ended(Finished)), (20, 5));
    assert_eq!(handle.ended(Drained), 0);
}

#[test]
fn the_most_idle_end_first_and_they_are_spread_over_the_window() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], short);
    let mut all: Vec<_> = (0..60).map(|_| relayed(&world, &pod)).collect();
    // The later half speaks again, so that it is idle for less.
    thread::park_timeout(Duration::from_millis(1_500));
    for (client, server) in &mut all[30..] {
        server.write_all(b"y").expect("write");
        client.read_exact(&mut [0]).expect("read");
    }
    let window = Duration::from_secs(4);
    let begun = Instant::now();
    world.running().drain(window, true);
    let ended: Vec<Duration> = thread::scope(|scope| {
        let wait = |(mut client, server): (TcpStream, TcpStream)| {
            scope.spawn(move || {
                let at = ends_by_fin(&mut client);
                drop(server);
                at - begun
            })
        };
        let waiting: Vec<_> = all.into_iter().map(wait).collect();
        waiting.into_iter().map(|w| w.join().expect("an end")).collect()
    });
    let (first, second) = ended.split_at(30);
    // Those that end in one tick end in no order.
    let tick = Duration::from_millis(150);
    assert!(first.iter().max() <= second.iter().min().map(|m| *m + tick).as_ref(), "{ended:?}");
    let early = ended.iter().filter(|at| **at < window / 4).count();
    assert!(early <= 30, "{early} of 60 in the first quarter: {ended:?}");
    assert!(ended.iter().all(|at| *at < window), "{ended:?}");
}

#[test]
fn nobody_is_quiet_with_a_closed_half_or_bytes_on_their_way() {
    let pod = Pod::new();
    let mut world = World::start(&[pod.address], short);
    let (half, half_server) = relayed(&world, &pod);
    half.shutdown(Shutdown::Write).expect("shutdown");
    let (mut paused, mut writer) = relayed(&world, &pod);
    let sent = pattern(7, 8 << 20);
    let begun = Instant::now();
    thread::scope(|scope| {
        let bytes = &sent;
        scope.spawn(move || {
            writer.write_all(bytes).expect("all is taken");
            ends_by_fin(&mut writer);
        });
        let reader = scope.spawn(move || {
            // The server is silent long before this, and the rest waits in buffers.
            thread::park_timeout(IDLE * 6);
            let got = read_to_end(&mut paused);
            (got, Instant::now())
        });
        let finish = scope.spawn(|| {
            let mut half_server = half_server;
            thread::park_timeout(IDLE * 6);
            half_server.write_all(b"the rest").expect("write");
            drop(half_server);
        });
        shut_down(&mut world, Duration::from_secs(20));
        let ((got, by_fin), at) = reader.join().expect("a reader");
        assert!(by_fin && got == sent, "{} of {} bytes", got.len(), sent.len());
        assert!(at - begun >= IDLE * 6);
        finish.join().expect("the server");
    });
    assert_eq!(read_to_end(&half), (b"the rest".to_vec(), true));
    assert_eq!((world.handle().ended(QuietDrain), world.handle().ended(Finished)), (1, 1));
}

/// A peer that does not acknowledge what it was sent is not at rest.
#[test]
fn bytes_that_are_not_acknowledged_keep_a_connection() {
    let pod = Pod::new();
    let mut world = World::start(&[pod.address], short);
    let (client, mut server) = relayed(&world, &pod);
    deaf(&client);
    server.write_all(b"lost on its way").expect("write");
    let waited = shut_down(&mut world, Duration::from_secs(2));
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    assert_eq!(world.handle().ended(Drained), 1);
}

#[test]
fn at_the_deadline_whoever_was_not_answered_at_all_is_reset() {
    let pod = Pod::new();
    let mut world = World::start(&[pod.address], short);
    let mut asking = world.dial();
    let _server = pod.accept();
    let mut silent = world.send(&HELLO[..9]);
    eventually("both are there", || (world.running().live() == 2).then_some(()));
    shut_down(&mut world, Duration::from_millis(200));
    assert_eq!(read_to_end(&mut asking), (vec![], false));
    assert_eq!(read_to_end(&mut silent), (vec![], false));
    assert_eq!(world.handle().ended(Drained), 2);
}

fn on_removal(what: OnEndpointRemoved, window: Duration) -> impl FnOnce(&mut Config) {
    move |config| {
        short(config);
        config.leave.on_endpoint_removed = what;
        config.leave.window = window;
    }
}

#[test]
fn by_default_the_connections_of_a_removed_endpoint_live_on() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], short);
    let (mut client, mut server) = relayed(&world, &pod);
    world.table.publish(table_of(&[], Policy::default()));
    thread::park_timeout(Duration::from_millis(2_500));
    server.write_all(b"alive").expect("write");
    client.read_exact(&mut [0; 5]).expect("read");
}

#[test]
fn connections_of_a_removed_endpoint_are_reset_where_asked_for() {
    let (pod, other) = (Pod::new(), Pod::new());
    let world = World::start(&[pod.address], on_removal(OnEndpointRemoved::Reset, SLACK));
    let (mut client, mut server) = relayed(&world, &pod);
    world.table.publish(table_of(&[other.address], Policy::default()));
    let kept = relayed(&world, &other);
    let begun = Instant::now();
    assert_eq!(read_to_end(&mut client), (vec![], false));
    assert_eq!(read_to_end(&mut server), (vec![], false));
    assert!(begun.elapsed() < SLACK, "{:?}", begun.elapsed());
    assert!(is_open(&kept.0), "the others are not touched");
    assert_eq!(world.handle().ended(EndpointRemoved), 1);
}

#[test]
fn connections_of_a_removed_endpoint_end_at_a_quiet_moment_or_after_the_window() {
    let (pod, other) = (Pod::new(), Pod::new());
    let window = Duration::from_secs(3);
    let world = World::start(&[pod.address], on_removal(OnEndpointRemoved::Drain, window));
    let (mut quiet, quiet_server) = relayed(&world, &pod);
    let (mut waits, mut server) = relayed(&world, &pod);
    waits.write_all(b"a question").expect("write");
    server.read_exact(&mut [0; 10]).expect("read");
    world.table.publish(table_of(&[other.address], Policy::default()));
    let begun = Instant::now();
    assert!(ends_by_fin(&mut quiet) - begun < IDLE + SLACK);
    drop(quiet_server);
    assert!(is_open(&waits));
    assert_eq!(read_to_end(&mut waits), (vec![], false));
    assert!((window..window + SLACK).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(world.handle().ended(EndpointRemoved), 2);
}

#[test]
fn an_endpoint_that_comes_back_keeps_its_connections() {
    let (pod, other) = (Pod::new(), Pod::new());
    let window = Duration::from_secs(2);
    let world = World::start(&[pod.address], on_removal(OnEndpointRemoved::Drain, window));
    let (mut waits, mut server) = relayed(&world, &pod);
    waits.write_all(b"a question").expect("write");
    server.read_exact(&mut [0; 10]).expect("read");
    world.table.publish(table_of(&[other.address], Policy::default()));
    thread::park_timeout(Duration::from_millis(1_200));
    world.table.publish(table_of(&[other.address, pod.address], Policy::default()));
    thread::park_timeout(window);
    server.write_all(b"an answer").expect("write");
    waits.read_exact(&mut [0; 9]).expect("read");
}

/// Adds an endpoint to the set; those that are there keep their counters, as the catalog does it.
pub fn join(world: &World, address: SocketAddr) {
    let table = world.table.load();
    let service = table.service("bar.ns2.global").expect("the service");
    let present = service.routes[0].endpoints.load_full();
    let new = Endpoint { address, state: Arc::default(), ..(*present.endpoints()[0]).clone() };
    let mut endpoints = present.endpoints().to_vec();
    endpoints.push(Arc::new(new));
    service.routes[0].endpoints.store(Arc::new(EndpointSet::new(endpoints, Arc::default())));
}

fn count(world: &World, outcome: Outcome) -> usize {
    usize::try_from(world.handle().ended(outcome)).expect("few")
}

#[test]
fn a_new_endpoint_gets_idle_connections_slowly_and_nobody_else_loses_any() {
    let (pod, new) = (Pod::new(), Pod::new());
    let share = 0.05;
    let world = World::start(&[pod.address], |config| {
        short(config);
        config.leave.rebalance = Some(share);
    });
    let held: Vec<_> = (0..40).map(|_| relayed(&world, &pod)).collect();
    // Long enough for the gateway to have seen the set as it was.
    thread::park_timeout(Duration::from_millis(1_500));
    assert_eq!(count(&world, Rebalanced), 0, "one endpoint is even");
    join(&world, new.address);
    let begun = Instant::now();
    let most = || 40.0 * share * (begun.elapsed().as_secs_f64() + 1.0);
    eventually("six have moved", || {
        let ended = count(&world, Rebalanced);
        assert!(f64::from(u32::try_from(ended).expect("few")) <= most(), "{ended} too soon");
        (ended >= 6).then_some(())
    });
    let closed = held.iter().filter(|(client, _)| !is_open(client)).count();
    assert_eq!(closed, count(&world, Rebalanced));
}

#[test]
fn without_being_asked_nothing_is_rebalanced() {
    let (pod, new) = (Pod::new(), Pod::new());
    let world = World::start(&[pod.address], short);
    let held: Vec<_> = (0..10).map(|_| relayed(&world, &pod)).collect();
    join(&world, new.address);
    thread::park_timeout(Duration::from_millis(2_500));
    assert!(held.iter().all(|(client, _)| is_open(client)));
}
