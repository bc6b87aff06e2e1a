//! Clusters whose gateway and pods have a host each, and a host that calls. Must not know: who
//! calls what.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

pub use crate::sidecar::world::Mesh;
use crate::{
    sidecar::world::Sidecar,
    support::{
        PATIENCE, eventually,
        host::Host,
        http,
        mesh::{self, Service},
        process::{self, Process},
        tools::{self, Said},
    },
};

/// The address of the service in the callers' DNS.
pub const VIP: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 255, 0, 2)), 8080);

/// As pods have it, with what the names of other clusters need. Here nobody is beside the server
/// to answer for the cluster's own names: it has `cluster.local` as a second, empty suffix.
const RESOLV_CONF: &str = "nameserver 127.0.0.1
search ns1.svc.cluster.local svc.cluster.local cluster.local global ns1.global
options ndots:5
";

/// `bar` of ns2, served by pods of this cluster.
pub struct Cluster {
    // In this order: programs end before their hosts.
    front: Process,
    _pods: Vec<(tools::Process, Sidecar)>,
    pub gateway: Host,
    _hosts: Vec<Host>,
    pods: Vec<SocketAddr>,
}

impl Cluster {
    /// A gateway, and pods of these names; their version is a subset too. `None` where hosts
    /// cannot be made.
    pub fn start(mesh: &Mesh, number: u8, version: &str, pods: &[&str]) -> Option<Self> {
        let (gateway, hosts) = (Host::new()?, Host::some(pods.len())?);
        let certs = mesh.bar();
        let (mut running, mut addresses) = (Vec::new(), Vec::new());
        for ((host, name), n) in hosts.iter().zip(pods).zip(1..) {
            gateway.link(&format!("10.{number}.{n}.1/24"), host, &format!("10.{number}.{n}.2/24"));
            let at = SocketAddr::from(([10, number, n, 2], 8080));
            running.push(pod(mesh, host, &certs, name, at));
            addresses.push(at);
        }
        let manifests = mesh.path(&format!("cluster{number}"));
        fs::create_dir(&manifests).expect("a directory");
        fs::write(manifests.join("bar.yaml"), bar(version, &addresses)).expect("written");
        let front = serve(&gateway, &json!({}), &[&manifests], &manifests);
        Some(Self { front, _pods: running, gateway, _hosts: hosts, pods: addresses })
    }

    /// Where its pods' sidecars listen.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.pods.iter().copied()
    }

    /// The access log of its gateway, once it has so many lines.
    pub fn connections(&self, count: usize) -> Vec<Value> {
        connections(&self.front, count)
    }
}

/// An HTTP server of somebody else, which says its pod's name and listens on loopback only, and
/// the sidecar before it.
fn pod(
    mesh: &Mesh,
    host: &Host,
    certs: &Path,
    name: &str,
    at: SocketAddr,
) -> (tools::Process, Sidecar) {
    let files = mesh.path(name);
    fs::create_dir(&files).expect("a directory");
    fs::write(files.join("index.html"), name).expect("written");
    let mut server = host.command("python3", &["-m", "http.server", "8080"]);
    server.args(["--bind", "127.0.0.1", "--directory"]).arg(&files);
    let server = tools::Process::start(
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()),
    );
    let application = SocketAddr::from(([127, 0, 0, 1], 8080));
    eventually("the HTTP server answers", || {
        host.within(|| http::request(application, "GET", "/", b"")).ok()
    });
    let sidecar = host.within(|| mesh.inbound_at(&at.to_string(), certs, application, &[]));
    (server, sidecar)
}

/// The service, its pods, and a subset of all of them; exported.
fn bar(version: &str, addresses: &[SocketAddr]) -> String {
    let mut service = Service::new("bar", addresses);
    service.labels += &format!(", version: {version}");
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: bar, namespace: ns2}}\n\
         spec: {{host: bar, subsets: [{{name: {version}, labels: {{version: {version}}}}}]}}\n"
    );
    [mesh::gateway(&["*.global"]), service.yaml(), rule].join("---\n")
}

/// `diolkos gateway` on this host, port 15443.
fn serve(host: &Host, gateway: &Value, manifests: &[&Path], dir: &Path) -> Process {
    let mut settings = json!({
        "gateway": {"listen": ["0.0.0.0:15443"], "workers": 1},
        "manifests": {"directories": manifests},
        "access_log": {"format": "json"},
        "log": {"format": "json"},
    });
    for (key, value) in gateway.as_object().expect("a map") {
        settings["gateway"][key] = value.clone();
    }
    let file = dir.with_extension("json");
    fs::write(&file, settings.to_string()).expect("written");
    let mut command = process::diolkos();
    command.arg("gateway").arg("--config").arg(&file);
    host.within(|| Process::spawn(command))
}

