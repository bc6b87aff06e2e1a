//! The path of an inbound connection, and every branch of it.
//!
//! The peer proves who it is before the application hears of it. Must not know: routes, how bytes
//! move.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, TlsStream, server};

use super::{
    Inbound, Shared, StartError, ending,
    handshake::Failure,
    outbound::KEEPALIVE,
    outcome::{Direction, Outcome},
    report::Report,
};
use crate::{
    certs::{Peers, Seen},
    net,
};

/// What peers may speak inside; the first that they offer too is agreed on. The application gets
/// the bytes as they are, so `istio-peer-exchange` is never one of these: it would bring Istio's
/// header.
const ALPN: &[&str] = &["istio", "h2", "http/1.1"];

/// The application is on this machine, or near.
const APPLICATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the addresses. A `[::]` takes IPv4 too, and is `0.0.0.0` where the kernel has no IPv6.
pub(super) fn bind(
    ways: &[Inbound],
) -> Result<Vec<(std::net::TcpListener, SocketAddr)>, StartError> {
    let bind = |way: &Inbound| {
        let failed = |source| StartError::Bind { address: way.listen, source };
        Ok((net::listen_alone(way.listen).map_err(failed)?, way.to))
    };
    ways.iter().map(bind).collect()
}

/// Serves one connection of a peer to the end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    to: SocketAddr,
    peer: TcpStream,
    addresses: (SocketAddr, SocketAddr),
) {
    let way = shared.counters.of(Direction::Inbound);
    let mut report = Report::new(Direction::Inbound, way, addresses, None);
    let outcome = run(&shared, to, peer, &mut report).await;
    report.end(outcome);
}

async fn run(
    shared: &Arc<Shared>,
    to: SocketAddr,
    peer: TcpStream,
    report: &mut Report,
) -> Outcome {
    let _ = net::set_keepalive(&peer, KEEPALIVE);
    let stream = match admit(shared, peer, report).await {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    report.upstream = Some(to);
    report.tries = 1;
    let connecting = timeout_at(Instant::now() + APPLICATION_TIMEOUT, TcpStream::connect(to));
    let connected = tokio::select! {
        connected = connecting => connected,
        () = ending::told(shared) => return cut(&stream, Outcome::Drained),
    };
    let mut application = match connected {
        Ok(Ok(application)) => application,
        Ok(Err(error)) => {
            report.reason = Some(format!("the application: {error}"));
            return cut(&stream, Outcome::ConnectFailed);
        }
        Err(_) => {
            report.reason = Some("the application: connect timeout".to_owned());
            return cut(&stream, Outcome::ConnectTimeout);
        }
    };
    // It fails on a connection that is gone, which the relay finds out too.
    let _ = application.set_nodelay(true);
    let mut tls = TlsStream::Server(stream);
    ending::relay(shared, Direction::Inbound, &mut application, &mut tls, (None, None), report)
        .await
}

/// The handshake: who the peer is, and whether it is welcome.
async fn admit(
    shared: &Arc<Shared>,
    peer: TcpStream,
    report: &mut Report,
) -> Result<server::TlsStream<TcpStream>, Outcome> {
    let way = shared.counters.of(Direction::Inbound);
    let refuse = |report: &mut Report, failure: &Failure| {
        way.handshake_failed(failure.cause);
        report.reason = Some(failure.to_string());
        Outcome::HandshakeFailed
    };
    let deadline = Instant::now() + shared.config.handshake_timeout;
    match timeout_at(deadline, peer.peek(&mut [0])).await {
        Ok(Ok(0) | Err(_)) => return Err(Outcome::Probe),
        Ok(Ok(_)) => {}
        Err(_) => return Err(refuse(report, &Failure::timeout())),
    }
    let clients = match &shared.config.allowed[..] {
        [] => Peers::Any,
        allowed => Peers::Named(allowed.to_vec()),
    };
    let seen = Seen::default();
    let config = shared.keyring.current().server(clients, seen.clone(), ALPN);
    let config = config.map_err(|error| refuse(report, &Failure::ours(&error)))?;
    let shaking = TlsAcceptor::from(config).accept(peer).into_fallible();
    let shaken = tokio::select! {
        shaken = timeout_at(deadline, shaking) => shaken,
        () = ending::told(shared) => return Err(Outcome::Drained),
    };
    report.peer = seen.identity();
    match shaken {
        Ok(Ok(stream)) => {
            let session = stream.get_ref().1;
            report.server_name = session.server_name().map(str::to_owned);
            report.alpn = session.alpn_protocol().map(<[u8]>::to_vec);
            Ok(stream)
        }
        Ok(Err((error, peer))) => {
            // So that our alert is read.
            net::leave(peer).await;
            Err(refuse(report, &Failure::new(&error)))
        }
        Err(_) => Err(refuse(report, &Failure::timeout())),
    }
}

/// Ends by a reset: a FIN would say that all is well.
fn cut(stream: &server::TlsStream<TcpStream>, outcome: Outcome) -> Outcome {
    net::reset_on_close(stream.get_ref().0);
    outcome
}
