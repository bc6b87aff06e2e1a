//! Stage 5, relay: both directions to the end.
//!
//! Runs [`machine`] over two sockets. Each flow copies while reads are small and splices when they
//! are bulk; a pipe is held only while bytes are in it. Must not know: TLS, routes, why a
//! connection is ended from outside.

use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::net::TcpStream;

pub(super) use self::{abort::pass_reset, ending::RelayEnd, opening::Opening};
use self::{
    copy::Leftover,
    ending::Ending,
    machine::{Event, Flow, Loss, Machine, Side, Step},
    pipes::Pipe,
};
use super::{
    handshake::Watch,
    outcome::Outcome,
    registry::{Connection, Signal, Stuck},
    worker::Worker,
};
use crate::net;

mod abort;
pub(super) mod copy;
mod ending;
pub mod machine;
mod opening;
pub mod pipes;
mod shown;
pub(super) mod splice;
#[cfg(test)]
mod tests;

/// At most so many bytes of one flow in one wake, so that a fast pair cannot starve the others.
const WAKE_BYTES_MAX: usize = 1 << 20;
/// A read of at least this is bulk. Below it, two copies cost less than two more system calls.
const BULK_READ: usize = 32 * 1024;
/// So many bulk reads in a row make a flow splice.
const BULK_READS: u8 = 3;
/// Of bulk for which there is no pipe one read takes this much: what the sink does not take of it
/// waits in memory of ours, and those without a pipe may be thousands.
const COPIED_BULK_MAX: usize = 16 * 1024;
/// A splice that moved less than this sends the flow back to copying.
const QUIET_READ: usize = 8 * 1024;

/// The future that moves bytes. Its size is what an idle connection costs besides its sockets.
pub(super) struct Relay {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    machine: Machine,
    up: Hand,
    down: Hand,
    /// Until the handshake is through.
    watch: Option<Box<Watch>>,
    /// It is to end, and what either side has sent is delivered first.
    ending: Option<Box<Ending>>,
}

/// What one flow holds between wakes.
#[derive(Debug, Default)]
struct Hand {
    leftover: Leftover,
    pipe: Option<Pipe>,
    bulk_reads: u8,
    /// There may be bytes or room that the reactor does not know of, until a call finds none.
    unheard: bool,
}

enum Pumped {
    /// Nothing more to do until a socket is ready.
    Waiting,
    /// There may be more; others first.
    Yield,
}

