//! What a relay begins with, and the machine that knows of it.
//!
//! Must not know: sockets, how it came about.

use std::time::Instant;

use super::machine::{Event, Flow, Machine, Side};
use crate::gateway::handshake::Watch;

/// What the first flight left for the relay to begin with.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Opening {
    /// Taken from the client, not delivered yet.
    pub(in crate::gateway) to_upstream: Vec<u8>,
    /// Taken from the endpoint, not delivered yet.
    pub(in crate::gateway) to_downstream: Vec<u8>,
    /// The client's FIN was read.
    pub(in crate::gateway) downstream_ended: bool,
    /// The client's FIN was passed on.
    pub(in crate::gateway) downstream_finished: bool,
    /// The endpoint's FIN was read.
    pub(in crate::gateway) upstream_ended: bool,
    /// What looks at the TLS handshake, with all of the above seen.
    pub(in crate::gateway) watch: Option<Box<Watch>>,
}

impl Opening {
    /// A machine that has seen all of it; the watch is told which sides have ended.
    pub(super) fn machine(&mut self, now: Instant) -> Machine {
        let mut machine = Machine::new();
        let mut note = |event| machine.on(event, now);
        note(Event::Took(Flow::UP, self.to_upstream.len()));
        note(Event::Took(Flow::DOWN, self.to_downstream.len()));
        if self.downstream_ended {
            note(Event::Ended(Flow::UP));
        }
        if self.downstream_finished {
            note(Event::Finished(Flow::UP));
        }
        if self.upstream_ended {
            note(Event::Ended(Flow::DOWN));
        }
        let ends =
            [(Side::Downstream, self.downstream_ended), (Side::Upstream, self.upstream_ended)];
        for (side, _) in ends.into_iter().filter(|(_, ended)| *ended) {
            if let Some(watch) = &mut self.watch {
                watch.end(side, None, now);
            }
        }
        machine
    }
}
