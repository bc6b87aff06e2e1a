//! Somebody stands still: a worker, the whole process, whoever reads the log, and files that are
//! written again and again without a change.

use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    PATIENCE, Pod, eventually,
    hello::Hello,
    mesh::{Files, Service, gateway},
    process::Process,
    read_to_end, reset, tools,
};

fn mesh(pod: &Pod) -> (Files, Service) {
    let bar = Service::new("bar", &[pod.address]);
    let files = [("gateway.yaml", &gateway(&["*.global"])[..]), ("bar.yaml", &bar.yaml())];
    (Files::with(&files), bar)
}

/// The service, and a DestinationRule with this in its connection pool.
fn with_rule(service: &Service, tcp: &str) -> String {
    let (text, name) = (service.yaml(), &service.name);
    format!(
        "{text}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: {name}, namespace: ns2}}\nspec:\n  \
         host: {name}.ns2.svc.cluster.local\n  \
         trafficPolicy: {{connectionPool: {{tcp: {{{tcp}}}}}}}\n"
    )
}

/// A connection on which a byte came back.
fn served(process: &Process, pod: &Pod, bar: &Service) -> (TcpStream, TcpStream) {
    let mut client = process.ask(&bar.key());
    let mut server = pod.accept_hello(&Hello::new(&bar.key()).wire());
    server.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("served");
    (client, server)
}

/// Fills the way to somebody who does not read. Gives how much went in.
fn fill(mut writer: &TcpStream) -> usize {
    writer.set_nonblocking(true).expect("nonblocking");
    let mut sent = 0;
    eventually("the way is full", || {
        let before = sent;
        while let Ok(n) = writer.write(&[7; 64 * 1024]) {
            sent += n;
        }
        for_a_while(Duration::from_millis(50));
        (before == sent && sent > 0).then_some(())
    });
    sent
}

/// Returns when the process stands still.
fn stop(process: &Process) {
    process.signal(Signal::STOP);
    eventually("it stands still", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("a process");
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")).then_some(())
    });
}

/// Both ends of so many connections that the gateway's reactor, which hears of 1,024 sockets at a
/// time, hears of all of them and of its timers before it hears of whoever speaks after them.
struct Crowd(Vec<(TcpStream, TcpStream)>);

impl Crowd {
    fn of(process: &Process, pod: &Pod, bar: &Service) -> Self {
        Self((0..600).map(|_| served(process, pod, bar)).collect())
    }

    fn speaks(&mut self) {
        let ends = self.0.iter_mut().flat_map(|(client, server)| [client, server]);
        ends.for_each(|end| end.write_all(b"c").expect("write"));
    }
}

/// Waits for so long, which is what the test is about.
fn for_a_while(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        thread::park_timeout(time);
    }
}

/// One thread of a process, which stands still: its tracer holds it at a system call, and was
/// itself stopped.
struct Frozen {
    tracer: Pid,
    _strace: tools::Process,
}

impl Frozen {
    /// `None`, said aloud, where threads cannot be traced.
    fn thread(process: &Process, name: &str) -> Option<Self> {
        let strace = tools::find("strace")?;
        let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).expect("tasks").flatten();
        let is_it = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        let task = tasks.into_iter().find(is_it).expect("such a thread");
        let id = task.file_name().into_string().expect("a number");
        let mut command = Command::new(strace);
        command.args(["-qq", "-o", "/dev/null", "-p", &id]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let tracer = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        let attached = eventually("strace holds it, or cannot", || {
            if child.try_wait().expect("wait").is_some() {
                return Some(false);
            }
            let status = fs::read_to_string(task.path().join("status")).expect("a thread");
            let line = status.lines().find(|line| line.starts_with("TracerPid:"));
            line.is_some_and(|line| !line.ends_with("\t0")).then_some(true)
        });
        if !attached {
            let reason = "strace cannot trace here";
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            return None;
        }
        kill_process(tracer, Signal::STOP).expect("stopped");
        let frozen = Self { tracer, _strace: tools::Process::of(child) };
        eventually("the thread waits for its tracer", || {
            let stat = fs::read_to_string(task.path().join("stat")).expect("a thread");
            stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" t")).then_some(())
        });
        Some(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill_process(self.tracer, Signal::CONT);
    }
}

