//! How a TLS handshake ended, as far as it can be seen from outside.
//!
//! A [`Watch`] looks at the headers of the first few records of each side and forgets itself when
//! the handshake is through; bulk bytes are never looked at. What is encrypted is known by its
//! length alone: in TLS 1.3 a record of 19 bytes holds an alert, since no handshake message is so
//! short. Must not know: sockets, endpoints, what is made of the answer.

use std::time::{Duration, Instant};

use self::records::{Record, Records};
use super::relay::machine::{Loss, Side};

mod alerts;
mod records;

/// The end of a handshake, for the log, the metrics and the list of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum HandshakeEnd {
    /// Through, or nothing speaks against it.
    Ok,
    /// This side said why it ends, in plain text (RFC 8446 §6).
    Alert(Side, u8),
    /// The endpoint reset before its first byte.
    ResetBeforeHello,
    /// The endpoint was silent for `first_flight.server_hello_timeout` and longer.
    ServerHelloTimeout,
    /// The endpoint ended by FIN without a byte.
    ClosedAfterHello,
    /// What the endpoint said is not TLS.
    NotTls,
    /// TLS 1.3: this side ended where it would if it did not trust the other's certificate. That
    /// it did so for this reason is never certain.
    SuspectedAuthFailure(Side),
    /// The client ended before the handshake was through.
    ClientLeft,
    /// The endpoint ended after its ServerHello, before the handshake was through.
    EndpointLeft,
    /// The gateway ended the connection before the handshake was through.
    Unfinished,
}

impl HandshakeEnd {
    /// The class in log lines and the metric label: one of a bounded set.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Alert(_, description) => alerts::class(description),
            Self::ResetBeforeHello => "reset_before_hello",
            Self::ServerHelloTimeout => "server_hello_timeout",
            Self::ClosedAfterHello => "closed_after_hello",
            Self::NotTls => "not_tls",
            Self::SuspectedAuthFailure(_) => "suspected_auth_failure",
            Self::ClientLeft => "client_left",
            Self::EndpointLeft => "endpoint_left",
            Self::Unfinished => "unfinished",
        }
    }

    /// Who ended it: `downstream`, `upstream`, or `-` when it was nobody.
    pub(super) fn ended_by(self) -> &'static str {
        match self {
            Self::Alert(Side::Downstream, _)
            | Self::SuspectedAuthFailure(Side::Downstream)
            | Self::ClientLeft => "downstream",
            Self::Alert(Side::Upstream, _)
            | Self::SuspectedAuthFailure(Side::Upstream)
            | Self::ResetBeforeHello
            | Self::ServerHelloTimeout
            | Self::ClosedAfterHello
            | Self::NotTls
            | Self::EndpointLeft => "upstream",
            Self::Ok | Self::Unfinished => "-",
        }
    }
}

/// An alert of TLS 1.3: 2 bytes, the content type, and 16 bytes of authentication.
const ENCRYPTED_ALERT: u16 = 19;

/// An endpoint that does not trust the client ends within a round trip of the client's second
/// flight. One that ends later has another reason, such as its idle timeout.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Silence after the hello that is called a timeout where the setting has none.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Looks on until the handshake is through.
#[derive(Debug)]
pub(super) struct Watch {
    client: Records,
    server: Records,
    phase: Phase,
    /// 0-RTT: the client's encrypted records say nothing of where it is.
    early_data: bool,
    /// The server's ChangeCipherSpec was seen.
    server_changed: bool,
    began: Instant,
    /// The first end of a side, and whether it was an RST.
    ended: Option<(Side, Instant, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The endpoint has said nothing.
    Asked,
    /// A ServerHello came.
    Answered,
    /// TLS 1.3: the client's second flight began then. The endpoint answered it at most by one
    /// record of the length of an alert; true when that came at once, and out of the blue.
    SecondFlight {
        since: Instant,
        answered: Option<bool>,
    },
    /// TLS 1.3: the first encrypted record of the client has the length of an alert.
    ClientAlerted,
    Over(HandshakeEnd),
}

impl Watch {
    /// Begins when the ClientHello was sent; its bytes are not shown.
    pub(super) fn new(early_data: bool, began: Instant) -> Self {
        Self {
            client: Records::default(),
            server: Records::default(),
            phase: Phase::Asked,
            early_data,
            server_changed: false,
            began,
            ended: None,
        }
    }

