//! Istio's matrix for AUTO_PASSTHROUGH over the wire: form of the name, ALPN, evidence of mesh
//! mutual TLS, export; and that an ingress gateway is no transit.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use crate::support::{
    Pod,
    hello::Hello,
    mesh::{Files, Service, gateway},
    process::Process,
    read_to_end,
};

/// A pod that answers each connection with its name.
fn answering(name: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let name = name.to_owned();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(name.as_bytes());
        }
    });
    address
}

/// What comes of asking.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    Served,
    /// Unknown, not exported, no such port or subset.
    Unknown,
    /// It exists, and nobody is behind it who demands mutual TLS.
    Empty,
}

const ISTIO: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

fn policy(kind: &str, name: &str, spec: &str) -> String {
    let group = if kind == "PeerAuthentication" { "security" } else { "networking" };
    format!(
        "---\napiVersion: {group}.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: ns2}}\nspec: {spec}\n"
    )
}

fn rule(name: &str, mode: &str) -> String {
    let spec =
        format!("{{host: {name}.ns2.svc.cluster.local, trafficPolicy: {{tls: {{mode: {mode}}}}}}}");
    policy("DestinationRule", name, &spec)
}

fn peers(name: &str, spec: &str) -> String {
    let spec = format!("{{selector: {{matchLabels: {{app: {name}}}}}, {spec}}}");
    policy("PeerAuthentication", name, &spec)
}

/// Services by what is known of their mutual TLS and export, each with one pod that would answer.
fn services() -> Vec<(String, String, Is)> {
    let make = |name: &str| Service::new(name, &[answering(name)]);
    let unlabelled = |name| Service { labels: String::new(), ..make(name) };
    let exported_to = |name, to: &str| Service {
        annotations: format!("{{networking.istio.io/exportTo: \"{to}\"}}"),
        ..make(name)
    };
    let injected = Service {
        pod_annotations: "{sidecar.istio.io/status: \"{}\"}".into(),
        ..unlabelled("injected")
    };
    let port = make("portoff");
    let number = port.pods[0].port();
    let port_off =
        format!("mtls: {{mode: STRICT}}, portLevelMtls: {{{number}: {{mode: DISABLE}}}}");
    let port_on = make("porton");
    let on = port_on.pods[0].port();
    let port_on_spec =
        format!("mtls: {{mode: DISABLE}}, portLevelMtls: {{{on}: {{mode: STRICT}}}}");
    vec![
        (make("label"), String::new(), Is::Served),
        (unlabelled("plain"), String::new(), Is::Empty),
        (
            Service { labels: "security.istio.io/tlsMode: disabled".into(), ..make("off") },
            String::new(),
            Is::Empty,
        ),
        (injected, String::new(), Is::Served),
        (unlabelled("rulemutual"), rule("rulemutual", "ISTIO_MUTUAL"), Is::Served),
        (make("ruleoff"), rule("ruleoff", "DISABLE"), Is::Empty),
        (make("rulesimple"), rule("rulesimple", "SIMPLE"), Is::Empty),
        (make("strict"), peers("strict", "mtls: {mode: STRICT}"), Is::Served),
        (make("permissive"), peers("permissive", "mtls: {mode: PERMISSIVE}"), Is::Served),
        (make("peeroff"), peers("peeroff", "mtls: {mode: DISABLE}"), Is::Empty),
        (port, peers("portoff", &port_off), Is::Empty),
        (port_on, peers("porton", &port_on_spec), Is::Served),
        (exported_to("private", "."), String::new(), Is::Unknown),
        (exported_to("nobody", "~"), String::new(), Is::Unknown),
        (exported_to("public", "*"), String::new(), Is::Served),
        (exported_to("ours", "istio-system"), String::new(), Is::Served),
        (exported_to("theirs", "ns9"), String::new(), Is::Unknown),
    ]
    .into_iter()
    .map(|(service, policies, is)| (service.name.clone(), service.yaml() + &policies, is))
    .collect()
}

