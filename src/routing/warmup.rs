//! Slow start: how much of its weight an endpoint has while it is new.
//!
//! Envoy's rule, for least request and round robin. Pure: ages are arguments. Must not know: the
//! clock, who is new.

use std::time::Duration;

/// `loadBalancer.warmup` of a DestinationRule, or `warmupDurationSecs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Warmup {
    /// How long an endpoint is new; never zero.
    pub window: Duration,
    /// Its share at the start at least, in per cent.
    pub minimum_percent: u8,
    /// How fast its share grows, in hundredths: 100 is evenly, more is faster at first.
    pub aggression_percent: u32,
}

/// A whole weight, in the parts that a new endpoint's is counted in.
pub(super) const WHOLE: u64 = 1_000;

impl Warmup {
    /// One of this duration, from so many per cent and so fast; what is out of range is brought
    /// into it. `None` without a duration.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // clamped: only fractions are lost
    pub fn new(window: Duration, minimum_percent: f64, aggression: f64) -> Option<Self> {
        (!window.is_zero()).then(|| Self {
            window,
            minimum_percent: minimum_percent.clamp(0.0, 100.0) as u8,
            aggression_percent: (aggression * 100.0).clamp(1.0, 1e8) as u32,
        })
    }

    /// The parts of [`WHOLE`] that an endpoint of this age has; at least one.
    pub(super) fn share(&self, age: Duration) -> u64 {
        if age >= self.window {
            return WHOLE;
        }
        let passed = age.max(Duration::from_millis(1)).as_secs_f64() / self.window.as_secs_f64();
        let grown = passed.powf(100.0 / f64::from(self.aggression_percent.max(1)));
        let share = grown.max(f64::from(self.minimum_percent) / 100.0).min(1.0);
        #[allow(clippy::cast_possible_truncation)] // at most 1,000
        let parts = (share * WHOLE as f64) as u64;
        parts.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(aggression_percent: u32, minimum_percent: u8, expected: [u64; 5]) {
        let window = Duration::from_secs(100);
        let warmup = Warmup { window, minimum_percent, aggression_percent };
        let shares = [0, 5, 25, 50, 100].map(|age| warmup.share(Duration::from_secs(age)));
        assert_eq!(shares, expected, "aggression {aggression_percent} %, {minimum_percent} %");
    }

    #[test]
    fn a_share_grows_with_age_from_its_minimum() {
        check(100, 10, [100, 100, 250, 500, 1_000]);
        check(100, 0, [1, 50, 250, 500, 1_000]);
        check(200, 10, [100, 223, 500, 707, 1_000]);
        check(100, 100, [1_000; 5]);
    }
}
