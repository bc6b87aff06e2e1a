//! The relay as a pure state machine: events in, the next step out, the time an argument.
//!
//! Two flows, one for each direction. Each takes bytes from its source and delivers them to its
//! sink, and a driver does what [`Machine::step`] says and reports what came of it. Must not know:
//! sockets, buffers, pipes, tasks.
//!
//! The rules:
//! * Order: what was taken is delivered before the FIN or RST of the same side is passed on.
//! * FIN ends one direction only; the pair ends when both have ended.
//! * A reset marks its *side* for good. The kernel reports it once, on whichever call comes
//!   first, and what that side had sent before may still be in the receive queue: so that queue
//!   is drained, its end is passed on as RST, and what was held for the lost side is dropped.
//! * Passing an RST on waits for delivery only while there is progress: `linger` after the last,
//!   the other side is reset all the same.

use std::time::{Duration, Instant};

/// One of the two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who dialled us.
    Downstream,
    /// Whom we dialled.
    Upstream,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Downstream => Self::Upstream,
            Self::Upstream => Self::Downstream,
        }
    }
}

/// Which way bytes go, named after the side they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow(pub Side);

impl Flow {
    /// From the client to the endpoint.
    pub const UP: Self = Self(Side::Downstream);
    /// From the endpoint to the client.
    pub const DOWN: Self = Self(Side::Upstream);

    /// Where its bytes come from.
    #[must_use]
    pub fn source(self) -> Side {
        self.0
    }

    /// Where its bytes go.
    #[must_use]
    pub fn sink(self) -> Side {
        self.0.other()
    }
}

/// What a flow wants done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take bytes from the source.
    Read,
    /// Deliver the bytes that are held.
    Write,
    /// Pass the FIN on.
    Finish,
    /// Nothing, ever again.
    Rest,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes were taken from the flow's source.
    Took(Flow, usize),
    /// Bytes were delivered to the flow's sink.
    Delivered(Flow, usize),
    /// The flow's source is at its end.
    Ended(Flow),
    /// The FIN was passed on to the flow's sink.
    Finished(Flow),
    /// The side is gone.
    Lost(Side, Loss),
}

/// How a side was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// RST.
    Reset,
    /// The kernel or the sweep gave up on it: no answer.
    Vanished,
}

/// How the relay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both FINs were passed on: close both.
    Finished,
    /// The side was lost: reset the other once its send queue is empty.
    Lost(Side, Loss),
}

/// Both flows and what was lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    up: State,
    down: State,
    lost: Option<(Side, Loss)>,
    both_lost: bool,
    /// The last event that moved a byte since something was lost.
    progress: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    held: usize,
    source_ended: bool,
    /// FIN passed on, or the sink is lost.
    sink_closed: bool,
}

impl Machine {
    /// A relay that begins with nothing held.
    #[must_use]
    pub fn new() -> Self {
        Self {
            up: State::default(),
            down: State::default(),
            lost: None,
            both_lost: false,
            progress: None,
        }
    }

    /// Takes note of an event.
    pub fn on(&mut self, event: Event, now: Instant) {
        match event {
            Event::Took(flow, n) => self.flow_mut(flow).held += n,
            Event::Delivered(flow, n) => {
                let state = self.flow_mut(flow);
                debug_assert!(n <= state.held, "delivered {n} of {}", state.held);
                state.held = state.held.saturating_sub(n);
            }
            Event::Ended(flow) => self.flow_mut(flow).source_ended = true,
            Event::Finished(flow) => self.flow_mut(flow).sink_closed = true,
            Event::Lost(side, loss) => self.lose(side, loss),
        }
        if self.lost.is_some() {
            self.progress = Some(now);
        }
    }

    fn lose(&mut self, side: Side, loss: Loss) {
        match self.lost {
            None => self.lost = Some((side, loss)),
            Some((first, _)) if first != side => self.both_lost = true,
            // A second report of the same side: its receive queue has nothing more to give.
            Some(_) => self.flow_mut(Flow(side)).source_ended = true,
        }
        // Nothing reaches that side any more.
        let towards = self.flow_mut(Flow(side.other()));
        towards.sink_closed = true;
        towards.held = 0;
    }

    /// What the flow wants done next.
    #[must_use]
    pub fn step(&self, flow: Flow) -> Step {
        let state = self.flow(flow);
        if state.sink_closed {
            Step::Rest
        } else if state.held > 0 {
            Step::Write
        } else if !state.source_ended {
            Step::Read
        } else if self.is_lost(flow.source()) {
            // Its end is passed on as RST, not as FIN.
            Step::Rest
        } else {
            Step::Finish
        }
    }

    /// How the relay ends, once it does.
    #[must_use]
    pub fn verdict(&self, now: Instant, linger: Duration) -> Option<Verdict> {
        let Some((side, loss)) = self.lost else {
            return (self.up.sink_closed && self.down.sink_closed).then_some(Verdict::Finished);
        };
        let stuck = self.stalled(now) >= linger;
        let drained = self.step(Flow(side)) == Step::Rest;
        (self.both_lost || drained || stuck).then_some(Verdict::Lost(side, loss))
    }

    /// Since when nothing has moved, once a side was lost.
    #[must_use]
    pub fn stalled(&self, now: Instant) -> Duration {
        self.progress.map_or(Duration::ZERO, |last| now.saturating_duration_since(last))
    }

