//! Stage 6, report: what is known of a connection, recorded exactly once when it ends.
//!
//! The guard of the connection: it registers it when opened, and when dropped it counts and logs
//! the outcome, if nobody did, and takes the connection out of the registry. Must not know: how a
//! log line is formatted.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::SystemTime};

use tokio::net::TcpStream;

use super::{
    access_log::Line,
    client_hello::{Alpn, ClientHello, ServerName},
    failures::{self, FailureView},
    handshake::HandshakeEnd,
    loops::Wait,
    metrics::Series,
    outcome::Outcome,
    registry::{Connection, Served},
    sources::{SourcePermit, TooMany},
    worker::Worker,
};
use crate::{
    net,
    routing::{Endpoint, Lease, Route, table::RoutePermit},
};

/// What is known of a connection so far.
#[derive(Debug)]
pub(super) struct Report {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    key: usize,
    started: SystemTime,
    /// Boxed, since those that wait for it are many.
    hello: Option<Box<HelloFacts>>,
    detail: Option<&'static str>,
    attempts: u32,
    last_error: Option<Box<str>>,
    permit: Option<RoutePermit>,
    /// Boxed: only where endpoints are gateways.
    wait: Option<Box<Wait>>,
    /// Boxed: only where sources are limited.
    source: Option<Box<SourcePermit>>,
    tried: Option<Arc<Endpoint>>,
    recorded: bool,
}

/// What the log keeps of a ClientHello; the rest is freed.
#[derive(Debug)]
pub(super) struct HelloFacts {
    /// As sent, or folded to lower case.
    pub(super) server_name: Option<Box<[u8]>>,
    pub(super) alpn: Alpn,
    /// As offered; the one of the fixed part when the extension is absent.
    pub(super) tls_versions: Box<[u16]>,
    pub(super) key_share_groups: Box<[u16]>,
}

impl From<ClientHello> for HelloFacts {
    fn from(hello: ClientHello) -> Self {
        let mut tls_versions = hello.supported_versions;
        if tls_versions.is_empty() {
            tls_versions = [hello.legacy_version].into();
        }
        let server_name = hello.server_name.map(|name| match name {
            ServerName::Name(name) => name.into_boxed_bytes(),
            ServerName::BadName(bytes) => bytes,
        });
        let key_share_groups = hello.key_share_groups;
        Self { server_name, alpn: hello.alpn, tls_versions, key_share_groups }
    }
}

impl Report {
    /// Registers the connection; from here on it is counted until the report is dropped.
    pub(super) fn open(worker: &Rc<Worker>, connection: Connection) -> Box<Self> {
        let connection = Rc::new(connection);
        let key = worker.registry().insert(Rc::clone(&connection));
        worker.shared().metrics.accept();
        Box::new(Self {
            worker: Rc::clone(worker),
            connection,
            key,
            started: SystemTime::now(),
            hello: None,
            detail: None,
            attempts: 0,
            last_error: None,
            permit: None,
            wait: None,
            source: None,
            tried: None,
            recorded: false,
        })
    }

    pub(super) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    pub(super) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// The ClientHello is whole, and has been looked at.
    pub(super) fn heard(&mut self, hello: ClientHello) {
        self.hello = Some(Box::new(hello.into()));
    }

    /// Which rule made the outcome, for the log.
    pub(super) fn detail(&mut self, detail: &'static str) {
        self.detail = Some(detail);
    }

    /// Counts the connection for its source, where that is limited.
    ///
    /// # Errors
    /// The outcome, when the source has too many and the gateway is under pressure.
    pub(super) fn claim_source(&mut self) -> Result<(), Outcome> {
        let shared = self.worker.shared();
        let Some(sources) = &shared.sources else { return Ok(()) };
        let admitted = sources.enter(self.connection.peer().ip(), shared.is_pressed());
        self.source = admitted.map_err(|TooMany| Outcome::ShedSource)?.map(Box::new);
        Ok(())
    }

