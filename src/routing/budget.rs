//! How many ClientHellos of one route may be sent a second time: a share of its new connections.
//!
//! Without it an outage would be doubled: each connection would fail at two endpoints instead of
//! one. Pure; made when the first replay is asked for. Must not know: why a replay is wanted.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What is looked back on.
const WINDOW: Duration = Duration::from_secs(10);
/// The window is counted in slots of this length.
const SLOT: Duration = Duration::from_secs(1);
/// One replay for so many new connections: 20 %.
const CONNECTIONS_PER_REPLAY: u64 = 5;
/// Allowed in each window however few connections there are: 3/s.
const FLOOR: u64 = 30;

/// The replays of the last [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct Budget {
    slots: VecDeque<Slot>,
}

#[derive(Debug)]
struct Slot {
    since: Instant,
    /// New connections of the route, over all time, when the slot began.
    connections: u64,
    replays: u64,
}

impl Budget {
    /// Takes one replay, if there is one left. `connections` are the route's new connections over
    /// all time. Those before the first replay in the window are not seen, which only errs towards
    /// the floor.
    pub(super) fn take(&mut self, connections: u64, now: Instant) -> bool {
        let past = |slot: &Slot| now.saturating_duration_since(slot.since) >= WINDOW;
        while self.slots.front().is_some_and(past) {
            self.slots.pop_front();
        }
        let is_new = |slot: &Slot| now.saturating_duration_since(slot.since) >= SLOT;
        if self.slots.back().is_none_or(is_new) {
            self.slots.push_back(Slot { since: now, connections, replays: 0 });
        }
        let first = self.slots.front().map_or(connections, |slot| slot.connections);
        let allowed = (connections.saturating_sub(first) / CONNECTIONS_PER_REPLAY).max(FLOOR);
        let taken: u64 = self.slots.iter().map(|slot| slot.replays).sum();
        let Some(slot) = self.slots.back_mut().filter(|_| taken < allowed) else { return false };
        slot.replays += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replays granted when each of `per_second` new connections asks for one, over `seconds`.
    fn granted(per_second: u64, seconds: u64) -> u64 {
        let (start, mut budget, mut granted) = (Instant::now(), Budget::default(), 0);
        for n in 0..per_second * seconds {
            let now = start + Duration::from_secs_f64(n as f64 / per_second as f64);
            granted += u64::from(budget.take(n + 1, now));
        }
        granted
    }

    #[test]
    fn a_fifth_of_the_connections_is_replayed_and_no_more() {
        for (per_second, seconds) in [(1_000, 10), (1_000, 60), (200, 60)] {
            let (all, granted) = (per_second * seconds, granted(per_second, seconds));
            assert!(granted <= all / 5 + FLOOR, "{granted} of {all}");
            assert!(granted >= all / 6, "{granted} of {all}");
        }
    }

    #[test]
    fn few_connections_may_all_be_replayed() {
        assert_eq!(granted(3, 60), 180);
        assert!((300..=360).contains(&granted(10, 100)), "3/s");
    }

    #[test]
    fn the_window_is_bounded_and_forgets() {
        let (start, mut budget) = (Instant::now(), Budget::default());
        let mut all = |now| (0..100).filter(|_| budget.take(1, now)).count() as u64;
        assert_eq!(all(start), FLOOR);
        assert_eq!(all(start + WINDOW - SLOT / 2), 0);
        assert_eq!(all(start + WINDOW), FLOOR);
        assert!(budget.slots.len() <= 11);
    }
}
