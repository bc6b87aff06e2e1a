//! Reaches an endpoint: TCP, then TLS, then the next one.
//!
//! The application has been promised nothing yet, so an endpoint that fails costs it nothing but
//! time. `connectTimeout` bounds all tries together; one is cut short only while another endpoint
//! is left. Must not know: what the application sends.

use std::{io, sync::Arc};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Shared,
    handshake::{Cause, Failure},
    outcome::{Direction, Outcome},
    plan::Target,
    report::Report,
};
use crate::{
    certs::{Peers, Seen},
    net,
    routing::{Endpoint, EndpointSet, Fault, Lease, Pick, Route, Tried},
};

/// What we speak inside: raw bytes. `istio-peer-exchange` would promise a header before them.
const ALPN: &[&str] = &["istio"];

/// A connected endpoint that has proven who it is.
pub(super) struct Dialled {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) lease: Lease,
}

/// Why one endpoint was not reached.
#[derive(Debug, thiserror::Error)]
enum TryFailure {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("connect timeout")]
    Timeout,
    #[error("loop: the endpoint is a listener of this sidecar")]
    Ourselves,
    #[error("{0}")]
    Handshake(#[from] Failure),
}

/// Connects to one endpoint of `set` after another until one has proven who it is.
///
/// # Errors
/// The outcome, which the last try decides.
pub(super) async fn dial(
    shared: &Arc<Shared>,
    target: &Target,
    (route, set): (&Route, &EndpointSet),
    report: &mut Report,
) -> Result<Dialled, Outcome> {
    let deadline = Instant::now() + set.policy().connect_timeout;
    // One for the connection, not for each try: see `routing::Pick`.
    let turn = route.state.next_turn();
    let mut tried = Tried::new();
    // What is wrong with a handshake may be ours. It is the endpoint's when another one is content.
    let mut refused = Vec::new();
    let mut last = Outcome::NoEndpoint;
    loop {
        let now = Instant::now().into_std();
        let (random, source) = (shared.random(), Some(report.from().ip()));
        let pick = Pick { tried: &tried, turn, random, source, now };
        let Some((index, lease)) = set.pick(pick) else { return Err(last) };
        tried.push(index);
        // One that is ejected is no reason to leave this one early.
        let is_last = !set.has_good(&tried, now);
        report.tries += 1;
        report.upstream = Some(lease.endpoint().address);
        report.peer = None;
        match connect(shared, target, lease.endpoint(), (deadline, is_last), report).await {
            Ok(stream) => {
                report.reason = None;
                let now = Instant::now().into_std();
                lease.endpoint().state.succeeded(now);
                for index in refused {
                    note(set, index, Fault::Handshake);
                }
                return Ok(Dialled { stream, lease });
            }
            Err(failure) => {
                let address = lease.endpoint().address;
                tracing::debug!(%address, error = %failure, "endpoint failed");
                match &failure {
                    TryFailure::Ourselves => {}
                    TryFailure::Io(_) | TryFailure::Timeout => note(set, index, Fault::Connection),
                    TryFailure::Handshake(_) => refused.push(index),
                }
                report.reason = Some(failure.to_string());
                last = match &failure {
                    TryFailure::Io(_) | TryFailure::Ourselves => Outcome::ConnectFailed,
                    TryFailure::Timeout => Outcome::ConnectTimeout,
                    TryFailure::Handshake(failure) => {
                        let way = shared.counters.of(Direction::Outbound);
                        way.handshake_failed(failure.cause);
                        match failure.cause {
                            Cause::Timeout if is_last => Outcome::ConnectTimeout,
                            _ => Outcome::HandshakeFailed,
                        }
                    }
                };
            }
        }
        if Instant::now() >= deadline {
            return Err(Outcome::ConnectTimeout);
        }
    }
}

/// Counts a failure of an endpoint.
fn note(set: &EndpointSet, index: usize, fault: Fault) {
    let endpoint = &set.endpoints()[index];
    if set.failed(endpoint, fault, Instant::now().into_std()) {
        tracing::info!(address = %endpoint.address, ?fault, "endpoint ejected");
    }
}

/// TCP and TLS with one endpoint.
async fn connect(
    shared: &Arc<Shared>,
    target: &Target,
    endpoint: &Endpoint,
    (deadline, is_last): (Instant, bool),
    report: &mut Report,
) -> Result<TlsStream<TcpStream>, TryFailure> {
    if shared.listeners.serves(endpoint.address) {
        return Err(TryFailure::Ourselves);
    }
    let until = |patience| match is_last {
        true => deadline,
        false => deadline.min(Instant::now() + patience),
    };
    let connecting = TcpStream::connect(endpoint.address);
    let tcp = timeout_at(until(shared.config.try_timeout), connecting)
        .await
        .map_err(|_| TryFailure::Timeout)??;
    tcp.set_nodelay(true)?;
    let servers = match &target.servers[..] {
        [] => Peers::Any,
        names => Peers::Named(names.to_vec()),
    };
    let seen = Seen::default();
    let config = shared.keyring.current().client(servers, seen.clone(), ALPN);
    let config = config.map_err(|error| Failure::ours(&error))?;
    let shaking = TlsConnector::from(config).connect(target.server_name.clone(), tcp);
    let shaken = timeout_at(until(shared.config.handshake_timeout), shaking.into_fallible()).await;
    report.peer = seen.identity();
    match shaken {
        Ok(Ok(stream)) => {
            report.alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            Ok(stream)
        }
        Ok(Err((error, tcp))) => {
            // So that our alert is read; nobody waits for that.
            tokio::spawn(net::leave(tcp));
            Err(Failure::new(&error).into())
        }
        Err(_) => Err(Failure::timeout().into()),
    }
}