#[test]
fn a_worker_that_stands_still_strands_no_newcomer() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let process = Process::start(files.path(), &["gateway.workers=2"]);
    let live = served(&process, &pod, &bar);
    let Some(frozen) = Frozen::thread(&process, "worker-0") else { return };
    // The kernel gives about half of them to the one that does not come.
    let held: Vec<_> = (0..20).map(|_| served(&process, &pod, &bar)).collect();
    assert_eq!(process.get("health", "/healthz/ready").status, 200);
    drop(frozen);
    let (mut client, mut server) = live;
    server.write_all(b"later").expect("write");
    client.read_exact(&mut [0; 5]).expect("whoever was with it goes on");
    drop(held);
}

#[test]
fn a_process_that_stood_still_goes_on_where_it_was() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let settings = ["sniff.timeout=1s", "relay.idle_timeout=30s", "gateway.workers=1"];
    let process = Process::start(files.path(), &settings);
    let (mut client, mut server) = served(&process, &pod, &bar);
    stop(&process);
    // Whole, but not read before its time was over.
    let mut newcomer = process.ask(&bar.key());
    server.write_all(b"meanwhile").expect("write");
    for_a_while(Duration::from_secs(3));
    process.signal(Signal::CONT);
    let mut other = pod.accept_hello(&Hello::new(&bar.key()).wire());
    other.write_all(b"x").expect("write");
    newcomer.read_exact(&mut [0]).expect("served, late");
    client.read_exact(&mut [0; 9]).expect("not ended");
    drop(served(&process, &pod, &bar));
}

/// The rest of a hello, an endpoint's first byte and the end of a TCP handshake.
#[test]
fn what_came_while_the_process_stood_still_is_not_late() {
    let (pod, other, far) = (Pod::new(), Pod::new(), Pod::unreachable());
    let (files, bar) = mesh(&pod);
    // A silent endpoint is left only for another one.
    let two = Service::new("two", &[pod.address, other.address]);
    files.write("two.yaml", &two.yaml());
    let remote = Service::new("remote", &[far.address]);
    files.write("remote.yaml", &with_rule(&remote, "connectTimeout: 1s"));
    let timeouts = ["sniff.timeout=1s", "first_flight.server_hello_timeout=1s"];
    let process = Process::start(files.path(), &[&timeouts[..], &["gateway.workers=1"]].concat());
    let mut crowd = Crowd::of(&process, &pod, &bar);
    let asks = |service: &Service| Hello::new(&service.key()).wire();

    let hello = asks(&bar);
    let (begun, rest) = hello.split_at(20);
    let mut slow = process.send(begun);
    let mut asking = process.ask(&two.key());
    let asked = || [&pod, &other].into_iter().find_map(Pod::waiting);
    let mut asked = eventually("one of the two is asked", asked);
    let mut dialling = process.ask(&remote.key());
    let all = |active: f64| (active == 603.0).then_some(());
    let active = || process.sample("diolkos_connections_active");
    eventually("it has all of them", || active().and_then(all));
    stop(&process);
    crowd.speaks();
    slow.write_all(rest).expect("write");
    asked.write_all(b"x").expect("write");
    // Its SYN comes again one second after the first.
    far.hears_again();
    for_a_while(Duration::from_millis(1500));
    process.signal(Signal::CONT);

    pod.accept_hello(&asks(&bar)).write_all(b"x").expect("write");
    slow.read_exact(&mut [0]).expect("served");
    asking.read_exact(&mut [0]).expect("served");
    far.accept_hello(&asks(&remote)).write_all(b"x").expect("write");
    dialling.read_exact(&mut [0]).expect("served");
    assert_eq!(process.sample("diolkos_replays_total"), Some(0.0));
}

