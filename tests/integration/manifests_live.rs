//! Manifests that change under a running gateway: what is in force and when, and that no live
//! connection notices.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::support::{
    PATIENCE, Pod, eventually,
    hello::Hello,
    mesh::{Files, Service, gateway},
    process::Process,
    read_to_end,
};

/// What the issue of a change may take until it is in force.
const LIVE_WITHIN: Duration = Duration::from_secs(1);
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

fn gateway_file() -> (&'static str, String) {
    ("gateway.yaml", gateway(&["*.global"]))
}

fn mesh(services: &[&Service]) -> Files {
    let files = Files::new();
    let (name, text) = gateway_file();
    files.write(name, &text);
    for service in services {
        files.write(&format!("{}.yaml", service.name), &service.yaml());
    }
    files
}

/// Asks for the service until this pod is the one that is asked, which then answers. Gives that
/// connection, and how long it took.
fn until_reached(
    process: &Process,
    service: &Service,
    pod: &Pod,
    since: Instant,
) -> (TcpStream, Duration) {
    eventually("the pod is asked", || {
        let mut client = process.ask(&service.key());
        client.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
        let mut server = pod.waiting().or_else(|| {
            let _ = client.read(&mut [0; 8]);
            pod.waiting()
        })?;
        // An endpoint that has answered is not left for another.
        server.write_all(b"x").expect("write");
        Some((server, since.elapsed()))
    })
}

/// A connection on which bytes keep going both ways until told to stop; every one is compared.
struct Talk {
    client: TcpStream,
    server: TcpStream,
}

impl Talk {
    fn begin(process: &Process, service: &Service, pod: &Pod) -> Self {
        let client = process.ask(&service.key());
        let server = pod.accept_hello(&Hello::new(&service.key()).wire());
        client.set_nodelay(true).expect("nodelay");
        server.set_nodelay(true).expect("nodelay");
        Self { client, server }
    }

    /// One byte each way.
    fn round(&mut self, byte: u8) {
        let mut got = [0];
        self.client.write_all(&[byte]).expect("up");
        self.server.read_exact(&mut got).expect("up");
        assert_eq!(got, [byte]);
        self.server.write_all(&[!byte]).expect("down");
        self.client.read_exact(&mut got).expect("down");
        assert_eq!(got, [!byte]);
    }

    fn end(mut self) {
        drop(self.client);
        assert_eq!(read_to_end(&mut self.server), (vec![], true), "it ends as its client ends it");
    }
}

/// Lets the threads beside it end, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[test]
fn an_endpoint_comes_and_goes_within_a_second_and_live_connections_stay() {
    let (stays, comes) = (Pod::new(), Pod::new());
    let one = Service::new("bar", &[stays.address]);
    let both = Service::new("bar", &[stays.address, comes.address]);
    let other = Service::new("bar", &[comes.address]);
    let files = mesh(&[&one]);
    let process = Process::start(files.path(), &[]);
    let mut talk = Talk::begin(&process, &one, &stays);
    let talking = AtomicBool::new(true);
    thread::scope(|scope| {
        let stop = Stop(&talking);
        let rounds = scope.spawn(|| {
            let mut rounds = 0_u64;
            while talking.load(Ordering::Relaxed) {
                talk.round(u8::try_from(rounds % 256).expect("a byte"));
                rounds += 1;
            }
            rounds
        });
        let since = Instant::now();
        files.write("bar.yaml", &both.yaml());
        let (_held, took) = until_reached(&process, &one, &comes, since);
        assert!(took < LIVE_WITHIN, "added: {took:?}");

        let removed = stays.address.to_string();
        let is_shown = || process.get("admin", "/clusters").body.contains(&removed);
        assert!(is_shown());
        let since = Instant::now();
        files.write("bar.yaml", &other.yaml());
        eventually("the endpoint is gone", || (!is_shown()).then_some(()));
        assert!(since.elapsed() < LIVE_WITHIN, "removed: {:?}", since.elapsed());
        while stays.waiting().is_some() {}
        for _ in 0..20 {
            drop(process.ask(&one.key()));
        }
        eventually("they are asked for elsewhere", || comes.waiting().map(drop));
        assert!(stays.waiting().is_none(), "a removed endpoint is never dialled");
        drop(stop);
        assert!(rounds.join().expect("the connection never noticed") > 10);
    });
    talk.end();
}

