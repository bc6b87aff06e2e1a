//! Who is not let in, and who is not believed: each is told with its reason, and the caller gets a
//! reset and never a clean end.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use diolkos::certs::{self, Peers, SpiffeId};
use rustls::{
    ClientConfig, ClientConnection, SignatureScheme, StreamOwned, client::ResolvesClientCert,
    pki_types::ServerName, sign::CertifiedKey,
};

use super::{
    connect, is_reset, vip,
    world::{Application, Mesh, Sidecar},
};
use crate::{
    envoy::sidecars::{BAR, SLEEP, SNI},
    support::PATIENCE,
};

/// A caller's sidecar with these certificates, a gateway, and a pod's sidecar with those.
struct World {
    _mesh: Mesh,
    client: Sidecar,
    pod: Sidecar,
    application: Application,
    vip: SocketAddr,
    _front: crate::support::front::Front,
}

impl World {
    fn start(mesh: Mesh, caller: &Path, called: &Path, extra: &str, more: &[&str]) -> Self {
        let application = Application::new();
        let pod = mesh.inbound(called, application.address, more);
        let front = mesh.front(&[pod.address]);
        let vip = vip();
        mesh.entry("bar", "bar.ns2.global", vip, &[front.address], extra);
        let client = mesh.outbound(caller, &[]);
        Self { _mesh: mesh, client, pod, application, vip, _front: front }
    }

    /// Makes a call that must fail, and checks what the two ends say of it: outcome, and words of
    /// the reason.
    fn refused(&self, outbound: (&str, &str), inbound: (&str, &str)) {
        is_reset(connect(self.vip));
        for (sidecar, (outcome, reason)) in [(&self.client, outbound), (&self.pod, inbound)] {
            let line = &sidecar.connections(1)[0];
            assert_eq!(line["outcome"], outcome, "{line}");
            assert!(line["reason"].as_str().expect("a text").contains(reason), "{line}");
        }
        assert!(self.application.waiting().is_none(), "the application never heard of it");
    }
}

#[test]
fn a_caller_of_another_root_is_refused_and_named() {
    let mesh = Mesh::new();
    let (caller, called) = (mesh.foreign("foreign", SLEEP), mesh.bar());
    let world = World::start(mesh, &caller, &called, "", &[]);
    world.client.says("does not lead to the root");
    world.refused(("handshake_failed", "unknown_ca"), ("handshake_failed", "one of our roots"));
    let line = &world.pod.connections(1)[0];
    assert_eq!(line["peer"], SLEEP, "who it says that it is");
    let cause =
        "diolkos_sidecar_handshake_failures_total{direction=\"inbound\",cause=\"unknown_root\"}";
    assert_eq!(world.pod.sample(cause), Some(1));
}

#[test]
fn a_caller_whose_certificate_has_expired_is_refused() {
    let mesh = Mesh::new();
    let (caller, called) = (mesh.stale("stale", SLEEP), mesh.bar());
    let world = World::start(mesh, &caller, &called, "", &[]);
    world.client.says("the certificate has expired");
    assert_eq!(world.client.status("/healthz/ready").status, 503);
    world.refused(("handshake_failed", "certificate_expired"), ("handshake_failed", "expired"));
    assert_eq!(world.pod.connections(1)[0]["peer"], SLEEP);
}

#[test]
fn a_caller_that_is_not_on_the_list_is_refused() {
    let mesh = Mesh::new();
    let (caller, called) = (mesh.sleep(), mesh.bar());
    let list = ["--allow-principal", "spiffe://cluster.local/ns/ns7/*"];
    let world = World::start(mesh, &caller, &called, "", &list);
    let said = format!("it is {SLEEP}; expected spiffe://cluster.local/ns/ns7/*");
    world.refused(("handshake_failed", "certificate"), ("handshake_failed", &said));
}

#[test]
fn a_list_lets_its_own_in() {
    let mesh = Mesh::new();
    let (caller, called) = (mesh.sleep(), mesh.bar());
    let list =
        ["--allow-principal", "spiffe://cluster.local/ns/ns1/*", "--allow-principal", "spiffe://a"];
    let world = World::start(mesh, &caller, &called, "", &list);
    let mut client = connect(world.vip);
    let mut server = world.application.accept();
    client.write_all(b"x").expect("write");
    server.read_exact(&mut [0]).expect("read");
}

#[test]
fn a_server_of_another_root_is_not_believed() {
    let mesh = Mesh::new();
    let (caller, called) = (mesh.sleep(), mesh.foreign("foreign", BAR));
    let world = World::start(mesh, &caller, &called, "", &[]);
    world.refused(("handshake_failed", "one of our roots"), ("handshake_failed", "unknown_ca"));
    assert_eq!(world.client.connections(1)[0]["peer"], BAR, "who it says that it is");
}

#[test]
fn a_server_whose_certificate_has_expired_is_not_believed() {
    let mesh = Mesh::new();
    let (caller, called) = (mesh.sleep(), mesh.stale("stale", BAR));
    let world = World::start(mesh, &caller, &called, "", &[]);
    world.refused(("handshake_failed", "expired"), ("handshake_failed", "certificate_expired"));
}

