//! As many connections as there is room for, and what happens at the limit and under a crowd.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::{
    PATIENCE, Pod, World, eventually,
    hello::{Hello, records},
    mesh::{Files, Service, gateway},
    process::{self, Process},
    read_to_end,
};

fn mesh(pod: &Pod) -> (Files, Service) {
    let bar = Service::new("bar", &[pod.address]);
    let files = [("gateway.yaml", &gateway(&["*.global"])[..]), ("bar.yaml", &bar.yaml())];
    (Files::with(&files), bar)
}

/// The command under a limit of open files, hard and soft.
fn with_open_files(limit: u32, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit -n {limit} && exec \"$@\"")).arg("sh");
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

#[test]
fn at_the_limit_of_open_files_the_backlog_holds_and_the_operator_is_answered() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let command = process::gateway(files.path(), &["access_log.format=off"]);
    let process = Process::spawn(with_open_files(256, &command));
    let max = process.sample("diolkos_connections_max").expect("a limit");
    assert!((10.0..100.0).contains(&max), "{max}");
    let wire = Hello::new(&bar.key()).wire();
    let mut held = Vec::new();
    while f64::from(u32::try_from(held.len()).expect("few")) < max {
        held.push((process.ask(&bar.key()), pod.accept_hello(&wire)));
    }
    let mut waiting: Vec<_> = (0..20).map(|_| process.ask(&bar.key())).collect();
    let paused = || process.sample("diolkos_accept_pauses_total") > Some(0.0);
    eventually("accepting stops", || paused().then_some(()));
    assert!(pod.waiting().is_none(), "nobody is served beyond the limit");
    assert_eq!(process.get("health", "/healthz/ready").status, 200);
    assert_eq!(process.sample("diolkos_connections_active"), Some(max));

    // Waiting costs next to nothing: 2 % of a core, twice that for a build without optimisation.
    let cpu = || process.sample("process_cpu_seconds_total").expect("a sample");
    let (before, since) = (cpu(), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        thread::park_timeout(Duration::from_millis(100));
    }
    let share = (cpu() - before) / since.elapsed().as_secs_f64();
    assert!(share < 0.08, "{share} of a core");

    held.truncate(held.len() - waiting.len().min(held.len()));
    let since = Instant::now();
    for client in &mut waiting {
        let mut server = pod.accept_hello(&wire);
        server.write_all(b"x").expect("write");
        // Which client it is, the kernel decides.
        client.set_read_timeout(Some(PATIENCE)).expect("timeout");
        held.push((client.try_clone().expect("clone"), server));
    }
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    for client in &mut waiting {
        client.read_exact(&mut [0]).expect("each was served");
    }
}

