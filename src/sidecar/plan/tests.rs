//! Manifests in, addresses and what is behind them out.

use super::*;
use crate::{
    discovery::{Change, Identity, NetworkView, Role},
    manifests::{News, Store, parse},
    routing::SharedTable,
};

const BAR: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bar, namespace: ns1}
spec:
  hosts: [bar.ns2.global]
  addresses: [127.255.0.2]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 8080, name: http, protocol: HTTP}
  - {number: 9999, name: tcp, protocol: TCP}
  - {number: 53, name: dns, protocol: UDP}
  endpoints: [{address: 10.0.0.1, ports: {http: 15443, tcp: 15443}}]
";

const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bar, namespace: ns1}
spec:
  host: bar.ns2.global
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
  subsets: [{name: V1, labels: {version: v1}}]
";

fn planned(manifests: &[&str], subsets: &[(&str, &str)]) -> (Plan, Catalog) {
    let text = manifests.join("\n---\n");
    let mut store = Store::new();
    let path: Arc<std::path::Path> = std::path::Path::new("a.yaml").into();
    let parsed = parse(&path, text.as_bytes());
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let changes = store.apply(vec![News::File(path, Some(parsed))]);
    let identity = Identity {
        role: Role::Sidecar,
        namespace: "ns1".into(),
        network_view: NetworkView::Istio14,
        ..Identity::default()
    };
    let mut catalog = Catalog::new(identity, SharedTable::new().into());
    catalog.apply(&Change::of_store(store.objects(), &changes));
    let host = |text: &str| Host::parse(text).expect("a host");
    let subsets = subsets.iter().map(|(h, s)| (host(h), Arc::from(*s))).collect();
    let entries = store.objects().service_entries.iter().map(|entry| &**entry);
    (plan(&catalog, entries, &subsets), catalog)
}

fn check(manifests: &[&str], subsets: &[(&str, &str)], listeners: &[&str], findings: &[&str]) {
    let (plan, catalog) = planned(manifests, subsets);
    let shown = |(address, target): (&SocketAddr, &Arc<Target>)| {
        let names: Vec<_> = target.servers.iter().map(ToString::to_string).collect();
        format!("{address} {} {}", target.server_name.to_str(), names.join(","))
    };
    let shown: Vec<String> = plan.listeners.iter().map(shown).collect();
    let shown: Vec<&str> = shown.iter().map(|line| line.trim_end()).collect();
    assert_eq!(shown, listeners);
    let said: Vec<_> = plan.findings.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), findings.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(findings) {
        assert!(said.contains(expected), "{said}");
    }
    for target in plan.listeners.values().filter(|target| target.subset.is_empty()) {
        assert!(catalog.table().find(&target.key()).is_ok(), "{:?}", target.key());
    }
}

#[test]
fn every_tcp_port_of_an_address_is_listened_on() {
    check(
        &[BAR],
        &[],
        &[
            "127.255.0.2:8080 outbound_.8080_._.bar.ns2.global",
            "127.255.0.2:9999 outbound_.9999_._.bar.ns2.global",
        ],
        &[],
    );
}

#[test]
fn the_endpoints_need_no_gateway_and_no_label() {
    let (plan, catalog) = planned(&[BAR], &[]);
    let target = plan.listeners.values().next().expect("a listener");
    let route = catalog.table().find(&target.key()).expect("a route");
    let set = route.endpoints.load();
    assert_eq!(set.endpoints()[0].address, ([10, 0, 0, 1], 15443).into());
}

#[test]
fn a_subset_is_asked_for_by_name_and_missed_when_no_rule_has_it() {
    let with = |subset| check_subset(&[BAR, RULE], subset);
    assert_eq!(with("v1"), ("outbound_.8080_.v1_.bar.ns2.global".to_owned(), 0));
    assert_eq!(with("v2"), ("outbound_.8080_.v2_.bar.ns2.global".to_owned(), 2));
}

fn check_subset(manifests: &[&str], subset: &str) -> (String, usize) {
    let (plan, _) = planned(manifests, &[("bar.ns2.global", subset)]);
    let target = plan.listeners.values().next().expect("a listener");
    (target.server_name.to_str().into_owned(), plan.findings.len())
}

