//! Stage 2, sniff: read until the ClientHello is whole, and keep exactly its bytes.
//!
//! Reads, never peeks: one system call less, and a refusal can end in a clean FIN. One deadline
//! from accept, never extended, for which all who wait share one timer. From a trusted proxy its header comes first and is required. Must
//! not know: what a name means.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    client_hello::{ClientHello, Refusal, Scan, Scanner},
    outcome::Outcome,
    proxy_header::{self, BadHeader, Parsed},
    registry::{Connection, Signal},
    relay::machine::Side,
    report::Report,
    worker::Worker,
};
use crate::net;

/// Limits of this stage.
#[derive(Clone, Copy, Debug)]
pub struct SniffLimits {
    /// From accept to the last byte of the ClientHello, to the next tenth of a second.
    pub timeout: Duration,
    /// Bytes on the wire, record headers included.
    pub bytes_max: usize,
}

/// A whole ClientHello.
#[derive(Debug)]
pub(super) struct Sniffed {
    pub(super) hello: Box<ClientHello>,
    /// Its bytes as they came, and behind them whatever came in the same read.
    pub(super) wire: Vec<u8>,
}

/// Reads the ClientHello of a fresh connection.
///
/// # Errors
/// The outcome, when there is none to be had.
pub(super) async fn sniff(report: &mut Report) -> Result<Sniffed, Outcome> {
    let worker = &*Rc::clone(report.worker());
    if worker.shared().pressure.memory_is_short() {
        return Err(Outcome::ShedMemory);
    }
    let limits = worker.config().sniff;
    let awaits_header = worker.config().limits.is_proxy(report.connection().peer().ip());
    if !awaits_header {
        report.claim_source()?;
    }
    let scanner = Scanner::new(limits.bytes_max);
    let mut reader = Reader { scanner, wire: Vec::new(), awaits_header };
    // Mostly it is there already; else a place is needed among those who wait for theirs.
    let heard = match reader.read_now(worker, report) {
        Poll::Ready(heard) => heard,
        Poll::Pending => {
            let _place = worker.silent().enter(report.connection(), worker.hellos_max());
            poll_fn(|context| reader.poll_read(worker, report, context)).await
        }
    };
    report.connection().note_taken(Side::Downstream, reader.wire.len());
    Ok(Sniffed { hello: heard?, wire: reader.wire })
}

enum Step {
    More,
    Whole(Box<ClientHello>),
    Refused(Refusal),
    Eof,
    /// The proxy's header is whole, and names this source.
    Header(Option<SocketAddr>),
    BadHeader(BadHeader),
}

/// An order to end; from here on the next one wakes the task.
fn told(connection: &Connection, context: &Context<'_>) -> Option<Outcome> {
    connection.park(context.waker());
    match connection.take_signal() {
        Some(Signal::Cut(outcome)) => Some(outcome),
        Some(_) | None => None,
    }
}

struct Reader {
    scanner: Scanner,
    wire: Vec<u8>,
    /// The peer is a trusted proxy whose header is not whole yet.
    awaits_header: bool,
}

/// What comes of a client: its hello, or the outcome that ends it.
type Heard = Result<Box<ClientHello>, Outcome>;

impl Reader {
    /// Takes what has come and nobody told us of.
    fn read_now(&mut self, worker: &Worker, report: &mut Report) -> Poll<Heard> {
        let connection = Rc::clone(report.connection());
        let mut scratch = worker.scratch();
        match net::recv_now(&connection.downstream, &mut scratch) {
            Ok(n) => {
                let step = self.take(scratch.get(..n).unwrap_or(&[]));
                self.settle(step, report).map_or(Poll::Pending, Poll::Ready)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(_) => Poll::Ready(Err(self.peer_left(Outcome::ClientResetBeforeHello))),
        }
    }

    /// Takes what comes, until the hello is whole.
    fn poll_read(
        &mut self,
        worker: &Worker,
        report: &mut Report,
        context: &mut Context<'_>,
    ) -> Poll<Heard> {
        let connection = Rc::clone(report.connection());
        loop {
            if let Some(outcome) = told(&connection, context) {
                // Whose hello is here is not late: when the process stood still, the timer may be
                // heard before the socket is.
                if outcome == Outcome::HelloTimeout
                    && let Poll::Ready(heard) = self.read_now(worker, report)
                {
                    return Poll::Ready(heard);
                }
                return Poll::Ready(Err(outcome));
            }
            let mut scratch = worker.scratch();
            let step = match ready!(net::poll_recv(&connection.downstream, context, &mut scratch)) {
                Ok(n) => self.take(scratch.get(..n).unwrap_or(&[])),
                Err(_) => {
                    return Poll::Ready(Err(self.peer_left(Outcome::ClientResetBeforeHello)));
                }
            };
            if let Some(heard) = self.settle(step, report) {
                return Poll::Ready(heard);
            }
        }
    }

    /// What a step comes to; `None` when more is needed.
    fn settle(&mut self, step: Step, report: &mut Report) -> Option<Heard> {
        match step {
            Step::More => None,
            Step::Whole(hello) => Some(Ok(hello)),
            Step::Eof => Some(Err(self.peer_left(Outcome::ClientEofBeforeHello))),
            Step::Refused(Refusal::NotTls) => Some(Err(Outcome::NotTls)),
            Step::Refused(Refusal::BadVersion) => Some(Err(Outcome::BadVersion)),
            Step::Refused(Refusal::TooLarge) => Some(Err(Outcome::HelloTooLarge)),
            Step::Refused(Refusal::Malformed(rule)) => {
                report.detail(rule.as_str());
                Some(Err(Outcome::HelloMalformed))
            }
            Step::BadHeader(rule) => {
                report.detail(rule.as_str());
                Some(Err(Outcome::BadProxyHeader))
            }
            Step::Header(source) => {
                source.into_iter().for_each(|source| report.connection().is_for(source));
                if let Err(outcome) = report.claim_source() {
                    return Some(Err(outcome));
                }
                let step = self.scan();
                self.settle(step, report)
            }
        }
    }

    /// Takes what one read gave. Memory follows what came, never what a length field promises.
    fn take(&mut self, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            return Step::Eof;
        }
        self.wire.reserve_exact(bytes.len());
        self.wire.extend_from_slice(bytes);
        if self.awaits_header {
            match proxy_header::parse(&self.wire) {
                Parsed::NeedMore => return Step::More,
                Parsed::Bad(rule) => return Step::BadHeader(rule),
                Parsed::Header { len, source } => {
                    self.wire.drain(..len);
                    self.awaits_header = false;
                    return Step::Header(source);
                }
            }
        }
        self.scan()
    }

    fn scan(&mut self) -> Step {
        match self.scanner.scan(&self.wire) {
            Scan::NeedMore => Step::More,
            Scan::Hello(hello) => Step::Whole(Box::new(hello)),
            Scan::Refuse(refusal) => Step::Refused(refusal),
        }
    }

    /// A peer that leaves without a byte was only looking whether we are there.
    fn peer_left(&self, otherwise: Outcome) -> Outcome {
        if self.wire.is_empty() { Outcome::Probe } else { otherwise }
    }
}
