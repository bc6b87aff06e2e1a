//! Two ends on loopback, plain and TLS, and what comes out of the other one.

use std::{sync::Arc, time::SystemTime};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use super::*;
use crate::certs::{Authority, Peers, SpiffeId, client_config, roots, server_config};

/// An application and a peer, and the relay between them.
struct World {
    application: TcpStream,
    peer: client::TlsStream<TcpStream>,
    traffic: Arc<Traffic>,
    relayed: JoinHandle<Result<(), Broken>>,
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let client = TcpStream::connect(listener.local_addr().expect("address"));
    let (client, server) = tokio::join!(client, listener.accept());
    (client.expect("connect"), server.expect("accept").0)
}

impl World {
    async fn start() -> Self {
        let now = SystemTime::now();
        let root = Authority::root(now).expect("a root");
        let cluster = root.cluster("c", now).expect("a cluster");
        let id = SpiffeId::new("cluster.local", "ns", "a").expect("an identity");
        let leaf = cluster.workload(&id, now).expect("a leaf");
        let roots = || roots(&[root.certificate()]).expect("roots");
        let server = server_config(&leaf, roots(), None, &[]).expect("a server");
        let client = client_config(&leaf, roots(), Peers::Any, &[]).expect("a client");
        let (ours, theirs) = pair().await;
        let accepting = TlsAcceptor::from(server).accept(ours);
        let name = ServerName::try_from("a").expect("a name");
        let connecting = TlsConnector::from(client).connect(name, theirs);
        let (tls, peer) = tokio::join!(accepting, connecting);
        let (tls, peer) = (tls.expect("accepted"), peer.expect("connected"));
        let (application, mut plain) = pair().await;
        let traffic = Arc::new(Traffic::default());
        let counted = Arc::clone(&traffic);
        let relayed =
            tokio::spawn(
                async move { relay(&mut plain, &mut TlsStream::Server(tls), &counted).await },
            );
        Self { application, peer, traffic, relayed }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let patience = Duration::from_secs(20);
    runtime.expect("a runtime").block_on(async {
        tokio::time::timeout(patience, test).await.expect("in time");
    });
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..=250).cycle().map(|byte| seed.wrapping_add(byte)).take(len).collect()
}

#[test]
fn either_half_closes_on_its_own_and_nothing_is_lost() {
    run(async {
        let World { mut application, mut peer, traffic, relayed } = World::start().await;
        let (up, down) = (pattern(1, 3 << 20), pattern(2, 2 << 20));
        application.write_all(b"first").await.expect("written");
        let mut first = [0; 5];
        peer.read_exact(&mut first).await.expect("first");
        let (mut from_app, mut to_app) = application.split();
        let (mut from_peer, mut to_peer) = tokio::io::split(peer);
        let (mut at_peer, mut at_app) = (Vec::new(), vec![0; down.len()]);
        tokio::join!(
            async {
                to_app.write_all(&up).await.expect("up");
                to_app.shutdown().await.expect("half-close");
            },
            async { to_peer.write_all(&down).await.expect("down") },
            async { assert_eq!(from_peer.read_to_end(&mut at_peer).await.expect("end"), up.len()) },
            async { assert_eq!(from_app.read_exact(&mut at_app).await.expect("down"), down.len()) },
        );
        assert!(at_peer == up && at_app == down);
        // The application's half is closed; the peer's still works, and ends by close_notify.
        to_peer.write_all(b"last").await.expect("last");
        to_peer.shutdown().await.expect("shutdown");
        let mut last = Vec::new();
        from_app.read_to_end(&mut last).await.expect("a clean end");
        assert_eq!(last, b"last");
        relayed.await.expect("no panic").expect("both closed");
        assert_eq!(traffic.total(), (5 + up.len() + down.len() + 4) as u64);
    });
}

