//! Ends what will not be relayed: a TLS alert where one helps, FIN, and a short wait.
//!
//! The alert is the only word a client gets, so it distinguishes what the client can act on and
//! nothing that would tell which names exist. Must not know: why an outcome was reached.

use std::{future::poll_fn, time::Duration};

use tokio::net::TcpStream;

use super::{outcome::Outcome, worker::Worker};
use crate::net;

/// A fatal alert's description (RFC 8446 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// 50.
    DecodeError,
    /// 70.
    ProtocolVersion,
    /// 80.
    InternalError,
    /// 112.
    UnrecognizedName,
    /// 120.
    NoApplicationProtocol,
}

impl Alert {
    /// The record: alert, TLS 1.2 on the wire as every version accepts, two bytes, fatal.
    #[must_use]
    pub fn record(self) -> [u8; 7] {
        let description = match self {
            Self::DecodeError => 50,
            Self::ProtocolVersion => 70,
            Self::InternalError => 80,
            Self::UnrecognizedName => 112,
            Self::NoApplicationProtocol => 120,
        };
        [21, 3, 3, 0, 2, 2, description]
    }
}

/// What a client is told when it ends this way; `None` is a FIN without a word.
#[must_use]
pub fn alert_for(outcome: Outcome) -> Option<Alert> {
    match outcome {
        Outcome::BadVersion => Some(Alert::ProtocolVersion),
        Outcome::HelloMalformed | Outcome::HelloTooLarge => Some(Alert::DecodeError),
        Outcome::AlpnRefused => Some(Alert::NoApplicationProtocol),
        // One answer for all of these: a stranger does not learn which names exist.
        Outcome::NoServerName
        | Outcome::BadName
        | Outcome::UnknownName
        | Outcome::NotExported
        | Outcome::NoSuchPort
        | Outcome::NoSuchSubset
        | Outcome::SourceDenied => Some(Alert::UnrecognizedName),
        Outcome::Loop
        | Outcome::NoEndpoint
        | Outcome::ConnectionLimit
        | Outcome::ConnectFailed
        | Outcome::ConnectTimeout => Some(Alert::InternalError),
        Outcome::Probe
        | Outcome::HelloTimeout
        | Outcome::ClientEofBeforeHello
        | Outcome::ClientResetBeforeHello
        | Outcome::NotTls
        | Outcome::BadProxyHeader
        | Outcome::ShedMemory
        | Outcome::ShedHellos
        | Outcome::ShedSource
        | Outcome::ClientGoneBeforeConnect
        | Outcome::FirstFlightFailed
        | Outcome::Finished
        | Outcome::ClientReset
        | Outcome::EndpointReset
        | Outcome::ClientVanished
        | Outcome::EndpointVanished
        | Outcome::IdleTimeout
        | Outcome::MaxDuration
        | Outcome::QuietDrain
        | Outcome::EndpointRemoved
        | Outcome::Rebalanced
        | Outcome::Drained
        | Outcome::Panicked => None,
    }
}

/// What the client may still send after it was refused: closing a socket with unread bytes would
/// turn our FIN, and the alert before it, into an RST.
const DISCARD_MAX: usize = 64 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Writes `word`, if any, and FIN, then reads and drops until the client closes, 64 KiB or 1 s.
pub(super) async fn refuse(worker: &Worker, stream: &TcpStream, word: Option<Vec<u8>>) {
    if let Some(word) = word {
        // An alert fits into the empty send queue of a fresh socket, or the client is gone.
        let sent = poll_fn(|context| net::poll_send(stream, context, &word));
        if !matches!(tokio::time::timeout(DISCARD_TIME, sent).await, Ok(Ok(_))) {
            return;
        }
    }
    if net::shutdown_write(stream).is_err() {
        return;
    }
    let _ = tokio::time::timeout(DISCARD_TIME, discard(worker, stream)).await;
}

/// Writes FIN to both, then reads and drops until both close, 64 KiB or 1 s: what either says into
/// our FIN was heard by nobody, and it learns so.
pub(super) async fn dismiss(worker: &Worker, downstream: &TcpStream, upstream: &TcpStream) {
    let farewell = async |stream| {
        if net::shutdown_write(stream).is_ok() {
            discard(worker, stream).await;
        }
    };
    let both = async { tokio::join!(farewell(downstream), farewell(upstream)) };
    let _ = tokio::time::timeout(DISCARD_TIME, both).await;
}

async fn discard(worker: &Worker, stream: &TcpStream) {
    let mut discarded = 0;
    while discarded < DISCARD_MAX {
        let read = poll_fn(|context| net::poll_recv(stream, context, &mut worker.scratch()));
        match read.await {
            Ok(0) | Err(_) => return,
            Ok(n) => discarded += n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_name_a_service_are_told_alike() {
        let alerts: Vec<_> = [
            Outcome::NoServerName,
            Outcome::BadName,
            Outcome::UnknownName,
            Outcome::NotExported,
            Outcome::NoSuchPort,
            Outcome::NoSuchSubset,
            Outcome::SourceDenied,
        ]
        .map(alert_for)
        .into();
        assert!(alerts.iter().all(|a| *a == Some(Alert::UnrecognizedName)));
    }

    #[test]
    fn an_alert_is_one_fatal_record() {
        assert_eq!(Alert::UnrecognizedName.record(), [0x15, 3, 3, 0, 2, 2, 112]);
    }
}
