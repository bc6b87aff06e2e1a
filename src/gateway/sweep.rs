//! One coarse look at every live connection of a worker: age, idleness, vanished peers, keepalive,
//! byte counters.
//!
//! What would cost a timer or a system call for each connection costs a few loads here. Decisions
//! are in [`judge`], which is pure. Must not know: how a relay ends.

use std::time::{Duration, Instant};

use super::{
    outcome::Outcome,
    registry::{Connection, Limits, Seen, Served, Signal},
    relay::machine::{Loss, Side},
    report,
    worker::Worker,
};
use crate::net::{self, sys};

/// A connection without progress is asked about its peers this often.
const LOOK: Duration = Duration::from_secs(5);
/// Byte counters of a live connection are published this often, as Istio does.
const PUBLISH: Duration = Duration::from_secs(5);

/// A connection that ends before this age never pays for keepalive.
const SHORT: Duration = Duration::from_secs(1);

/// Looks at each connection whose turn it is: at one in five, so that each is looked at twice a
/// second when the worker ticks ten times.
pub(super) fn sweep(worker: &Worker) {
    const ROUNDS: usize = 5;
    let round = worker.next_round() % ROUNDS;
    let now = worker.now();
    worker.registry().each(|key, connection| {
        if key % ROUNDS == round
            && let Some(served) = connection.served.get()
        {
            look(worker, connection, served, now);
        }
    });
}

fn look(worker: &Worker, connection: &Connection, served: &Served, now: Instant) {
    let mut seen = connection.seen.get();
    let (received, sent) = connection.bytes();
    let total = received.wrapping_add(sent);
    let limits = connection.limits.get();
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
    if moved || is_due(now, seen.last_progress, PUBLISH) {
        report::publish(connection, &served.series);
    }
    if let Some(outcome) = judge(connection.accepted, seen, limits, now) {
        connection.signal(Signal::End(outcome));
        return;
    }
    let stuck = connection.stuck();
    if stuck.losing {
        connection.signal(Signal::Look);
        return;
    }
    if moved {
        return;
    }
    // A relay that waits to write does not read, and so would not learn of a reset.
    for (waits, side, stream) in [
        (stuck.from_downstream, Side::Downstream, &connection.downstream),
        (stuck.from_upstream, Side::Upstream, &served.upstream),
    ] {
        if waits && sys::tcp_info(stream).is_ok_and(|info| info.closed) {
            connection.signal(Signal::Lost(side, Loss::Reset));
        }
    }
    if is_due(now, seen.last_progress, LOOK) {
        look_for_lost(worker, connection, served);
    }
}

/// Ends a side as vanished when it does not acknowledge: `TCP_USER_TIMEOUT` would kill a reader
/// that only pauses. A side that reset after its FIN is found here too, since nobody reads it.
fn look_for_lost(worker: &Worker, connection: &Connection, served: &Served) {
    let after = worker.config().relay.vanished_after;
    for (side, stream) in
        [(Side::Downstream, &connection.downstream), (Side::Upstream, &served.upstream)]
    {
        match sys::tcp_info(stream) {
            Ok(info) if info.closed => connection.signal(Signal::Lost(side, Loss::Reset)),
            Ok(info) if is_vanished(info, after) => {
                connection.signal(Signal::Lost(side, Loss::Vanished));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Retransmits in flight, or three window probes unanswered, and nothing came for `after`. A
/// reader with a zero window that still acknowledges is never cut.
fn is_vanished(info: sys::TcpInfo, after: Duration) -> bool {
    let silent = Duration::from_millis(info.silent_ms.into()) >= after;
    silent && (info.retransmits > 0 || info.probes >= 3)
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

/// True about once in every `period` since `last`, given two looks a second.
fn is_due(now: Instant, last: Instant, period: Duration) -> bool {
    let since = now.saturating_duration_since(last).as_millis();
    let period = period.as_millis().max(1);
    since >= period && since % period < 500
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
        let seen = Seen { bytes: 0, last_progress, keepalive_set: true, published: (0, 0) };
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
    fn a_peer_has_vanished_when_it_is_silent_and_owes_an_answer() {
        let info = |retransmits, probes, silent_ms| sys::TcpInfo {
            closed: false,
            retransmits,
            probes,
            silent_ms,
            rtt_us: 0,
        };
        let after = Duration::from_secs(30);
        assert!(is_vanished(info(1, 0, 30_000), after));
        assert!(is_vanished(info(0, 3, 30_000), after));
        assert!(!is_vanished(info(0, 0, 3_000_000), after), "idle is not vanished");
        assert!(!is_vanished(info(5, 5, 29_999), after), "it acknowledged a moment ago");
    }
}
