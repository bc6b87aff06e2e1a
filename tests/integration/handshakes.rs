//! How a TLS handshake ended, seen from outside: mutual TLS of rustls through the gateway, with
//! roots that one side does not trust.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use diolkos::{
    certs::{
        Authority, Leaf, Peers, SpiffeId,
        tls::{client_config, roots},
    },
    gateway::{AccessLogConfig, Format, LogTo, Ourselves, outcome::Outcome},
    metrics::Metrics,
    routing::Policy,
};
use rustls::{
    ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
    pki_types::ServerName,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use crate::support::{PATIENCE, Pod, World, eventually, read_to_end, reset, table_of};

const NAME: &str = "outbound_.8080_._.bar.ns2.global";

/// One cluster's authority, under a root of its own.
struct Mesh {
    authority: Authority,
}

impl Mesh {
    fn new() -> Self {
        let now = SystemTime::now();
        let root = Authority::root(now).expect("a root");
        Self { authority: root.cluster("cluster1", now).expect("an authority") }
    }

    fn leaf(&self) -> Leaf {
        let id = SpiffeId::new("cluster.local", "ns2", "bar").expect("an identity");
        self.authority.workload(&id, SystemTime::now()).expect("a certificate")
    }

    fn roots(&self) -> Arc<RootCertStore> {
        roots(&[self.authority.root_certificate()]).expect("roots")
    }
}

/// A pod that shows a certificate of `own`, asks for one of `trusted`, and answers 4 bytes with
/// as many; one connection.
fn pod(
    own: &Mesh,
    trusted: &Mesh,
    version: &'static SupportedProtocolVersion,
    tickets: usize,
) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let verifier = WebPkiClientVerifier::builder_with_provider(
        trusted.roots(),
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    );
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let leaf = own.leaf();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(leaf.chain().to_vec(), leaf.private_key())
        .expect("a configuration");
    config.alpn_protocols = vec![b"istio".to_vec()];
    config.send_tls13_tickets = tickets;
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let session = ServerConnection::new(Arc::new(config)).expect("a session");
        let mut tls = StreamOwned::new(session, stream);
        if tls.read_exact(&mut [0; 4]).is_ok() {
            let _ = tls.write_all(b"here");
            tls.conn.send_close_notify();
            let _ = tls.flush();
            // The client closes first.
            let _ = tls.read(&mut [0]);
        }
    });
    address
}

/// The client's side, whatever comes of it.
fn call(world: &World, own: &Mesh, trusted: &Mesh) -> std::io::Result<[u8; 4]> {
    let config = client_config(&own.leaf(), trusted.roots(), Peers::Any, &["istio"]);
    let name = ServerName::try_from(NAME).expect("a name");
    let mut session = ClientConnection::new(config.expect("a configuration"), name).expect("one");
    let mut answer = [0; 4];
    let mut stream = TcpStream::connect(world.address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut tls = rustls::Stream::new(&mut session, &mut stream);
    tls.write_all(b"ping")?;
    tls.read_exact(&mut answer)?;
    Ok(answer)
}

struct Seen {
    world: World,
    log: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Seen {
    fn new(pod: std::net::SocketAddr, change: impl FnOnce(&mut diolkos::gateway::Config)) -> Self {
        let (lines, log) = tokio::sync::mpsc::unbounded_channel();
        let world = World::serve(table_of(&[pod], Policy::default()), |config| {
            config.access_log = AccessLogConfig { format: Format::Json, to: LogTo::Lines(lines) };
            change(config);
        });
        Self { world, log }
    }

    /// The one connection is over: its class in the log, the metric and the list of failures.
    fn check(mut self, what: &str, class: &str, by: &str) {
        let handle = self.world.handle();
        let ended = || Outcome::ALL.iter().map(|o| handle.ended(*o)).sum::<u64>();
        eventually(what, || (ended() == 1 && handle.live() == 0).then_some(()));
        let line = eventually("a line", || self.log.try_recv().ok());
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&line["tls"], &line["tls_ended_by"]), (&class.into(), &by.into()), "{what}");
        let mut registry = Metrics::new();
        handle.register(&mut registry, Ourselves::default());
        let scrape = registry.text();
        let sample = format!(
            "diolkos_handshakes_total{{destination_service=\"bar.ns2.global\",class=\"{class}\",\
             ended_by=\"{by}\"}} 1\n"
        );
        assert!(scrape.contains(&sample), "{what}: {sample} in {scrape}");
        let failures = handle.failures();
        if ["ok", "client_left"].contains(&class) {
            assert!(failures.is_empty(), "{what}: {failures:?}");
            return;
        }
        assert_eq!(failures.len(), 1, "{what}");
        assert_eq!(failures[0].handshake, Some((class, by)), "{what}");
        let text = failures[0].to_string();
        assert!(text.contains(&format!("tls={class} by {by}")) && text.contains(NAME), "{text}");
        assert!(line["upstream_transport_failure_reason"].to_string().contains(class), "{line}");
    }
}

