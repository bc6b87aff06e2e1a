//! Every outcome, made by what makes it in life: counted once, logged once, in both formats, and
//! nothing else counted.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use diolkos::{
    gateway::{
        AccessLogConfig, Config, Format, LogTo, OnEndpointRemoved, Ourselves, SourceAction,
        SourceRule,
        outcome::Outcome::{self, *},
    },
    metrics::Metrics,
    routing::{Pick, Policy, RouteTable},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::leave::join;
use crate::support::{
    HELLO, Pod, World, deaf, eventually, hello::Hello, read_to_end, reset, service,
};

const NAME: &str = "outbound_.8080_._.bar.ns2.global";
/// So that a peer that vanishes does so while a test can wait for it.
const VANISHED_AFTER: Duration = Duration::from_millis(500);

/// A gateway, its log, and one pod.
struct Scene {
    pod: Pod,
    world: World,
    log: UnboundedReceiver<String>,
}

impl Scene {
    fn new(format: Format) -> Self {
        Self::with(format, Policy::default(), |_| {})
    }

    fn with(format: Format, policy: Policy, change: impl FnOnce(&mut Config)) -> Self {
        let pod = Pod::new();
        Self::at(format, policy, pod.address, pod, change)
    }

    fn at(
        format: Format,
        policy: Policy,
        address: SocketAddr,
        pod: Pod,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let (lines, log) = unbounded_channel();
        let services = vec![
            service("bar.ns2.global", &[address], policy, true),
            service("hidden.ns2.global", &[address], Policy::default(), false),
            service("empty.ns2.global", &[], Policy::default(), true),
        ];
        let world = World::serve(RouteTable::new(services, None, 1), |config| {
            config.access_log = AccessLogConfig { format, to: LogTo::Lines(lines) };
            config.relay.vanished_after = VANISHED_AFTER;
            change(config);
        });
        Self { pod, world, log }
    }

    /// A connection in the middle of its life.
    fn relayed(&self) -> (TcpStream, TcpStream) {
        let mut client = self.world.dial();
        let mut server = self.pod.accept();
        server.write_all(b"x").expect("write");
        client.read_exact(&mut [0]).expect("read");
        (client, server)
    }

    /// Sends this, and waits for the end.
    fn sends(self, bytes: &[u8]) -> Self {
        let mut client = self.world.send(bytes);
        read_to_end(&mut client);
        self
    }

    fn asks(self, name: &str) -> Self {
        self.sends(&Hello::new(name).wire())
    }
}

