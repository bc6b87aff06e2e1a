//! What became of one connection: counted and told once, by a guard.
//!
//! Must not know: how connections go. What peers sent is escaped here.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{
    metrics::Way,
    outcome::{Direction, Outcome},
    plan::Target,
    relay::Traffic,
};
use crate::telemetry::escape;

/// One connection. Dropped without an end, it ended by a panic.
#[derive(Debug)]
pub(super) struct Report {
    direction: Direction,
    way: Way,
    from: SocketAddr,
    to: SocketAddr,
    target: Option<Arc<Target>>,
    begun: Instant,
    pub(super) traffic: Traffic,
    /// The endpoint or application that was dialled last.
    pub(super) upstream: Option<SocketAddr>,
    /// Who the mesh's peer says it is.
    pub(super) peer: Option<String>,
    /// The server name and the protocol agreed on.
    pub(super) server_name: Option<String>,
    pub(super) alpn: Option<Vec<u8>>,
    pub(super) tries: u32,
    /// What went wrong last, in words.
    pub(super) reason: Option<String>,
    outcome: Outcome,
}

impl Report {
    /// Who dialled us.
    pub(super) fn from(&self) -> SocketAddr {
        self.from
    }

    /// A connection that `from` made to our address `to`.
    pub(super) fn new(
        direction: Direction,
        way: &Way,
        (from, to): (SocketAddr, SocketAddr),
        target: Option<Arc<Target>>,
    ) -> Self {
        way.active.inc();
        Self {
            direction,
            way: way.clone(),
            from,
            to,
            target,
            begun: Instant::now(),
            traffic: Traffic::default(),
            upstream: None,
            peer: None,
            server_name: None,
            alpn: None,
            tries: 0,
            reason: None,
            outcome: Outcome::Panic,
        }
    }

    /// Notes the end.
    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Bytes received from the downstream and sent to it.
    fn bytes(&self) -> (u64, u64) {
        let from_plain = self.traffic.from_plain.load(Ordering::Relaxed);
        let from_tls = self.traffic.from_tls.load(Ordering::Relaxed);
        match self.direction {
            Direction::Outbound => (from_plain, from_tls),
            Direction::Inbound => (from_tls, from_plain),
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let (received, sent) = self.bytes();
        self.way.active.dec();
        self.way.ended(self.outcome);
        self.way.received.inc_by(received);
        self.way.sent.inc_by(sent);
        if self.outcome == Outcome::Probe {
            return;
        }
        let text = |text: &Option<String>| match text {
            Some(text) => escape(text.as_bytes()).to_string(),
            None => "-".to_owned(),
        };
        let asked = match &self.target {
            Some(target) => target.key().to_string(),
            None => text(&self.server_name),
        };
        let upstream = self.upstream.map_or_else(|| "-".to_owned(), |at| at.to_string());
        tracing::info!(
            direction = self.direction.as_str(),
            outcome = self.outcome.as_str(),
            reason = text(&self.reason),
            downstream.addr = %self.from,
            local.addr = %self.to,
            upstream.addr = upstream,
            server_name = asked,
            peer = text(&self.peer),
            alpn = self.alpn.as_deref().map_or_else(|| "-".to_owned(), |a| escape(a).to_string()),
            tries = self.tries,
            bytes_received = received,
            bytes_sent = sent,
            duration_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "connection"
        );
    }
}
