//! When and how a relay ends: by its peers, by order, in the middle or at a quiet moment.
//!
//! Must not know: how bytes are moved, what is done to the sockets then.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use super::{
    Flow, Relay,
    machine::{Event, Loss, Side, Step, Verdict},
};
use crate::{
    gateway::{outcome::Outcome, registry::Signal, worker::TICK},
    net,
};

/// How the relay ended.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::gateway) enum RelayEnd {
    /// By both peers, in order.
    Finished,
    /// A side was lost. What the other is owed still may take so long.
    Lost(Side, Loss, Duration),
    /// From outside, by FIN.
    Ordered(Outcome),
    /// From outside, by RST.
    Cut(Outcome),
    /// From outside, by FIN, at a quiet moment.
    Left(Outcome),
}

/// An end by order that waits until all that came is delivered.
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    pub(super) since: Instant,
}

impl Relay {
    /// How it ends, once it does.
    pub(super) fn end(&self) -> Option<RelayEnd> {
        let (now, linger) = (self.worker.now(), self.worker.config().relay.abort_linger);
        match (self.machine.verdict(now, linger), &self.ending) {
            (Some(Verdict::Finished), _) if self.is_settling() && self.owes() => None,
            (Some(Verdict::Finished), _) => Some(RelayEnd::Finished),
            (Some(Verdict::Lost(side, loss)), _) => {
                let left = linger.saturating_sub(self.machine.stalled(now));
                Some(RelayEnd::Lost(side, loss, left))
            }
            (None, Some(ending)) if self.has_delivered_all() => {
                Some(RelayEnd::Ordered(ending.outcome))
            }
            // What is left is lost now: a FIN would say that this was all.
            (None, Some(ending)) if now.saturating_duration_since(ending.since) >= linger => {
                Some(RelayEnd::Cut(ending.outcome))
            }
            (None, _) => None,
        }
    }

    /// Asks the sockets next, and not the reactor.
    pub(super) fn look(&mut self) {
        (self.up.unheard, self.down.unheard) = (true, true);
    }

    /// Passes the FIN on. The last of the two goes out with the close that follows at once: both
    /// sockets have been read to their end, so that a close sends FIN and nothing else. It does not
    /// follow while a peer has no room for what is before its FIN: a closed socket whose peer stops
    /// reading is given up by the kernel after some minutes (tcp(7), `tcp_orphan_retries`).
    pub(super) fn finish(&mut self, flow: Flow, sink: &TcpStream) {
        let last = self.machine.step(Flow(flow.sink())) == Step::Rest && !self.machine.is_losing();
        if last && self.ending.is_none() && self.owes() {
            let (outcome, since) = (Outcome::Finished, self.worker.now());
            self.ending = Some(Box::new(Ending { outcome, since }));
        }
        let closes = last && !self.is_settling();
        let finished = closes || net::shutdown_write(sink).is_ok();
        self.note(if finished {
            Event::Finished(flow)
        } else {
            Event::Lost(flow.sink(), Loss::Reset)
        });
    }

    /// Both FINs are through, and a peer has yet to make room for bytes before its own.
    pub(super) fn is_settling(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.outcome == Outcome::Finished)
    }

    /// A peer has yet to make room for bytes.
    fn owes(&self) -> bool {
        let owes = |stream| net::sys::unsent(stream).is_ok_and(|bytes| bytes > 0);
        owes(&self.connection.downstream)
            || self.connection.served.get().is_some_and(|served| owes(&served.upstream))
    }

    /// What came of either side is read and passed on: what the kernel has acknowledged the sender
    /// takes for delivered.
    fn has_delivered_all(&self) -> bool {
        let is_read =
            |stream, flow| self.machine.step(flow) != Step::Read || !net::has_unread(stream);
        self.machine.holds_nothing()
            && is_read(&self.connection.downstream, Flow::UP)
            && self.connection.served.get().is_none_or(|s| is_read(&s.upstream, Flow::DOWN))
    }

    /// Nothing is on its way in either direction, and both halves are open: nobody loses a byte if
    /// both sides are told now that this is the end.
    pub(super) fn is_quiet(&self) -> bool {
        let waits = |flow| self.machine.step(flow) == Step::Read;
        let served = self.connection.served.get();
        waits(Flow::UP)
            && waits(Flow::DOWN)
            && !self.machine.is_losing()
            && net::is_settled(&self.connection.downstream)
            && served.is_some_and(|served| net::is_settled(&served.upstream))
    }

    /// Wakes it when the time is over that a loss waits for bytes to be delivered. The sweep would,
    /// up to half a second late.
    pub(super) fn look_after_linger(&self) {
        let linger = self.worker.config().relay.abort_linger;
        // The worker's clock ticks. The sockets are closed when the relay ends, not when this does.
        let connection = Rc::downgrade(&self.connection);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(linger.saturating_add(TICK)).await;
            if let Some(connection) = connection.upgrade() {
                connection.signal(Signal::Look);
            }
        });
    }
}
