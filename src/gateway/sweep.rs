//! One coarse look at every live connection of a worker: age, idleness, vanished peers, keepalive,
//! byte counters.
//!
//! What would cost a timer or a system call for each connection costs a few loads here. Decisions
//! are in [`judge`], which is pure. Must not know: how a relay ends.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use super::{
    outcome::Outcome,
    registry::{Connection, Limits, Seen, Served, Signal},
    relay::machine::{Loss, Side},
    report,
    worker::Worker,
};
use crate::net::{self, sys};

/// A connection is asked about its peers this often, whether it makes progress or not: bytes for a
/// peer that has vanished go on into the kernel's buffers.
const LOOK: Duration = Duration::from_secs(5);
/// And this often in the time after which a peer counts as vanished, where that is shorter.
const LOOKS: u32 = 6;
/// Byte counters of a live connection are published this often, as Istio does.
const PUBLISH: Duration = Duration::from_secs(5);

/// A connection that ends before this age never pays for keepalive.
const SHORT: Duration = Duration::from_secs(1);

/// A worker ticks ten times a second, and each time one connection in five has its turn: each is
/// looked at twice a second.
const ROUNDS: usize = 5;

/// Whose turn it is, and when it last was.
#[derive(Debug)]
pub(super) struct Rounds {
    next: Cell<usize>,
    looked: [Cell<Instant>; ROUNDS],
}

impl Rounds {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: Cell::new(0), looked: std::array::from_fn(|_| Cell::new(now)) }
    }
}

/// Looks at each connection whose turn it is.
pub(super) fn sweep(worker: &Worker, rounds: &Rounds) {
    let round = rounds.next.get();
    rounds.next.set((round + 1) % ROUNDS);
    let Some(looked) = rounds.looked.get(round) else { return };
    let now = worker.now();
    let times = Times { before: looked.replace(now), now };
    worker.registry().each(|key, connection| {
        if key % ROUNDS == round
            && let Some(served) = connection.served.get()
        {
            look(worker, connection, served, times);
        }
    });
}

/// The times of two looks at a connection, one after the other.
#[derive(Clone, Copy, Debug)]
struct Times {
    before: Instant,
    now: Instant,
}

impl Times {
    /// True once in every `period` since `last`, however late the looks are.
    fn pass(self, last: Instant, period: Duration) -> bool {
        let periods = |at: Instant| {
            at.saturating_duration_since(last).as_millis() / period.as_millis().max(1)
        };
        periods(self.now) > periods(self.before)
    }
}

fn look(worker: &Worker, connection: &Connection, served: &Served, times: Times) {
    let now = times.now;
    let mut seen = connection.seen.get();
    let (received, sent) = connection.bytes();
    let total = received.wrapping_add(sent);
    let limits = connection.limits();
    if !seen.keepalive_set && now.saturating_duration_since(connection.accepted) >= SHORT {
        set_keepalive(worker, connection, served, limits);
        seen.keepalive_set = true;
    }
    let moved = total != seen.bytes;
    if moved {
        seen.bytes = total;
        seen.last_progress = now;
    }
    connection.seen.set(seen);
    if moved || times.pass(seen.last_progress, PUBLISH) {
        report::publish(connection, &served.series);
    }
    if let Some(outcome) = judge(connection.accepted, seen, limits, now) {
        // Bytes that came while the process stood still may not have been heard of.
        let is_idle = outcome == Outcome::IdleTimeout;
        let speaks = is_idle && is_unread(connection, served);
        connection.signal(if speaks { Signal::Look } else { Signal::End(outcome) });
        return;
    }
    let stuck = connection.stuck();
    if stuck.losing {
        connection.signal(Signal::Look);
        return;
    }
    if stuck.settling {
        connection.signal(Signal::Look);
    }
    let period = LOOK.min(worker.config().relay.vanished_after / LOOKS);
    if seen.owing_since != [0, 0] || times.pass(connection.accepted, period) {
        look_for_lost(worker, connection, served, period);
    }
    if moved {
        return;
    }
    let stopped_now = seen.last_progress == times.before;
    if stopped_now && is_unread(connection, served) || has_room(connection, served) {
        connection.signal(Signal::Look);
    }
    // A reset of a side that nobody reads from.
    for (unread, side, stream) in [
        (stuck.downstream_unread, Side::Downstream, &connection.downstream),
        (stuck.upstream_unread, Side::Upstream, &served.upstream),
    ] {
        if unread && sys::tcp_info(stream).is_ok_and(|info| is_reset(stream, info)) {
            connection.signal(Signal::Lost(side, Loss::Reset));
        }
    }
}

