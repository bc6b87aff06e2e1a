//! Locality: from nodes, labels and rules to the place of each endpoint in its set.

use super::*;
use crate::routing::Locality;

/// Nodes `n1` to `n3` in zones `a`, `b` and `c`; pod `bar-N` runs on node `nN`.
fn mesh(third_zone: &str) -> String {
    let node = |n: u32, zone: &str| {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: n{n}, labels: {{\
             topology.kubernetes.io/region: eu, topology.kubernetes.io/zone: {zone}}}}}}}\n---\n"
        )
    };
    let placed = (1..=3).fold(BAR.to_owned(), |yaml, n| {
        let from = format!("- {{addresses: [10.0.0.{n}],");
        yaml.replace(&from, &format!("{from} nodeName: n{n},"))
    });
    [node(1, "a"), node(2, "b"), node(3, third_zone), placed].concat()
}

fn rule(policy: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
         metadata: {{name: bar, namespace: ns2}}, spec: {{host: bar, trafficPolicy: {{{policy}}}}}}}"
    )
}

/// Address and tier of each endpoint of `bar`.
fn tiers(catalog: &Catalog) -> Vec<(String, u8)> {
    let table = catalog.table();
    let route = &table.service("bar.ns2.svc.cluster.local").expect("bar").routes[0];
    let set = route.endpoints.load();
    let endpoints = set.endpoints().iter().enumerate();
    endpoints.map(|(i, e)| (e.address.ip().to_string(), set.place(i).tier)).collect()
}

#[track_caller]
fn check_tiers(catalog: &Catalog, expected: [u8; 3]) {
    let found: Vec<u8> = tiers(catalog).into_iter().map(|(_, tier)| tier).collect();
    assert_eq!(found, expected);
}

const DETECT: &str = "outlierDetection: {}";

#[test]
fn a_rule_with_outlier_detection_makes_tiers_of_the_nodes_zones() {
    let own = |text: &str| Identity { locality: Locality::parse(text), ..Identity::default() };
    let of = |own, yaml: &str| catalog_of(own, &[EXPOSE_ALL, &mesh("b"), yaml]);
    check_tiers(&of(own("eu/a"), &rule(DETECT)), [0, 1, 1]);
    check_tiers(&of(own("eu/b"), &rule(DETECT)), [1, 0, 0]);
    check_tiers(&of(own("us/a"), &rule(DETECT)), [0, 0, 0]);
    check_tiers(&of(own(""), &rule(DETECT)), [0, 0, 0]);
    // The gateway's own default of outlier detection makes no tiers: an operator asks for them.
    check_tiers(&of(own("eu/a"), &rule("loadBalancer: {simple: RANDOM}")), [0, 0, 0]);
    let off = format!("{DETECT}, loadBalancer: {{localityLbSetting: {{enabled: false}}}}");
    check_tiers(&of(own("eu/a"), &rule(&off)), [0, 0, 0]);
}

#[test]
fn the_gateways_locality_is_its_nodes_and_follows_it() {
    let own = Identity { node: Some("n3".into()), ..Identity::default() };
    let mut catalog = catalog_of(own, &[EXPOSE_ALL, &mesh("b"), &rule(DETECT)]);
    check_tiers(&catalog, [1, 0, 0]);
    let moved = mesh("a");
    let node = moved.split("---").nth(2).expect("the third node");
    put(&mut catalog, node);
    check_tiers(&catalog, [0, 1, 0]);
}

#[test]
fn a_change_of_the_setting_moves_endpoints_that_did_not_change() {
    let own = Identity { locality: Locality::parse("eu/a"), ..Identity::default() };
    let mut catalog = catalog_of(own, &[EXPOSE_ALL, &mesh("b"), &rule(DETECT)]);
    let priority = "loadBalancer: {localityLbSetting: {failoverPriority: ['version=v2']}}";
    put(&mut catalog, &rule(&format!("{DETECT}, {priority}")));
    check_tiers(&catalog, [1, 1, 0]);
}

#[test]
fn distribute_leaves_out_what_has_no_share_and_says_so() {
    let own = Identity { locality: Locality::parse("eu/a"), ..Identity::default() };
    let share = "loadBalancer: {localityLbSetting: {distribute: \
                 [{from: eu/a/*, to: {'eu/a/*': 30, 'eu/b/*': 70}}]}}";
    let catalog = catalog_of(own, &[EXPOSE_ALL, &mesh("c"), &rule(share)]);
    let table = catalog.table();
    let host = "bar.ns2.svc.cluster.local";
    let set = table.service(host).expect("bar").routes[0].endpoints.load_full();
    let weights: Vec<u32> = (0..set.endpoints().len()).map(|i| set.place(i).weight).collect();
    assert_eq!(weights, [300_000, 700_000]);
    let reason = left_out(&catalog, host, "10.0.0.3:80").expect("a reason");
    assert!(reason.contains("no share"), "{reason}");
}