#[test]
fn a_server_of_another_name_is_not_believed() {
    let mesh = Mesh::new();
    let (caller, called) = (mesh.sleep(), mesh.bar());
    let names = "  subjectAltNames: [spiffe://cluster.local/ns/ns2/sa/other]\n";
    let world = World::start(mesh, &caller, &called, names, &[]);
    let said = format!("it is {BAR}; expected spiffe://cluster.local/ns/ns2/sa/other");
    world.refused(("handshake_failed", &said), ("handshake_failed", "refused with alert"));
    let cause =
        "diolkos_sidecar_handshake_failures_total{direction=\"outbound\",cause=\"identity\"}";
    assert_eq!(world.client.sample(cause), Some(1));
}

#[test]
fn a_name_that_the_gateway_does_not_serve_is_told() {
    let mesh = Mesh::new();
    let application = Application::new();
    let pod = mesh.inbound(&mesh.bar(), application.address, &[]);
    let front = mesh.front(&[pod.address]);
    let vip = vip();
    mesh.entry("other", "other.ns2.global", vip, &[front.address], "");
    let client = mesh.outbound(&mesh.sleep(), &[]);
    is_reset(connect(vip));
    let line = &client.connections(1)[0];
    assert_eq!(line["outcome"], "handshake_failed");
    assert!(line["reason"].as_str().expect("a text").contains("unrecognized_name"), "{line}");
}

/// A TLS client without a sidecar: says what became of its handshake and one byte each way.
fn call(to: SocketAddr, config: ClientConfig) -> Result<(), String> {
    let tcp = TcpStream::connect(to).expect("connect");
    tcp.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let name = ServerName::try_from(SNI).expect("a name");
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut stream = StreamOwned::new(session, tcp);
    // A refusal in TLS 1.3 comes after the client believes to be done.
    let _ = stream.write_all(b"x");
    stream.read_exact(&mut [0]).map_err(|error| error.to_string())
}

/// A client configuration with a certificate, or with none.
fn config(mesh: &Mesh, alpn: &[&str], with_certificate: bool) -> ClientConfig {
    let id = SpiffeId::parse(SLEEP).expect("an identity");
    let leaf = mesh.root.workload(&id, SystemTime::now()).expect("a leaf");
    let roots = certs::roots(&[mesh.root.certificate()]).expect("roots");
    let config = certs::client_config(&leaf, roots, Peers::Any, alpn).expect("a configuration");
    let mut config = Arc::unwrap_or_clone(config);
    if !with_certificate {
        config.client_auth_cert_resolver = Arc::new(Nothing);
    }
    config
}

/// Shows no certificate.
#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Calls the inbound port itself; `Ok` is the protocol agreed on.
fn check(alpn: &[&str], with_certificate: bool, alert: Option<&str>, told: &str) {
    let mesh = Mesh::new();
    let application = Application::new();
    let pod = mesh.inbound(&mesh.bar(), application.address, &[]);
    let config = config(&mesh, alpn, with_certificate);
    let caller = std::thread::spawn({
        let to = pod.address;
        move || call(to, config)
    });
    if alert.is_none() {
        let mut server = application.accept();
        server.read_exact(&mut [0]).expect("read");
        server.write_all(b"y").expect("write");
    }
    let seen = caller.join().expect("no panic");
    match alert {
        None => assert_eq!(seen, Ok(())),
        Some(alert) => assert!(seen.as_ref().is_err_and(|e| e.contains(alert)), "{seen:?}"),
    }
    let line = &pod.connections(1)[0];
    let (key, outcome) =
        if alert.is_some() { ("reason", "handshake_failed") } else { ("alpn", "") };
    assert!(line[key].as_str().expect("a text").contains(told), "{line}");
    assert!(alert.is_none() || line["outcome"] == outcome, "{line}");
    assert!(application.waiting().is_none());
}

#[test]
fn a_caller_without_a_certificate_is_refused() {
    check(&["istio"], false, Some("CertificateRequired"), "showed no certificate");
}

#[test]
fn a_caller_that_offers_only_what_we_do_not_take_is_refused() {
    check(&["istio-peer-exchange"], true, Some("NoApplicationProtocol"), "ALPN");
    check(&["postgresql"], true, Some("NoApplicationProtocol"), "ALPN");
}

#[test]
fn what_is_agreed_on_is_never_peer_exchange() {
    check(&["istio-peer-exchange", "istio"], true, None, "istio");
    check(&["istio-h2", "istio", "h2"], true, None, "istio");
    check(&["istio-peer-exchange", "h2"], true, None, "h2");
    check(&["http/1.1"], true, None, "http/1.1");
    check(&[], true, None, "-");
}

#[test]
fn a_caller_that_speaks_no_tls_is_refused_and_escaped() {
    let mesh = Mesh::new();
    let application = Application::new();
    let pod = mesh.inbound(&mesh.bar(), application.address, &[]);
    let mut client = connect(pod.address);
    client.write_all(b"GET /\x1b[31m HTTP/1.1\r\nhost: bar\r\n\r\n").expect("write");
    let mut alert = Vec::new();
    let _ = client.read_to_end(&mut alert);
    let line = &pod.connections(1)[0];
    assert_eq!(line["outcome"], "handshake_failed");
    assert!(line["reason"].as_str().expect("a text").contains("does not speak TLS"), "{line}");
    // One that says nothing is a probe, and no line.
    drop(connect(pod.address));
    let probes = "diolkos_sidecar_connections_total{direction=\"inbound\",outcome=\"probe\"}";
    crate::support::eventually("the probe is counted", || {
        (pod.sample(probes) == Some(1)).then_some(())
    });
    assert_eq!(pod.connections(1).len(), 1);
}