/// True when bytes wait on a side that is read. A read stops short of an urgent byte, which looks as
/// if there were no more: so once after each movement, and not at each read, it is asked.
fn is_unread(connection: &Connection, served: &Served) -> bool {
    let stuck = connection.stuck();
    !stuck.downstream_unread && net::has_unread(&connection.downstream)
        || !stuck.upstream_unread && net::has_unread(&served.upstream)
}

/// True when there is room on a side that is owed bytes: an `EAGAIN` that was not true would be
/// waited on for ever.
fn has_room(connection: &Connection, served: &Served) -> bool {
    let stuck = connection.stuck();
    stuck.downstream_owed && net::has_room(&connection.downstream)
        || stuck.upstream_owed && net::has_room(&served.upstream)
}

/// Ends a side as vanished when it does not acknowledge: `TCP_USER_TIMEOUT` would kill a reader
/// that only pauses.
fn look_for_lost(worker: &Worker, connection: &Connection, served: &Served, period: Duration) {
    let after = worker.config().relay.vanished_after;
    let age = worker.now().saturating_duration_since(connection.accepted);
    let mut seen = connection.seen.get();
    let [down, up] = &mut seen.owing_since;
    for (side, stream, since) in
        [(Side::Downstream, &connection.downstream, down), (Side::Upstream, &served.upstream, up)]
    {
        match sys::tcp_info(stream) {
            Ok(info) if is_reset(stream, info) => {
                connection.signal(Signal::Lost(side, Loss::Reset));
            }
            Ok(info) => {
                *since = owing_since(info, *since, age, period);
                if is_vanished(info, *since, age, after) {
                    connection.signal(Signal::Lost(side, Loss::Vanished));
                }
            }
            Err(_) => {}
        }
    }
    connection.seen.set(seen);
}

/// Closed, and not in order: a side that took our FIN and then sent its own is closed too, while
/// its last bytes still wait to be taken.
fn is_reset(stream: &TcpStream, info: sys::TcpInfo) -> bool {
    info.closed && net::has_failed(stream)
}

/// Retransmits in flight: it owes an answer. First seen so, it may have owed it since the look
/// before.
fn owing_since(info: sys::TcpInfo, since: u32, age: Duration, period: Duration) -> u32 {
    match (info.retransmits > 0, since) {
        (false, _) => 0,
        (true, 0) => tenths(age.saturating_sub(period)) + 1,
        (true, since) => since,
    }
}

/// It has owed an answer for `after`, or left three probes unanswered, and nothing came for as
/// long. Silence alone, and a retransmit, are not enough: a peer that had nothing to say for long
/// may owe an answer for the moment only. A reader with a zero window that still acknowledges is
/// never cut.
fn is_vanished(info: sys::TcpInfo, since: u32, age: Duration, after: Duration) -> bool {
    let owes = since > 0 && tenths(age).saturating_sub(since) >= tenths(after);
    let silent = Duration::from_millis(info.silent_ms.into());
    silent >= after && (owes || info.probes >= 3)
}

/// Whole tenths of a second; of thirteen years at most.
fn tenths(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / 100).unwrap_or(u32::MAX - 1)
}

/// Whether a limit of the route has passed.
fn judge(accepted: Instant, seen: Seen, limits: Limits, now: Instant) -> Option<Outcome> {
    let passed = |limit: Option<Duration>, since: Instant| {
        limit.is_some_and(|limit| now.saturating_duration_since(since) >= limit)
    };
    if passed(limits.max_duration, accepted) {
        return Some(Outcome::MaxDuration);
    }
    passed(limits.idle_timeout, seen.last_progress).then_some(Outcome::IdleTimeout)
}