#[test]
fn a_reset_of_the_application_is_one_for_the_peer_after_its_bytes() {
    run(async {
        let World { mut application, mut peer, relayed, .. } = World::start().await;
        let sent = pattern(3, 100_000);
        application.write_all(&sent).await.expect("written");
        net::reset_on_close(&application);
        let mut read = vec![0; sent.len()];
        // Whoever resets at once may lose what the kernel had not sent: so first it is read.
        peer.read_exact(&mut read).await.expect("the bytes");
        assert!(read == sent);
        drop(application);
        let error = peer.read(&mut [0]).await.expect_err("no clean end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        let broken = relayed.await.expect("no panic").expect_err("broken");
        assert!(matches!(broken, Broken { side: Side::Plain, how: How::Reset(_) }), "{broken:?}");
    });
}

#[test]
fn a_reset_after_a_half_close_is_still_a_reset() {
    run(async {
        let World { mut application, mut peer, relayed, .. } = World::start().await;
        application.shutdown().await.expect("half-close");
        assert_eq!(peer.read(&mut [0]).await.expect("close_notify"), 0);
        net::reset_on_close(&application);
        drop(application);
        // What is written now finds nobody.
        let chunk = pattern(4, 16 << 10);
        while peer.write_all(&chunk).await.is_ok() && peer.flush().await.is_ok() {}
        let broken = relayed.await.expect("no panic").expect_err("broken");
        assert!(matches!(broken, Broken { side: Side::Plain, how: How::Reset(_) }), "{broken:?}");
    });
}

#[test]
fn a_reset_of_the_peer_is_one_for_the_application() {
    run(async {
        let World { mut application, peer, relayed, .. } = World::start().await;
        net::reset_on_close(peer.get_ref().0);
        drop(peer);
        let error = application.read(&mut [0]).await.expect_err("no clean end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        let broken = relayed.await.expect("no panic").expect_err("broken");
        assert!(matches!(broken, Broken { side: Side::Tls, how: How::Reset(_) }), "{broken:?}");
    });
}

#[test]
fn an_end_without_close_notify_is_a_reset_after_its_bytes() {
    run(async {
        let World { mut application, mut peer, relayed, .. } = World::start().await;
        peer.write_all(b"half an answer").await.expect("written");
        peer.flush().await.expect("flushed");
        net::shutdown_write(peer.get_ref().0).expect("FIN alone");
        let mut read = [0; 14];
        application.read_exact(&mut read).await.expect("the bytes");
        assert_eq!(&read, b"half an answer");
        let error = application.read(&mut [0]).await.expect_err("no clean end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        let broken = relayed.await.expect("no panic").expect_err("broken");
        assert!(matches!(broken.how, How::Truncated), "{broken:?}");
    });
}

#[test]
fn bytes_that_are_no_tls_end_it_after_what_was_good() {
    run(async {
        let World { mut application, mut peer, relayed, .. } = World::start().await;
        peer.write_all(b"good").await.expect("written");
        peer.flush().await.expect("flushed");
        peer.get_mut().0.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
        let mut read = [0; 4];
        application.read_exact(&mut read).await.expect("the bytes");
        assert_eq!(&read, b"good");
        let error = application.read(&mut [0]).await.expect_err("no clean end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        let broken = relayed.await.expect("no panic").expect_err("broken");
        assert!(matches!(broken.how, How::Tls(_)), "{broken:?}");
    });
}

#[test]
fn a_reset_is_seen_while_the_other_end_takes_nothing() {
    run(async {
        let World { application, peer, relayed, .. } = World::start().await;
        // Until every buffer on the way is full: the relay reads nothing then.
        let chunk = pattern(5, 64 << 10);
        let fill = async {
            loop {
                application.writable().await.expect("writable");
                let _ = application.try_write(&chunk);
            }
        };
        let _: Result<(), _> = tokio::time::timeout(Duration::from_secs(1), fill).await;
        net::reset_on_close(&application);
        drop(application);
        let broken = relayed.await.expect("no panic").expect_err("broken");
        assert!(matches!(broken, Broken { side: Side::Plain, how: How::Reset(_) }), "{broken:?}");
        drop(peer);
    });
}