#[test]
fn what_came_while_the_process_stood_still_ends_idleness_and_is_delivered_at_the_end_of_a_life() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let brief = Service::new("brief", &[pod.address]);
    files.write("brief.yaml", &with_rule(&brief, "idleTimeout: 1s"));
    let mortal = Service::new("mortal", &[pod.address]);
    files.write("mortal.yaml", &with_rule(&mortal, "maxConnectionDuration: 2s"));
    let process = Process::start(files.path(), &["gateway.workers=1"]);
    let mut crowd = Crowd::of(&process, &pod, &bar);
    // Each tick looks at one connection in five, ten times a second.
    let mut live: Vec<_> = (0..10).map(|_| served(&process, &pod, &brief)).collect();
    let mut last: Vec<_> = (0..10).map(|_| served(&process, &pod, &mortal)).collect();
    for_a_while(Duration::from_millis(600));
    stop(&process);
    crowd.speaks();
    let servers = live.iter_mut().chain(&mut last).map(|(_, server)| server);
    servers.for_each(|server| server.write_all(b"x").expect("write"));
    for_a_while(Duration::from_millis(1500));
    process.signal(Signal::CONT);
    for (client, _) in &mut last {
        assert_eq!(read_to_end(client), (b"x".to_vec(), true), "its time is over");
    }
    for (client, server) in &mut live {
        client.read_exact(&mut [0]).expect("what was said meanwhile");
        client.write_all(b"y").expect("write");
        server.read_exact(&mut [0]).expect("it is not ended");
    }
}

/// Whoever reads meanwhile has all of the linger from when the process goes on.
#[test]
fn what_an_endpoint_said_before_it_reset_is_delivered_by_a_process_that_stood_still() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let process = Process::start(files.path(), &["gateway.workers=1"]);
    let mut crowd = Crowd::of(&process, &pod, &bar);
    // Each tick looks at one connection in five.
    let pairs: Vec<_> = (0..10).map(|_| served(&process, &pod, &bar)).collect();
    let sent: Vec<_> = pairs.iter().map(|(_, server)| fill(server)).collect();
    let acknowledged = |((client, server), sent): ((TcpStream, TcpStream), usize)| {
        let said = sent - diolkos::net::sys::unacknowledged(&server).expect("a count");
        // The gateway learns of the reset when it passes this on.
        (&client).write_all(b"more").expect("write");
        reset(server);
        (client, said)
    };
    let mut owed: Vec<_> = pairs.into_iter().zip(sent).map(acknowledged).collect();
    for_a_while(Duration::from_millis(300));
    stop(&process);
    crowd.speaks();
    for (client, said) in &mut owed {
        // What the gateway's kernel has.
        client.set_read_timeout(Some(Duration::from_millis(200))).expect("timeout");
        let mut chunk = vec![0; 1 << 16];
        while let Ok(n @ 1..) = client.read(&mut chunk) {
            *said -= n;
        }
        assert_ne!(*said, 0, "the gateway has nothing more");
    }
    process.signal(Signal::CONT);
    for (client, said) in owed {
        client.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let (heard, fin) = read_to_end(client);
        assert_eq!((heard.len(), fin), (said, false));
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nobody_and_what_it_lost_is_counted() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let pipe = files.at("pipe.log");
    let made = tools::run(Command::new("mkfifo").arg(&pipe), b"", PATIENCE);
    assert!(made.good, "{made:?}");
    // Open at both ends, and nobody reads.
    let _open = OpenOptions::new().read(true).write(true).open(&pipe).expect("a pipe");
    let path = format!("access_log.path={}", pipe.display());
    let process = Process::start(files.path(), &[&path, "gateway.workers=1"]);
    let begun = Instant::now();
    while process.sample("diolkos_log_lines_dropped_total") == Some(0.0) {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing was ever dropped");
        for _ in 0..200 {
            let told = read_to_end(process.ask("outbound_.8080_._.none.ns2.global"));
            assert_eq!(told, (vec![21, 3, 3, 0, 2, 2, 112], true));
        }
    }
    drop(served(&process, &pod, &bar));
}

#[test]
fn files_that_are_written_again_without_a_change_are_none() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let process = Process::start(files.path(), &[]);
    let generation = || process.sample("diolkos_table_generation").expect("a number");
    let before = generation();
    for n in 0..20 {
        files.write("bar.yaml", &bar.yaml());
        if n % 5 == 0 {
            process.signal(Signal::HUP);
        }
        for_a_while(Duration::from_millis(100));
    }
    assert_eq!(generation(), before, "nothing changed");
    files.write("other.yaml", &Service::new("other", &[pod.address]).yaml());
    process.explains("outbound_.8080_._.other.ns2.global", true);
    assert!(generation() > before);
}