/// Keepalive on both sides.
fn set_keepalive(worker: &Worker, connection: &Connection, served: &Served, limits: Limits) {
    let ours = worker.config().relay.keepalive;
    let theirs = limits.upstream_keepalive.map_or(ours, |theirs| crate::routing::Keepalive {
        time: theirs.time.or(ours.time),
        interval: theirs.interval.or(ours.interval),
        probes: theirs.probes.or(ours.probes),
    });
    // It fails on a socket that is closed already, and the relay learns that by itself.
    let _ = net::set_keepalive(&connection.downstream, ours);
    let _ = net::set_keepalive(&served.upstream, theirs);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(idle: Option<u64>, max: Option<u64>) -> Limits {
        Limits {
            idle_timeout: idle.map(Duration::from_secs),
            max_duration: max.map(Duration::from_secs),
            upstream_keepalive: None,
        }
    }

    fn after(age: u64, idle: u64, limits: Limits) -> Option<Outcome> {
        let now = Instant::now() + Duration::from_secs(10_000);
        let last_progress = now - Duration::from_secs(idle);
        let seen = Seen {
            bytes: 0,
            last_progress,
            keepalive_set: true,
            published: (0, 0),
            owing_since: [0, 0],
            endpoint_gone: None,
        };
        judge(now - Duration::from_secs(age), seen, limits, now)
    }

    #[test]
    fn nothing_ends_a_connection_when_no_limit_is_set() {
        assert_eq!(after(9_000, 9_000, limits(None, None)), None);
    }

    #[test]
    fn limits_end_a_connection_at_their_time_and_not_before() {
        assert_eq!(after(9, 9, limits(Some(10), None)), None);
        assert_eq!(after(10, 10, limits(Some(10), None)), Some(Outcome::IdleTimeout));
        assert_eq!(after(9, 0, limits(None, Some(10))), None);
        assert_eq!(after(10, 0, limits(None, Some(10))), Some(Outcome::MaxDuration));
    }

    #[test]
    fn a_period_passes_once_however_late_a_look_is() {
        let last = Instant::now();
        let at = |ms| last + Duration::from_millis(ms);
        let passes = |before, now| {
            Times { before: at(before), now: at(now) }.pass(last, Duration::from_secs(5))
        };
        assert!(!passes(0, 4_999) && passes(4_999, 5_000) && !passes(5_000, 5_500));
        assert!(passes(4_900, 5_900), "a look that is late by half a second");
        let early = Times { before: last - Duration::from_secs(9), now: at(1) };
        assert!(!early.pass(last, Duration::from_secs(5)), "progress was made between the looks");
    }

    #[test]
    fn a_peer_has_vanished_when_it_is_silent_and_owes_an_answer() {
        let info = |retransmits, probes, silent_ms| sys::TcpInfo {
            closed: false,
            retransmits,
            probes,
            silent_ms,
            rtt_us: 0,
        };
        let (after, period) = (Duration::from_secs(30), Duration::from_secs(5));
        // Looked at every five seconds until it has vanished; what is seen at each look.
        let vanishes_at = |seen: &dyn Fn(u64) -> sys::TcpInfo| {
            let mut since = 0;
            (1..100).map(|look| 5 * look).find(|second| {
                let (info, age) = (seen(*second), Duration::from_secs(*second));
                since = owing_since(info, since, age, period);
                is_vanished(info, since, age, after)
            })
        };
        let silence = |second: u64| u32::try_from(second * 1000).expect("short");
        assert_eq!(vanishes_at(&|second| info(1, 0, silence(second))), Some(35));
        assert_eq!(vanishes_at(&|second| info(0, 3, silence(second))), Some(30));
        assert_eq!(vanishes_at(&|second| info(0, 0, silence(second))), None, "idle");
        assert_eq!(vanishes_at(&|_| info(5, 5, 29_999)), None, "it acknowledged a moment ago");
        // Idle for minutes, then two looks at a line that loses: it has 30 s from then.
        let blip = |second| info(u8::from((300..310).contains(&second)), 0, silence(second));
        assert_eq!(vanishes_at(&blip), None);
        let gone = |second| info(u8::from(second >= 300), 0, silence(second));
        assert_eq!(vanishes_at(&gone), Some(330));
    }
}
