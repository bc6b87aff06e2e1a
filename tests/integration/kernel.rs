//! A kernel that refuses: `splice` and pipes, what it knows of a connection, a socket now and
//! then, and memory. No byte is lost, nobody is cut, and who can be served is served.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    PATIENCE, Pod,
    cage::{self, Cage},
    eventually,
    hello::Hello,
    mesh::{Files, Service, gateway},
    pattern,
    process::{self, Process},
    read_to_end, reset, tools,
};

// A user who has no more pipes.
mod pipes;

/// Larger than the buffers of a connection.
const BULK: usize = 4 << 20;

/// One service, `bar`, with these pods.
fn mesh(pods: &[&Pod]) -> (Files, Service) {
    let addresses: Vec<_> = pods.iter().map(|pod| pod.address).collect();
    let bar = Service::new("bar", &addresses);
    let files = [("gateway.yaml", &gateway(&["*.global"])[..]), ("bar.yaml", &bar.yaml())];
    (Files::with(&files), bar)
}

/// Everything is allowed but these calls, each with what it fails with. `argument` narrows them to
/// those with this value as an argument.
fn refusing(calls: &[&str], errno: i32, argument: Option<(u32, u32)>) -> Value {
    let mut rule = json!({"names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
    if let Some((index, value)) = argument {
        rule["args"] = json!([{"index": index, "value": value, "op": "SCMP_CMP_EQ"}]);
    }
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
}

/// A gateway with one worker under such a kernel.
fn under(profile: &Value, files: &Files, settings: &[&str]) -> Option<Process> {
    let cage = Cage::new(profile)?;
    let command = process::gateway(files.path(), &[&["gateway.workers=1"], settings].concat());
    Some(Process::spawn(cage.command(&command, &[files.path()], &[])))
}

/// A connection on which a byte came back.
fn served(process: &Process, pod: &Pod, bar: &Service) -> (TcpStream, TcpStream) {
    let mut client = process.ask(&bar.key());
    let mut server = pod.accept_hello(&Hello::new(&bar.key()).wire());
    server.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("served");
    (client, server)
}

/// So much each way at once, and each way to its FIN.
fn exchange(client: TcpStream, server: TcpStream) {
    let send = |mut to: &TcpStream, seed| {
        to.write_all(&pattern(seed, BULK)).expect("write");
        to.shutdown(Shutdown::Write).expect("shutdown");
    };
    let take = |from: &TcpStream, seed| {
        let (got, fin) = read_to_end(from);
        assert!(fin && got == pattern(seed, BULK), "{} bytes, FIN: {fin}", got.len());
    };
    thread::scope(|scope| {
        scope.spawn(|| send(&client, 1));
        scope.spawn(|| send(&server, 2));
        scope.spawn(|| take(&server, 1));
        scope.spawn(|| take(&client, 2));
    });
}

#[test]
fn without_splice_every_byte_comes_by_copy_and_it_is_said_once() {
    for errno in [libc::EPERM, libc::ENOSYS, libc::EINVAL, libc::ENOMEM] {
        let pod = Pod::new();
        let (files, bar) = mesh(&[&pod]);
        let profile = refusing(&["splice"], errno, None);
        let Some(process) = under(&profile, &files, &[]) else { return };
        for _ in 0..2 {
            let (client, server) = served(&process, &pod, &bar);
            exchange(client, server);
        }
        assert_eq!(process.sample("diolkos_splice_fallbacks_total"), Some(1.0), "{errno}");
        let said = |line: &&Value| line["message"] == "splice cannot be had; bytes are copied";
        assert_eq!(process.log().iter().filter(said).count(), 1);
        assert_eq!(process.sample("diolkos_pipes_open"), Some(1.0), "kept and clean");
    }
}

#[test]
fn without_pipes_every_byte_comes_by_copy_and_it_is_counted() {
    for errno in [libc::EPERM, libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
        let pod = Pod::new();
        let (files, bar) = mesh(&[&pod]);
        let Some(process) = under(&refusing(&["pipe2"], errno, None), &files, &[]) else { return };
        let (client, server) = served(&process, &pod, &bar);
        exchange(client, server);
        assert!(process.sample("diolkos_pipe_shortages_total") > Some(0.0), "{errno}");
        assert_eq!(process.sample("diolkos_pipes_open"), Some(0.0));
    }
}

/// `TIOCOUTQ` and `TCP_INFO` say how much is on its way; without them nobody may be hurried.
#[test]
fn where_the_kernel_tells_nothing_of_connections_no_byte_before_a_reset_is_lost() {
    const TIOCOUTQ: u32 = 21_521;
    const TCP_INFO: u32 = 11;
    const SENT: usize = 200_000;
    let told_nothing = [
        refusing(&["ioctl"], libc::EPERM, Some((1, TIOCOUTQ))),
        refusing(&["getsockopt"], libc::EPERM, Some((2, TCP_INFO))),
    ];
    for profile in told_nothing {
        let pod = Pod::new();
        let (files, bar) = mesh(&[&pod]);
        let Some(process) = under(&profile, &files, &["relay.abort_linger=3s"]) else { return };
        // A client that has room for little and reads late: the rest waits in the gateway.
        let mut client = slow_reader(&process, &bar);
        let mut server = pod.accept_hello(&Hello::new(&bar.key()).wire());
        server.write_all(&pattern(3, SENT)).expect("write");
        eventually("all is taken by the gateway", || {
            let sent = process.json("/connections")["connections"][0]["bytes_sent"].as_u64();
            (sent.is_some() && unsent(&server) == 0).then_some(())
        });
        reset(server);
        let mut first = [0; 1000];
        client.read_exact(&mut first).expect("the first bytes");
        let (rest, fin) = read_to_end(&mut client);
        assert!(!fin && first.len() + rest.len() == SENT, "{} bytes, FIN: {fin}", rest.len());
        assert!([&first[..], &rest].concat() == pattern(3, SENT));
        drop(served(&process, &pod, &bar));
    }
}

/// Asks for the service by a socket that takes few bytes at once.
fn slow_reader(process: &Process, bar: &Service) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(&process.address.into()).expect("connect");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut client = TcpStream::from(socket);
    client.write_all(&Hello::new(&bar.key()).wire()).expect("the hello");
    client
}

fn unsent(stream: &TcpStream) -> usize {
    diolkos::net::sys::unacknowledged(stream).expect("a number")
}

/// strace, attached to every thread of a process, which makes some of their calls fail.
struct Injected {
    _strace: tools::Process,
}

impl Injected {
    /// `what` is as strace's `inject=` takes it. `None`, said aloud, where that cannot be.
    fn into(process: &Process, what: &str) -> Option<Self> {
        let strace = tools::find("strace")?;
        let mut command = Command::new(strace);
        command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("inject={what}"));
        command.arg("-p").arg(process.id().to_string());
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let mut tracer = tools::Process::start(&mut command);
        let tasks = format!("/proc/{}/task", process.id());
        let attached = |task: &Path| {
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        eventually("strace holds every thread, or cannot", || {
            if tracer.ended().is_some() {
                return Some(None);
            }
            let mut all = fs::read_dir(&tasks).expect("tasks").flatten();
            all.all(|task| attached(&task.path())).then_some(Some(()))
        })
        .or_else(|| {
            let reason = "strace cannot trace here";
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            None
        })
        .map(|()| Self { _strace: tracer })
    }
}

#[test]
fn a_splice_that_fails_at_any_point_loses_no_byte() {
    for (error, nth) in [("EINVAL", 1), ("EINVAL", 2), ("EINVAL", 3), ("ENOMEM", 4), ("EPERM", 6)] {
        let pod = Pod::new();
        let (files, bar) = mesh(&[&pod]);
        let process = Process::start(files.path(), &["gateway.workers=1"]);
        let (client, server) = served(&process, &pod, &bar);
        let what = format!("splice:error={error}:when={nth}");
        let Some(injected) = Injected::into(&process, &what) else { return };
        exchange(client, server);
        drop(injected);
        let fallbacks = process.sample("diolkos_splice_fallbacks_total");
        assert_eq!(fallbacks, Some(1.0), "{what}: it did fail");
    }
}

#[test]
fn a_call_that_says_wrongly_that_it_would_wait_is_tried_again() {
    for what in ["splice:error=EAGAIN:when=2+3", "sendto:error=EAGAIN:when=4+40"] {
        let pod = Pod::new();
        let (files, bar) = mesh(&[&pod]);
        let process = Process::start(files.path(), &["gateway.workers=1"]);
        let (client, server) = served(&process, &pod, &bar);
        let Some(_injected) = Injected::into(&process, what) else { return };
        exchange(client, server);
    }
}

#[test]
fn accept_and_socket_that_fail_now_and_then_cost_no_client() {
    let accept = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EPERM", "ECONNABORTED", "EPROTO"];
    let socket = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"];
    let accept = accept.map(|error| ("accept4", error));
    let socket = socket.map(|error| ("socket", error));
    for (call, error) in accept.into_iter().chain(socket) {
        let pods = [Pod::new(), Pod::new()];
        let (files, bar) = mesh(&[&pods[0], &pods[1]]);
        let process = Process::start(files.path(), &["gateway.workers=1"]);
        let what = format!("{call}:error={error}:when=2+3");
        let Some(_injected) = Injected::into(&process, &what) else { return };
        for n in 0..10 {
            let mut client = process.ask(&bar.key());
            let mut server = eventually("a pod is dialled", || pods.iter().find_map(Pod::waiting));
            server.write_all(b"x").expect("write");
            client.read_exact(&mut [0]).unwrap_or_else(|e| panic!("{what}, client {n}: {e}"));
        }
        assert_eq!(process.sample("diolkos_ejections_total"), Some(0.0), "{what}: nobody's fault");
        let errors = process.sample("diolkos_accept_errors_total").expect("a count");
        let failed = process.sample("diolkos_connect_attempts_total{result=\"failed\"}");
        let of_the_peer = ["EPERM", "ECONNABORTED", "EPROTO"].contains(&error);
        match call {
            "accept4" => assert_eq!(errors > 0.0, !of_the_peer, "{what}"),
            _ => assert!(failed > Some(0.0), "{what}: {failed:?}"),
        }
    }
}

/// A cgroup of this machine with so much memory; gone when dropped, with what runs there.
struct Memory {
    dir: PathBuf,
}

impl Memory {
    /// `None`, said aloud, where none can be made.
    fn with(bytes: u64) -> Option<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let root = if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") };
        let dir = root.join(format!("diolkos-test-{}", std::process::id()));
        let limit = if v1.is_dir() { "memory.limit_in_bytes" } else { "memory.max" };
        let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
        let made = fs::create_dir(&dir);
        let made = made.and_then(|()| fs::write(dir.join(limit), bytes.to_string()));
        let memory = Self { dir };
        match made {
            Ok(()) => Some(memory),
            Err(error) => {
                let reason = format!("no cgroup for memory can be made: {error}");
                assert!(std::env::var_os("CI").is_none(), "{reason}");
                eprintln!("skipped: {reason}");
                None
            }
        }
    }

    /// The command, which begins in it.
    fn command(&self, mut command: Command) -> Command {
        let procs = self.dir.join("cgroup.procs");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg("echo $$ > \"$0\" && exec \"$@\"").arg(procs);
        shell.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        command = shell;
        command.process_group(0);
        command
    }

    /// Bytes, for who reads why a test failed.
    fn used(&self) -> Option<String> {
        let names = ["memory.usage_in_bytes", "memory.current"];
        names.iter().find_map(|name| fs::read_to_string(self.dir.join(name)).ok())
    }

    /// How often the kernel ended a process for want of memory.
    fn kills(&self) -> u64 {
        let text = ["memory.oom_control", "memory.events"]
            .iter()
            .find_map(|name| fs::read_to_string(self.dir.join(name)).ok())
            .expect("what happened");
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|kills| kills.parse().ok()).expect("a number")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Busy for a moment after its last process.
        for _ in 0..200 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// Connections until newcomers are reset, each with bytes that its client did not read yet: every
/// one of them still gets them, and more.
#[test]
fn with_little_memory_it_refuses_before_the_kernel_ends_it_and_cuts_nobody() {
    const EACH: usize = 20_000;
    let Some(memory) = Memory::with(64 << 20) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let bar = Service::new("bar", &[listener.local_addr().expect("address")]);
    let files = [("gateway.yaml", &gateway(&["*.global"])[..]), ("bar.yaml", &bar.yaml())];
    let files = Files::with(&files);
    let wire = Hello::new(&bar.key()).wire();
    let servers = Arc::<Mutex<Vec<TcpStream>>>::default();
    let (into, hello) = (Arc::clone(&servers), wire.len());
    thread::spawn(move || {
        for mut server in listener.incoming().map_while(Result::ok) {
            server.read_exact(&mut vec![0; hello]).expect("the hello");
            let mut servers = into.lock().expect("servers");
            server.write_all(&pattern(servers.len() as u64, EACH)).expect("write");
            servers.push(server);
        }
    });
    let settings = ["gateway.workers=1", "access_log.format=off"];
    let command = memory.command(process::gateway(files.path(), &settings));
    let mut process = Process::spawn(command);
    process.said("memory is watched");
    let begun = Instant::now();
    let mut held = Vec::new();
    let mut first = [0];
    loop {
        let so_far = (held.len(), memory.used());
        assert!(begun.elapsed() < Duration::from_secs(120), "{so_far:?} and never refused");
        let mut client = process.ask(&bar.key());
        match client.read_exact(&mut first) {
            Ok(()) => held.push((client, first)),
            Err(error) => break assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(process.sample("diolkos_memory_short"), Some(1.0));
    assert!(process.sample("diolkos_connections_total{outcome=\"shed_memory\"}") >= Some(1.0));
    assert!(held.len() > 20, "refused after {}", held.len());
    assert_eq!(memory.kills(), 0);
    assert!(process.is_alive());

    // Each of them lives, and has lost nothing.
    let servers = std::mem::take(&mut *servers.lock().expect("servers"));
    for (n, ((client, first), mut server)) in held.into_iter().zip(servers).enumerate() {
        server.write_all(b"more").expect("write");
        server.shutdown(Shutdown::Write).expect("shutdown");
        let (rest, fin) = read_to_end(client);
        let all = [&first[..], &rest].concat();
        assert!(fin && all == [&pattern(n as u64, EACH)[..], b"more"].concat(), "connection {n}");
    }
    eventually("there is memory again", || {
        (process.sample("diolkos_memory_short") == Some(0.0)).then_some(())
    });
    process.ask(&bar.key()).read_exact(&mut first).expect("served again");
    assert_eq!(memory.kills(), 0);
    assert_eq!(cage::status(process.id(), "Name"), "diolkos");
}
