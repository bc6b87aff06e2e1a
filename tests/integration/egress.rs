//! The egress gateway: ServiceEntries through a network view, endpoints that are host names.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use diolkos::{
    dns::{self, DnsName},
    metrics::Metrics,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{PATIENCE, Pod, eventually, front::Front, hello::Hello, mesh};

const NAME: &str = "outbound_.8080_._.bar.ns2.global";

/// The egress entry: this gateway itself for sidecars, and the gateway of the other cluster, which
/// only we see.
fn entry(resolution: &str, remote: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1beta1\nkind: ServiceEntry\n\
         metadata: {{name: bar, namespace: ns1}}\nspec:\n  hosts: [bar.ns2.global]\n  \
         addresses: [127.255.0.2]\n  location: MESH_INTERNAL\n  resolution: {resolution}\n  \
         ports: [{{name: http1, number: 8080, protocol: HTTP}}]\n  endpoints:\n  \
         - {{address: 127.0.0.9, ports: {{http1: 15443}}}}\n  \
         - {{address: \"{remote}\", network: external, ports: {{http1: {port}}}}}\n"
    )
}

fn egress(dir: &Path, resolver: Option<SocketAddr>) -> Front {
    let gateway = mesh::gateway_for("istio: egressgateway", &["*.global"]);
    fs::write(dir.join("manifests/gateway.yaml"), gateway).expect("write");
    Front::start(dir, |settings| {
        settings["gateway"]["role"] = json!("egress");
        settings["gateway"]["labels"] = json!({"istio": "egressgateway"});
        settings["gateway"]["requested_network_view"] = json!(["external"]);
        settings["resolver"] = json!({"ttl_min": "50ms", "ttl_max": "50ms", "timeout": "500ms",
                                      "servers": resolver.iter().collect::<Vec<_>>()});
    })
}

/// Calls through the gateway; true when this pod was reached and answered.
fn reaches(front: &Front, pod: &Pod) -> bool {
    let mut client = TcpStream::connect(front.address).expect("connect");
    client.set_read_timeout(Some(Duration::from_secs(1))).expect("timeout");
    client.write_all(&Hello::new(NAME).wire()).expect("hello");
    loop {
        let server = eventually("the pod is dialled, or the client told", || {
            let served = pod.waiting().map(Some);
            served.or_else(|| is_refused(&client).then_some(None))
        });
        let Some(mut server) = server else { return false };
        server.set_nonblocking(false).expect("blocking");
        // It may be a former client's, whom the gateway brought here when another pod dropped it.
        let _ = server.write_all(b"x");
        match client.read_exact(&mut [0]) {
            Ok(()) => return true,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
}

fn is_refused(client: &TcpStream) -> bool {
    client.set_nonblocking(true).expect("nonblocking");
    let heard = client.peek(&mut [0; 7]).is_ok();
    client.set_nonblocking(false).expect("blocking");
    heard
}

fn directory() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    fs::create_dir(dir.path().join("manifests")).expect("manifests");
    dir
}

#[test]
fn only_the_requested_network_is_seen_and_the_name_is_not_rewritten() {
    let (pod, dir) = (Pod::new(), directory());
    let text = entry("STATIC", "127.0.0.1", pod.address.port());
    fs::write(dir.path().join("manifests/bar.yaml"), text).expect("write");
    let front = egress(dir.path(), None);
    for _ in 0..4 {
        assert!(reaches(&front, &pod), "each time: the other endpoint is in no network of ours");
    }
}

/// A DNS server of this crate, which answers for `test` from ServiceEntries in a directory.
struct Names {
    files: mesh::Files,
    server: dns::Running,
}

impl Names {
    fn start(address: &str) -> Self {
        let files = mesh::Files::with(&[("gw.yaml", &Self::yaml(address))]);
        let config = dns::Config {
            listen: vec![([127, 0, 0, 1], 0).into()],
            suffixes: vec![DnsName::parse("test").expect("a name")],
            ttl: Duration::from_secs(1),
            tcp_connections_max: 16,
            tcp_timeout: PATIENCE,
        };
        let paths = [files.path().to_owned()];
        let server = dns::start(&config, &paths, &mut Metrics::new()).expect("started");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(server.loaded().wait_for(|loaded| *loaded)).expect("loaded");
        Self { files, server }
    }

    fn yaml(address: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: gw, \
             namespace: a}}\nspec: {{hosts: [gw.cluster2.test], addresses: [{address}]}}\n"
        )
    }
}

#[test]
fn a_gateway_that_is_a_host_name_is_followed_where_its_name_leads() {
    let (pod, dir) = (Pod::new(), directory());
    let names = Names::start("127.0.0.1");
    let text = entry("DNS", "gw.cluster2.test", pod.address.port());
    fs::write(dir.path().join("manifests/bar.yaml"), text).expect("write");
    let front = egress(dir.path(), Some(names.server.addresses()[0]));
    assert!(reaches(&front, &pod), "a start waits for the first answer");

    // It moves: where it was, nobody listens; where it is now, the same port does.
    let there = SocketAddr::from(([127, 0, 0, 2], pod.address.port()));
    let moved = Pod::at(there);
    names.files.write("gw.yaml", &Names::yaml("127.0.0.2"));
    eventually("the new address is used", || reaches_one(&front, &pod, &moved).then_some(()));

    // The server is gone: what was known is kept.
    names.server.stop();
    for _ in 0..20 {
        assert!(reaches(&front, &moved));
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Calls once, and is served by either; true when by the second.
fn reaches_one(front: &Front, first: &Pod, second: &Pod) -> bool {
    let mut client = TcpStream::connect(front.address).expect("connect");
    client.write_all(&Hello::new(NAME).wire()).expect("hello");
    eventually("one of the two is dialled", || {
        first.waiting().map(|_| false).or_else(|| second.waiting().map(|_| true))
    })
}