/// Names for one service: well formed or not, and whether they name it.
fn names(service: &str, host: &str) -> Vec<(String, bool, bool)> {
    let good = |name: String| (name, true, true);
    let wrong = |name: String| (name, true, false);
    let bad = |name: String| (name, false, false);
    let s = service;
    vec![
        good(format!("outbound_.8080_._.{s}.ns2.{host}")),
        good(format!("OutBound_.8080_._.{}.NS2.{}", s.to_uppercase(), host.to_uppercase())),
        wrong(format!("outbound_.8081_._.{s}.ns2.{host}")),
        wrong(format!("outbound_.8080_.v9_.{s}.ns2.{host}")),
        wrong(format!("outbound_.8080_.v1.2_.{s}.ns2.{host}")),
        wrong(format!("outbound_.8080_._.{s}.ns2.{host}.evil.com")),
        wrong(format!("outbound_.8080_._.x.{s}.ns2.{host}")),
        bad(format!("inbound_.8080_._.{s}.ns2.{host}")),
        bad(format!("outbound|8080||{s}.ns2.{host}")),
        bad(format!("outbound_.08080_._.{s}.ns2.{host}")),
        bad(format!("outbound_.8080_.{s}.ns2.{host}")),
        bad(format!("{s}.ns2.{host}")),
    ]
}

fn answer(process: &Process, name: &str, alpn: &[&'static str]) -> Vec<u8> {
    let hello = Hello { alpn: alpn.to_vec(), ..Hello::new(name) };
    let (bytes, fin) = read_to_end(&mut process.send(&hello.wire()));
    assert!(fin, "{name} {alpn:?} ends in RST");
    bytes
}

fn alert(description: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description]
}

