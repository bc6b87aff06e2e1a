//! How near an endpoint is, and what share a distant one gets: `localityLbSetting`.
//!
//! Pure. Istio's ladder, `failover`, `failoverPriority` and `distribute`. A gateway that does not
//! know where it is itself has one tier. Must not know: which endpoints are well, how a connection
//! is placed.

use crate::{
    manifests::kinds::{
        Labels,
        destination_rule::{Distribute, LocalitySetting},
    },
    routing::{Locality, Place, TIERS_MAX},
};

/// A weight that is 1 % of a `distribute`: its shares are in per cent, and an endpoint's part of
/// one must not be lost in rounding.
const PER_CENT: u64 = 10_000;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub(super) locality: &'a Locality,
    pub(super) labels: &'a Labels,
}

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) locality: &'a Locality,
    pub(super) labels: &'a Labels,
    pub(super) weight: u32,
}

/// Where each endpoint stands. `None`: a `distribute` gives its locality nothing.
///
/// `detects` says that a DestinationRule has `outlierDetection`: without it, as in Istio, all are
/// in one tier, since nobody would ever fall through to the next.
pub(super) fn places(
    setting: Option<&LocalitySetting>,
    detects: bool,
    origin: Origin<'_>,
    targets: &[Target<'_>],
) -> Vec<Option<Place>> {
    let flat = |target: &Target<'_>| Some(Place { tier: 0, weight: target.weight });
    let enabled = setting.is_none_or(|setting| setting.enabled != Some(false));
    if origin.locality.region.is_empty() || !enabled {
        return targets.iter().map(flat).collect();
    }
    let distribute = setting.map_or(&[][..], |setting| &setting.distribute);
    if let Some(rule) = distribute.iter().find(|rule| matches(origin.locality, &rule.from)) {
        return shared_out(rule, targets);
    }
    // A `distribute` that is not about us leaves the ladder out, as in Istio.
    if !detects || !distribute.is_empty() {
        return targets.iter().map(flat).collect();
    }
    let steps: Vec<usize> = targets.iter().map(|target| step(setting, origin, target)).collect();
    let mut used = steps.clone();
    used.sort_unstable();
    used.dedup();
    let tier = |step| used.partition_point(|other| *other < step).min(TIERS_MAX - 1);
    let places = targets.iter().zip(&steps).map(|(target, step)| Place {
        tier: u8::try_from(tier(*step)).unwrap_or(u8::MAX),
        weight: target.weight,
    });
    places.map(Some).collect()
}

/// The rung of Istio's ladder, gaps included.
fn step(setting: Option<&LocalitySetting>, origin: Origin<'_>, target: &Target<'_>) -> usize {
    let priority = setting.map_or(&[][..], |setting| &setting.failover_priority);
    if !priority.is_empty() {
        let met = priority.iter().take_while(|label| is_met(label, origin, target)).count();
        return priority.len() - met;
    }
    let (own, other) = (origin.locality, target.locality);
    if own.region != other.region {
        let failover = setting.map_or(&[][..], |setting| &setting.failover);
        let mut from_us = failover.iter().filter(|rule| *rule.from == *own.region);
        let elsewhere = from_us.next().is_some_and(|rule| *rule.to != *other.region);
        return if elsewhere { 4 } else { 3 };
    }
    match (own.zone == other.zone, own.subzone == other.subzone) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}

/// `key=value` of `failoverPriority` asks for that value, `key` for our own.
fn is_met(label: &str, origin: Origin<'_>, target: &Target<'_>) -> bool {
    let theirs = |key: &str| value(key, target.locality, target.labels);
    match label.split_once('=') {
        Some((key, wanted)) => theirs(key) == wanted,
        None => theirs(label) == value(label, origin.locality, origin.labels),
    }
}

/// A label of a workload; where it runs counts as labels, as in Istio.
fn value<'a>(key: &str, locality: &'a Locality, labels: &'a Labels) -> &'a str {
    let known = match key {
        "topology.kubernetes.io/region" => &locality.region,
        "topology.kubernetes.io/zone" => &locality.zone,
        "topology.istio.io/subzone" => &locality.subzone,
        _ => "",
    };
    if known.is_empty() { labels.get(key).unwrap_or_default() } else { known }
}

/// Weights by `distribute`: each pattern's share is divided among its endpoints by their own
/// weights. Of two patterns for one endpoint the longer is meant.
fn shared_out(rule: &Distribute, targets: &[Target<'_>]) -> Vec<Option<Place>> {
    let mut shares: Vec<(&str, u32)> = rule.to.iter().map(|(to, n)| (&**to, *n)).collect();
    shares.sort_by_key(|(to, _)| std::cmp::Reverse((to.split('/').count(), to.len())));
    let share_of = |target: &Target<'_>| {
        let mut of = shares.iter().enumerate();
        of.find(|(_, (to, _))| matches(target.locality, to)).map(|(at, _)| at)
    };
    let chosen: Vec<Option<usize>> = targets.iter().map(share_of).collect();
    let mut sums = vec![0u64; shares.len()];
    for (target, share) in targets.iter().zip(&chosen) {
        if let Some(at) = share {
            sums[*at] += u64::from(target.weight);
        }
    }
    let place = |(target, share): (&Target<'_>, Option<usize>)| {
        let at = share.filter(|at| shares[*at].1 > 0)?;
        let weight =
            u64::from(shares[at].1) * PER_CENT * u64::from(target.weight) / sums[at].max(1);
        Some(Place { tier: 0, weight: u32::try_from(weight).unwrap_or(u32::MAX).max(1) })
    };
    targets.iter().zip(chosen).map(place).collect()
}

/// True when a locality is within `region/zone/subzone`, where `*` and what is not written stand
/// for anything.
fn matches(locality: &Locality, pattern: &str) -> bool {
    let mut parts = pattern.splitn(3, '/');
    let mut within = |own: &str| {
        let part = parts.next().unwrap_or("*");
        part == "*" || part.is_empty() || part == own
    };
    within(&locality.region) && within(&locality.zone) && within(&locality.subzone)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "eu/a/1";

    /// Tier and weight of endpoints in these localities: `eu/a/1` or, with a weight, `eu/a/1=3`.
    fn check(setting: &str, targets: &[&str], expected: &[Option<(u8, u32)>]) {
        let read: LocalitySetting = serde_norway::from_str(setting).expect("localityLbSetting");
        assert_eq!(found(OWN, Some(&read), true, targets), expected, "{setting} {targets:?}");
    }

    fn found(
        own: &str,
        setting: Option<&LocalitySetting>,
        detects: bool,
        targets: &[&str],
    ) -> Vec<Option<(u8, u32)>> {
        let labels: Labels = [("version", "v1")].into_iter().collect();
        let localities: Vec<(Locality, u32)> = targets
            .iter()
            .map(|text| match text.split_once('=') {
                Some((locality, weight)) => {
                    (Locality::parse(locality), weight.parse().expect("a weight"))
                }
                None => (Locality::parse(text), 1),
            })
            .collect();
        let targets: Vec<Target<'_>> = localities
            .iter()
            .map(|(locality, weight)| Target { locality, labels: &labels, weight: *weight })
            .collect();
        let origin = Origin { locality: &Locality::parse(own), labels: &labels };
        let places = places(setting, detects, origin, &targets);
        places.into_iter().map(|place| place.map(|place| (place.tier, place.weight))).collect()
    }

    fn tiers<const N: usize>(tiers: [u8; N]) -> [Option<(u8, u32)>; N] {
        tiers.map(|tier| Some((tier, 1)))
    }

    const FIVE: [&str; 5] = ["us/x/1", "eu/a/1", "eu/a/2", "eu/b/1", ""];

    #[test]
    fn the_nearest_come_first_without_gaps() {
        check("{}", &FIVE, &tiers([3, 0, 1, 2, 3]));
        check("{enabled: true}", &["us/x/1", "eu/b/1"], &tiers([1, 0]));
        check("{enabled: false}", &FIVE, &tiers([0; 5]));
    }

    #[test]
    fn there_are_no_tiers_without_outlier_detection_or_an_own_locality() {
        assert_eq!(found(OWN, None, false, &FIVE), tiers([0; 5]));
        assert_eq!(found("", None, true, &FIVE), tiers([0; 5]));
        assert_eq!(found(OWN, None, true, &FIVE), tiers([3, 0, 1, 2, 3]));
    }

    #[test]
    fn failover_puts_one_region_before_the_others() {
        let regions = ["eu/a/1", "us/x/1", "asia/y/1"];
        check("{failover: [{from: eu, to: asia}]}", &regions, &tiers([0, 2, 1]));
        check("{failover: [{from: us, to: asia}]}", &regions, &tiers([0, 1, 1]));
    }

    #[test]
    fn failover_priority_counts_from_the_first_label_that_differs() {
        let region = "failoverPriority: [topology.kubernetes.io/region";
        check(&format!("{{{region}]}}"), &FIVE, &tiers([1, 0, 0, 0, 1]));
        let both = format!("{{{region}, topology.kubernetes.io/zone]}}");
        check(&both, &FIVE, &tiers([2, 0, 0, 1, 2]));
        let third = format!("{{{region}, version=v2, topology.kubernetes.io/zone]}}");
        check(&third, &FIVE, &tiers([1, 0, 0, 0, 1]));
    }

    #[test]
    fn distribute_divides_shares_by_weight_and_drops_the_rest() {
        let setting = "{distribute: [{from: us/*, to: {us/*: 100}}, \
                       {from: eu/a/*, to: {'eu/*': 20, 'eu/a/*': 80}}]}";
        let shares = [None, Some((0, 600_000)), Some((0, 200_000)), Some((0, 200_000)), None];
        check(setting, &["us/x/1", "eu/a/1=3", "eu/a/2=1", "eu/b/1", ""], &shares);
        let other = "{distribute: [{from: us/*, to: {us/*: 100}}]}";
        check(other, &FIVE, &tiers([0; 5]));
    }
}
