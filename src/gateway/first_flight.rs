//! The time between the ClientHello and the endpoint's first byte: already a relay, and the hello
//! is still ours.
//!
//! While it is *replayable* an endpoint that resets, closes, stays silent or refuses by alert
//! costs the client nothing: the same hello goes to another endpoint. It is replayable while no
//! byte of the server was passed on, what went upstream is exactly the hello (and at most one
//! ChangeCipherSpec record, and FIN), and the hello has no `early_data` (RFC 8446 §8: 0-RTT data
//! must not be sent twice). The first further byte of the client makes it final; bytes are never
//! held back to stay replayable. Must not know: how an endpoint is picked.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use super::{
    client_hello::ClientHello,
    handshake::{HandshakeEnd, Watch},
    outcome::Outcome,
    registry::Connection,
    relay::{Opening, machine::Side},
    worker::{TICK, Worker},
};
use crate::net;

/// A dummy ChangeCipherSpec that TLS 1.3 clients send behind their hello (RFC 8446 §D.4).
const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];

/// A silent endpoint that is not to be left for another is the connection's endpoint after this.
const SETTLE_AFTER: Duration = Duration::from_secs(5);

/// What the client has said so far, for as long as it may have to be said again.
#[derive(Debug)]
pub(super) struct FirstFlight {
    wire: Vec<u8>,
    hello_len: usize,
    early_data: bool,
    client_ended: bool,
    /// When the hello went to the endpoint that is asked now.
    asked: Instant,
    /// The alert of the endpoint before, when the same hello is tried a second time for it.
    alert: Option<Vec<u8>>,
}

/// How one endpoint answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is the connection's endpoint now: the relay goes on from here.
    Settled(Opening),
    /// It failed while the connection was replayable. If nobody else is asked, the relay begins
    /// with the opening.
    Failed(Failure, Opening),
    /// The client reset.
    Ended(Outcome),
}

impl Answer {
    /// How the handshake would have ended, if nothing came after this.
    pub(super) fn handshake_end(&self) -> Option<HandshakeEnd> {
        match self {
            Self::Settled(_) => None,
            Self::Failed(failure, opening) => {
                let alert = opening.to_downstream.get(6).copied().unwrap_or_default();
                Some(failure.handshake_end(alert))
            }
            Self::Ended(_) => Some(HandshakeEnd::ClientLeft),
        }
    }

    /// True when the endpoint answered by a ServerHello.
    pub(super) fn is_server_hello(&self) -> bool {
        let Self::Settled(opening) = self else { return false };
        opening.watch.as_ref().is_some_and(|watch| watch.has_server_hello())
    }
}

/// How an endpoint failed before its first byte was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// RST.
    Reset,
    /// FIN without a byte.
    Closed,
    /// No byte in time.
    Silent,
    /// A fatal alert as its first record.
    Alert,
}

impl Failure {
    /// What it means for the handshake; `alert` is the description of one.
    fn handshake_end(self, alert: u8) -> HandshakeEnd {
        match self {
            Self::Reset => HandshakeEnd::ResetBeforeHello,
            Self::Closed => HandshakeEnd::ClosedAfterHello,
            Self::Silent => HandshakeEnd::ServerHelloTimeout,
            Self::Alert => HandshakeEnd::Alert(Side::Upstream, alert),
        }
    }

    /// For the log.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Reset => "reset before its first byte",
            Self::Closed => "closed before its first byte",
            Self::Silent => "no first byte in time",
            Self::Alert => "fatal alert as its first record",
        }
    }
}

impl FirstFlight {
    /// Begins with what the sniff read.
    pub(super) fn new(wire: Vec<u8>, hello: &ClientHello) -> Self {
        Self {
            wire,
            hello_len: hello.wire_len,
            early_data: hello.early_data,
            client_ended: false,
            asked: Instant::now(),
            alert: None,
        }
    }

    /// What is sent to each endpoint first.
    pub(super) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The last endpoint refused by alert: one other is asked, and its word counts.
    pub(super) fn ask_another(&mut self, alert: Vec<u8>) {
        self.alert = Some(alert);
    }

