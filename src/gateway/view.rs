//! What operators see of a live connection.
//!
//! Plain values, taken on the worker's thread and sent to whoever asked. Must not know: how they
//! are printed.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use super::registry::Connection;

/// One live connection at one moment.
#[derive(Clone, Debug)]
pub struct ConnectionView {
    /// The worker that serves it.
    pub worker: usize,
    /// Its key in that worker's registry; reused after the connection ended.
    pub key: usize,
    /// `sniff`, `route`, `connect`, `first_flight` or `relay`.
    pub stage: &'static str,
    /// Who dialled us.
    pub downstream: SocketAddr,
    /// The route's key, once there is one.
    pub route: Option<String>,
    /// The endpoint, once there is one.
    pub upstream: Option<SocketAddr>,
    /// Bytes from downstream.
    pub received: u64,
    /// Bytes to downstream.
    pub sent: u64,
    /// Since accept.
    pub age: Duration,
    /// Since a byte moved, as the sweep knows it: right to half a second.
    pub idle: Duration,
    /// True when some of its bytes went by splice.
    pub spliced: bool,
}

pub(super) fn describe(worker: usize, key: usize, connection: &Rc<Connection>) -> ConnectionView {
    let (received, sent) = connection.bytes();
    ConnectionView {
        worker,
        key,
        stage: connection.stage().as_str(),
        downstream: connection.peer(),
        route: connection.route.get().map(ToString::to_string),
        upstream: connection.served.get().map(|s| s.lease.endpoint().address),
        received,
        sent,
        age: connection.accepted.elapsed(),
        idle: connection.seen.get().last_progress.elapsed(),
        spliced: connection.spliced(),
    }
}
