//! Ends live connections at quiet moments, most idle first, a few at a time.
//!
//! For a drain of the whole gateway here, and for endpoints that were removed or carry too much in
//! [`census`]. What a quiet moment is stands in [`super::quiet`]; nothing here ends a connection
//! at any other but what the operator asked to be reset, and what is left when the time of a drain
//! is over. Must not know: how a relay ends.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    outcome::Outcome,
    quiet::{Calm, QuietConfig, Window},
    registry::{Connection, Signal},
    relay::machine::Side,
    worker::Worker,
};
use crate::net;

pub(super) mod census;

/// During a drain: ends this tick's share of the connections that are quiet now.
pub(super) fn drain(worker: &Worker, window: Window, tick: Duration) {
    let now = worker.now();
    let mut live = Vec::new();
    worker.registry().each(|_, connection| {
        if !connection.has_ended() {
            live.push(Rc::clone(connection));
        }
    });
    let quota = window.quota(live.len(), tick, now);
    let rules = worker.config().leave.quiet;
    for connection in quiet_of(live, rules, window.is_late(now), now).take(quota) {
        connection.signal(Signal::Leave(Outcome::QuietDrain));
    }
}

/// When the time of a drain is over, what is left is cut; this cuts those that rest right now, as
/// between an answer and the next request of a client that was never quiet for long. Called again
/// and again for a moment, each call remembering what it saw for the next.
pub(super) fn cut_resting(worker: &Worker) {
    worker.registry().each(|_, connection| {
        let (received, sent) = connection.bytes();
        let mut seen = connection.seen.get();
        let moved = seen.bytes != received.wrapping_add(sent);
        seen.bytes = received.wrapping_add(sent);
        connection.seen.set(seen);
        let rests = !moved
            && !connection.has_ended()
            && connection.spoke_last() == Side::Upstream
            && !connection.stuck().busy
            && connection.served.get().is_some_and(|served| net::is_settled(&served.upstream))
            && net::is_settled(&connection.downstream);
        if rests {
            connection.signal(Signal::Cut(Outcome::Drained));
        }
    });
}

/// Those that are quiet now, the most idle first. What it costs to make sure is spent only on
/// those that are taken.
fn quiet_of(
    mut connections: Vec<Rc<Connection>>,
    rules: QuietConfig,
    late: bool,
    now: Instant,
) -> impl Iterator<Item = Rc<Connection>> {
    connections.retain(|c| calm(c, now).is_some_and(|calm| rules.admits(calm, late)));
    connections.sort_by_key(|c| c.seen.get().last_progress);
    connections.into_iter().filter(|c| {
        let upstream = c.served.get().map(|served| &served.upstream);
        net::is_settled(&c.downstream) && upstream.is_some_and(net::is_settled)
    })
}

/// What the sweep knows of a connection that is relayed.
fn calm(connection: &Connection, now: Instant) -> Option<Calm> {
    connection.served.get()?;
    let seen = connection.seen.get();
    let (received, sent) = connection.bytes();
    let moved = received.wrapping_add(sent) != seen.bytes;
    let idle = now.saturating_duration_since(seen.last_progress);
    Some(Calm {
        idle: if moved { Duration::ZERO } else { idle },
        server_spoke_last: connection.spoke_last() == Side::Upstream,
        busy: connection.stuck().busy,
    })
}
