//! A real API server of Kubernetes with its own etcd, on free ports of this machine. Must not
//! know: what a gateway makes of the objects.

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    http,
    tools::{self, Process},
};

/// What an API server on a loaded machine may take for anything.
pub const LONG: Duration = Duration::from_secs(90);

/// A control plane, killed when dropped.
pub struct Cluster {
    directory: TempDir,
    programs: Programs,
    etcd: (Option<Process>, u16),
    api: Option<Process>,
    port: u16,
    /// Answers plain HTTP with the administrator's rights.
    proxy: Option<(Process, SocketAddr)>,
}

struct Programs {
    api: PathBuf,
    etcd: PathBuf,
    kubectl: PathBuf,
}

impl Programs {
    /// Where they are. `None` where something is absent, which is printed; where `CI` is set that
    /// fails, unless `WITHOUT_KUBERNETES` says that it is known.
    fn find() -> Option<Self> {
        let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home)?.join("diolkos");
        let built = fs::read_dir(cache).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut built: Vec<_> =
            built.filter(|path| path.join("kube-apiserver").is_file()).collect();
        built.sort();
        let path = env::var_os("PATH").unwrap_or_default();
        let places: Vec<_> = env::split_paths(&path).chain(built.pop()).collect();
        let find = |name| places.iter().map(|place| place.join(name)).find(|path| path.is_file());
        match (find("kube-apiserver"), find("etcd"), find("kubectl")) {
            (Some(api), Some(etcd), Some(kubectl)) => Some(Self { api, etcd, kubectl }),
            absent => {
                let (api, etcd, kubectl) =
                    (absent.0.is_some(), absent.1.is_some(), absent.2.is_some());
                let reason = format!(
                    "no API server (kube-apiserver: {api}, etcd: {etcd}, kubectl: {kubectl}); \
                     tests/setup.sh --kubernetes builds it"
                );
                let is_known = env::var_os("WITHOUT_KUBERNETES").is_some();
                assert!(env::var_os("CI").is_none() || is_known, "{reason}");
                eprintln!("skipped: {reason}");
                None
            }
        }
    }
}

impl Cluster {
    /// Starts one and waits until it is ready. It has the namespaces `istio-system` and `ns2`.
    pub fn start() -> Option<Self> {
        let cluster = Self::bare()?;
        cluster.apply(&format!("{}---\n{}", namespace("istio-system"), namespace("ns2")));
        Some(cluster)
    }

    /// As [`Self::start`], and with Istio's kinds.
    pub fn with_istio() -> Option<Self> {
        let cluster = Self::start()?;
        cluster.define_istio();
        Some(cluster)
    }

    fn bare() -> Option<Self> {
        let programs = Programs::find()?;
        let directory = tempfile::tempdir().expect("a directory");
        let [etcd, port] = [free_port(), free_port()];
        let mut cluster =
            Self { directory, programs, etcd: (None, etcd), api: None, port, proxy: None };
        cluster.write_credentials();
        cluster.start_etcd();
        cluster.start_api();
        Some(cluster)
    }

    /// Istio's kinds, which tests of a late one leave out at first.
    pub fn define_istio(&self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubernetes/crds.yaml");
        let file = file.to_str().expect("a path");
        self.kubectl(&["apply", "--server-side", "-f", file], "");
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", file], "");
    }

