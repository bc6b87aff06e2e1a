//! Which of several endpoints gets the next connection.
//!
//! Pure: counts, weights and randomness are arguments. Must not know: addresses, sets, leases.

/// The algorithm, from DestinationRule `loadBalancer.simple`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Balance {
    /// Two endpoints by weighted chance; the first, or the second if that is clearly less busy for
    /// its weight.
    #[default]
    LeastRequest,
    /// In turn; a weighted turn is spread, not bunched.
    RoundRobin,
    /// Weighted chance.
    Random,
    /// `consistentHash` by source address, with Maglev's table.
    Maglev {
        /// `maglev.tableSize`, a prime number; `None`: as large as the set needs.
        table_size: Option<u32>,
    },
    /// `consistentHash` by source address, with a ring.
    RingHash {
        /// `minimumRingSize`.
        minimum: u32,
    },
}

impl Balance {
    /// The name that a DestinationRule uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastRequest => "LEAST_REQUEST",
            Self::RoundRobin => "ROUND_ROBIN",
            Self::Random => "RANDOM",
            Self::Maglev { .. } => "MAGLEV",
            Self::RingHash { .. } => "RING_HASH",
        }
    }

    /// True when the source decides.
    #[must_use]
    pub fn is_by_source(self) -> bool {
        matches!(self, Self::Maglev { .. } | Self::RingHash { .. })
    }
}

/// One who can be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// At least 1.
    pub(super) weight: u64,
    /// Live connections.
    pub(super) connections: u32,
}

/// Chooses among `len` candidates, which `candidate` describes and `eligible` admits.
///
/// `uniform` says that all weights are equal, which saves looking at each of them. `turn` counts
/// the calls for this set; `random` is uniform over all of u64. Bounded: each candidate is looked
/// at three times at most. `None` when nobody is eligible.
#[inline]
pub(super) fn choose(
    balance: Balance,
    (len, uniform): (usize, bool),
    candidate: impl Fn(usize) -> Candidate,
    eligible: impl Fn(usize) -> bool,
    turn: u64,
    random: u64,
) -> Option<usize> {
    let draw = |random, eligible: &dyn Fn(usize) -> bool| {
        if uniform {
            next_from(len, scale(random, len as u64), eligible)
        } else {
            draw_by_weight(len, &candidate, eligible, random)
        }
    };
    match balance {
        // Without a source there is nothing to decide by, as in Envoy without a hash.
        Balance::Random | Balance::Maglev { .. } | Balance::RingHash { .. } => {
            draw(random, &eligible)
        }
        Balance::RoundRobin if uniform => next_from(len, turn % (len as u64).max(1), &eligible),
        // A weighted turn is a draw whose "randomness" is evenly spread instead of random:
        // multiples of the golden ratio leave no bunches and give each its share of the line.
        Balance::RoundRobin => draw(turn.wrapping_mul(0x9E37_79B9_7F4A_7C15), &eligible),
        Balance::LeastRequest => {
            let first = draw(random, &eligible)?;
            let other = random.rotate_left(32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
            let Some(second) = draw(other, &|i| i != first && eligible(i)) else {
                return Some(first);
            };
            let (a, b) = (candidate(first), candidate(second));
            // connections / weight, compared without division. The second has it only if it carries
            // no more than the first even with this connection: so idle endpoints, which carry
            // nothing whatever their weights, get their shares by the draw, as in Envoy.
            let load_a = u64::from(a.connections).saturating_mul(b.weight);
            let load_b = (u64::from(b.connections) + 1).saturating_mul(a.weight);
            Some(if load_b <= load_a { second } else { first })
        }
    }
}

/// The first eligible one at or after `start`, going round.
fn next_from(len: usize, start: u64, eligible: &dyn Fn(usize) -> bool) -> Option<usize> {
    let start = usize::try_from(start).ok()?;
    (0..len).map(|i| (start + i) % len).find(|&i| eligible(i))
}

/// A draw with chances proportional to weight.
fn draw_by_weight(
    len: usize,
    candidate: &impl Fn(usize) -> Candidate,
    eligible: &dyn Fn(usize) -> bool,
    random: u64,
) -> Option<usize> {
    let weight = |i| if eligible(i) { candidate(i).weight.max(1) } else { 0 };
    let mut left = scale(random, (0..len).map(weight).sum());
    (0..len).find(|&i| {
        let w = weight(i);
        let hit = left < w;
        left = left.saturating_sub(w);
        hit
    })
}

/// Maps a uniform u64 to 0..`range` without division.
pub(super) fn scale(random: u64, range: u64) -> u64 {
    let product = u128::from(random) * u128::from(range);
    u64::try_from(product >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(balance: Balance, weights: &[u64], connections: &[u32], n: u64) -> Vec<u64> {
        let mut hits = vec![0; weights.len()];
        let mut state = 7u64;
        for turn in 0..n {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let random = state ^ (state >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let candidate =
                |i: usize| Candidate { weight: weights[i], connections: connections[i] };
            let uniform = weights.iter().all(|w| *w == weights[0]);
            let len = (weights.len(), uniform);
            let i = choose(balance, len, candidate, |_| true, turn, random).expect("one");
            hits[i] += 1;
        }
        hits
    }

    #[test]
    fn round_robin_takes_turns() {
        assert_eq!(spread(Balance::RoundRobin, &[1, 1, 1], &[0; 3], 300), [100, 100, 100]);
    }

    #[test]
    fn round_robin_honours_weights_within_one_percent() {
        let hits = spread(Balance::RoundRobin, &[1, 2, 7], &[0; 3], 10_000);
        for (hit, want) in hits.iter().zip([1000u64, 2000, 7000]) {
            assert!(hit.abs_diff(want) < 100, "{hits:?}");
        }
    }

    #[test]
    fn random_honours_weights() {
        let hits = spread(Balance::Random, &[1, 2, 7], &[0; 3], 100_000);
        for (hit, want) in hits.iter().zip([10_000u64, 20_000, 70_000]) {
            assert!(hit.abs_diff(want) < 1_000, "{hits:?}");
        }
    }

    #[test]
    fn least_request_avoids_the_busy_one() {
        let hits = spread(Balance::LeastRequest, &[1, 1, 1], &[0, 0, 100], 9_000);
        assert_eq!(hits[2], 0, "two different ones are compared: {hits:?}");
        assert!(hits[0] > 3_500 && hits[1] > 3_500, "{hits:?}");
    }

    #[test]
    fn least_request_weighs_connections_by_weight() {
        let hits = spread(Balance::LeastRequest, &[1, 9], &[9, 80], 10_000);
        assert_eq!(hits[0], 0, "9 of 1 is more load than 80 of 9: {hits:?}");
    }

    #[test]
    fn least_request_gives_idle_endpoints_their_shares() {
        let hits = spread(Balance::LeastRequest, &[1, 99], &[0, 0], 10_000);
        assert!(hits[0].abs_diff(100) < 50, "{hits:?}");
    }

    #[test]
    fn nobody_eligible_is_nobody_chosen() {
        for balance in [Balance::LeastRequest, Balance::RoundRobin, Balance::Random] {
            let candidate = |_| Candidate { weight: 1, connections: 0 };
            for uniform in [true, false] {
                let of = |len, ok: &dyn Fn(usize) -> bool| {
                    choose(balance, (len, uniform), candidate, ok, 5, u64::MAX)
                };
                assert_eq!(of(3, &|_| false), None);
                assert_eq!(of(0, &|_| true), None);
                assert_eq!(of(3, &|i| i == 1), Some(1));
            }
        }
    }
}
