//! An application, its sidecar, the gateway, the caller's sidecar. Must not know: what is called.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::SystemTime,
};

use diolkos::certs::{Authority, SpiffeId};
use serde_json::json;
use tempfile::TempDir;

use super::sidecars::{self, BAR, INBOUND, SLEEP, Way};
use crate::support::{envoy::Envoy, front::Front, http, tools};

/// Who is given the root of another mesh to trust.
#[derive(Clone, Copy, PartialEq)]
pub enum Misled {
    Nobody,
    Client,
    Pod,
}

pub struct World {
    // In this order: callers end before those they call, the files last.
    pub client: Envoy,
    pub front: Front,
    pub pod: Envoy,
    /// The application's raw TCP port.
    pub tcp: TcpListener,
    _dir: TempDir,
}

impl World {
    /// Starts everything; `None` without Envoy.
    pub fn start(misled: Misled) -> Option<Self> {
        let binary = tools::find("envoy")?;
        let dir = tempfile::tempdir().expect("a directory");
        let files = Files::write(dir.path());
        let root = |whose| if misled == whose { &files.other_root } else { &files.root };
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
        let tcp_address = tcp.local_addr().expect("address");

        let of_pod = sidecars::of_pod(http::echo(), tcp_address, &files.bar, root(Misled::Pod));
        let pod = Envoy::start(&binary, dir.path(), "pod", of_pod);
        write_manifests(dir.path(), pod.listener(INBOUND));
        let front = Front::start(dir.path(), |_| {});
        let of_client = sidecars::of_client(front.address, &files.sleep, root(Misled::Client));
        let client = Envoy::start(&binary, dir.path(), "client", of_client);
        Some(Self { client, front, pod, tcp, _dir: dir })
    }

    /// Where an application calls.
    pub fn way(&self, way: &Way) -> SocketAddr {
        self.client.listener(way.name)
    }
}

/// Keys and certificates: a directory for each workload, and two roots.
struct Files {
    sleep: PathBuf,
    bar: PathBuf,
    root: PathBuf,
    other_root: PathBuf,
}

impl Files {
    fn write(dir: &Path) -> Self {
        let now = SystemTime::now();
        let root = Authority::root(now).expect("a root");
        let workload = |cluster, id, name| {
            let cluster = root.cluster(cluster, now).expect("an intermediate");
            let id = SpiffeId::parse(id).expect("an identity");
            let files = dir.join(name);
            cluster.workload(&id, now).and_then(|leaf| leaf.write(&files)).expect("a leaf");
            files
        };
        let sleep = workload("cluster1", SLEEP, "sleep");
        let bar = workload("cluster2", BAR, "bar");
        let other = dir.join("other");
        Authority::root(now).and_then(|root| root.write(&other)).expect("another root");
        let root = bar.join("root-cert.pem");
        Self { sleep, bar, root, other_root: other.join("root-cert.pem") }
    }
}

/// The service `bar` of namespace `ns2` with one pod, and the Gateway that exposes it.
fn write_manifests(dir: &Path, pod: SocketAddr) {
    let (ip, port) = (pod.ip(), pod.port());
    let objects = json!([
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "cross-network", "namespace": "istio-system"},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [{
                    "port": {"number": 15443, "name": "tls", "protocol": "TLS"},
                    "tls": {"mode": "AUTO_PASSTHROUGH"},
                    "hosts": ["*.global"],
                }],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "bar", "namespace": "ns2"},
            "spec": {
                "selector": {"app": "bar"},
                "ports": [{"name": "app", "port": 8080, "targetPort": port}],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "bar-1",
                "namespace": "ns2",
                "labels": {"kubernetes.io/service-name": "bar"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "app", "protocol": "TCP", "port": port}],
            "endpoints": [{
                "addresses": [ip],
                "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": "bar-a", "namespace": "ns2"},
            }],
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "bar-a",
                "namespace": "ns2",
                "labels": {"app": "bar", "security.istio.io/tlsMode": "istio"},
            },
            "spec": {"containers": [{"name": "bar"}, {"name": "istio-proxy"}]},
            "status": {"phase": "Running", "podIP": ip},
        },
    ]);
    let manifests = dir.join("manifests");
    fs::create_dir(&manifests).expect("a directory");
    let texts: Vec<_> = objects.as_array().expect("a list").iter().map(yaml).collect();
    fs::write(manifests.join("bar.yaml"), texts.join("---\n")).expect("write");
}

fn yaml(object: &serde_json::Value) -> String {
    serde_norway::to_string(object).expect("YAML")
}
