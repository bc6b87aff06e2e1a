//! Two or three clusters, each as one text, and every kind of mismatch between them.

use std::{path::Path, sync::Arc};

use super::*;
use crate::{
    discovery::Identity,
    export::Wanted,
    manifests::{News, parse},
};

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: istio-system}
spec:
  servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH},
    hosts: ['*.global']}]
";

/// bar of ns2: port 8080, subsets v1 and v2, one pod with account bar.
const BAR: &str = "
apiVersion: v1
kind: Service
metadata: {name: bar, namespace: ns2}
spec: {selector: {app: bar}, ports: [{name: http, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bar-rule, namespace: ns2}
spec: {host: bar, subsets: [{name: v1, labels: {v: a}}, {name: v2, labels: {v: b}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bar-a, namespace: ns2, labels: {app: bar}}
spec: {serviceAccountName: bar}
";

const ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bar, namespace: ns1}
spec:
  hosts: [bar.ns2.global]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.2, labels: {cluster: c2}}]
  subjectAltNames: ['spiffe://cluster.local/ns/ns2/sa/bar']
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bar, namespace: ns1}
spec: {host: bar.ns2.global, subsets: [{name: V1, labels: {cluster: c2}}, {name: v2}]}
";

/// Each text is the manifests of c1, c2, c3.
fn members(texts: &[&str]) -> Vec<Member> {
    let member = |(index, text): (usize, &&str)| {
        let name = format!("c{}", index + 1);
        let file: Arc<Path> = Path::new(&format!("{name}.yaml")).into();
        let mut store = Store::new();
        let parsed = parse(&file, format!("{text}---\n{GATEWAY}").as_bytes());
        let changes = store.apply(vec![News::File(file, Some(parsed))]);
        let reader = Reader::new(&name, Identity::default(), Wanted::default());
        Member::new(&name, store, &changes, reader)
    };
    texts.iter().enumerate().map(member).collect()
}