fn connections(front: &Process, count: usize) -> Vec<Value> {
    eventually("the access log has its lines", || {
        let lines = front.lines();
        let lines: Vec<_> =
            lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (lines.len() >= count).then_some(lines)
    })
}

/// Who came, as the access log has it.
pub fn source(line: &Value) -> &str {
    line["downstream_remote_address"].as_str().expect("an address")
}

/// An egress gateway on a host of the callers' cluster.
pub struct Egress {
    front: Process,
    _host: Host,
}

impl Egress {
    pub fn start(host: Host, mesh: &Mesh) -> Self {
        let own = mesh.path("egress");
        fs::create_dir(&own).expect("a directory");
        let gateway = mesh::gateway_for("istio: egressgateway", &["*.global"]);
        fs::write(own.join("gateway.yaml"), gateway).expect("written");
        let settings = json!({
            "role": "egress",
            "labels": {"istio": "egressgateway"},
            "requested_network_view": ["external"],
        });
        let front = serve(&host, &settings, &[&own, &mesh.path("entries")], &own);
        Self { front, _host: host }
    }

    pub fn connections(&self, count: usize) -> Vec<Value> {
        connections(&self.front, count)
    }
}

/// The egress form of the entry: callers see the egress gateway, which alone sees the other
/// cluster's.
pub fn egress_entry(egress: &str, remote: &str) -> String {
    entry(&format!(
        "  - {{address: {egress}, ports: {{http: 15443}}}}\n  \
         - {{address: {remote}, network: external, ports: {{http: 15443}}}}\n"
    ))
}

/// An entry with a gateway for each subset, picked by label.
pub fn labelled_entry(beta: &str, stable: &str) -> String {
    let endpoint = |address, kind| {
        format!("  - {{address: {address}, labels: {{kind: {kind}}}, ports: {{http: 15443}}}}\n")
    };
    entry(&(endpoint(beta, "beta") + &endpoint(stable, "stable")))
        + "---\napiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\n\
           metadata: {name: bar, namespace: ns1}\nspec:\n  host: bar.ns2.global\n  \
           trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n  subsets:\n  \
           - {name: beta, labels: {kind: beta}}\n  - {name: stable, labels: {kind: stable}}\n"
}

fn entry(endpoints: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: ServiceEntry\n\
         metadata: {{name: bar, namespace: ns1}}\nspec:\n  hosts: [bar.ns2.global]\n  \
         addresses: [{}]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
         ports: [{{number: 8080, name: http, protocol: HTTP}}]\n  endpoints:\n{endpoints}",
        VIP.ip()
    )
}

/// A host that calls: names are answered on its port 53, and its sidecar takes what goes to them.
pub struct Caller {
    _dns: tools::Process,
    _sidecar: Sidecar,
    pub host: Host,
}

impl Caller {
    /// `more` are arguments of its sidecar.
    pub fn start(host: Host, mesh: &Mesh, more: &[&str]) -> Self {
        host.resolves_by(RESOLV_CONF);
        let mut dns = Command::new(env!("CARGO_BIN_EXE_diolkos"));
        dns.args(["dns", "--listen", "127.0.0.1:53", "--manifests"]).arg(mesh.path("entries"));
        dns.args(["--suffix", "global", "--suffix", "cluster.local", "--set", "log.level=warn"]);
        let dns = host.within(|| tools::Process::start(dns.stdin(Stdio::null())));
        eventually("names are answered", || {
            let arguments = ["ahostsv4", "bar.ns2.global"];
            let said = tools::run(&mut host.command("getent", &arguments), b"", PATIENCE);
            said.good.then_some(())
        });
        let certs = mesh.sleep();
        let sidecar = host.within(|| mesh.outbound(&certs, more));
        Self { _dns: dns, _sidecar: sidecar, host }
    }

    /// Fetches a page, knowing nothing of meshes.
    pub fn curl(&self, url: &str) -> Said {
        let mut command = self.host.command("curl", &["-sS", "--fail", "--max-time", "8", url]);
        tools::run(&mut command, b"", PATIENCE)
    }
}
