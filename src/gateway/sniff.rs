//! Stage 2, sniff: read until the ClientHello is whole, and keep exactly its bytes.
//!
//! Reads, never peeks: one system call less, and a refusal can end in a clean FIN. One deadline
//! from accept, never extended. Must not know: what a name means.

use std::{io, time::Duration};

use tokio::time::Instant;

use super::{
    client_hello::{ClientHello, Refusal, Scan, Scanner},
    outcome::Outcome,
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
    let mut reader = Reader { scanner: Scanner::new(limits.bytes_max), wire: Vec::new() };
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
    let stream = &report.connection().downstream;
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
            Step::More => {}
        }
        let read = std::future::poll_fn(|context| {
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
}

struct Reader {
    scanner: Scanner,
    wire: Vec<u8>,
}

impl Reader {
    /// Takes what one read gave. Memory follows what came, never what a length field promises.
    fn take(&mut self, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            return Step::Eof;
        }
        self.wire.reserve_exact(bytes.len());
        self.wire.extend_from_slice(bytes);
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
