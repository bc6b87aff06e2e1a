//! When a connection may be ended without anybody losing anything, and how many at a time.
//!
//! A connection is *quiet* when nothing is buffered in either direction, both halves are open, and
//! either the server spoke last and both sides were idle for a while, as between two requests; or,
//! late in a drain that cuts what is left, both were idle for longer, whoever spoke last. A client that waits for an
//! answer is not quiet, and neither is one that closed its half and waits for the rest. What a
//! server sends in pieces with pauses longer than that cannot be told from a finished answer. Pure:
//! the time is an argument. Must not know: sockets, or why a connection should end.

use std::time::{Duration, Instant};

/// How long both sides must have been idle.
#[derive(Clone, Copy, Debug)]
pub struct QuietConfig {
    /// When the server spoke last.
    pub idle: Duration,
    /// In the last third of a window, whoever spoke last.
    pub late_idle: Duration,
}

impl Default for QuietConfig {
    fn default() -> Self {
        Self { idle: Duration::from_secs(1), late_idle: Duration::from_secs(5) }
    }
}

/// What is known of a connection at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calm {
    /// Since a byte moved in either direction.
    pub(super) idle: Duration,
    /// The last byte came from the endpoint.
    pub(super) server_spoke_last: bool,
    /// Bytes are held, a half is closed or a side is lost.
    pub(super) busy: bool,
}

impl QuietConfig {
    /// Whether the connection may be ended now.
    pub(super) fn admits(&self, calm: Calm, late: bool) -> bool {
        let between_requests = calm.server_spoke_last && calm.idle >= self.idle;
        !calm.busy && (between_requests || (late && calm.idle >= self.late_idle))
    }
}

/// The time over which connections are ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) begun: Instant,
    pub(super) length: Duration,
    /// What is left after it is cut. Without, nobody has to hurry.
    pub(super) cuts: bool,
}

impl Window {
    /// True in its last third, when its end is one for all.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.cuts && now.saturating_duration_since(self.begun) >= self.length * 2 / 3
    }

    /// True after it.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.left(now).is_zero()
    }

    /// How many of `live` connections may be ended in the next `step`, so that they are spread
    /// evenly over what is left of it: at least one, since a few at once storm nobody.
    pub(super) fn quota(&self, live: usize, step: Duration, now: Instant) -> usize {
        // The last second is for those ended last to read their FIN.
        let left = self.left(now).saturating_sub(Duration::from_secs(1)).max(step);
        let steps = (left.as_millis() / step.as_millis().max(1)).max(1);
        live.div_ceil(usize::try_from(steps).unwrap_or(usize::MAX)).max(1)
    }

    fn left(&self, now: Instant) -> Duration {
        self.length.saturating_sub(now.saturating_duration_since(self.begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    fn check(idle_ms: u64, server_spoke_last: bool, busy: bool, late: bool, expected: bool) {
        let calm = Calm { idle: Duration::from_millis(idle_ms), server_spoke_last, busy };
        assert_eq!(QuietConfig::default().admits(calm, late), expected, "{calm:?}, late: {late}");
    }

    #[test]
    fn a_connection_is_quiet_between_an_answer_and_the_next_request() {
        check(1_000, true, false, false, true);
        check(999, true, false, false, false);
        check(3_600_000, false, false, false, false);
    }

    #[test]
    fn late_in_the_window_a_long_silence_is_quiet_whoever_spoke() {
        check(5_000, false, false, true, true);
        check(4_999, false, false, true, false);
        check(1_000, true, false, true, true);
    }

    #[test]
    fn a_busy_connection_is_never_quiet() {
        for late in [false, true] {
            check(3_600_000, true, true, late, false);
        }
    }

    #[test]
    fn a_thousand_connections_are_spread_over_the_window() {
        let begun = Instant::now();
        let window = Window { begun, length: Duration::from_secs(20), cuts: true };
        let (mut live, mut largest) = (1000_usize, 0);
        for step in 0..190 {
            let quota = window.quota(live, STEP, begun + STEP * step);
            largest = largest.max(quota);
            live = live.saturating_sub(quota);
        }
        assert_eq!(live, 0, "a second before the end nobody is left");
        assert!(largest <= 6, "{largest} in a tenth of a second");
    }

    #[test]
    fn what_is_quiet_late_still_finds_room() {
        let begun = Instant::now();
        let window = Window { begun, length: Duration::from_secs(20), cuts: true };
        assert_eq!(window.quota(1000, STEP, begun + Duration::from_millis(18_800)), 500);
        assert_eq!(window.quota(1000, STEP, begun + Duration::from_secs(30)), 1000);
        assert_eq!(window.quota(0, STEP, begun), 1);
    }

    #[test]
    fn a_window_has_a_last_third_and_an_end() {
        let begun = Instant::now();
        let window = Window { begun, length: Duration::from_secs(9), cuts: true };
        let at = |s| begun + Duration::from_secs(s);
        assert!(!window.is_late(at(5)) && window.is_late(at(6)));
        assert!(!window.is_over(at(8)) && window.is_over(at(9)));
        let window = Window { cuts: false, ..window };
        assert!(!window.is_late(at(6)) && !window.is_late(at(60)), "nobody is cut at its end");
    }
}