    /// True when all that was taken is delivered.
    #[must_use]
    pub fn holds_nothing(&self) -> bool {
        self.up.held == 0 && self.down.held == 0
    }

    /// Bytes taken for the flow's sink and not delivered yet.
    #[must_use]
    pub fn held(&self, flow: Flow) -> usize {
        self.flow(flow).held
    }

    /// True once a side was lost: from then on the verdict depends on time too.
    #[must_use]
    pub fn is_losing(&self) -> bool {
        self.lost.is_some()
    }

    /// True for a side that was given up for want of an answer.
    #[must_use]
    pub fn has_vanished(&self, side: Side) -> bool {
        self.lost == Some((side, Loss::Vanished))
    }

    fn is_lost(&self, side: Side) -> bool {
        self.lost.is_some_and(|(lost, _)| lost == side)
    }

    fn flow(&self, flow: Flow) -> &State {
        match flow.0 {
            Side::Downstream => &self.up,
            Side::Upstream => &self.down,
        }
    }

    fn flow_mut(&mut self, flow: Flow) -> &mut State {
        match flow.0 {
            Side::Downstream => &mut self.up,
            Side::Upstream => &mut self.down,
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(1);

    /// Runs events at one instant and gives the steps of both flows and the verdict.
    fn after(events: &[Event]) -> (Step, Step, Option<Verdict>) {
        let now = Instant::now();
        let mut machine = Machine::new();
        for event in events {
            machine.on(*event, now);
        }
        (machine.step(Flow::UP), machine.step(Flow::DOWN), machine.verdict(now, LINGER))
    }

    #[test]
    fn both_flows_begin_by_reading() {
        assert_eq!(after(&[]), (Step::Read, Step::Read, None));
    }

    #[test]
    fn what_was_taken_is_delivered_before_the_fin() {
        let (up, down) = (Flow::UP, Flow::DOWN);
        let taken = [Event::Took(up, 5), Event::Ended(up)];
        assert_eq!(after(&taken), (Step::Write, Step::Read, None));
        let delivered = [taken[0], taken[1], Event::Delivered(up, 5)];
        assert_eq!(after(&delivered), (Step::Finish, Step::Read, None));
        let finished = [taken[0], taken[1], delivered[2], Event::Finished(up)];
        assert_eq!(after(&finished), (Step::Rest, Step::Read, None));
        let both = [
            taken[0],
            taken[1],
            delivered[2],
            finished[3],
            Event::Ended(down),
            Event::Finished(down),
        ];
        assert_eq!(after(&both), (Step::Rest, Step::Rest, Some(Verdict::Finished)));
    }

    #[test]
    fn a_reset_side_is_drained_and_then_passed_on_as_reset() {
        let lost = Event::Lost(Side::Upstream, Loss::Reset);
        let verdict = Some(Verdict::Lost(Side::Upstream, Loss::Reset));
        assert_eq!(after(&[lost]), (Step::Rest, Step::Read, None));
        let took = Event::Took(Flow::DOWN, 3);
        assert_eq!(after(&[lost, took]), (Step::Rest, Step::Write, None));
        let ended = [lost, took, Event::Ended(Flow::DOWN)];
        assert_eq!(after(&ended), (Step::Rest, Step::Write, None));
        let done = [lost, took, ended[2], Event::Delivered(Flow::DOWN, 3)];
        assert_eq!(after(&done), (Step::Rest, Step::Rest, verdict));
    }

    #[test]
    fn what_is_held_for_a_lost_side_is_dropped() {
        let lost = Event::Lost(Side::Upstream, Loss::Reset);
        let events = [Event::Took(Flow::UP, 9), lost, Event::Ended(Flow::DOWN)];
        let verdict = Some(Verdict::Lost(Side::Upstream, Loss::Reset));
        assert_eq!(after(&events), (Step::Rest, Step::Rest, verdict));
    }

    #[test]
    fn a_reset_reported_twice_ends_the_drain() {
        let lost = Event::Lost(Side::Downstream, Loss::Reset);
        let verdict = Some(Verdict::Lost(Side::Downstream, Loss::Reset));
        assert_eq!(after(&[lost, lost]), (Step::Rest, Step::Rest, verdict));
    }

    #[test]
    fn a_reset_after_its_fin_was_passed_on_needs_no_drain() {
        let events = [
            Event::Ended(Flow::UP),
            Event::Finished(Flow::UP),
            Event::Lost(Side::Downstream, Loss::Reset),
        ];
        let verdict = Some(Verdict::Lost(Side::Downstream, Loss::Reset));
        assert_eq!(after(&events), (Step::Rest, Step::Rest, verdict));
    }

    #[test]
    fn a_stuck_reader_delays_a_reset_by_the_linger_only() {
        let now = Instant::now();
        let mut machine = Machine::new();
        machine.on(Event::Took(Flow::DOWN, 10), now);
        machine.on(Event::Lost(Side::Upstream, Loss::Reset), now);
        assert_eq!(machine.verdict(now + LINGER / 2, LINGER), None);
        machine.on(Event::Delivered(Flow::DOWN, 1), now + LINGER / 2);
        assert_eq!(machine.verdict(now + LINGER, LINGER), None, "progress was made");
        let verdict = machine.verdict(now + LINGER * 3 / 2, LINGER);
        assert_eq!(verdict, Some(Verdict::Lost(Side::Upstream, Loss::Reset)));
    }
}