#[test]
fn too_few_open_files_end_the_start_and_say_what_to_change() {
    let files = Files::new();
    let mut command = with_open_files(48, &process::gateway(files.path(), &[]));
    let output = command.output().expect("run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("open files is 48") && said.contains("ulimit -n"), "{said}");
}

#[test]
fn whichever_descriptor_is_the_one_that_is_missing_nobody_is_blamed_and_all_goes_on() {
    const ALERT_80: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let settings = ["access_log.format=off", "outlier_detection.min_health_percent=0"];
    let mut process = Process::start(files.path(), &settings);
    let wire = Hello::new(&bar.key()).wire();
    let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid")).expect("a pid");
    let limit = |current: u64, maximum: u64| {
        let limit = Rlimit { current: Some(current), maximum: Some(maximum) };
        prlimit(Some(pid), Resource::Nofile, limit).expect("a limit of a child of ours").current
    };
    // Each worker runs, and has what it needs itself.
    let _held: Vec<_> =
        (0..8).map(|_| (process.ask(&bar.key()), pod.accept_hello(&wire))).collect();
    let open = || {
        let all = std::fs::read_dir(format!("/proc/{}/fd", process.id())).expect("descriptors");
        all.map(|fd| fd.expect("one").file_name()).collect::<Vec<_>>()
    };
    let at_rest = open().len();
    // The limit that leaves so many free: descriptors have numbers, and those below it count.
    let leaving = |spare: usize| {
        let open = eventually("it is at rest", || Some(open()).filter(|fds| fds.len() <= at_rest));
        let is_free = |n: &u64| !open.iter().any(|fd| *fd == *n.to_string());
        (0..).filter(is_free).nth(spare).expect("there are more numbers")
    };
    let mut told = Vec::new();
    for spare in 0..=4 {
        limit(leaving(spare), 10_000);
        let mut clients: Vec<_> = (0..4).map(|_| process.ask(&bar.key())).collect();
        let begun = Instant::now();
        let serve = || {
            if let Some(server) = pod.waiting() {
                server.set_nonblocking(false).expect("blocking");
                (&server).read_exact(&mut vec![0; wire.len()]).expect("the hello");
                (&server).write_all(b"x").expect("write");
            }
        };
        while begun.elapsed() < Duration::from_millis(300) {
            serve();
            thread::park_timeout(Duration::from_millis(5));
        }
        limit(10_000, 10_000);
        thread::scope(|scope| {
            let reading = scope.spawn(|| clients.iter_mut().map(read_to_end).collect::<Vec<_>>());
            while !reading.is_finished() {
                serve();
                thread::park_timeout(Duration::from_millis(5));
            }
            told.extend(reading.join().expect("all were told"));
        });
    }
    let (served, refused) = ((b"x".to_vec(), true), (ALERT_80.to_vec(), true));
    assert!(told.iter().all(|told| [&served, &refused].contains(&told)), "{told:?}");
    assert!(told.contains(&served) && told.contains(&refused), "{told:?}");
    assert_eq!(process.sample("diolkos_ejections_total"), Some(0.0));
    assert!(process.is_alive());
}

#[test]
fn the_lower_of_two_limits_holds() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let process = Process::start(files.path(), &["limits.connections_max=3"]);
    let wire = Hello::new(&bar.key()).wire();
    let held: Vec<_> = (0..3).map(|_| (process.ask(&bar.key()), pod.accept_hello(&wire))).collect();
    let mut fourth = process.ask(&bar.key());
    fourth.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
    assert!(fourth.read(&mut [0]).is_err() && pod.waiting().is_none());
    drop(held);
    pod.accept_hello(&wire);
}

#[test]
fn a_crowd_of_half_hellos_does_not_stand_in_anybodys_way() {
    let pod = Pod::new();
    let short = Duration::from_secs(1);
    let world = World::start(&[pod.address], |config| config.sniff.timeout = short);
    let half = &crate::support::HELLO[..100];
    let crowd: Vec<TcpStream> = (0..500).map(|_| world.send(half)).collect();
    let begun = Instant::now();
    for _ in 0..20 {
        let mut client = world.dial();
        pod.accept().write_all(b"x").expect("write");
        client.read_exact(&mut [0]).expect("served");
    }
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    for mut client in crowd {
        assert_eq!(read_to_end(&mut client), (vec![], true));
    }
    let handle = world.running().handle();
    eventually("nobody is left", || (handle.live() == 0).then_some(()));
}

#[test]
fn the_largest_hello_is_what_the_setting_says() {
    let pod = Pod::new();
    let name = "outbound_.8080_._.bar.ns2.global";
    let padded = |padding| Hello { padding: Some(padding), ..Hello::new(name) };
    let exact = |len: usize| {
        let empty = padded(0).wire().len();
        records(&padded(len - empty).message(), 1 << 14)
    };
    let world = World::start(&[pod.address], |config| config.sniff.bytes_max = 600);
    let client = world.send(&exact(600));
    drop((pod.accept_hello(&exact(600)), client));
    assert_eq!(read_to_end(&mut world.send(&exact(601))).0, [21, 3, 3, 0, 2, 2, 50]);
}