/// Makes a connection end so, and gives the scene in which it did.
fn produce(outcome: Outcome, format: Format) -> Scene {
    let scene = || Scene::new(format);
    let closed = |policy| Scene::at(format, policy, Pod::closed(), Pod::new(), |_| {});
    let limited = |policy| Scene::with(format, policy, |_| {});
    let soon = Some(Duration::from_millis(300));
    match outcome {
        Probe => {
            let scene = scene();
            let mut client = scene.world.connect();
            client.shutdown(Shutdown::Write).expect("shutdown");
            read_to_end(&mut client);
            scene
        }
        HelloTimeout => {
            let short = Duration::from_millis(200);
            Scene::with(format, Policy::default(), |c| c.sniff.timeout = short).sends(&HELLO[..9])
        }
        ClientEofBeforeHello | ClientResetBeforeHello => {
            let scene = scene();
            let client = scene.world.send(&HELLO[..9]);
            let handle = scene.world.running().handle();
            eventually("the gateway reads", || (handle.live() == 1).then_some(()));
            if outcome == ClientResetBeforeHello {
                reset(client);
            }
            scene
        }
        NotTls => scene().sends(b"GET / HTTP/1.1\r\n\r\n"),
        BadVersion => scene().sends(&[22, 2, 0, 0, 1, 1]),
        HelloMalformed => scene().sends(&[22, 3, 1, 0, 0]),
        HelloTooLarge => scene().sends(&[22, 3, 1, 0, 4, 1, 255, 255, 255]),
        BadProxyHeader => Scene::with(format, Policy::default(), |config| {
            config.limits.proxies = vec!["127.0.0.0/8".parse().expect("a range")];
        })
        .sends(HELLO),
        ShedMemory => {
            let scene = scene();
            scene.world.running().handle().memory_is_short(true);
            scene.sends(HELLO)
        }
        ShedHellos => Scene::with(format, Policy::default(), |config| {
            config.limits.hellos_max = Some(0);
            config.sniff.timeout = Duration::from_secs(60);
        })
        .sends(&HELLO[..9]),
        ShedSource => Scene::with(format, Policy::default(), |config| {
            config.limits.source_max = Some(0);
            config.connections_max = 1;
        })
        .sends(HELLO),
        SourceDenied => Scene::with(format, Policy::default(), |config| {
            let (sources, names, dry_run) = (Vec::new(), Vec::new(), false);
            let rule = SourceRule { action: SourceAction::Deny, sources, names, dry_run };
            config.limits.policy = vec![rule];
        })
        .asks(NAME),
        NoServerName => scene().sends(&Hello { server_name: None, ..Hello::new("") }.wire()),
        BadName => scene().asks("bar.ns2.global"),
        AlpnRefused => scene().sends(&Hello { alpn: vec!["h2"], ..Hello::new(NAME) }.wire()),
        UnknownName => scene().asks("outbound_.8080_._.none.ns2.global"),
        NotExported => scene().asks("outbound_.8080_._.hidden.ns2.global"),
        NoSuchPort => scene().asks("outbound_.1_._.bar.ns2.global"),
        NoSuchSubset => scene().asks("outbound_.8080_.v1_.bar.ns2.global"),
        Loop => unreachable!("needs two connections: it has a test of its own"),
        NoEndpoint => scene().asks("outbound_.8080_._.empty.ns2.global"),
        ConnectionLimit => {
            limited(Policy { max_connections: Some(0), ..Policy::default() }).asks(NAME)
        }
        ConnectFailed => closed(Policy::default()).asks(NAME),
        ConnectTimeout => {
            let policy =
                Policy { connect_timeout: Duration::from_millis(200), ..Policy::default() };
            let lost = Pod::unreachable();
            Scene::at(format, policy, lost.address, lost, |_| {}).asks(NAME)
        }
        ClientGoneBeforeConnect => {
            let lost = Pod::unreachable();
            let scene = Scene::at(format, Policy::default(), lost.address, lost, |_| {});
            let client = scene.world.dial();
            let handle = scene.world.running().handle();
            eventually("the gateway dials", || (handle.live() == 1).then_some(()));
            thread::park_timeout(Duration::from_millis(100));
            reset(client);
            scene
        }
        FirstFlightFailed => {
            let scene = scene();
            let mut client = scene.world.dial();
            reset(scene.pod.accept());
            read_to_end(&mut client);
            scene
        }
        Finished => {
            let scene = scene();
            drop(scene.relayed());
            scene
        }
        ClientReset => {
            let scene = scene();
            let (client, mut server) = scene.relayed();
            reset(client);
            read_to_end(&mut server);
            scene
        }
        EndpointReset => {
            let scene = scene();
            let (mut client, server) = scene.relayed();
            reset(server);
            read_to_end(&mut client);
            scene
        }
        ClientVanished => {
            let scene = scene();
            let (client, mut server) = scene.relayed();
            deaf(&client);
            server.write_all(b"anybody there?").expect("write");
            read_to_end(&mut server);
            scene
        }
        EndpointVanished => {
            let scene = scene();
            let (mut client, server) = scene.relayed();
            deaf(&server);
            client.write_all(b"anybody there?").expect("write");
            read_to_end(&mut client);
            scene
        }
        IdleTimeout => {
            let scene = limited(Policy { idle_timeout: soon, ..Policy::default() });
            let (mut client, _server) = scene.relayed();
            read_to_end(&mut client);
            scene
        }
        MaxDuration => {
            let scene = limited(Policy { max_duration: soon, ..Policy::default() });
            let (mut client, _server) = scene.relayed();
            read_to_end(&mut client);
            scene
        }
        QuietDrain => {
            let scene = Scene::with(format, Policy::default(), |config| {
                config.leave.quiet.idle = Duration::from_millis(200);
            });
            let (mut client, mut server) = scene.relayed();
            scene.world.running().drain(Duration::from_secs(20), true);
            assert_eq!(read_to_end(&mut client), (vec![], true), "by FIN");
            assert_eq!(read_to_end(&mut server), (vec![], true), "by FIN");
            scene
        }
        EndpointRemoved => {
            let scene = Scene::with(format, Policy::default(), |config| {
                config.leave.on_endpoint_removed = OnEndpointRemoved::Reset;
            });
            let (mut client, _server) = scene.relayed();
            let none = service("bar.ns2.global", &[], Policy::default(), true);
            scene.world.table.publish(RouteTable::new(vec![none], None, 2));
            read_to_end(&mut client);
            scene
        }
        Rebalanced => {
            let scene = Scene::with(format, Policy::default(), |config| {
                config.leave.quiet.idle = Duration::from_millis(200);
                config.leave.rebalance = Some(1.0);
            });
            let (mut client, _server) = scene.relayed();
            let table = scene.world.table.load();
            let routes = &table.service("bar.ns2.global").expect("the service").routes;
            let pick = Pick { tried: &[], turn: 0, random: 0, source: None, now: Instant::now() };
            // Connections of another worker, as it were.
            let _leases: Vec<_> =
                (0..9).map(|_| routes[0].endpoints.load().pick(pick).expect("one")).collect();
            thread::park_timeout(Duration::from_millis(1_200));
            join(&scene.world, Pod::closed());
            read_to_end(&mut client);
            scene
        }
        Drained => {
            let mut scene = scene();
            let (mut client, mut server) = scene.relayed();
            scene.world.stop();
            let (to_client, to_server) = (read_to_end(&mut client), read_to_end(&mut server));
            assert_eq!((to_client, to_server), ((vec![], false), (vec![], false)), "cut by RST");
            scene
        }
        Panicked => {
            // No manifest can say so much, and the sum of now and this is no instant.
            let scene = limited(Policy { connect_timeout: Duration::MAX, ..Policy::default() });
            let mut client = scene.world.dial();
            assert_eq!(read_to_end(&mut client), (vec![], false), "a bug is no orderly end");
            scene
        }
    }
}