fn check(texts: &[&str], expected: &[&str]) {
    let members = members(texts);
    for member in &members {
        assert!(!member.view.broken, "{:?}", member.store.problems());
    }
    let found: Vec<_> = compare(&members, "global").iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

#[test]
fn clusters_that_agree_have_no_mismatch() {
    check(&[ENTRY, BAR], &[]);
    check(&[ENTRY, BAR, BAR], &[]);
    check(&[ENTRY, BAR, ""], &[]);
    check(&["", BAR], &[]);
    // Without labels any other cluster will do.
    let any = with(ENTRY, ", labels: {cluster: c2}", "");
    check(&[&any, "", BAR], &[]);
    assert_eq!(members(&[ENTRY])[0].imports("global"), 1);
    assert_eq!(members(&[ENTRY])[0].imports("other"), 0);
}

const SERVICE: &str = "c1: c1.yaml:2: ServiceEntry ns1/bar: spec.";
const RULE: &str = "c1: c1.yaml:12: DestinationRule ns1/bar: spec.";

#[test]
fn every_port_has_a_service_behind_it() {
    let lines = |lines: &[&str]| lines.iter().map(|line| format!("{SERVICE}{line}")).collect();
    let check = |texts: &[&str], expected: Vec<String>| {
        check(texts, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    };
    check(
        &[&with(ENTRY, "number: 8080", "number: 80"), BAR],
        lines(&[
            "ports[0].number: 80: Service ns2/bar of c2 (c2.yaml:2) has no such TCP port; it \
                 has 8080",
        ]),
    );
    let absent: Vec<String> = lines(&["hosts[0]: bar.ns2.global: c2 has no Service ns2/bar"]);
    check(&[ENTRY, ""], absent.clone());
    check(&[ENTRY, "", BAR], absent);
    let any = with(ENTRY, ", labels: {cluster: c2}", "");
    check(
        &[&any, "", ""],
        lines(&["hosts[0]: bar.ns2.global: no other cluster has Service ns2/bar"]),
    );
    check(
        &[&with(ENTRY, "hosts: [bar.ns2.global]", "hosts: [bar.ns2.global, a.b.c.global]"), BAR],
        lines(&["hosts[1]: a.b.c.global: no Service of another cluster can be meant: write \
                 NAME.NAMESPACE.global"]),
    );
    let udp = with(BAR, "port: 8080", "port: 8080, protocol: UDP");
    check(
        &[ENTRY, &udp],
        lines(&["ports[0].number: 8080: Service ns2/bar of c2 (c2.yaml:2) has no such TCP port; \
                 it has none"]),
    );
    let hidden = with(
        BAR,
        "{name: bar, namespace: ns2}\nspec: {selector",
        "{name: bar, namespace: ns2, annotations: {networking.istio.io/exportTo: .}}\nspec: \
         {selector",
    );
    let members = members(&[ENTRY, &hidden]);
    let found = compare(&members, "global");
    let start = "8080: Service ns2/bar of c2 (c2.yaml:2) is not served by its gateway: exportTo: ";
    assert!(found.len() == 1 && found[0].message.starts_with(start), "{found:?}");
}

#[test]
fn every_subset_that_is_called_exists() {
    let check = |texts: &[&str], expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|line| format!("{RULE}{line}")).collect();
        check(texts, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    };
    check(
        &[&with(ENTRY, "name: V1", "name: v3"), BAR],
        &["subsets[0].name: v3: Service ns2/bar of c2 (c2.yaml:2) has no such subset; \
           DestinationRule ns2/bar-rule of c2 (c2.yaml:7) has v1, v2"],
    );
    check(
        &[&with(ENTRY, "labels: {cluster: c2}}, {name: v2}", "labels: {cluster: c9}}"), BAR],
        &["subsets[0].labels: cluster=c9: no endpoint of ServiceEntry ns1/bar of c1 (c1.yaml:2) \
           has them"],
    );
    let (service, _) = BAR.split_once("---").expect("a Service");
    check(
        &[&with(ENTRY, ", {name: v2}", ""), service],
        &["subsets[0].name: V1: Service ns2/bar of c2 (c2.yaml:2) has no such subset; no \
           DestinationRule of c2 is for it"],
    );
}

#[test]
fn callers_expect_the_identities_that_pods_have() {
    let san = "spiffe://cluster.local/ns/ns2/sa/bar";
    check(
        &[&with(ENTRY, san, "spiffe://cluster.local/ns/ns2/sa/other"), BAR],
        &["c1: c1.yaml:2: ServiceEntry ns1/bar: spec.subjectAltNames: bar.ns2.global: Pod \
           ns2/bar-a of c2 (c2.yaml:12), behind Service ns2/bar of c2 (c2.yaml:2), has the \
           identity /ns/ns2/sa/bar, which is not among them"],
    );
    check(
        &[&with(ENTRY, san, "bar"), BAR],
        &[
            "c1: c1.yaml:2: ServiceEntry ns1/bar: spec.subjectAltNames[0]: \"bar\" is not a workload \
           identity: it must start with spiffe://",
        ],
    );
    let rule = "{host: bar.ns2.global, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, \
                subjectAltNames: ['spiffe://cluster.local/ns/ns3/sa/bar']}}, ";
    check(
        &[&with(ENTRY, "{host: bar.ns2.global, ", rule), BAR],
        &["c1: c1.yaml:12: DestinationRule ns1/bar: spec.trafficPolicy.tls.subjectAltNames: \
           bar.ns2.global: Pod ns2/bar-a of c2 (c2.yaml:12), behind Service ns2/bar of c2 \
           (c2.yaml:2), has the identity /ns/ns2/sa/bar, which is not among them"],
    );
}

#[test]
fn one_name_in_two_clusters_is_one_service() {
    check(
        &["", BAR, &with(BAR, "serviceAccountName: bar", "serviceAccountName: x")],
        &[
            "c3: c3.yaml:2: Service ns2/bar: spec.selector: pods of bar.ns2.global have /ns/ns2/sa/x \
           here, and /ns/ns2/sa/bar as Service ns2/bar of c2 (c2.yaml:2)",
        ],
    );
    check(
        &["", BAR, &with(BAR, "port: 8080}", "port: 8080}, {name: db, port: 90}")],
        &[
            "c3: c3.yaml:2: Service ns2/bar: spec.ports: bar.ns2.global has 90 TCP, 8080 HTTP here, \
           and 8080 HTTP as Service ns2/bar of c2 (c2.yaml:2)",
        ],
    );
}

#[test]
fn trust_domains_are_told_with_their_place() {
    let other = with(ENTRY, "spiffe://cluster.local", "spiffe://td2");
    let domains = trust_domains(&members(&[ENTRY, &other]), "global");
    let told: Vec<_> = domains.iter().map(|d| format!("{} {}", d.name, d.place)).collect();
    assert_eq!(
        told,
        [
            "cluster.local c1: c1.yaml:2: ServiceEntry ns1/bar: spec.subjectAltNames",
            "td2 c2: c2.yaml:2: ServiceEntry ns1/bar: spec.subjectAltNames",
        ]
    );
    assert!(trust_domains(&members(&[BAR]), "global").is_empty());
}