    /// The route is known, and counted as in use.
    pub(super) fn routed(&mut self, route: &Arc<Route>, permit: RoutePermit) {
        let _ = self.connection.route.set(Arc::clone(route));
        self.permit = Some(permit);
    }

    /// The hello is noted as one that waits for its answer.
    pub(super) fn waits(&mut self, wait: Wait) {
        self.wait = Some(Box::new(wait));
    }

    /// Its answer has come.
    pub(super) fn answered(&mut self) {
        self.wait = None;
    }

    /// An endpoint is dialled.
    pub(super) fn trying(&mut self, endpoint: &Arc<Endpoint>) {
        self.attempts += 1;
        self.tried = Some(Arc::clone(endpoint));
    }

    /// A try failed.
    pub(super) fn try_failed(&mut self, reason: impl std::fmt::Display) {
        self.last_error = Some(reason.to_string().into());
    }

    /// The endpoint is chosen for good.
    pub(super) fn settled(&mut self, upstream: TcpStream, lease: Lease) {
        let Some(route) = self.connection.route.get() else { return };
        let series = self.worker.shared().metrics.series(route, lease.endpoint());
        series.opened();
        self.tried = None;
        let _ = self.connection.served.set(Box::new(Served { upstream, lease, series }));
    }

    /// Records how the connection ended: counters, and its line in the access log. The first call
    /// counts.
    pub(super) fn end(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        let shared = self.worker.shared();
        shared.admission.linger();
        self.connection.note_ended();
        shared.metrics.end(outcome);
        let connection = &*self.connection;
        let (route, handshake) = (connection.route.get(), connection.handshake.get());
        if let Some(served) = connection.served.get() {
            publish(connection, &served.series);
            served.series.closed(outcome);
            if handshake == Some(HandshakeEnd::Ok) {
                served.series.handshake();
            }
        }
        if let (Some(route), Some(end)) = (route, handshake.filter(|h| *h != HandshakeEnd::Ok)) {
            shared.metrics.handshake_failed(&route.service, end);
        }
        if failures::is_failure(outcome, handshake) {
            shared.failures.push(FailureView::new(&self.line(outcome)));
        }
        if outcome != Outcome::Probe && shared.log.is_on() {
            shared.log.write(&self.line(outcome));
        }
    }

    fn line(&self, outcome: Outcome) -> Line<'_> {
        let connection = &*self.connection;
        let (received, sent) = connection.bytes();
        let served = connection.served.get();
        let endpoint = served.map(|s| s.lease.endpoint()).or(self.tried.as_ref());
        let local = |stream: &TcpStream| -> Option<SocketAddr> {
            stream.local_addr().ok().map(net::unmapped)
        };
        Line {
            started: self.started,
            duration: connection.accepted.elapsed(),
            outcome,
            handshake: connection.handshake.get(),
            detail: self.detail,
            last_error: self.last_error.as_deref(),
            attempts: self.attempts,
            received,
            sent,
            spliced: connection.spliced(),
            hello: self.hello.as_deref(),
            route: connection.route.get().map(|r| &**r),
            endpoint: endpoint.map(|e| &**e),
            upstream_local: served.and_then(|s| local(&s.upstream)),
            downstream_local: local(&connection.downstream),
            downstream_remote: connection.peer(),
        }
    }
}

/// Adds to `series` what the connection moved since it was last published.
pub(super) fn publish(connection: &Connection, series: &Series) {
    let mut seen = connection.seen.get();
    let (received, sent) = connection.bytes();
    series.bytes(received.saturating_sub(seen.published.0), sent.saturating_sub(seen.published.1));
    seen.published = (received, sent);
    connection.seen.set(seen);
}

impl Drop for Report {
    fn drop(&mut self) {
        // Whoever ends a connection says why. Nobody did: it panicked, or the runtime went.
        let outcome = if std::thread::panicking() { Outcome::Panicked } else { Outcome::Drained };
        self.end(outcome);
        self.worker.registry().remove(self.key);
        self.worker.leave();
    }
}