/// Parts of a text line: bare words, "quoted" and [bracketed] ones.
fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut rest = line.trim_end();
    while !rest.is_empty() {
        let end = match rest.as_bytes()[0] {
            b'"' => rest[1..].find('"').expect("a closing quote") + 2,
            b'[' if fields.is_empty() => rest.find(']').expect("a closing bracket") + 1,
            _ => rest.find(' ').unwrap_or(rest.len()),
        };
        fields.push(rest[..end].to_owned());
        rest = rest[end..].trim_start_matches(' ');
    }
    fields
}

fn check_text(outcome: Outcome, line: &str) {
    let fields = fields(line);
    assert_eq!(fields.len(), 22, "{line}");
    let reason = fields[5].split(':').next().expect("a reason");
    assert_eq!((fields[1].as_str(), fields[2].as_str()), ("\"- - -\"", "0"));
    assert_eq!((fields[3].as_str(), reason), (outcome.flags(), outcome.reason()), "{line}");
    let no_chain = outcome.flags() == "NR";
    assert_eq!(fields[4], if no_chain { "filter_chain_not_found" } else { "-" }, "{line}");
    for number in &fields[7..10] {
        number.parse::<u64>().unwrap_or_else(|_| panic!("{number} in {line}"));
    }
    for address in [&fields[18], &fields[19]] {
        address.parse::<SocketAddr>().unwrap_or_else(|_| panic!("{address} in {line}"));
    }
}

fn check_json(outcome: Outcome, line: &str) {
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["response_flags"], outcome.flags());
    assert_eq!(line["outcome"], outcome.reason());
    assert_eq!(line["stage"], outcome.stage().as_str());
    assert_eq!(line["ended_by"], outcome.origin().as_str());
    let reason = line["connection_termination_details"].as_str().expect("a reason");
    assert!(reason.starts_with(outcome.reason()));
    assert!(line["duration"].is_u64() && line["bytes_received"].is_u64());
}

fn check(outcome: Outcome, format: Format) {
    let mut scene = produce(outcome, format);
    let handle = scene.world.handle();
    let ended = || Outcome::ALL.iter().map(|o| handle.ended(*o)).sum::<u64>();
    eventually(outcome.reason(), || (ended() > 0 && handle.live() == 0).then_some(()));
    let counts: Vec<_> = Outcome::ALL.into_iter().filter(|o| handle.ended(*o) > 0).collect();
    assert_eq!(counts, [outcome], "one outcome");
    assert_eq!((handle.accepted(), ended()), (1, 1), "{outcome:?}: each is counted once");

    let mut registry = Metrics::new();
    handle.register(&mut registry, Ourselves::default());
    let scrape = registry.text();
    let sample = format!("diolkos_connections_total{{outcome=\"{}\"}} 1\n", outcome.reason());
    assert!(scrape.contains(&sample), "{sample} in {scrape}");
    let opened = scrape.matches("istio_tcp_connections_opened_total{").count();
    let closed = scrape.matches("istio_tcp_connections_closed_total{").count();
    assert_eq!(opened, closed, "what was opened is closed");

    scene.world.stop();
    let mut lines = Vec::new();
    while let Ok(line) = scene.log.try_recv() {
        lines.push(line);
    }
    let expected = usize::from(outcome != Probe);
    assert_eq!(lines.len(), expected, "{outcome:?}: {lines:?}");
    for line in lines {
        match format {
            Format::Json => check_json(outcome, &line),
            _ => check_text(outcome, &line),
        }
    }
}

