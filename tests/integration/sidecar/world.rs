//! An application, our sidecar, the gateway, the caller's sidecar: certificates, manifests and
//! processes. Must not know: what is called.

use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, SystemTime},
};

use diolkos::certs::{Authority, Existing, SpiffeId};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    envoy::sidecars::{BAR, SLEEP},
    support::{
        PATIENCE, eventually,
        front::Front,
        mesh,
        process::{self, Process},
    },
};

/// The port of every service here, by which a listener cannot be chosen freely.
pub const PORT: u16 = 8080;

/// A virtual address that no other test has.
pub fn vip() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    let third = u8::try_from(std::process::id() % 251).expect("below 251");
    ([127, 255, third, last], PORT).into()
}

/// Certificates and manifests in a directory: a root and two clusters, and a root that is not
/// theirs.
pub struct Mesh {
    dir: TempDir,
    cluster1: Authority,
    cluster2: Authority,
    pub root: Authority,
    pub stranger: Authority,
}

impl Mesh {
    pub fn new() -> Self {
        let now = SystemTime::now();
        let root = Authority::root(now).expect("a root");
        let cluster = |name| root.cluster(name, now).expect("a cluster");
        let (cluster1, cluster2) = (cluster("cluster1"), cluster("cluster2"));
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["manifests", "entries"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let stranger = Authority::root(now).expect("a root");
        Self { dir, cluster1, cluster2, root, stranger }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The certificate of a caller.
    pub fn sleep(&self) -> PathBuf {
        self.issue("sleep", &self.cluster1, SLEEP, SystemTime::now())
    }

    /// The certificate of who is called.
    pub fn bar(&self) -> PathBuf {
        self.issue("bar", &self.cluster2, BAR, SystemTime::now())
    }

    /// A caller's certificate of an hour that ended an hour ago.
    pub fn stale(&self, name: &str, id: &str) -> PathBuf {
        let dir = self.path(name);
        let (id, hour) = (SpiffeId::parse(id).expect("an identity"), Duration::from_secs(3600));
        let leaf = self.cluster1.workload_for(&id, SystemTime::now() - 2 * hour, hour);
        leaf.and_then(|leaf| leaf.write(&dir)).expect("a leaf");
        dir
    }

    /// A certificate by another root, beside our root: as one of another mesh would look to us.
    pub fn foreign(&self, name: &str, id: &str) -> PathBuf {
        let dir = self.issue(name, &self.stranger, id, SystemTime::now());
        let root = diolkos::certs::files::pem_text([self.root.certificate()]);
        fs::write(dir.join("root-cert.pem"), root).expect("written");
        dir
    }

    /// Writes a certificate, over the one that is there.
    pub fn issue(&self, name: &str, by: &Authority, id: &str, now: SystemTime) -> PathBuf {
        let (dir, id) = (self.path(name), SpiffeId::parse(id).expect("an identity"));
        let leaf = by.workload(&id, now).expect("a leaf");
        leaf.write_over(&dir, Existing::Replace).expect("written");
        dir
    }

    /// Another certificate over that of the caller.
    pub fn renew_sleep(&self, id: &str) {
        self.issue("sleep", &self.cluster1, id, SystemTime::now());
    }

    /// A gateway that serves `bar` from these pods.
    pub fn front(&self, pods: &[SocketAddr]) -> Front {
        let mut bar = mesh::Service::new("bar", pods);
        bar.labels += ", version: v1";
        let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                    metadata: {name: bar, namespace: ns2}\n\
                    spec: {host: bar, subsets: [{name: v1, labels: {version: v1}}]}\n";
        let text = [mesh::gateway(&["*.global"]), bar.yaml(), rule.to_owned()].join("---\n");
        fs::write(self.path("manifests/bar.yaml"), text).expect("written");
        Front::start(self.dir.path(), |_| {})
    }

    /// Writes a ServiceEntry for the callers' side; `extra` are further lines of its spec.
    pub fn entry(&self, file: &str, host: &str, vip: SocketAddr, to: &[SocketAddr], extra: &str) {
        let endpoint = |at: &SocketAddr| {
            format!("  - {{address: {}, ports: {{tcp: {}}}}}\n", at.ip(), at.port())
        };
        let endpoints: String = to.iter().map(endpoint).collect();
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: {file}, namespace: ns1}}\nspec:\n  hosts: [{host}]\n  \
             addresses: [{}]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: {}, name: tcp, protocol: TCP}}]\n  \
             endpoints:\n{endpoints}{extra}",
            vip.ip(),
            vip.port(),
        );
        self.write(file, &text);
    }

    /// Writes a file of the callers' side.
    pub fn write(&self, file: &str, text: &str) {
        let hidden = self.path(&format!("entries/.{file}"));
        fs::write(&hidden, text).expect("written");
        fs::rename(hidden, self.path(&format!("entries/{file}.yaml"))).expect("renamed");
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.path(&format!("entries/{file}.yaml"))).expect("removed");
    }

    /// Our sidecar of the called side.
    pub fn inbound(&self, certs: &Path, application: SocketAddr, more: &[&str]) -> Sidecar {
        self.inbound_at("127.0.0.1:0", certs, application, more)
    }

    /// The same at an address that is given.
    pub fn inbound_at(
        &self,
        at: &str,
        certs: &Path,
        application: SocketAddr,
        more: &[&str],
    ) -> Sidecar {
        let way = format!("{at}={application}");
        let args = [&["--inbound", &way], more].concat();
        let mut sidecar = Sidecar::start(certs, &args);
        let line = sidecar.process.said("listening for inbound");
        sidecar.address = line["address"].as_str().expect("a text").parse().expect("an address");
        sidecar
    }

    /// Our sidecar of the callers' side.
    pub fn outbound(&self, certs: &Path, more: &[&str]) -> Sidecar {
        let entries = self.path("entries");
        let entries = entries.to_str().expect("text");
        Sidecar::start(certs, &[&["--manifests", entries], more].concat())
    }

    /// The same under a limit of open files, hard and soft.
    pub fn outbound_within(&self, files: u32, certs: &Path) -> Sidecar {
        let entries = self.path("entries");
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n {files} && exec \"$@\"")).arg("sh");
        command.arg(env!("CARGO_BIN_EXE_diolkos"));
        Sidecar::launch(command, certs, &["--manifests", entries.to_str().expect("text")])
    }
}