    /// True when another endpoint was asked already because of an alert.
    pub(super) fn asked_another(&self) -> bool {
        self.alert.is_some()
    }

    /// The alert of the endpoint before, for when no other could be connected to.
    pub(super) fn take_alert(&mut self) -> Option<Vec<u8>> {
        self.alert.take()
    }

    fn is_replayable(&self) -> bool {
        let behind = self.wire.get(self.hello_len..).unwrap_or_default();
        !self.early_data && (behind.is_empty() || *behind == CHANGE_CIPHER_SPEC)
    }

    /// Waits for the endpoint's first byte, passing on whatever the client says meanwhile.
    ///
    /// `written` bytes of the wire are sent already. `patience` is how long an endpoint may be
    /// silent while there is another that could be asked. With nobody else to ask a silent
    /// endpoint is left to the relay, where the sweep looks after idleness, age and lost peers.
    pub(super) async fn run(
        &mut self,
        worker: &Worker,
        connection: &Connection,
        upstream: &TcpStream,
        written: usize,
        patience: Option<Duration>,
    ) -> Answer {
        let mut attempt = Attempt { written, finished: false, heard: Vec::new() };
        self.asked = worker.now();
        if !self.is_replayable() {
            return Answer::Settled(self.opening(&attempt));
        }
        let mut answer = pin!(poll_fn(|context| {
            self.poll_answer(worker, connection, upstream, &mut attempt, context)
        }));
        let limits = connection.limits();
        let settle = limits.idle_timeout.map_or(SETTLE_AFTER, |idle| idle.min(SETTLE_AFTER));
        let mut left = patience.unwrap_or(settle);
        let answer = loop {
            match tokio::time::timeout(left, &mut answer).await {
                // Behind a standstill a timer may be heard before the sockets are, of which the
                // reactor takes 1,024 at a time: this one is about to be.
                Err(_) if net::has_unread(upstream) => left = TICK,
                answer => break answer,
            }
        };
        match answer {
            Ok(answer) => answer,
            Err(_) if patience.is_some() && attempt.heard.is_empty() => {
                Answer::Failed(Failure::Silent, self.opening(&attempt))
            }
            Err(_) => Answer::Settled(self.opening(&attempt)),
        }
    }

