//! How near an endpoint is, and what share a distant one gets: `localityLbSetting`.
//!
//! Pure. Istio's ladder, `failover`, `failoverPriority` and `distribute`, and the
//! `trafficDistribution` of Services. A gateway that does not know its own region has one tier, but
//! for what labels say. Must not know: which endpoints are well, how a connection
//! is placed.

use super::facts::{Distribution, HOSTNAME, NETWORK, REGION, SUBZONE, ZONE};
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

/// Where a workload is, and its labels. Empty: unknown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whereabouts<'a> {
    pub(super) locality: &'a Locality,
    pub(super) labels: &'a Labels,
    pub(super) node: &'a str,
    pub(super) network: &'a str,
}

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) at: Whereabouts<'a>,
    pub(super) weight: u32,
}

/// What is written of locality, each of which goes before the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written<'a> {
    /// The DestinationRule's `localityLbSetting`.
    pub(super) of_rule: Option<&'a LocalitySetting>,
    /// The Service's `trafficDistribution`.
    pub(super) of_service: Option<Distribution>,
    /// The mesh's `localityLbSetting`.
    pub(super) of_mesh: Option<&'a LocalitySetting>,
}

impl Written<'_> {
    /// In whose words it is, for people.
    pub(super) fn source(&self) -> Option<String> {
        match self {
            Self { of_rule: Some(_), .. } => Some("localityLbSetting of the rule".to_owned()),
            Self { of_service: Some(distribution), .. } => {
                Some(format!("trafficDistribution {}", distribution.as_str()))
            }
            Self { of_mesh: Some(_), .. } => Some("localityLbSetting of the mesh".to_owned()),
            _ => None,
        }
    }
}

/// Where each endpoint stands. `None`: a `distribute` gives its locality nothing.
///
/// `detects` says that a DestinationRule has `outlierDetection`: without it, as in Istio, all are
/// in one tier, since nobody would ever fall through to the next. `trafficDistribution` needs none.
pub(super) fn places(
    written: Written<'_>,
    detects: bool,
    origin: Whereabouts<'_>,
    targets: &[Target<'_>],
) -> Vec<Option<Place>> {
    let flat = |target: &Target<'_>| Some(Place { tier: 0, weight: target.weight });
    let setting = match written {
        Written { of_rule: Some(setting), .. } => Some(setting),
        Written { of_service: Some(distribution), .. } => {
            return ladder(targets, |target| unmet(distribution.priority(), origin, target));
        }
        Written { of_mesh, .. } => of_mesh,
    };
    if setting.is_some_and(|setting| setting.enabled == Some(false)) {
        return targets.iter().map(flat).collect();
    }
    let knows = !origin.locality.region.is_empty();
    let distribute = setting.map_or(&[][..], |setting| &setting.distribute);
    let mut about_us =
        distribute.iter().filter(|rule| knows && matches(origin.locality, &rule.from));
    if let Some(rule) = about_us.next() {
        return shared_out(rule, targets);
    }
    let priority = setting.map_or(&[][..], |setting| &setting.failover_priority);
    match (detects && distribute.is_empty(), priority) {
        (true, []) if knows => ladder(targets, |target| step(setting, origin, target)),
        (true, [_, ..]) => ladder(targets, |target| unmet(priority, origin, target)),
        // A `distribute` that is not about us leaves the ladder out, as in Istio.
        _ => targets.iter().map(flat).collect(),
    }
}

/// Tiers without gaps, by the rung that each endpoint is on.
fn ladder(targets: &[Target<'_>], rung: impl Fn(&Target<'_>) -> usize) -> Vec<Option<Place>> {
    let rungs: Vec<usize> = targets.iter().map(rung).collect();
    let mut used = rungs.clone();
    used.sort_unstable();
    used.dedup();
    let tier = |rung| used.partition_point(|other| *other < rung).min(TIERS_MAX - 1);
    let places = targets.iter().zip(&rungs).map(|(target, rung)| Place {
        tier: u8::try_from(tier(*rung)).unwrap_or(u8::MAX),
        weight: target.weight,
    });
    places.map(Some).collect()
}

/// The rung of Istio's ladder, gaps included.
fn step(setting: Option<&LocalitySetting>, origin: Whereabouts<'_>, target: &Target<'_>) -> usize {
    let (own, other) = (origin.locality, target.at.locality);
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

/// How many labels are left from the first that an endpoint does not meet. `key=value` of
/// `failoverPriority` asks for that value, `key` for our own.
fn unmet(priority: &[impl AsRef<str>], origin: Whereabouts<'_>, target: &Target<'_>) -> usize {
    let is_met = |label: &str| match label.split_once('=') {
        Some((key, wanted)) => value(key, target.at) == wanted,
        None => {
            let (own, theirs) = (value(label, origin), value(label, target.at));
            // As everywhere else, an unknown network is no other network.
            own == theirs || (label == NETWORK && (own.is_empty() || theirs.is_empty()))
        }
    };
    priority.len() - priority.iter().take_while(|label| is_met(label.as_ref())).count()
}

/// A label of a workload; where it runs counts as labels, as in Istio.
fn value<'a>(key: &str, at: Whereabouts<'a>) -> &'a str {
    let known = match key {
        REGION => &at.locality.region,
        ZONE => &at.locality.zone,
        SUBZONE => &at.locality.subzone,
        HOSTNAME => at.node,
        NETWORK => at.network,
        _ => "",
    };
    if known.is_empty() { at.labels.get(key).unwrap_or_default() } else { known }
}

/// Weights by `distribute`: each pattern's share is divided among its endpoints by their own
/// weights. Of two patterns for one endpoint the longer is meant.
fn shared_out(rule: &Distribute, targets: &[Target<'_>]) -> Vec<Option<Place>> {
    let mut shares: Vec<(&str, u32)> = rule.to.iter().map(|(to, n)| (&**to, *n)).collect();
    shares.sort_by_key(|(to, _)| std::cmp::Reverse((to.split('/').count(), to.len())));
    let share_of = |target: &Target<'_>| {
        let mut of = shares.iter().enumerate();
        of.find(|(_, (to, _))| matches(target.at.locality, to)).map(|(at, _)| at)
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
mod tests;
