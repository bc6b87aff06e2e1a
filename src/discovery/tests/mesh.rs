//! The mesh's ConfigMap: which one it is, and what its defaults come to.

use std::time::Duration;

use super::*;
use crate::routing::{Keepalive, Locality, Policy};

fn mesh(name: &str, text: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: istio-system}}, \
         data: {{mesh: '{text}'}}}}"
    )
}

fn rule(spec: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
         metadata: {{name: bar, namespace: ns2}}, spec: {{host: bar, {spec}}}}}"
    )
}

fn policy(catalog: &Catalog) -> Policy {
    let table = catalog.table();
    let route = &table.service("bar.ns2.svc.cluster.local").expect("bar").routes[0];
    route.endpoints.load().policy().clone()
}

#[test]
fn the_map_of_our_revision_goes_before_that_of_the_mesh() {
    let revised = Identity {
        labels: [("istio.io/rev", "canary")].into_iter().collect(),
        ..Identity::default()
    };
    let maps = [
        mesh("istio", "connectTimeout: 3s"),
        mesh("istio-canary", "connectTimeout: 4s"),
        mesh("other", "connectTimeout: 5s"),
    ];
    let elsewhere = maps[0].replace("istio-system", "ns1");
    let check = |identity: &Identity, maps: &[String], seconds: u64| {
        let catalog = catalog_of(identity.clone(), &[EXPOSE_ALL, BAR, &maps.join("\n---\n")]);
        assert_eq!(policy(&catalog).connect_timeout, Duration::from_secs(seconds), "{maps:?}");
    };
    check(&Identity::default(), &maps, 3);
    check(&revised, &maps, 4);
    check(&revised, &maps[..1], 3);
    let default = Identity {
        labels: [("istio.io/rev", "default")].into_iter().collect(),
        ..Identity::default()
    };
    check(&default, &maps, 3);
    check(&Identity::default(), &maps[1..], 10);
    check(&Identity::default(), &[elsewhere], 10);
    check(&Identity::default(), &[mesh("istio", "connectTimeout: 0s")], 10);
}

#[test]
fn a_change_of_the_map_is_a_change_of_every_service() {
    let mut catalog = catalog(&[EXPOSE_ALL, BAR, &mesh("istio", "connectTimeout: 3s")]);
    let applied = put(&mut catalog, &mesh("istio", "connectTimeout: 4s"));
    assert!(applied.published && applied.services == 1);
    assert_eq!(policy(&catalog).connect_timeout, Duration::from_secs(4));
    let silent = put(&mut catalog, &mesh("istio", "{connectTimeout: 4s, ingressClass: x}"));
    assert_eq!(silent, Applied::default(), "nothing that bears on us changed");
    remove(&mut catalog, Kind::ConfigMap, "istio-system", "istio");
    assert_eq!(policy(&catalog).connect_timeout, Duration::from_secs(10));
}

#[test]
fn a_rule_goes_before_the_mesh_and_takes_from_it_what_it_does_not_say() {
    let map = mesh("istio", "{connectTimeout: 3s, tcpKeepalive: {time: 60s, probes: 4}}");
    let of = |spec: &str| policy(&catalog(&[EXPOSE_ALL, BAR, &map, &rule(spec)]));
    let keepalive = |time, interval, probes| {
        let seconds = |n: u64| (n > 0).then(|| Duration::from_secs(n));
        Some(Keepalive { time: seconds(time), interval: seconds(interval), probes })
    };
    let plain = of("trafficPolicy: {}");
    assert_eq!(plain.connect_timeout, Duration::from_secs(3));
    assert_eq!(plain.keepalive, keepalive(60, 0, Some(4)));
    let tcp = "trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s, \
               tcpKeepalive: {time: 7s, interval: 5s}}}}";
    let written = of(tcp);
    assert_eq!(written.connect_timeout, Duration::from_secs(1));
    assert_eq!(written.keepalive, keepalive(7, 5, Some(4)));
}