    fn poll_answer(
        &mut self,
        worker: &Worker,
        connection: &Connection,
        upstream: &TcpStream,
        attempt: &mut Attempt,
        context: &mut Context<'_>,
    ) -> Poll<Answer> {
        if let Some(answer) = self.send(upstream, attempt, context) {
            return Poll::Ready(answer);
        }
        let mut scratch = worker.scratch();
        while let Poll::Ready(result) = net::poll_recv(upstream, context, &mut scratch) {
            if let Some(answer) = self.heard_upstream(result, &scratch, attempt) {
                return Poll::Ready(answer);
            }
        }
        // Back-pressure: nothing is read that could not be sent. After a FIN there is only an
        // RST to come, and the relay or the next write will tell.
        if attempt.written < self.wire.len() || self.client_ended {
            return Poll::Pending;
        }
        match net::poll_recv(&connection.downstream, context, &mut scratch) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => {
                self.client_ended = true;
                match self.send(upstream, attempt, context) {
                    Some(answer) => Poll::Ready(answer),
                    None => Poll::Pending,
                }
            }
            Poll::Ready(Ok(n)) => {
                connection.note_taken(Side::Downstream, n);
                let bytes = scratch.get(..n).unwrap_or_default();
                let replayable_still = self.is_replayable()
                    && self.wire.len() == self.hello_len
                    && *bytes == CHANGE_CIPHER_SPEC;
                if !replayable_still {
                    let mut opening = self.opening(attempt);
                    opening.to_upstream.extend_from_slice(bytes);
                    self.show(&mut opening, Side::Downstream, bytes);
                    return Poll::Ready(Answer::Settled(opening));
                }
                self.wire.extend_from_slice(bytes);
                drop(scratch);
                // Sends it and registers for the rest.
                self.poll_answer(worker, connection, upstream, attempt, context)
            }
            Poll::Ready(Err(_)) => Poll::Ready(Answer::Ended(Outcome::ClientReset)),
        }
    }

    /// Sends what is not sent, and then the FIN if the client sent one.
    fn send(
        &mut self,
        upstream: &TcpStream,
        attempt: &mut Attempt,
        context: &mut Context<'_>,
    ) -> Option<Answer> {
        loop {
            let rest = self.wire.get(attempt.written..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match net::poll_send(upstream, context, rest) {
                Poll::Pending => return None,
                Poll::Ready(Ok(n)) => attempt.written += n,
                Poll::Ready(Err(_)) => return Some(self.reset(attempt)),
            }
        }
        if self.client_ended && !attempt.finished {
            if net::shutdown_write(upstream).is_err() {
                return Some(self.reset(attempt));
            }
            attempt.finished = true;
        }
        None
    }

    /// What the endpoint's word comes to; `None` when it may yet become an alert.
    fn heard_upstream(
        &mut self,
        result: io::Result<usize>,
        scratch: &[u8],
        attempt: &mut Attempt,
    ) -> Option<Answer> {
        let Ok(n) = result else { return Some(self.reset(attempt)) };
        attempt.heard.extend_from_slice(scratch.get(..n).unwrap_or_default());
        let is_alert = begins_fatal_alert(&attempt.heard);
        if n > 0 && is_alert && attempt.heard.len() < ALERT_BYTES {
            return None;
        }
        let opening = Opening { upstream_ended: n == 0, ..self.opening(attempt) };
        Some(match (n, is_alert) {
            (0, _) if attempt.heard.is_empty() => Answer::Failed(Failure::Closed, opening),
            (1.., true) => Answer::Failed(Failure::Alert, opening),
            _ => Answer::Settled(opening),
        })
    }

    fn reset(&self, attempt: &Attempt) -> Answer {
        Answer::Failed(Failure::Reset, self.opening(attempt))
    }

    /// What the relay begins with.
    fn opening(&self, attempt: &Attempt) -> Opening {
        let mut opening = Opening {
            to_upstream: self.wire.get(attempt.written..).unwrap_or_default().to_vec(),
            to_downstream: attempt.heard.clone(),
            downstream_ended: self.client_ended,
            downstream_finished: attempt.finished,
            watch: Some(Box::new(Watch::new(self.early_data, self.asked))),
            ..Opening::default()
        };
        let behind = self.wire.get(self.hello_len..).unwrap_or_default();
        self.show(&mut opening, Side::Downstream, behind);
        self.show(&mut opening, Side::Upstream, &attempt.heard);
        opening
    }

    fn show(&self, opening: &mut Opening, from: Side, bytes: &[u8]) {
        if let Some(watch) = &mut opening.watch {
            watch.look(from, bytes, self.asked);
        }
    }
}

/// What one endpoint got of the wire, and what it said.
#[derive(Debug)]
struct Attempt {
    written: usize,
    finished: bool,
    heard: Vec<u8>,
}

/// A plain alert record of level fatal: what a server sends instead of a ServerHello.
const FATAL_ALERT: [Option<u8>; ALERT_BYTES] =
    [Some(21), Some(3), None, Some(0), Some(2), Some(2), None];
const ALERT_BYTES: usize = 7;

/// True for a fatal alert, whatever comes behind it, and for the beginning of one.
fn begins_fatal_alert(bytes: &[u8]) -> bool {
    bytes.iter().zip(FATAL_ALERT).all(|(byte, fixed)| fixed.is_none_or(|fixed| fixed == *byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_hello_or_a_warning_is_no_fatal_alert() {
        assert!(begins_fatal_alert(&[21, 3, 3, 0, 2, 2, 40]));
        assert!(begins_fatal_alert(&[21, 3, 3]) && begins_fatal_alert(&[]));
        assert!(!begins_fatal_alert(&[21, 3, 3, 0, 2, 1, 0]));
        assert!(!begins_fatal_alert(&[21, 3, 3, 0, 26, 2]));
        assert!(!begins_fatal_alert(&[22, 3, 3, 0, 2, 2, 40]));
    }
}