#[test]
fn a_broken_file_keeps_what_was_good_and_is_named_everywhere() {
    let (pod, second) = (Pod::new(), Pod::new());
    let (bar, baz) = (Service::new("bar", &[pod.address]), Service::new("baz", &[second.address]));
    let files = mesh(&[&bar]);
    let process = Process::start(files.path(), &[]);
    drop(Talk::begin(&process, &bar, &pod));

    files
        .write("bar.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: bar, namespace: ns2\n");
    let errors = || process.sample("diolkos_manifest_problems{severity=\"error\"}");
    eventually("the metric counts it", || (errors() == Some(1.0)).then_some(()));
    let problems = process.json("/config_dump")["problems"].to_string();
    assert!(problems.contains("bar.yaml"), "{problems}");
    let ready = process.get("admin", "/ready");
    assert!(ready.status == 200 && ready.body.contains("bar.yaml"), "{}", ready.body);
    eventually("the log says it", || {
        process
            .log()
            .iter()
            .any(|line| {
                line["level"] == "error" && line["message"].to_string().contains("bar.yaml")
            })
            .then_some(())
    });
    drop(Talk::begin(&process, &bar, &pod));

    // One broken object in a file leaves the others alone, and others still change.
    let broken_port = baz.yaml().replacen("port: 8080", "port: 80800", 1);
    files.write("baz.yaml", &broken_port);
    eventually("both are counted", || (errors() == Some(2.0)).then_some(()));
    assert_eq!(read_to_end(&mut process.ask(&baz.key())).0, UNRECOGNIZED_NAME);
    files.write("baz.yaml", &baz.yaml());
    eventually("it is mended", || (errors() == Some(1.0)).then_some(()));
    process.explains(&baz.key(), true);
    drop(Talk::begin(&process, &baz, &second));

    files.write("bar.yaml", &bar.yaml());
    eventually("all is mended", || (errors() == Some(0.0)).then_some(()));
    assert_eq!(process.json("/config_dump")["problems"].to_string(), "[]");
    drop(Talk::begin(&process, &bar, &pod));
}

#[test]
fn a_removed_file_takes_its_services_with_it() {
    let pod = Pod::new();
    let bar = Service::new("bar", &[pod.address]);
    let files = mesh(&[&bar]);
    let process = Process::start(files.path(), &[]);
    let mut talk = Talk::begin(&process, &bar, &pod);
    files.remove("bar.yaml");
    process.explains(&bar.key(), false);
    assert_eq!(read_to_end(&mut process.ask(&bar.key())).0, UNRECOGNIZED_NAME);
    talk.round(1);
    files.remove("gateway.yaml");
    eventually("not ready", || {
        (process.get("health", "/healthz/ready").status == 503).then_some(())
    });
    talk.round(2);
    talk.end();
}

