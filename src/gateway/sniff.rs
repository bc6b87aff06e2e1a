//! Stage 2, sniff: read until the ClientHello is whole, and keep exactly its bytes.
//!
//! Reads, never peeks: one system call less, and a refusal can end in a clean FIN. One deadline
//! from accept, never extended. From a trusted proxy its header comes first and is required. Must
//! not know: what a name means.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

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
    /// From accept to the last byte of the ClientHello.
    pub timeout: Duration,
    /// Bytes on the wire, record headers included.
    pub bytes_max: usize,
}

/// A whole ClientHello.
#[derive(Debug)]
pub(super) struct Sniffed {
    pub(super) hello: ClientHello,
    /// Its bytes as they came, and behind them whatever came in the same read.
    pub(super) wire: Vec<u8>,
}

/// Reads the ClientHello of a fresh connection.
///
/// # Errors
/// The outcome, when there is none to be had.
pub(super) async fn sniff(worker: &Worker, report: &mut Report) -> Result<Sniffed, Outcome> {
    let limits = worker.config().sniff;
    let awaits_header = worker.config().limits.is_proxy(report.connection().peer().ip());
    if !awaits_header {
        report.claim_source()?;
    }
    let scanner = Scanner::new(limits.bytes_max);
    let mut reader = Reader { scanner, wire: Vec::new(), awaits_header };
    let deadline = Instant::from_std(report.connection().accepted) + limits.timeout;
    let hello = read_hello(worker, report, &mut reader, deadline).await;
    report.connection().note_taken(Side::Downstream, reader.wire.len());
    Ok(Sniffed { hello: *hello?, wire: reader.wire })
}

async fn read_hello(
    worker: &Worker,
    report: &mut Report,
    reader: &mut Reader,
    deadline: Instant,
) -> Result<Box<ClientHello>, Outcome> {
    let connection = Rc::clone(report.connection());
    let stream = &connection.downstream;
    let mut place = None;
    let first = {
        let mut scratch = worker.scratch();
        net::recv_now(stream, &mut scratch).map(|n| reader.take(scratch.get(..n).unwrap_or(&[])))
    };
    let mut step = match first {
        Ok(step) => step,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Step::More,
        Err(_) => return Err(reader.peer_left(Outcome::ClientResetBeforeHello)),
    };
    loop {
        match step {
            Step::Whole(hello) => return Ok(hello),
            Step::Eof => return Err(reader.peer_left(Outcome::ClientEofBeforeHello)),
            Step::Refused(refusal) => {
                return Err(match refusal {
                    Refusal::NotTls => Outcome::NotTls,
                    Refusal::BadVersion => Outcome::BadVersion,
                    Refusal::TooLarge => Outcome::HelloTooLarge,
                    Refusal::Malformed(rule) => {
                        report.detail(rule.as_str());
                        Outcome::HelloMalformed
                    }
                });
            }
            Step::BadHeader(rule) => {
                report.detail(rule.as_str());
                return Err(Outcome::BadProxyHeader);
            }
            Step::Header(source) => {
                source.into_iter().for_each(|source| connection.is_for(source));
                report.claim_source()?;
                step = reader.scan();
                continue;
            }
            Step::Told(outcome) => return Err(outcome),
            Step::More => {}
        }
        let silent = worker.silent();
        let _ = place.get_or_insert_with(|| silent.enter(&connection, worker.hellos_max()));
        let read = std::future::poll_fn(|context| {
            if let Some(outcome) = told(&connection, context) {
                return Poll::Ready(Ok(Step::Told(outcome)));
            }
            let mut scratch = worker.scratch();
            net::poll_recv(stream, context, &mut scratch)
                .map_ok(|n| reader.take(scratch.get(..n).unwrap_or(&[])))
        });
        step = match tokio::time::timeout_at(deadline, read).await {
            Ok(Ok(step)) => step,
            Ok(Err(_)) => return Err(reader.peer_left(Outcome::ClientResetBeforeHello)),
            Err(_) => return Err(Outcome::HelloTimeout),
        };
    }
}

enum Step {
    More,
    Whole(Box<ClientHello>),
    Refused(Refusal),
    Eof,
    /// The proxy's header is whole, and names this source.
    Header(Option<SocketAddr>),
    BadHeader(BadHeader),
    /// To end, by the worker.
    Told(Outcome),
}

/// An order to end; from here on the next one wakes the task.
fn told(connection: &Connection, context: &Context<'_>) -> Option<Outcome> {
    connection.park(context.waker());
    match connection.take_signal() {
        Some(Signal::Cut(outcome)) => Some(outcome),
        Some(Signal::End(_) | Signal::Leave(_) | Signal::Lost(..) | Signal::Look) | None => None,
    }
}

struct Reader {
    scanner: Scanner,
    wire: Vec<u8>,
    /// The peer is a trusted proxy whose header is not whole yet.
    awaits_header: bool,
}

impl Reader {
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
