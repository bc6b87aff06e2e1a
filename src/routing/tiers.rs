//! Tiers of a set by nearness: how much of the load each gets when some of its endpoints are out.
//!
//! Envoy's rule of priority levels: a tier carries what it can, counted with an overprovisioning
//! factor of 1.4, and the rest spills over to the next. Pure numbers. Must not know: endpoints,
//! localities, why somebody is out.

/// More tiers than this are one: Istio's own ladder has five.
pub const TIERS_MAX: usize = 8;

/// Where an endpoint stands in one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// 0 is asked first; at most [`TIERS_MAX`] − 1.
    pub tier: u8,
    /// Its weight in this set, at least 1.
    pub weight: u32,
}

/// Endpoints of one tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) total: u32,
    /// Those in service.
    pub(super) open: u32,
}

impl Tally {
    /// Per cent of the tier's load that it can carry: 1.4 times its share in service.
    fn health(self) -> u64 {
        match self.total {
            0 => 0,
            total => (u64::from(self.open) * 140 / u64::from(total)).min(100),
        }
    }

    /// True when less than `percent` of the tier is in service.
    fn is_below(self, percent: u8) -> bool {
        u64::from(self.open) * 100 < u64::from(self.total) * u64::from(percent)
    }
}

/// The tier that gets this connection, and whether ejections count in it: `draw` is uniform over
/// 0..100, `min_health` is the panic rule's threshold.
///
/// A set of one tier panics by its share alone. Of several, none panics while together they carry
/// everything: the next tier is better than an endpoint that fails. When all are out the first
/// non-empty tier gets everything.
pub(super) fn choose(tallies: &[Tally; TIERS_MAX], draw: u64, min_health: u8) -> (usize, bool) {
    let first = tallies.iter().position(|tally| tally.total > 0).unwrap_or(0);
    let used = tallies.iter().filter(|tally| tally.total > 0).count();
    let sum: u64 = tallies.iter().map(|tally| tally.health()).sum();
    let whole = sum.min(100);
    let mut below = 0;
    let mut chosen = first;
    for (tier, tally) in tallies.iter().enumerate().filter(|_| whole > 0) {
        // Loads of the tiers before it are taken off first, so that they never sum above 100.
        let load = (tally.health() * 100 / whole).min(100 - below);
        if load > 0 {
            // Rounding leaves a rest below 1 % per tier; it stays with the last that has load.
            chosen = tier;
        }
        below += load;
        if draw < below {
            break;
        }
    }
    let panic = (used == 1 || whole < 100) && tallies[chosen].is_below(min_health);
    (chosen, panic)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Per cent of connections by tier, and which of the tiers panic.
    fn spread(tiers: &[(u32, u32)], min_health: u8) -> (Vec<u64>, Vec<usize>) {
        let mut tallies = [Tally::default(); TIERS_MAX];
        for (tally, (open, total)) in tallies.iter_mut().zip(tiers) {
            *tally = Tally { open: *open, total: *total };
        }
        let mut hits = vec![0; tiers.len()];
        let mut panics = Vec::new();
        for draw in 0..100 {
            let (tier, panic) = choose(&tallies, draw, min_health);
            hits[tier] += 1;
            if panic && !panics.contains(&tier) {
                panics.push(tier);
            }
        }
        (hits, panics)
    }

    fn check(tiers: &[(u32, u32)], min_health: u8, hits: &[u64], panics: &[usize]) {
        let found = spread(tiers, min_health);
        assert_eq!(found, (hits.to_vec(), panics.to_vec()), "{tiers:?}, panic below {min_health}");
    }

    #[test]
    fn a_tier_spills_over_only_below_five_sevenths() {
        // The examples of Envoy's documentation on priority levels.
        check(&[(100, 100), (100, 100)], 50, &[100, 0], &[]);
        check(&[(72, 100), (100, 100)], 50, &[100, 0], &[]);
        check(&[(71, 100), (100, 100)], 50, &[99, 1], &[]);
        check(&[(50, 100), (100, 100)], 50, &[70, 30], &[]);
        check(&[(25, 100), (100, 100)], 50, &[35, 65], &[]);
        check(&[(25, 100), (25, 100)], 0, &[50, 50], &[]);
        check(&[(0, 100), (25, 100)], 0, &[0, 100], &[]);
        check(&[(20, 100), (20, 100), (10, 100)], 0, &[40, 40, 20], &[]);
    }

    #[test]
    fn tiers_panic_only_when_together_they_cannot_carry_all() {
        check(&[(25, 100), (60, 100)], 50, &[35, 65], &[]);
        check(&[(25, 100), (25, 100)], 50, &[50, 50], &[0, 1]);
        check(&[(5, 100), (60, 100)], 50, &[7, 93], &[0]);
    }

    #[test]
    fn one_tier_panics_below_its_threshold() {
        check(&[(3, 10)], 30, &[100], &[]);
        check(&[(2, 10)], 30, &[100], &[0]);
        check(&[(0, 10)], 30, &[100], &[0]);
        check(&[(0, 10)], 0, &[100], &[]);
    }

    #[test]
    fn an_empty_tier_gets_nothing() {
        check(&[(0, 0), (3, 3)], 30, &[0, 100], &[]);
        check(&[(0, 0), (0, 3)], 30, &[0, 100], &[1]);
    }
}
