//! Tests of nearness: ladders, labels, shares.

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
    let own = Locality::parse(own);
    let origin = Whereabouts { locality: &own, labels: &labels, node: "n1", network: "" };
    let target = |locality, weight| Target { at: Whereabouts { locality, ..origin }, weight };
    let targets: Vec<Target<'_>> = localities.iter().map(|(l, w)| target(l, *w)).collect();
    let written = Written { of_rule: setting, ..Written::default() };
    let places = places(written, detects, origin, &targets);
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

/// Tiers of endpoints with these localities, nodes and networks, seen from `eu/a/1`, node `n1`,
/// network `own`.
fn check_distribution(distribution: Distribution, targets: &[[&str; 3]], expected: &[u8]) {
    let labels = Labels::default();
    let own = Locality::parse(OWN);
    let origin = Whereabouts { locality: &own, labels: &labels, node: "n1", network: "own" };
    let localities: Vec<Locality> = targets.iter().map(|t| Locality::parse(t[0])).collect();
    let targets: Vec<Target<'_>> = targets
        .iter()
        .zip(&localities)
        .map(|([_, node, network], locality)| Target {
            at: Whereabouts { locality, labels: &labels, node, network },
            weight: 1,
        })
        .collect();
    let off: LocalitySetting = serde_norway::from_str("{enabled: false}").expect("a setting");
    for of_mesh in [None, Some(&off)] {
        let written = Written { of_rule: None, of_service: Some(distribution), of_mesh };
        let places = places(written, false, origin, &targets);
        let tiers: Vec<u8> = places.iter().map(|place| place.expect("a place").tier).collect();
        assert_eq!(tiers, expected, "{distribution:?}");
    }
    let written = Written { of_rule: Some(&off), of_service: Some(distribution), of_mesh: None };
    let places = places(written, true, origin, &targets);
    assert!(places.iter().all(|place| place.is_some_and(|place| place.tier == 0)));
}

#[test]
fn a_services_own_preference_needs_no_rule_and_yields_to_one() {
    let targets = [
        ["eu/a/1", "n1", "own"],
        ["eu/a/1", "n2", ""],
        ["eu/a/2", "n3", "own"],
        ["eu/b/1", "n4", "own"],
        ["us/a/1", "n5", "own"],
        ["eu/a/1", "n6", "other"],
    ];
    check_distribution(Distribution::SameNode, &targets, &[0, 1, 2, 3, 4, 5]);
    check_distribution(Distribution::SameZone, &targets, &[0, 0, 1, 2, 3, 4]);
}

#[test]
fn labels_need_no_region_of_our_own() {
    let setting = "{failoverPriority: ['version=v1', 'app=x']}";
    let read: LocalitySetting = serde_norway::from_str(setting).expect("localityLbSetting");
    assert_eq!(found("", Some(&read), true, &FIVE), tiers([0; 5]));
    assert_eq!(found("", Some(&read), false, &FIVE), tiers([0; 5]));
    let zones = "{failoverPriority: [topology.kubernetes.io/zone]}";
    let read: LocalitySetting = serde_norway::from_str(zones).expect("localityLbSetting");
    assert_eq!(found("", Some(&read), true, &FIVE), tiers([1, 1, 1, 1, 0]));
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
