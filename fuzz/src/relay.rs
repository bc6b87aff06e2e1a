//! A relay without a network: the machine between two sockets as the kernel keeps them, and what
//! must hold whatever the peers do and in whatever order.
//!
//! * Nothing is lost: a byte that was sent is in a queue, in the gateway's hand or delivered; it
//!   is dropped only for a side that is gone.
//! * Order: a FIN goes out only when every byte of the same side was delivered, and nothing goes
//!   out behind it.
//! * FIN is FIN: the end of one direction leaves the other open, and peers that only said FIN see
//!   only FIN.
//! * RST is RST: the end of a side that was reset is never passed on as FIN. What it had sent is
//!   delivered first, unless nothing moved for the linger.
//! * Nothing happens after the end, which comes once, for a reason that was there.
//! * No busy loop: one wake does a bounded number of things, and a second wake without news does
//!   nothing.
//!
//! Must not know: how the machine works; it sees what a driver of it sees.

use std::time::{Duration, Instant};

use diolkos::gateway::relay::machine::{Event, Flow, Loss, Machine, Side, Step, Verdict};

pub use self::peers::{Act, Action, Driver, Taken};
use self::peers::{OPEN, Peer};

mod peers;

/// How long a reset waits for a reader that does not read.
const LINGER: Duration = Duration::from_secs(1);
/// The clock moves by half of that.
const LINGER_TICKS: u8 = 2;
/// More steps than one wake can need: it moves three bytes and two ends each way.
const STEPS_MAX: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Signal {
    Lost(Side, Loss),
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Peers(Verdict),
    Left,
}

/// A relay, its two peers and the clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    machine: Machine,
    driver: Driver,
    begin: Instant,
    ticks: u8,
    /// When the machine last heard of anything, once it knows of a loss.
    heard: u8,
    downstream: Peer,
    upstream: Peer,
    /// Bytes in the gateway's hand, by flow.
    hands: [u8; 2],
    /// Which losses the machine was told of, in their order.
    losses: [Option<(Side, Loss)>; 2],
    signal: Option<Signal>,
}

impl Model {
    /// A relay as the first flight hands it over. Models can be compared when they have the same
    /// `begin`.
    pub fn new(driver: Driver, up: Taken, down: Taken, begin: Instant) -> Self {
        let peer = |taken: Taken, other: Taken| Peer {
            sent: taken.held,
            fin: taken.ended,
            room: OPEN,
            got_fin: other.finished,
            ..Peer::default()
        };
        let mut machine = Machine::new();
        for (flow, taken) in [(Flow::UP, up), (Flow::DOWN, down)] {
            machine.on(Event::Took(flow, taken.held.into()), begin);
            if taken.ended {
                machine.on(Event::Ended(flow), begin);
            }
            if taken.finished {
                machine.on(Event::Finished(flow), begin);
            }
        }
        Self {
            machine,
            driver,
            begin,
            ticks: 0,
            heard: 0,
            downstream: peer(up, down),
            upstream: peer(down, up),
            hands: [up.held, down.held],
            losses: [None; 2],
            signal: None,
        }
    }