#[test]
fn what_does_not_say_who_sees_it_is_seen_as_the_mesh_says() {
    let check = |map: &str, annotation: &str, expected: Result<&str, Gate>| {
        let bar = BAR.replacen("namespace: ns2}", &format!("namespace: ns2, {annotation}}}"), 1);
        let catalog = catalog(&[EXPOSE_ALL, &bar, &mesh("istio", map)]);
        super::check(&catalog, "outbound_.8080_._.bar.ns2.global", expected);
    };
    let all = Ok("10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
    let shown = "annotations: {networking.istio.io/exportTo: \"*\"}";
    check("{}", "labels: {}", all);
    check("defaultServiceExportTo: [\".\"]", "labels: {}", Err(Gate::ExportTo));
    check("defaultServiceExportTo: [\".\"]", shown, all);
    check("defaultServiceExportTo: [istio-system]", "labels: {}", all);
    let subsets = rule("subsets: [{name: v2, labels: {version: v2}}]");
    let name = "outbound_.8080_.v2_.bar.ns2.global";
    let private = mesh("istio", "defaultDestinationRuleExportTo: [\".\"]");
    super::check(&catalog(&[EXPOSE_ALL, BAR, &subsets]), name, Ok("10.0.0.3:80"));
    super::check(&catalog(&[EXPOSE_ALL, BAR, &subsets, &private]), name, Err(Gate::Subset));
}

#[test]
fn the_root_namespace_is_the_maps() {
    let disable = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, \
                   metadata: {name: default, namespace: root}, spec: {mtls: {mode: DISABLE}}}";
    let name = "outbound_.8080_._.bar.ns2.global";
    let mut catalog = catalog(&[EXPOSE_ALL, BAR, disable]);
    check(&catalog, name, Ok("10.0.0.1:80 10.0.0.2:80 10.0.0.3:80"));
    put(&mut catalog, &mesh("istio", "rootNamespace: root"));
    check(&catalog, name, Err(Gate::Endpoints));
    let why = left_out(&catalog, "bar.ns2.svc.cluster.local", "10.0.0.1:80").expect("a reason");
    assert!(why.contains("PeerAuthentication root/default"), "{why}");
}

#[test]
fn localities_are_preferred_as_the_rule_the_service_or_the_mesh_says() {
    let near = |catalog: &Catalog| {
        let table = catalog.table();
        let route = &table.service("bar.ns2.svc.cluster.local").expect("bar").routes[0];
        let set = route.endpoints.load();
        (0..set.endpoints().len()).map(|i| set.place(i).tier).collect::<Vec<u8>>()
    };
    let node = |n: u32, zone: &str| {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: n{n}, labels: {{\
             topology.kubernetes.io/region: eu, topology.kubernetes.io/zone: {zone}}}}}}}"
        )
    };
    let placed = (1..=3).fold(BAR.to_owned(), |yaml, n| {
        let from = format!("- {{addresses: [10.0.0.{n}],");
        yaml.replace(&from, &format!("{from} nodeName: n{n},"))
    });
    let of = |distribution: &str, more: &[String]| {
        let bar = placed.replacen("spec: {", &format!("spec: {{{distribution}"), 1);
        let nodes = [node(1, "a"), node(2, "a"), node(3, "b")].join("\n---\n");
        let identity = Identity {
            locality: Locality::parse("eu/a"),
            node: Some("n2".into()),
            ..Identity::default()
        };
        let yaml = [EXPOSE_ALL, &bar, &nodes, &more.join("\n---\n")];
        catalog_of(identity, &yaml)
    };
    let detect = rule("trafficPolicy: {outlierDetection: {}}");
    let off = rule("trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: false}}}");
    let by_label = "localityLbSetting: {failoverPriority: [version=v2]}";
    assert_eq!(near(&of("", &[])), [0, 0, 0]);
    assert_eq!(near(&of("trafficDistribution: PreferClose, ", &[])), [0, 0, 1]);
    assert_eq!(near(&of("trafficDistribution: PreferSameZone, ", &[])), [0, 0, 1]);
    assert_eq!(near(&of("trafficDistribution: PreferSameNode, ", &[])), [1, 0, 2]);
    assert_eq!(near(&of("trafficDistribution: PreferSameNode, ", &[off])), [0, 0, 0]);
    assert_eq!(near(&of("", &[detect.clone(), mesh("istio", by_label)])), [1, 1, 0]);
    assert_eq!(near(&of("", &[mesh("istio", by_label)])), [0, 0, 0]);
    let disabled = mesh("istio", "localityLbSetting: {enabled: false}");
    assert_eq!(near(&of("", &[detect, disabled])), [0, 0, 0]);
    let explained = {
        let catalog = of("trafficDistribution: PreferClose, ", &[]);
        let server_name = "outbound_.8080_._.bar.ns2.global";
        Explanation::new(&Question { server_name, ..Question::default() }, &catalog).to_string()
    };
    assert!(explained.contains("near      trafficDistribution PreferSameZone"), "{explained}");
}

#[test]
fn the_narrowest_service_setting_says_what_stays_in_its_cluster() {
    let map = "serviceSettings: [{settings: {clusterLocal: true}, hosts: [\"*.ns2.svc.x\"]}, \
               {settings: {clusterLocal: false}, hosts: [bar.ns2.svc.x]}, {hosts: [\"*\"]}]";
    let catalog = catalog(&[&mesh("istio", map)]);
    for (host, expected) in
        [("bar.ns2.svc.x", false), ("foo.ns2.svc.x", true), ("foo.ns3.svc.x", false)]
    {
        assert_eq!(catalog.is_cluster_local(host), expected, "{host}");
    }
}
