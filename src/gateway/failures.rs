//! The last connections that failed, for whoever looks after the fact.
//!
//! Two rings of fixed length: what never found a route is kept apart, so that strangers who knock
//! do not push out what happened to services. Must not know: who asks, how a log line looks.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{access_log::Line, handshake::HandshakeEnd, outcome::Outcome};

/// So many of each kind are kept.
const KEPT: usize = 128;

/// One connection that failed. Nothing in it holds unescaped bytes of the network.
#[derive(Clone, Debug)]
pub struct FailureView {
    /// When it was accepted, RFC 3339.
    pub started: String,
    /// From accept to its end.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// Which rule made the outcome.
    pub detail: Option<&'static str>,
    /// Class and side of the end of the TLS handshake.
    pub handshake: Option<(&'static str, &'static str)>,
    /// The last try that failed.
    pub last_error: Option<String>,
    /// Endpoints dialled.
    pub attempts: u32,
    /// Who dialled us.
    pub downstream: SocketAddr,
    /// What was asked for, escaped.
    pub server_name: Option<String>,
    /// The route's key, if there was one.
    pub route: Option<String>,
    /// The last endpoint dialled.
    pub endpoint: Option<SocketAddr>,
    /// Bytes from downstream.
    pub received: u64,
    /// Bytes to downstream.
    pub sent: u64,
}

/// True for what an operator may have to look into. A client that goes as it likes, and what the
/// gateway ends as it is told to, is no failure once the handshake is through.
pub(super) fn is_failure(outcome: Outcome, handshake: Option<HandshakeEnd>) -> bool {
    match handshake {
        Some(HandshakeEnd::Ok | HandshakeEnd::Unfinished) | None => match outcome.origin() {
            super::outcome::Origin::Downstream => false,
            super::outcome::Origin::Upstream => true,
            super::outcome::Origin::Gateway => outcome.flags() != "LR" && !is_timed(outcome),
        },
        // It may have been refused, or it may have changed its mind.
        Some(HandshakeEnd::ClientLeft) => false,
        Some(_) => true,
    }
}

fn is_timed(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::IdleTimeout | Outcome::MaxDuration)
}

/// The rings, newest first.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Rings>);

#[derive(Debug, Default)]
struct Rings {
    refused: VecDeque<FailureView>,
    routed: VecDeque<FailureView>,
}

impl Failures {
    pub(super) fn push(&self, failure: FailureView) {
        let mut rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = match failure.route {
            Some(_) => &mut rings.routed,
            None => &mut rings.refused,
        };
        ring.truncate(KEPT - 1);
        ring.push_front(failure);
    }

    /// All of them: those with a route first, each kind from the newest on.
    pub(super) fn list(&self) -> Vec<FailureView> {
        let rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rings.routed.iter().chain(&rings.refused).cloned().collect()
    }
}

impl FailureView {
    pub(super) fn new(line: &Line<'_>) -> Self {
        Self {
            started: super::access_log::timestamp(line.started),
            duration: line.duration,
            outcome: line.outcome,
            detail: line.detail,
            handshake: line.handshake.map(|end| (end.class(), end.ended_by())),
            last_error: line.last_error.map(|e| crate::telemetry::escape(e.as_bytes()).to_string()),
            attempts: line.attempts,
            downstream: line.downstream_remote,
            server_name: line.server_name(),
            route: line.route.map(ToString::to_string),
            endpoint: line.endpoint.map(|endpoint| endpoint.address),
            received: line.received,
            sent: line.sent,
        }
    }
}

/// One line for people.
impl fmt::Display for FailureView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.started, self.downstream, self.outcome.reason())?;
        if let Some(detail) = self.detail {
            write!(f, ":{detail}")?;
        }
        if let Some((class, by)) = self.handshake {
            write!(f, " tls={class}")?;
            if by != "-" {
                write!(f, " by {by}")?;
            }
        }
        let name = self.server_name.as_deref().or(self.route.as_deref());
        write!(f, " {}", name.unwrap_or("-"))?;
        if let Some(endpoint) = self.endpoint {
            write!(f, " at {endpoint}, {} tried", self.attempts)?;
        }
        write!(f, ", {} bytes in, {} out, {:?}", self.received, self.sent, self.duration)?;
        match &self.last_error {
            Some(error) => write!(f, ", last error: {error}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::access_log::sample;

    #[test]
    fn strangers_do_not_push_out_what_happened_to_services() {
        let failures = Failures::default();
        let routed = FailureView { route: Some("a route".into()), ..FailureView::new(&sample()) };
        failures.push(routed);
        (0..10_000).for_each(|_| failures.push(FailureView::new(&sample())));
        let list = failures.list();
        assert_eq!(list.len(), 1 + KEPT);
        assert_eq!(list[0].route.as_deref(), Some("a route"));
    }

    #[test]
    fn what_clients_and_operators_do_is_no_failure() {
        let check = |outcome, handshake, expected| {
            assert_eq!(is_failure(outcome, handshake), expected, "{outcome:?} {handshake:?}");
        };
        let suspected =
            HandshakeEnd::SuspectedAuthFailure(crate::gateway::relay::machine::Side::Upstream);
        check(Outcome::Finished, Some(HandshakeEnd::Ok), false);
        check(Outcome::Finished, Some(suspected), true);
        check(Outcome::ClientReset, Some(HandshakeEnd::Ok), false);
        check(Outcome::ClientReset, Some(HandshakeEnd::ClientLeft), false);
        check(Outcome::ClientReset, Some(HandshakeEnd::ServerHelloTimeout), true);
        check(Outcome::EndpointReset, Some(HandshakeEnd::Ok), true);
        check(Outcome::UnknownName, None, true);
        check(Outcome::Probe, None, false);
        check(Outcome::IdleTimeout, Some(HandshakeEnd::Ok), false);
        check(Outcome::Drained, Some(HandshakeEnd::Unfinished), false);
        check(Outcome::ConnectFailed, None, true);
    }
}