#[test]
fn a_root_that_one_side_does_not_trust_is_seen_from_outside() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    for tickets in [0, 2] {
        let check = |what: &str, version, client: [&Mesh; 2], class: &str, by: &str| {
            let seen = Seen::new(pod(&mesh, &mesh, version, tickets), |_| {});
            let answer = call(&seen.world, client[0], client[1]);
            assert_eq!(answer.is_ok(), class == "ok", "{what}: {answer:?}");
            seen.check(what, class, by);
        };
        check("all is well", &TLS13, [&mesh, &mesh], "ok", "-");
        check("all is well in 1.2", &TLS12, [&mesh, &mesh], "ok", "-");
        let suspected = "suspected_auth_failure";
        check("the pod refuses the client", &TLS13, [&other, &mesh], suspected, "upstream");
        check("the client refuses the pod", &TLS13, [&mesh, &other], suspected, "downstream");
        // Both roots have one name: to the pod it is the signature that does not fit.
        let alert = "alert:decrypt_error";
        check("the pod refuses the client in 1.2", &TLS12, [&other, &mesh], alert, "upstream");
        let alert = "alert:unknown_ca";
        check("the client refuses the pod in 1.2", &TLS12, [&mesh, &other], alert, "downstream");
    }
}

/// One endpoint does so with a hello that is well.
fn check_endpoint(what: &str, class: &str, by: &str, act: impl FnOnce(&Pod, TcpStream)) {
    let pod = Pod::new();
    let seen = Seen::new(pod.address, |config| {
        config.server_hello_timeout = Some(Duration::from_millis(200));
    });
    let client = seen.world.dial();
    act(&pod, client);
    seen.check(what, class, by);
}

#[test]
fn an_endpoint_that_does_not_shake_hands_is_told_apart() {
    check_endpoint("a reset", "reset_before_hello", "upstream", |pod, client| {
        reset(pod.accept());
        assert_eq!(read_to_end(client), (vec![], false));
    });
    check_endpoint("a close", "closed_after_hello", "upstream", |pod, client| {
        drop(pod.accept());
        assert_eq!(read_to_end(client), (vec![], true));
    });
    check_endpoint("an alert", "alert:handshake_failure", "upstream", |pod, client| {
        pod.accept().write_all(&[21, 3, 3, 0, 2, 2, 40]).expect("write");
        assert_eq!(read_to_end(client).0.len(), 7);
    });
    check_endpoint("plain text", "not_tls", "upstream", |pod, client| {
        pod.accept().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("write");
        assert!(!read_to_end(client).0.is_empty());
    });
    check_endpoint("silence", "server_hello_timeout", "upstream", |pod, client| {
        let server = pod.accept();
        thread::park_timeout(Duration::from_millis(600));
        client.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(read_to_end(&server), (vec![], true));
    });
    check_endpoint("a change of mind", "client_left", "downstream", |pod, client| {
        let server = pod.accept();
        reset(client);
        assert_eq!(read_to_end(server), (vec![], false));
    });
}
