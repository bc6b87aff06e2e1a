//! How long to wait before the next try: longer each time, and never in step with others.
//!
//! Must not know: what is tried.

use std::time::Duration;

/// Doubles from `first` to `longest`; each wait is between the half and the whole of that.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
    random: ahash::RandomState,
}

impl Backoff {
    /// Begins with `first`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0, random: ahash::RandomState::new() }
    }

    /// The next wait.
    pub fn pause(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.tries.min(16)).min(self.longest);
        self.tries = self.tries.saturating_add(1);
        let thousandths = u32::try_from(self.random.hash_one(self.tries) % 500).unwrap_or(0);
        whole * (500 + thousandths) / 1_000
    }

    /// All is well.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// `base` and up to a quarter more.
    #[must_use]
    pub fn jittered(&self, base: Duration) -> Duration {
        let hundredths = u32::try_from(self.random.hash_one(base) % 25).unwrap_or(0);
        base + base * hundredths / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over() {
        let (first, longest) = (Duration::from_millis(200), Duration::from_secs(5));
        let mut backoff = Backoff::new(first, longest);
        for whole in [200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let wait = backoff.pause().as_millis();
            assert!((whole / 2..=whole).contains(&wait), "{wait} of {whole} ms");
        }
        (0..100).for_each(|_| _ = backoff.pause());
        assert!(backoff.pause() <= longest);
        backoff.reset();
        assert!(backoff.pause() <= first);
    }
}