#[test]
fn every_outcome_is_counted_and_logged_once_in_both_formats() {
    thread::scope(|scope| {
        for outcome in Outcome::ALL.into_iter().filter(|outcome| *outcome != Loop) {
            for format in [Format::Text, Format::Json] {
                let name = format!("{} {format:?}", outcome.reason());
                let thread = thread::Builder::new().name(name);
                thread.spawn_scoped(scope, move || check(outcome, format)).expect("a thread");
            }
        }
    });
}

#[test]
fn a_hello_that_comes_back_while_it_waits_is_a_loop() {
    let gateways = |config: &mut Config| config.endpoints_are_gateways = true;
    let mut scene = Scene::with(Format::Json, Policy::default(), gateways);
    // The endpoint is a gateway that sends the connection back to where it came from.
    let mut client = scene.world.dial();
    let mut there = scene.pod.accept();
    let mut back = scene.world.dial();
    assert_eq!(read_to_end(&mut back), (vec![21, 3, 3, 0, 2, 2, 80], true), "internal_error");
    // Nobody else is in its way, and once it is answered its hello is forgotten.
    let mut other = scene.world.send(&Hello::new(NAME).wire());
    scene.pod.accept_unread().write_all(b"x").expect("write");
    other.read_exact(&mut [0]).expect("another hello is no loop");
    there.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("answered");
    let mut later = scene.world.dial();
    scene.pod.accept().write_all(b"x").expect("write");
    later.read_exact(&mut [0]).expect("the hello does not wait any more");
    assert_eq!(scene.world.running().handle().ended(Loop), 1);
    let line = eventually("the loop is logged", || scene.log.try_recv().ok());
    check_json(Loop, &line);
}

#[test]
fn a_panic_costs_one_connection() {
    let fatal = Policy { connect_timeout: Duration::MAX, ..Policy::default() };
    let pod = Pod::new();
    let services = vec![
        service("bar.ns2.global", &[pod.address], Policy::default(), true),
        service("fatal.ns2.global", &[pod.address], fatal, true),
    ];
    let world = World::serve(RouteTable::new(services, None, 1), |_| {});
    let mut before = world.dial();
    let mut server = pod.accept();
    let mut lost = world.send(&Hello::new("outbound_.8080_._.fatal.ns2.global").wire());
    read_to_end(&mut lost);
    server.write_all(b"alive").expect("write");
    before.read_exact(&mut [0; 5]).expect("the connection beside it goes on");
    let mut after = world.dial();
    pod.accept().write_all(b"alive").expect("write");
    after.read_exact(&mut [0; 5]).expect("and a new one is served");
    assert_eq!(world.running().handle().ended(Panicked), 1);
}

#[test]
fn at_every_moment_what_was_accepted_has_ended_or_lives() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], |_| {});
    let handle = world.running().handle();
    let ended = || Outcome::ALL.iter().map(|o| handle.ended(*o)).sum::<u64>();
    let (mut held, mut refused) = (Vec::new(), Vec::new());
    for round in 0..40 {
        match round % 4 {
            0 => held.push((world.dial(), pod.accept())),
            1 => {
                let mut client = world.send(b"GET / HTTP/1.1\r\n\r\n");
                read_to_end(&mut client);
            }
            2 => {
                // Refused, and does not close: a second later we do.
                let mut client = world.send(b"GET / HTTP/1.1\r\n\r\n");
                assert_eq!(client.read(&mut [0]).expect("a FIN"), 0);
                refused.push(client);
                let now = Instant::now();
                eventually("it has ended", || (handle.active() == held.len()).then_some(()));
                assert!(now.elapsed() < Duration::from_millis(500), "{:?}", now.elapsed());
            }
            _ => drop(held.pop()),
        }
        eventually("the sums agree", || {
            let sum = ended() + handle.active() as u64;
            (handle.accepted() == sum && handle.active() == held.len()).then_some(())
        });
    }
    drop(held);
    eventually("all have ended", || (ended() == handle.accepted()).then_some(()));
}