    /// Lets it happen. False when it cannot happen now, or would change nothing.
    pub fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Sweep => self.sweep(),
            // Time matters only once something was lost.
            Action::Tick => {
                self.ticks += u8::from(self.machine.is_losing());
                self.machine.is_losing()
            }
            Action::Leave => self.signal.replace(Signal::Leave) != Some(Signal::Leave),
            Action::Peer(side, act) => self.peer_mut(side).act(act),
        }
    }

    /// Wakes the relay, and checks all that it does. True when it has ended.
    pub fn wake(&mut self) -> bool {
        let end = self.poll();
        self.check_bytes();
        let Some(end) = end else {
            let mut again = self.clone();
            assert!(
                again.poll().is_none() && again == *self,
                "woken for nothing, it did {again:?}"
            );
            if self.machine.is_losing() {
                assert!(self.ticks - self.heard < LINGER_TICKS, "it waits for ever: {self:?}");
            }
            return false;
        };
        match end {
            End::Left => self.check_quiet(),
            End::Peers(verdict) => self.check_verdict(verdict),
        }
        true
    }

    /// Every peer that can reads on and says FIN.
    pub fn say_fin(&mut self) {
        self.signal = None;
        for side in [Side::Downstream, Side::Upstream] {
            self.act(Action::Peer(side, Act::Unblock));
            self.act(Action::Peer(side, Act::Fin));
        }
    }

    /// After that: the relay ends, and the accounts are settled.
    pub fn settle(mut self) {
        let mut ended = self.wake();
        for action in [Action::Sweep, Action::Tick, Action::Tick] {
            if !ended {
                self.act(action);
                ended = self.wake();
            }
        }
        assert!(ended, "it never ends: {self:?}");
        for side in [Side::Downstream, Side::Upstream] {
            let (from, to) = (self.peer(side), self.peer(side.other()));
            if !to.is_gone() {
                assert_eq!(to.got + from.waiting, from.sent, "bytes are lost: {self:?}");
                assert!(from.vanished || from.waiting == 0, "bytes are left: {self:?}");
            }
            if from.reset && !from.fin {
                assert!(self.losses[0].is_some(), "a reset ended as a FIN: {self:?}");
            }
            if !to.is_gone() && !from.is_gone() {
                assert!(to.got_fin && self.losses[0].is_none(), "no FIN: {self:?}");
            }
        }
    }

    /// As the relay does it: signal, both flows, verdict.
    fn poll(&mut self) -> Option<End> {
        match self.signal.take() {
            Some(Signal::Lost(side, loss)) => self.note(Event::Lost(side, loss)),
            Some(Signal::Leave) if self.is_quiet() => return Some(End::Left),
            Some(Signal::Leave) | None => {}
        }
        loop {
            let losing = self.machine.is_losing();
            self.pump(Flow::UP);
            self.pump(Flow::DOWN);
            if losing == self.machine.is_losing() {
                break;
            }
        }
        self.machine.verdict(self.now(), LINGER).map(End::Peers)
    }

    fn pump(&mut self, flow: Flow) {
        for _ in 0..STEPS_MAX {
            let moved = match self.machine.step(flow) {
                Step::Read => self.read(flow),
                Step::Write => self.write(flow),
                Step::Finish => self.finish(flow),
                Step::Rest => {
                    *self.hand(flow) = 0;
                    false
                }
            };
            if !moved {
                return;
            }
        }
        panic!("a busy loop: {self:?}");
    }

    fn read(&mut self, flow: Flow) -> bool {
        let held = *self.hand(flow);
        assert_eq!(held, 0, "it reads over what it holds: {self:?}");
        match self.peer_mut(flow.source()).read() {
            None => return false,
            Some(Err(loss)) => self.note(Event::Lost(flow.source(), loss)),
            Some(Ok(0)) => self.note(Event::Ended(flow)),
            Some(Ok(n)) => {
                self.note(Event::Took(flow, n.into()));
                *self.hand(flow) = n;
                if self.driver == Driver::Copy {
                    self.pass(flow);
                }
            }
        }
        true
    }

    /// Writes at once what was read, as far as the sink takes it.
    fn pass(&mut self, flow: Flow) {
        let mut written = 0;
        while *self.hand(flow) > 0 {
            let held = *self.hand(flow);
            match self.peer_mut(flow.sink()).write(held) {
                None => break,
                Some(Ok(n)) => {
                    written += n;
                    *self.hand(flow) -= n;
                }
                Some(Err(loss)) => {
                    *self.hand(flow) = 0;
                    return self.note(Event::Lost(flow.sink(), loss));
                }
            }
        }
        self.note(Event::Delivered(flow, written.into()));
    }

    fn write(&mut self, flow: Flow) -> bool {
        let held = *self.hand(flow);
        assert!(held > 0, "it writes what it does not hold: {self:?}");
        match self.peer_mut(flow.sink()).write(held) {
            None => return false,
            Some(Ok(n)) => {
                *self.hand(flow) -= n;
                self.note(Event::Delivered(flow, n.into()));
            }
            Some(Err(loss)) => self.note(Event::Lost(flow.sink(), loss)),
        }
        true
    }

    fn finish(&mut self, flow: Flow) -> bool {
        let (source, sink) = (self.peer(flow.source()), self.peer(flow.sink()));
        assert!(source.fin, "a FIN that nobody sent: {self:?}");
        assert!(!sink.got_fin, "a second FIN: {self:?}");
        assert!(sink.got == source.sent, "a FIN before the last byte: {self:?}");
        let last = self.machine.step(Flow(flow.sink())) == Step::Rest && !self.machine.is_losing();
        if last || !sink.reset {
            self.peer_mut(flow.sink()).got_fin = true;
            self.note(Event::Finished(flow));
        } else {
            self.note(Event::Lost(flow.sink(), Loss::Reset));
        }
        true
    }

    fn note(&mut self, event: Event) {
        if let Event::Lost(side, loss) = event {
            let [first, second] = &mut self.losses;
            match first {
                None => *first = Some((side, loss)),
                Some((known, _)) if *known == side => {}
                Some(_) => *second = Some((side, loss)),
            }
        }
        self.machine.on(event, self.now());
        if self.machine.is_losing() {
            self.heard = self.ticks;
        }
    }

    /// A relay that is losing is only looked at again.
    fn sweep(&mut self) -> bool {
        let before = self.signal;
        for side in [Side::Downstream, Side::Upstream] {
            if let (Some(loss), false) = (self.peer(side).loss(), self.machine.is_losing()) {
                self.signal = Some(Signal::Lost(side, loss));
            }
        }
        self.signal != before
    }

    fn is_quiet(&self) -> bool {
        let waits = |flow| self.machine.step(flow) == Step::Read;
        let settled = |peer: &Peer| peer.waiting == 0;
        let peers = settled(&self.downstream) && settled(&self.upstream);
        waits(Flow::UP) && waits(Flow::DOWN) && !self.machine.is_losing() && peers
    }

    fn check_quiet(&self) {
        for side in [Side::Downstream, Side::Upstream] {
            let (from, to) = (self.peer(side), self.peer(side.other()));
            assert!(to.got == from.sent && !to.got_fin, "it left in the middle: {self:?}");
        }
    }

    fn check_bytes(&self) {
        for (flow, hand) in [(Flow::UP, self.hands[0]), (Flow::DOWN, self.hands[1])] {
            let (from, to) = (self.peer(flow.source()), self.peer(flow.sink()));
            if self.is_told_of(flow.sink()) {
                assert!(hand == 0 && self.machine.held(flow) == 0, "held for nobody: {self:?}");
                assert!(to.got + from.waiting <= from.sent, "bytes from nowhere: {self:?}");
            } else {
                assert_eq!(self.machine.held(flow), usize::from(hand), "what it holds: {self:?}");
                assert_eq!(from.waiting + hand + to.got, from.sent, "bytes are lost: {self:?}");
            }
        }
    }

    fn check_verdict(&self, verdict: Verdict) {
        let later = self.now() + 10 * LINGER;
        assert_eq!(self.machine.verdict(later, LINGER), Some(verdict), "it ends twice: {self:?}");
        let Verdict::Lost(side, loss) = verdict else {
            assert!(self.losses[0].is_none(), "a loss ended as a FIN: {self:?}");
            assert!(self.downstream.got_fin && self.upstream.got_fin, "no FIN: {self:?}");
            assert!(self.upstream.got == self.downstream.sent, "the client's bytes: {self:?}");
            assert!(self.downstream.got == self.upstream.sent, "the endpoint's bytes: {self:?}");
            return;
        };
        assert_eq!(self.losses[0], Some((side, loss)), "lost first: {self:?}");
        let all_passed_on = self.peer(side.other()).got == self.peer(side).sent;
        let both_lost = self.losses[1].is_some();
        let stuck = self.ticks - self.heard >= LINGER_TICKS;
        assert!(all_passed_on || both_lost || stuck, "a reset before the last byte: {self:?}");
    }

    fn is_told_of(&self, side: Side) -> bool {
        self.losses.iter().flatten().any(|(lost, _)| *lost == side)
    }

    fn now(&self) -> Instant {
        self.begin + (LINGER / u32::from(LINGER_TICKS)) * u32::from(self.ticks)
    }

    fn hand(&mut self, flow: Flow) -> &mut u8 {
        &mut self.hands[usize::from(flow == Flow::DOWN)]
    }

    fn peer(&self, side: Side) -> &Peer {
        if side == Side::Downstream { &self.downstream } else { &self.upstream }
    }

    fn peer_mut(&mut self, side: Side) -> &mut Peer {
        if side == Side::Downstream { &mut self.downstream } else { &mut self.upstream }
    }
}

/// Panics unless all rules hold for the script: a byte for how the relay begins, then one for each
/// action and whether the relay is woken after it.
pub fn script(script: &[u8]) {
    let Some((first, actions)) = script.split_first() else { return };
    let pick = |n: u8| Taken::all().nth((n % 5).into()).unwrap_or_default();
    let driver = if first & 0x80 == 0 { Driver::Copy } else { Driver::Splice };
    // Only the client's FIN is passed on before there is a relay.
    let down = Taken { finished: false, ..pick(first / 5 % 5) };
    let mut model = Model::new(driver, pick(*first), down, Instant::now());
    for byte in actions.iter().take(64) {
        let action = Action::all().nth(usize::from(byte & 0x1f) % Action::all().count());
        action.map(|action| model.act(action));
        if byte & 0x80 == 0 && model.wake() {
            return;
        }
    }
    model.say_fin();
    model.settle();
}