/// Asks for each service by each name with each ALPN. `exposed`: the Gateway's hosts cover `host`.
fn check(process: &Process, all: &[(String, String, Is)], host: &str, exposed: bool) {
    let mut alpns: Vec<(Vec<&'static str>, bool)> = ISTIO.map(|name| (vec![name], true)).into();
    alpns.push((vec!["h2", "http/1.1", "istio"], true));
    alpns.extend([
        (vec![], false),
        (vec!["h2"], false),
        (vec!["http/1.1"], false),
        (vec!["istio-"], false),
        (vec!["Istio"], false),
    ]);
    let served_by = |service: &str, is| match is {
        Is::Served if exposed => service.as_bytes().to_vec(),
        Is::Empty if exposed => alert(80),
        _ => alert(112),
    };
    for (service, _, is) in all {
        for (name, well_formed, names_it) in names(service, host) {
            for (alpn, mesh) in &alpns {
                let expected = match (well_formed, mesh, names_it) {
                    (false, ..) => alert(112),
                    (true, false, _) => alert(120),
                    (true, true, false) => alert(112),
                    (true, true, true) => served_by(service, *is),
                };
                assert_eq!(answer(process, &name, alpn), expected, "{name} {alpn:?} {is:?}");
            }
        }
    }
}

fn mesh(all: &[(String, String, Is)], hosts: &[&str]) -> Files {
    let files = Files::with(&[("gateway.yaml", &gateway(hosts))]);
    for (name, yaml, _) in all {
        files.write(&format!("{name}.yaml"), yaml);
    }
    files
}

#[test]
fn every_cell_of_istios_matrix_under_the_rewrite_suffix() {
    let all = services();
    let files = mesh(&all, &["*.global"]);
    let process = Process::start(files.path(), &["access_log.format=off"]);
    check(&process, &all, "global", true);
    // Only names under the hosts are served, whatever they would be rewritten to.
    check(&process, &all[..2], "svc.cluster.local", false);
}

#[test]
fn every_cell_of_istios_matrix_by_exact_name() {
    let all = services();
    let files = mesh(&all, &["*.local"]);
    let process = Process::start(files.path(), &["access_log.format=off"]);
    check(&process, &all, "svc.cluster.local", true);
    check(&process, &all[..2], "global", false);
}

#[test]
fn hosts_with_a_namespace_expose_that_namespace_only() {
    let all = services();
    for (hosts, served) in [
        ("ns2/*.global", true),
        ("ns3/*.global", false),
        ("./*.global", false),
        ("*/*.global", true),
        ("label.ns2.global", true),
        ("*.ns2.global", true),
        ("plain.ns2.global", false),
        ("~/*.global", false),
    ] {
        let files = mesh(&all[..1], &[hosts]);
        let process = Process::start(files.path(), &[]);
        let expected = if served { b"label".to_vec() } else { alert(112) };
        let name = "outbound_.8080_._.label.ns2.global";
        assert_eq!(answer(&process, name, &["istio"]), expected, "{hosts}");
    }
}

#[test]
fn the_gates_open_where_the_operator_opens_them() {
    let all = services();
    let files = mesh(&all[..2], &["*.global"]);
    let open = ["gateway.alpn=[]", "gateway.require_mesh_tls=false"];
    let process = Process::start(files.path(), &open);
    for name in ["label", "plain"] {
        let key = format!("outbound_.8080_._.{name}.ns2.global");
        assert_eq!(answer(&process, &key, &[]), name.as_bytes());
        assert_eq!(answer(&process, &key, &["h2"]), name.as_bytes());
    }
}

/// What the multicluster charts render for an ingress gateway, and a ServiceEntry by which pods of
/// this cluster reach another one.
fn charts(remote: SocketAddr, resolution: &str) -> String {
    let ingress =
        gateway(&["*.global"]).replace("cross-network", "istio-multicluster-ingressgateway");
    let (ip, port) = (remote.ip(), remote.port());
    format!(
        "{ingress}---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n\
         metadata: {{name: istio-multicluster-ingressgateway, namespace: istio-system}}\n\
         spec:\n  workloadLabels: {{istio: ingressgateway}}\n  filters:\n  \
         - listenerMatch: {{portNumber: 15443, listenerType: GATEWAY}}\n    \
         insertPosition: {{index: AFTER, relativeTo: envoy.filters.network.sni_cluster}}\n    \
         filterName: envoy.filters.network.tcp_cluster_rewrite\n    filterType: NETWORK\n    \
         filterConfig: {{cluster_pattern: \"\\\\.global$\", cluster_replacement: .svc.cluster.local}}\n\
         ---\napiVersion: networking.istio.io/v1alpha3\nkind: DestinationRule\n\
         metadata: {{name: istio-multicluster-destinationrule, namespace: istio-system}}\n\
         spec: {{host: \"*.global\", trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}}}\n\
         ---\napiVersion: networking.istio.io/v1alpha3\nkind: ServiceEntry\n\
         metadata: {{name: httpbin-bar, namespace: foo}}\n\
         spec:\n  hosts: [httpbin.bar.global]\n  location: MESH_INTERNAL\n  \
         ports: [{{name: http1, number: 8000, protocol: http}}]\n  resolution: {resolution}\n  \
         addresses: [240.0.0.2]\n  endpoints:\n  - {{address: {ip}, ports: {{http1: {port}}}}}\n"
    )
}

#[test]
fn an_ingress_gateway_with_the_charts_objects_is_no_transit() {
    const KEY: &str = "outbound_.8000_._.httpbin.bar.global";
    for resolution in ["STATIC", "DNS"] {
        let remote = Pod::new();
        let files = Files::with(&[("charts.yaml", &charts(remote.address, resolution))]);
        let process = Process::start(files.path(), &[]);
        assert_eq!(process.get("health", "/healthz/ready").status, 200, "the charts select us");
        assert_eq!(answer(&process, KEY, &["istio"]), alert(112), "{resolution}");
        let explained = process.get("admin", &format!("/explain?sni={KEY}")).body;
        assert!(explained.contains("REFUSED") && explained.contains("httpbin"), "{explained}");
        assert!(remote.waiting().is_none());
    }
}

#[test]
fn an_egress_gateway_with_the_same_objects_leads_there() {
    let remote = answering("remote");
    let text = charts(remote, "STATIC");
    let files = Files::with(&[("charts.yaml", &text)]);
    let process = Process::start(files.path(), &["gateway.role=egress"]);
    let key = "outbound_.8000_._.httpbin.bar.global";
    let explained = process.get("admin", &format!("/explain?sni={key}")).body;
    assert_eq!(answer(&process, key, &["istio"]), b"remote", "{explained}");
}