impl Relay {
    pub(super) fn new(
        worker: Rc<Worker>,
        connection: Rc<Connection>,
        mut opening: Opening,
    ) -> Self {
        let now = worker.now();
        let machine = opening.machine(now);
        if !opening.to_downstream.is_empty() {
            connection.note_taken(Side::Upstream, opening.to_downstream.len());
        }
        let hand = |bytes| Hand { leftover: Leftover::new(bytes), ..Hand::default() };
        let (up, down) = (hand(opening.to_upstream), hand(opening.to_downstream));
        Self { worker, connection, machine, up, down, watch: opening.watch, ending: None }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<RelayEnd> {
        match self.connection.take_signal() {
            Some(Signal::End(_) | Signal::Cut(_)) if self.is_settling() => {
                return Poll::Ready(RelayEnd::Finished);
            }
            Some(Signal::End(outcome)) => {
                let since = self.worker.now();
                self.ending.get_or_insert_with(|| Box::new(Ending { outcome, since }));
                self.look();
            }
            Some(Signal::Cut(outcome)) => return Poll::Ready(RelayEnd::Cut(outcome)),
            Some(Signal::Leave(outcome)) if self.is_quiet() => {
                return Poll::Ready(RelayEnd::Left(outcome));
            }
            Some(Signal::Lost(side, loss)) => {
                self.note(Event::Lost(side, loss));
                self.look();
            }
            Some(Signal::Look) => self.look(),
            Some(Signal::Leave(_)) | None => {}
        }
        let connection = Rc::clone(&self.connection);
        let Some(served) = connection.served.get() else {
            return Poll::Ready(RelayEnd::Ordered(Outcome::Panicked));
        };
        let (downstream, upstream) = (&connection.downstream, &served.upstream);
        let mut yielded = false;
        loop {
            let losing = self.machine.is_losing();
            let up = self.pump(Flow::UP, downstream, upstream, context);
            let down = self.pump(Flow::DOWN, upstream, downstream, context);
            yielded |= matches!((up, down), (Pumped::Yield, _) | (_, Pumped::Yield));
            // A loss seen by the second flow changes what the first has to do.
            if losing == self.machine.is_losing() {
                break;
            }
        }
        if let Some(end) = self.end() {
            return Poll::Ready(end);
        }
        let (up, down) = (self.machine.step(Flow::UP), self.machine.step(Flow::DOWN));
        self.connection.set_stuck(Stuck {
            losing: self.machine.is_losing() || self.ending.is_some() && !self.is_settling(),
            settling: self.is_settling(),
            busy: (up, down) != (Step::Read, Step::Read),
            downstream_unread: up != Step::Read,
            upstream_unread: down != Step::Read,
            downstream_owed: down == Step::Write,
            upstream_owed: up == Step::Write,
        });
        if yielded {
            context.waker().wake_by_ref();
        } else {
            self.connection.park(context.waker());
        }
        Poll::Pending
    }

    /// Does what the machine says for one flow until it has to wait.
    fn pump(
        &mut self,
        flow: Flow,
        source: &TcpStream,
        sink: &TcpStream,
        context: &mut Context<'_>,
    ) -> Pumped {
        let mut moved = 0;
        loop {
            if moved >= WAKE_BYTES_MAX {
                return Pumped::Yield;
            }
            let step = self.machine.step(flow);
            let done = match step {
                Step::Read => self.read(flow, source, sink, context),
                Step::Write => self.write(flow, sink, context),
                Step::Finish => {
                    self.finish(flow, sink);
                    Poll::Ready(0)
                }
                Step::Rest => {
                    *self.hand(flow) = Hand::default();
                    return Pumped::Waiting;
                }
            };
            match done {
                Poll::Ready(n) => moved += n,
                // From a side that has vanished nothing more comes, not even an end.
                Poll::Pending if step == Step::Read && self.machine.has_vanished(flow.source()) => {
                    self.note(Event::Ended(flow));
                }
                Poll::Pending => return Pumped::Waiting,
            }
        }
    }

    /// Takes bytes from the source, and passes on at once what was copied.
    fn read(
        &mut self,
        flow: Flow,
        source: &TcpStream,
        sink: &TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<usize> {
        let splicing = self.worker.config().relay.splice && !self.worker.splice_unsupported();
        let Hand { bulk_reads, unheard, .. } = *self.hand(flow);
        let is_bulk = bulk_reads >= BULK_READS;
        if splicing && is_bulk && !unheard {
            let pool = Rc::clone(self.worker.pipes());
            if let Some(pipe) = pool.borrow() {
                return self.fill(flow, source, pipe, context);
            }
        }
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch();
        let most = if is_bulk { COPIED_BULK_MAX } else { scratch.len() };
        let room = scratch.get_mut(..most).unwrap_or_default();
        let recv = if unheard { net::poll_recv_unheard } else { net::poll_recv };
        match recv(source, context, room) {
            Poll::Pending => {
                self.hand(flow).unheard = false;
                Poll::Pending
            }
            Poll::Ready(Ok(n)) => {
                let hand = self.hand(flow);
                // A read that fills its part of the buffer says that there is more.
                let goes_on = n >= BULK_READ || is_bulk && n == COPIED_BULK_MAX;
                hand.bulk_reads = if goes_on { hand.bulk_reads.saturating_add(1) } else { 0 };
                self.took(flow, n);
                if n > 0 {
                    let bytes = scratch.get(..n).unwrap_or_default();
                    if self.watch.is_some() {
                        self.watch_bytes(flow, bytes);
                    }
                    match copy::pass(sink, context, bytes) {
                        Ok((written, leftover)) => {
                            self.hand(flow).leftover = leftover;
                            self.delivered(flow, written);
                        }
                        Err(error) => self.lost(flow.sink(), &error),
                    }
                }
                Poll::Ready(n)
            }
            Poll::Ready(Err(error)) => {
                self.lost(flow.source(), &error);
                Poll::Ready(0)
            }
        }
    }

    /// Takes bytes from the source into a pipe.
    fn fill(
        &mut self,
        flow: Flow,
        source: &TcpStream,
        mut pipe: Pipe,
        context: &mut Context<'_>,
    ) -> Poll<usize> {
        match splice::poll_fill(source, context, &mut pipe) {
            // The pipe is empty and goes back: an idle connection holds none.
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(None)) => {
                self.hand(flow).bulk_reads = 0;
                Poll::Ready(0)
            }
            Poll::Ready(Ok(Some(n))) => {
                let hand = self.hand(flow);
                if n < QUIET_READ {
                    hand.bulk_reads = 0;
                }
                if n > 0 {
                    hand.pipe = Some(pipe);
                }
                self.connection.note_spliced(n);
                self.took(flow, n);
                Poll::Ready(n)
            }
            Poll::Ready(Err(error)) if splice::is_unsupported(&error) => {
                self.worker.note_splice_unsupported(&error);
                Poll::Ready(0)
            }
            Poll::Ready(Err(error)) => {
                self.lost(flow.source(), &error);
                Poll::Ready(0)
            }
        }
    }

    /// Delivers what is held, be it in memory or in a pipe.
    fn write(&mut self, flow: Flow, sink: &TcpStream, context: &mut Context<'_>) -> Poll<usize> {
        let hand = self.hand(flow);
        let result = match &mut hand.pipe {
            _ if !hand.leftover.is_empty() => {
                let send = if hand.unheard { net::poll_send_unheard } else { net::poll_send };
                hand.leftover.poll_flush(|bytes| send(sink, context, bytes))
            }
            Some(pipe) => splice::poll_drain(sink, context, pipe, hand.unheard),
            None => Poll::Ready(Err(io::Error::other("bytes are held by nobody"))),
        };
        match result {
            Poll::Pending => {
                hand.unheard = false;
                Poll::Pending
            }
            Poll::Ready(Ok(n)) => {
                if hand.pipe.as_ref().is_some_and(Pipe::is_empty) {
                    hand.pipe = None;
                }
                self.delivered(flow, n);
                Poll::Ready(n)
            }
            Poll::Ready(Err(error)) => {
                let is_spliced = hand.leftover.is_empty() && splice::is_unsupported(&error);
                match hand.pipe.take_if(|_| is_spliced).map(Pipe::into_bytes) {
                    Some(Ok(bytes)) => {
                        hand.leftover = Leftover::new(bytes);
                        self.worker.note_splice_unsupported(&error);
                    }
                    Some(Err(_)) | None => self.lost(flow.sink(), &error),
                }
                Poll::Ready(0)
            }
        }
    }

    fn took(&mut self, flow: Flow, n: usize) {
        if n == 0 {
            self.note(Event::Ended(flow));
            return;
        }
        self.connection.note_taken(flow.source(), n);
        self.note(Event::Took(flow, n));
    }

    fn delivered(&mut self, flow: Flow, n: usize) {
        self.connection.note_delivered(flow.sink(), n);
        self.note(Event::Delivered(flow, n));
    }

    fn lost(&mut self, side: Side, error: &io::Error) {
        let vanished = error.kind() == io::ErrorKind::TimedOut;
        let loss = if vanished { Loss::Vanished } else { Loss::Reset };
        self.note(Event::Lost(side, loss));
    }

    fn note(&mut self, event: Event) {
        let was_losing = self.machine.is_losing();
        // The worker's clock stands still with the worker: by it, the linger of a loss could be over
        // before it began.
        let is_losing = was_losing || matches!(event, Event::Lost(..));
        let now = if is_losing { Instant::now() } else { self.worker.now() };
        self.machine.on(event, now);
        if is_losing && !was_losing {
            self.look_after_linger();
        }
        match (&mut self.watch, event) {
            (None, _) => {}
            (Some(watch), Event::Ended(flow)) => watch.end(flow.source(), None, now),
            (Some(watch), Event::Lost(side, loss)) => watch.end(side, Some(loss), now),
            (Some(_), _) => {}
        }
    }

    fn hand(&mut self, flow: Flow) -> &mut Hand {
        if flow == Flow::UP { &mut self.up } else { &mut self.down }
    }
}

impl Future for Relay {
    type Output = RelayEnd;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<RelayEnd> {
        let relay = self.get_mut();
        let end = ready!(relay.poll_end(context));
        relay.settle_watch();
        Poll::Ready(end)
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("machine", &self.machine).finish_non_exhaustive()
    }
}