#[test]
fn a_thousand_reloads_are_noticed_by_none_of_two_hundred_connections() {
    const CONNECTIONS: u8 = 200;
    const RELOADS: u64 = 1000;
    let pods = [Pod::new(), Pod::new()];
    let services = [
        Service::new("bar", &[pods[0].address]),
        Service::new("bar", &[pods[1].address, pods[0].address]),
    ];
    let files = mesh(&[&services[0]]);
    let process = Process::start(files.path(), &["gateway.workers=1"]);
    let begin = |_| Talk::begin(&process, &services[0], &pods[0]);
    let mut talks: Vec<_> = (0..CONNECTIONS).map(begin).collect();
    let reloads = AtomicU64::new(0);
    // Every reload changes the endpoints; every tenth also the table, by a service that comes and
    // goes. SIGHUP makes each one a reading of its own.
    thread::scope(|scope| {
        scope.spawn(|| {
            let extra = Service::new("extra", &[pods[1].address]);
            for i in 0..RELOADS {
                let version = usize::from(i % 2 == 0);
                files.write("bar.yaml", &services[version].yaml());
                match i % 20 {
                    0 => files.write("extra.yaml", &extra.yaml()),
                    10 => files.remove("extra.yaml"),
                    _ => {}
                }
                let said = |process: &Process| {
                    let again = "settings and manifests were read again";
                    process.log().iter().filter(|line| line["message"] == again).count()
                };
                if i % 50 == 0 {
                    let before = said(&process);
                    process.signal(Signal::HUP);
                    eventually("it was read", || (said(&process) > before).then_some(()));
                }
                reloads.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut round = 0;
        while reloads.load(Ordering::Relaxed) < RELOADS {
            for (talk, byte) in talks.iter_mut().zip(0..) {
                talk.round(round ^ byte);
            }
            round = round.wrapping_add(1);
        }
    });
    process.explains(&services[0].key(), true);
    assert_eq!(process.json("/connections")["live"], u64::from(CONNECTIONS));
    talks.into_iter().for_each(Talk::end);
    let handle = || process.sample("diolkos_connections_total{outcome=\"ok\"}");
    eventually("each ends as its client ended it", || {
        (handle() == Some(f64::from(CONNECTIONS))).then_some(())
    });
}

/// Writes a version of a ConfigMap's volume as kubelet does: a directory of its own, and a link to
/// it that is replaced by a rename.
fn mount(files: &Files, version: &str, contents: &[(&str, &str)]) {
    let dir = files.at(version);
    fs::create_dir(&dir).expect("a directory");
    for (name, text) in contents {
        fs::write(dir.join(name), text).expect("write");
        if !files.at(name).exists() {
            symlink(format!("..data/{name}"), files.at(name)).expect("a link");
        }
    }
    symlink(version, files.at("..data_tmp")).expect("a link");
    fs::rename(files.at("..data_tmp"), files.at("..data")).expect("rename");
}

#[test]
fn a_swapped_config_map_is_live_within_a_second() {
    let pods = [Pod::new(), Pod::new()];
    let bar = |pod: &Pod| Service::new("bar", &[pod.address]);
    let (name, gateway) = gateway_file();
    let version = |pod: &Pod| bar(pod).yaml();
    let files = Files::new();
    mount(&files, "..2026_1", &[(name, &gateway), ("bar.yaml", &version(&pods[0]))]);
    let process = Process::start(files.path(), &[]);
    let mut talk = Talk::begin(&process, &bar(&pods[0]), &pods[0]);
    for (i, pod) in [&pods[1], &pods[0], &pods[1]].into_iter().enumerate() {
        while pod.waiting().is_some() {}
        let since = Instant::now();
        mount(
            &files,
            &format!("..2026_{}", i + 2),
            &[(name, &gateway), ("bar.yaml", &version(pod))],
        );
        fs::remove_dir_all(files.at(&format!("..2026_{}", i + 1))).expect("remove");
        let (_held, took) = until_reached(&process, &bar(pod), pod, since);
        assert!(took < LIVE_WITHIN, "swap {i}: {took:?}");
        talk.round(7);
    }
    assert_eq!(process.json("/config_dump")["problems"].to_string(), "[]", "nothing read twice");
    talk.end();
}

#[test]
fn an_empty_directory_refuses_every_name_and_is_not_ready() {
    let process = Process::start(Files::new().path(), &[]);
    for name in [
        "outbound_.8080_._.bar.ns2.global",
        "outbound_.443_._.kubernetes.default.svc.cluster.local",
    ] {
        let mut client = process.ask(name);
        assert_eq!(read_to_end(&mut client), (UNRECOGNIZED_NAME.to_vec(), true));
    }
    assert_eq!(process.get("admin", "/ready").status, 503);
}

#[test]
fn limits_of_a_destination_rule_hold_from_the_next_connection_on() {
    let pod = Pod::new();
    let bar = Service::new("bar", &[pod.address]);
    let files = mesh(&[&bar]);
    let process = Process::start(files.path(), &[]);
    let mut before = Talk::begin(&process, &bar, &pod);
    let rule = |pool: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: bar, namespace: ns2}}\n\
             spec: {{host: bar.ns2.svc.cluster.local, trafficPolicy: {{connectionPool: {{tcp: {{{pool}}}}}}}}}\n"
        )
    };
    let in_force = |part: &str| {
        let path = format!("/explain?sni={}", bar.key());
        eventually(part, || process.get("admin", &path).body.contains(part).then_some(()));
    };
    files.write("rule.yaml", &rule("idleTimeout: 500ms"));
    in_force("idle timeout 500ms");
    let mut idle = Talk::begin(&process, &bar, &pod);
    idle.round(1);
    assert_eq!(read_to_end(&mut idle.client), (vec![], true));
    files.write("rule.yaml", &rule("maxConnectionDuration: 500ms"));
    in_force("at most 500ms long");
    let mut old = Talk::begin(&process, &bar, &pod);
    old.round(1);
    assert_eq!(read_to_end(&mut old.client), (vec![], true));
    files.write("rule.yaml", &rule("maxConnections: 2"));
    in_force("at most 2 connections");
    let second = Talk::begin(&process, &bar, &pod);
    assert_eq!(read_to_end(&mut process.ask(&bar.key())).0, [21, 3, 3, 0, 2, 2, 80]);
    before.round(2);
    drop(second);
    let line = eventually("the overflow is logged", || {
        process.lines().into_iter().find(|line| line.contains("connection_limit"))
    });
    assert!(line.contains(" UO "), "{line}");
    before.end();
}

#[test]
fn a_name_of_the_network_is_harmless_in_the_log() {
    let process = Process::start(Files::new().path(), &["access_log.format=text"]);
    let address: SocketAddr = process.address;
    for name in ["a\"b\nc] 200 OK", "\u{1b}[2Jx", "x y"] {
        let mut client = TcpStream::connect(address).expect("connect");
        client.set_read_timeout(Some(PATIENCE)).expect("timeout");
        client.write_all(&Hello::new(name).wire()).expect("write");
        assert_eq!(read_to_end(&mut client).0, UNRECOGNIZED_NAME);
    }
    eventually("three lines", || (process.lines().len() == 3).then_some(()));
    for line in process.lines() {
        assert!(line.starts_with('[') && line.ends_with(" -"), "{line}");
        assert!(!line.contains('\u{1b}') && line.matches('"').count() == 14, "{line}");
    }
}
