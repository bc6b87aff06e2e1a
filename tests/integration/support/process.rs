//! The program itself, as an operator runs it, on ports of its own, and plain HTTP to it. Must not
//! know: what it should answer.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{PATIENCE, eventually, hello::Hello};

/// A run of `diolkos gateway`. Dropped, it is killed.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    lines: Arc<Mutex<Vec<String>>>,
    /// Where connections go.
    pub address: SocketAddr,
    ports: HashMap<String, SocketAddr>,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// The command, without anything of this environment that would be read as a setting.
pub fn diolkos() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diolkos"));
    for (name, _) in std::env::vars() {
        if name.starts_with("DIOLKOS_") || name.starts_with("ISTIO_META") {
            command.env_remove(name);
        }
    }
    command.env_remove("POD_NAMESPACE").env_remove("NODE_NAME").env("RUST_BACKTRACE", "0");
    command
}

/// `diolkos gateway` with every port taken anywhere and the log in JSON.
pub fn gateway(manifests: &Path, settings: &[&str]) -> Command {
    gateway_of(&["--manifests", manifests.to_str().expect("a path")], settings)
}

/// As [`gateway`], with whatever flags say where its objects come from.
pub fn gateway_of(flags: &[&str], settings: &[&str]) -> Command {
    let mut command = diolkos();
    command.arg("gateway").args(flags);
    for flag in ["--listen", "--admin", "--health", "--metrics"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    for setting in ["agent.listen=127.0.0.1:0", "log.format=json", "gateway.workers=2"] {
        command.args(["--set", setting]);
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    command
}

impl Process {
    /// Starts it and waits until it accepts connections.
    pub fn start(manifests: &Path, settings: &[&str]) -> Self {
        Self::spawn(gateway(manifests, settings))
    }

    pub fn spawn(command: Command) -> Self {
        Self::spawn_within(command, PATIENCE)
    }

    /// As [`Self::spawn`], where accepting waits for others.
    pub fn spawn_within(command: Command, patience: Duration) -> Self {
        let mut process = Self::launch(command);
        let accepts = process.said_within("gateway accepts connections", patience);
        let listen = accepts["listen"].as_str().expect("addresses").trim_matches(['[', ']']);
        process.address = listen.parse().expect("an address");
        for line in process.log().iter().filter(|line| line["message"] == "listening") {
            let text = |key: &str| line[key].as_str().expect("a text").to_owned();
            process.ports.insert(text("port"), text("address").parse().expect("an address"));
        }
        process
    }

    /// Starts any of our commands and waits for nothing; its address is not known.
    pub fn launch(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (log, lines) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::default());
        let stderr = child.stderr.take().expect("a pipe");
        let into = Arc::clone(&log);
        read_lines(stderr, move |line| {
            let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
            into.lock().expect("log").push(value);
        });
        let stdout = child.stdout.take().expect("a pipe");
        let into: Arc<Mutex<Vec<String>>> = Arc::clone(&lines);
        read_lines(stdout, move |line| into.lock().expect("lines").push(line));
        Self { child, log, lines, address: ([0, 0, 0, 0], 0).into(), ports: HashMap::new() }
    }

    /// What it logged so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().expect("log").clone()
    }

    /// The lines of its access log so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("lines").clone()
    }

    /// Waits for a log line with this message.
    pub fn said(&self, message: &str) -> Value {
        self.said_within(message, PATIENCE)
    }

    fn said_within(&self, message: &str, patience: Duration) -> Value {
        let deadline = Instant::now() + patience;
        loop {
            let log = self.log();
            if let Some(line) = log.iter().find(|line| line["message"] == message) {
                return line.clone();
            }
            assert!(Instant::now() < deadline, "never said {message:?}: {log:#?}");
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// The address of an operators' port: admin, health, agent, metrics.
    pub fn port(&self, name: &str) -> SocketAddr {
        self.ports[name]
    }

    pub fn get(&self, port: &str, path: &str) -> Answer {
        http(self.port(port), "GET", path)
    }

    pub fn post(&self, port: &str, path: &str) -> Answer {
        http(self.port(port), "POST", path)
    }

    /// An admin view.
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get("admin", path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).expect("JSON")
    }

    /// A sample of a scrape, by name and labels as they stand there.
    pub fn sample(&self, sample: &str) -> Option<f64> {
        let scrape = self.get("admin", "/stats/prometheus").body;
        let value = scrape.lines().find_map(|l| l.strip_prefix(sample)?.strip_prefix(' '))?;
        Some(value.parse().expect("a number"))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("kill");
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// Waits for its end.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "still runs: {:#?}", self.log());
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Connects and asks for a name.
    pub fn ask(&self, name: &str) -> TcpStream {
        self.send(&Hello::new(name).wire())
    }

    /// Connects and sends this.
    pub fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut client = TcpStream::connect(self.address).expect("connect");
        client.set_read_timeout(Some(PATIENCE)).expect("timeout");
        client.write_all(bytes).expect("write");
        client
    }

    /// Waits until the gateway says this of a name.
    pub fn explains(&self, name: &str, served: bool) {
        let path = format!("/explain?format=json&sni={name}");
        eventually(&format!("{name} served: {served}"), || {
            (self.json(&path)["served"] == served).then_some(())
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request, and its answer read to the end.
pub fn http(to: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(to).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n")
        .expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
    let status = head.split_whitespace().nth(1).and_then(|s| s.parse().ok()).expect("a status");
    Answer { status, body: body.to_owned() }
}

fn read_lines(from: impl Read + Send + 'static, mut take: impl FnMut(String) + Send + 'static) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            take(line);
        }
    });
}