#[test]
fn names_of_the_server_come_from_the_entry_and_a_rule_goes_before() {
    let sans = "\n  subjectAltNames: [spiffe://cluster.local/ns/ns2/sa/bar]\n";
    let of_entry = format!("{}{sans}", BAR.trim_end());
    let lines = |name: &str| {
        [8080, 9999].map(|p| format!("127.255.0.2:{p} outbound_.{p}_._.bar.ns2.global {name}"))
    };
    let lines_of_entry = lines("spiffe://cluster.local/ns/ns2/sa/bar");
    check(&[&of_entry, RULE], &[], &lines_of_entry.each_ref().map(|l| &**l), &[]);
    let rule = RULE.replace("ISTIO_MUTUAL", "ISTIO_MUTUAL, subjectAltNames: [a, b], sni: s.global");
    let lines_of_rule = [8080, 9999].map(|port| format!("127.255.0.2:{port} s.global a,b"));
    check(&[&of_entry, &rule], &[], &lines_of_rule.each_ref().map(|l| &**l), &[]);
}

#[test]
fn what_is_not_listened_on_is_named() {
    let ranges = BAR.replace("[127.255.0.2]", "[10.0.0.0/8]");
    check(&[&ranges], &[], &[], &["10.0.0.0/8 is not listened on: it is a range", "no single"]);
    let none = BAR.replace("addresses: [127.255.0.2]", "addresses: []");
    check(&[&none], &[], &[], &["holds no single address"]);
    for address in ["169.254.1.2", "fe80::1"] {
        let link_local = BAR.replace("[127.255.0.2]", &format!("[{address:?}]"));
        check(&[&link_local], &[], &[], &["it is link-local"]);
    }
    for address in ["224.0.0.5", "0.0.0.0", "::"] {
        let nowhere = BAR.replace("[127.255.0.2]", &format!("[{address:?}]"));
        check(&[&nowhere], &[], &[], &["nothing can be reached there", "no single"]);
    }
    let external = BAR.replace("MESH_INTERNAL", "MESH_EXTERNAL");
    check(&[&external], &[], &[], &["MESH_EXTERNAL"]);
    let plain = RULE.replace("ISTIO_MUTUAL", "DISABLE");
    let lines = [
        "127.255.0.2:8080 outbound_.8080_._.bar.ns2.global",
        "127.255.0.2:9999 outbound_.9999_._.bar.ns2.global",
    ];
    check(&[BAR, &plain], &[], &lines, &["another tls.mode", "another tls.mode"]);
}

#[test]
fn an_entry_that_is_not_exported_to_us_is_not_there() {
    let hidden = format!("{}\n  exportTo: [ns7]\n", BAR.trim_end());
    check(&[&hidden], &[], &[], &[]);
    let own = format!("{}\n  exportTo: ['.']\n", BAR.trim_end());
    assert_eq!(planned(&[&own], &[]).0.listeners.len(), 2);
}

#[test]
fn two_entries_of_one_address_leave_it_to_the_first() {
    let other = BAR.replace("name: bar, namespace: ns1", "name: other, namespace: ns1");
    let other = other.replace("bar.ns2.global", "other.ns2.global");
    let lines = [
        "127.255.0.2:8080 outbound_.8080_._.bar.ns2.global",
        "127.255.0.2:9999 outbound_.9999_._.bar.ns2.global",
    ];
    let said = "127.255.0.2:8080 is that of ns1/bar, older";
    check(&[BAR, &other], &[], &lines, &[said, "127.255.0.2:9999"]);
    let two = BAR.replace("[bar.ns2.global]", "[bar.ns2.global, baz.ns2.global]");
    check(&[&two], &[], &lines, &["bar.ns2.global is reached at its addresses, baz"]);
}

#[test]
fn a_name_too_long_for_tls_is_named() {
    let label = "a".repeat(60);
    let long = BAR.replace("bar.ns2", &[&*label; 4].join("."));
    check(&[&long], &[], &[], &["cannot be sent as a server name", "cannot be sent"]);
}