    /// Looks at what was taken from a side.
    pub(super) fn look(&mut self, from: Side, bytes: &[u8], now: Instant) {
        if self.is_over() {
            return;
        }
        let records = match from {
            Side::Downstream => &mut self.client,
            Side::Upstream => &mut self.server,
        };
        let mut records = std::mem::take(records);
        let understood = records.read(bytes, |record| match from {
            Side::Downstream => self.client_said(record, now),
            Side::Upstream => self.server_said(record, now),
        });
        match from {
            Side::Downstream => self.client = records,
            Side::Upstream => self.server = records,
        }
        if from == Side::Upstream && !understood && !self.is_over() {
            self.phase = Phase::Over(HandshakeEnd::NotTls);
        }
    }

    /// This side ended, by FIN or (`loss`) otherwise. The first end counts.
    pub(super) fn end(&mut self, side: Side, loss: Option<Loss>, now: Instant) {
        if self.ended.is_none() {
            self.ended = Some((side, now, loss == Some(Loss::Reset)));
        }
    }

    /// True when the end is known and nothing more need be looked at.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// True when the endpoint answered by a ServerHello.
    pub(super) fn has_server_hello(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Asked | Phase::Over(HandshakeEnd::Alert(..) | HandshakeEnd::NotTls)
        )
    }

    /// What became of it, if the connection ends now. A silence of `patience` is a timeout.
    pub(super) fn verdict(&self, now: Instant, patience: Duration) -> HandshakeEnd {
        let by = self.ended.map(|(side, ..)| side);
        match self.phase {
            Phase::Over(end) => end,
            Phase::Asked => match self.ended {
                Some((Side::Upstream, _, true)) => HandshakeEnd::ResetBeforeHello,
                Some((Side::Upstream, _, false)) => HandshakeEnd::ClosedAfterHello,
                _ if now.saturating_duration_since(self.began) >= patience => {
                    HandshakeEnd::ServerHelloTimeout
                }
                Some((Side::Downstream, ..)) => HandshakeEnd::ClientLeft,
                None => HandshakeEnd::Unfinished,
            },
            Phase::Answered => match by {
                Some(Side::Upstream) => HandshakeEnd::EndpointLeft,
                Some(Side::Downstream) => HandshakeEnd::ClientLeft,
                None => HandshakeEnd::Unfinished,
            },
            Phase::SecondFlight { since, answered } => {
                let ended = match self.ended {
                    Some((Side::Upstream, at, _)) => is_at_once(since, at),
                    _ => false,
                };
                // The client that got the alert may be gone before the endpoint is.
                if ended || answered == Some(true) {
                    HandshakeEnd::SuspectedAuthFailure(Side::Upstream)
                } else {
                    HandshakeEnd::Ok
                }
            }
            Phase::ClientAlerted => HandshakeEnd::SuspectedAuthFailure(Side::Downstream),
        }
    }

    /// Right after the second flight, and not in answer to an end of the client.
    fn is_sudden(&self, since: Instant, now: Instant) -> bool {
        self.ended.is_none() && is_at_once(since, now)
    }

    fn client_said(&mut self, record: Record, now: Instant) {
        self.phase = match (self.phase, record) {
            (Phase::Asked | Phase::Answered, Record::Alert(description)) => {
                Phase::Over(HandshakeEnd::Alert(Side::Downstream, description))
            }
            (Phase::Answered, Record::Encrypted(ENCRYPTED_ALERT)) => Phase::ClientAlerted,
            (Phase::Answered | Phase::ClientAlerted, Record::Encrypted(_)) => {
                Phase::SecondFlight { since: now, answered: None }
            }
            (phase, _) => phase,
        };
    }

    fn server_said(&mut self, record: Record, now: Instant) {
        let changed = self.server_changed;
        self.server_changed |= record == Record::ChangeCipherSpec;
        self.phase = match (self.phase, record) {
            (Phase::Over(end), _) => Phase::Over(end),
            (_, Record::Alert(description)) => {
                Phase::Over(HandshakeEnd::Alert(Side::Upstream, description))
            }
            (Phase::Asked, Record::ServerHello) if self.early_data => Phase::Over(HandshakeEnd::Ok),
            (Phase::Asked, Record::ServerHello) => Phase::Answered,
            // TLS 1.2: its Finished, which it sends when it has accepted the client.
            (Phase::Answered, Record::Handshake) if changed => Phase::Over(HandshakeEnd::Ok),
            (Phase::SecondFlight { since, answered: None }, Record::Encrypted(ENCRYPTED_ALERT)) => {
                Phase::SecondFlight { since, answered: Some(self.is_sudden(since, now)) }
            }
            (Phase::SecondFlight { .. }, Record::Encrypted(_)) => Phase::Over(HandshakeEnd::Ok),
            (phase, _) => phase,
        };
    }
}

fn is_at_once(since: Instant, at: Instant) -> bool {
    at.saturating_duration_since(since) <= AT_ONCE
}

#[cfg(test)]
mod tests;