    fn write_credentials(&self) {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).expect("a root").pem();
        let issuer = Issuer::from_params(&ca, &ca_key);
        let key = KeyPair::generate().expect("a key");
        let mut server = CertificateParams::new(Vec::new()).expect("parameters");
        server.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        let server = server.signed_by(&key, &issuer).expect("a certificate").pem();
        let accounts = KeyPair::generate().expect("a key");
        for (name, text) in [
            ("ca.pem", &*ca_pem),
            ("server.pem", &*server),
            ("server.key", &*key.serialize_pem()),
            ("accounts.key", &*accounts.serialize_pem()),
            ("accounts.pub", &*accounts.public_key_pem()),
            ("tokens.csv", "administrator,admin,1,system:masters\n"),
        ] {
            fs::write(self.file(name), text).expect("written");
        }
        self.write_kubeconfig("admin", "administrator");
    }

    /// A kubeconfig for whoever has this token.
    fn write_kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let file = self.file(&format!("{name}.kubeconfig"));
        let (port, ca) = (self.port, self.file("ca.pem"));
        let cluster = json!({"server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": ca});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        fs::write(&file, config.to_string()).expect("written");
        file
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start_etcd(&mut self) {
        let (client, peer) = (self.etcd.1, free_port());
        let url = |port| format!("http://127.0.0.1:{port}");
        let mut command = Command::new(&self.programs.etcd);
        command.arg("--data-dir").arg(self.file("etcd"));
        command.args(["--listen-client-urls", &url(client), "--advertise-client-urls"]);
        command.args([&url(client), "--listen-peer-urls", &url(peer)]);
        command.args(["--initial-advertise-peer-urls", &url(peer)]);
        command.args(["--initial-cluster", &format!("default={}", url(peer))]);
        self.etcd.0 = Some(self.spawn(command, "etcd.log"));
    }

    /// Starts the API server, and waits until it is ready.
    pub fn start_api(&mut self) {
        let port = self.port;
        self.api = Some(self.spawn_api(port));
        self.wait_ready();
    }

    fn spawn_api(&self, port: u16) -> Process {
        let mut command = Command::new(&self.programs.api);
        let mut flag = |name: &str, value: &str| _ = command.arg(format!("--{name}={value}"));
        let path = |name: &str| self.file(name).to_str().expect("a path").to_owned();
        flag("etcd-servers", &format!("http://127.0.0.1:{}", self.etcd.1));
        flag("bind-address", "127.0.0.1");
        flag("secure-port", &port.to_string());
        flag("tls-cert-file", &path("server.pem"));
        flag("tls-private-key-file", &path("server.key"));
        flag("cert-dir", &path("unused"));
        flag("token-auth-file", &path("tokens.csv"));
        flag("service-account-issuer", "https://kubernetes.default.svc");
        flag("service-account-key-file", &path("accounts.pub"));
        flag("service-account-signing-key-file", &path("accounts.key"));
        flag("authorization-mode", "RBAC");
        flag("service-cluster-ip-range", "10.96.0.0/16");
        // Nobody makes service accounts for pods here, and nobody but us has endpoints.
        flag("disable-admission-plugins", "ServiceAccount");
        flag("endpoint-reconciler-type", "none");
        flag("shutdown-delay-duration", "0s");
        self.spawn(command, "api.log")
    }

    fn spawn(&self, mut command: Command, log: &str) -> Process {
        let log = File::options().create(true).append(true).open(self.file(log)).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Process::start(&mut command)
    }

    fn wait_ready(&mut self) {
        let deadline = Instant::now() + LONG;
        loop {
            let said = self.try_kubectl(&["get", "--raw", "/readyz"], "");
            if said.good {
                return;
            }
            let ended = self.api.as_mut().and_then(Process::ended);
            let log = || fs::read_to_string(self.file("api.log")).unwrap_or_default();
            assert!(ended.is_none(), "the API server has ended:\n{}", log());
            assert!(Instant::now() < deadline, "never ready: {}\n{}", said.stderr, log());
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Kills the API server; every connection to it is cut.
    pub fn stop_api(&mut self) {
        self.proxy = None;
        self.api = None;
    }

    /// Lets another API server of the same cluster run, for as long as `change` takes: who follows
    /// the first one, which must be stopped, hears nothing of it.
    pub fn unseen(&mut self, change: impl FnOnce(&Self)) {
        assert!(self.api.is_none(), "it would be seen");
        let port = std::mem::replace(&mut self.port, free_port());
        self.write_kubeconfig("admin", "administrator");
        self.start_api();
        change(self);
        self.stop_api();
        self.port = port;
        self.write_kubeconfig("admin", "administrator");
    }

    /// Makes etcd forget everything but the present.
    pub fn compact(&self) {
        let etcd = SocketAddr::from(([127, 0, 0, 1], self.etcd.1));
        let ask = |path, body: Value| {
            let answer = http::request(etcd, "POST", path, body.to_string().as_bytes());
            answer.expect("etcd answers").text()
        };
        let all: Value =
            serde_json::from_str(&ask("/v3/kv/range", json!({"key": "AA=="}))).expect("JSON");
        let revision = all["header"]["revision"].clone();
        ask("/v3/kv/compaction", json!({"revision": revision, "physical": true}));
    }

    /// What the administrator uses.
    pub fn kubeconfig(&self) -> PathBuf {
        self.file("admin.kubeconfig")
    }

    /// A kubeconfig with a token of a service account of `istio-system`.
    pub fn kubeconfig_of(&self, account: &str) -> PathBuf {
        let arguments = ["create", "token", account, "-n", "istio-system", "--duration=2h"];
        let token = self.kubectl(&arguments, "");
        self.write_kubeconfig(account, token.trim())
    }

    /// Runs kubectl, which must be content, and gives what it printed.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let said = self.try_kubectl(arguments, input);
        assert!(said.good, "kubectl {arguments:?}: {}\n{input}", said.stderr);
        said.stdout
    }

    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> tools::Said {
        let mut command = Command::new(&self.programs.kubectl);
        command.env("HOME", self.directory.path()).args(arguments);
        command.arg("--kubeconfig").arg(self.kubeconfig());
        if !input.is_empty() {
            // Standard input stays open while a program runs; kubectl waits for its end.
            let file = self.file("input.yaml");
            fs::write(&file, input).expect("written");
            command.arg("-f").arg(file);
        }
        tools::run(&mut command, b"", LONG)
    }

    /// Creates or changes objects.
    pub fn apply(&self, manifests: &str) {
        self.kubectl(&["apply", "--server-side", "--force-conflicts"], manifests);
    }

    /// Where plain HTTP is answered with the administrator's rights.
    pub fn proxy(&mut self) -> SocketAddr {
        if let Some((_, at)) = &self.proxy {
            return *at;
        }
        let log = self.file("proxy.log");
        let mut command = Command::new(&self.programs.kubectl);
        command.args(["proxy", "--port=0", "--accept-hosts=.*", "--kubeconfig"]);
        command.arg(self.kubeconfig()).stdin(Stdio::null()).stderr(Stdio::null());
        command.stdout(File::create(&log).expect("a log"));
        let process = Process::start(&mut command);
        let deadline = Instant::now() + LONG;
        let at = loop {
            let said = BufReader::new(File::open(&log).expect("a log")).lines().next();
            let at =
                said.and_then(Result::ok).and_then(|said| said.rsplit(' ').next()?.parse().ok());
            if let Some(at) = at {
                break at;
            }
            assert!(Instant::now() < deadline, "kubectl proxy does not listen");
            std::thread::park_timeout(Duration::from_millis(20));
        };
        self.proxy = Some((process, at));
        at
    }
}

/// One plain request to a proxy. Gives the status; 0 where there was no answer.
pub fn request(proxy: SocketAddr, method: &str, path: &str, body: &Value) -> u16 {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http::request(proxy, method, path, body.as_bytes()).map_or(0, |answer| answer.status)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// An address of this machine that the API takes for an endpoint: not loopback. `None` where there
/// is none, which is printed.
pub fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the kernel only chooses the address it would send from.
    let found = socket.connect("192.0.2.254:9").and_then(|()| socket.local_addr());
    let found = found.ok().map(|at| at.ip()).filter(|ip| !ip.is_loopback());
    if found.is_none() {
        let reason =
            "this machine has no address but loopback, which the API refuses for endpoints";
        assert!(env::var_os("CI").is_none(), "{reason}");
        eprintln!("skipped: {reason}");
    }
    found
}

/// A Namespace.
pub fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}