/// A run of `diolkos sidecar`.
pub struct Sidecar {
    pub process: Process,
    /// Where peers come in.
    pub address: SocketAddr,
}

impl Sidecar {
    /// Starts it and waits until it serves.
    fn start(certs: &Path, args: &[&str]) -> Self {
        Self::launch(process::diolkos(), certs, args)
    }

    fn launch(mut command: Command, certs: &Path, args: &[&str]) -> Self {
        command.arg("sidecar").arg("--certs").arg(certs).args(args);
        command.args(["--status", "127.0.0.1:0", "--set", "log.format=json"]);
        let process = Process::launch(command);
        let sidecar = Self { process, address: ([0, 0, 0, 0], 0).into() };
        // `ready: …` or `not ready: …`: the manifests are read.
        sidecar.says("ready: ");
        sidecar
    }

    /// What it told of connections, once it told of so many.
    pub fn connections(&self, count: usize) -> Vec<Value> {
        eventually("connections are told of", || {
            let mut log = self.process.log();
            log.retain(|line| line["message"] == "connection");
            (log.len() >= count).then_some(log)
        })
    }

    /// Waits until a line of the log holds this text.
    pub fn says(&self, text: &str) {
        eventually(text, || {
            let lines = self.process.log();
            lines.iter().any(|line| line.to_string().contains(text)).then_some(())
        });
    }

    /// Waits until it has taken in manifests so many times, the first load included.
    pub fn read_manifests(&self, times: usize) {
        eventually("manifests are read", || {
            let log = self.process.log();
            let read = log.iter().filter(|line| line["message"] == "manifests changed").count();
            (read >= times).then_some(())
        });
    }

    /// A path of its status port.
    pub fn status(&self, path: &str) -> process::Answer {
        let line = self.process.said("listening for readiness and scrapes");
        let at = line["address"].as_str().expect("a text").parse().expect("an address");
        process::http(at, "GET", path)
    }

    /// A sample of the scrape.
    pub fn sample(&self, name: &str) -> Option<u64> {
        let scrape = self.status("/stats/prometheus").body;
        let value = scrape.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(value.parse().expect("a number"))
    }
}

/// Everything: the application is a listener that the test plays.
pub struct World {
    // In this order: callers end before those they call, the files last.
    pub client: Sidecar,
    pub front: Front,
    pub pod: Sidecar,
    pub application: Application,
    pub vip: SocketAddr,
    pub mesh: Mesh,
}

impl World {
    pub fn start() -> Self {
        Self::with("", &[])
    }

    /// `extra` are lines of the entry's spec, `more` arguments of the caller's sidecar.
    pub fn with(extra: &str, more: &[&str]) -> Self {
        let mesh = Mesh::new();
        let application = Application::new();
        let pod = mesh.inbound(&mesh.bar(), application.address, &[]);
        let front = mesh.front(&[pod.address]);
        let vip = vip();
        mesh.entry("bar", "bar.ns2.global", vip, &[front.address], extra);
        let client = mesh.outbound(&mesh.sleep(), more);
        Self { client, front, pod, application, vip, mesh }
    }

    /// A caller and the application's end of its connection.
    pub fn connect(&self) -> (TcpStream, TcpStream) {
        let client = connect(self.vip);
        let server = self.application.accept();
        (client, server)
    }
}

/// Connects as a caller.
pub fn connect(to: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(to).expect("connect");
    client.set_read_timeout(Some(PATIENCE)).expect("timeout");
    client
}

/// What a caller gets that is refused: nothing, and a reset.
pub fn is_reset(mut client: TcpStream) {
    let error = client.read(&mut [0]).expect_err("no byte and no clean end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

/// An application that is only a listener.
pub struct Application {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Application {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("nonblocking");
        let address = listener.local_addr().expect("address");
        Self { listener, address }
    }

    pub fn accept(&self) -> TcpStream {
        let stream = eventually("a connection reaches the application", || self.waiting());
        stream.set_nonblocking(false).expect("blocking");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }

    /// A connection that waits to be accepted.
    pub fn waiting(&self) -> Option<TcpStream> {
        match self.listener.accept() {
            Ok((stream, _)) => Some(stream),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(e) => panic!("accept: {e}"),
        }
    }
}
