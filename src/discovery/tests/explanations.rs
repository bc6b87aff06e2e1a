//! Nearest misses and the report of a check.

use super::*;
use crate::discovery::CheckReport;

const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bar, namespace: ns2}
spec: {host: bar, subsets: [{name: v1, labels: {version: v1}}]}
";

/// A refusal must name its gate and say what would have matched.
#[track_caller]
fn explains(catalog: &Catalog, server_name: &str, gate: Gate, hint: &str) {
    let question = Question { server_name, alpn: Some(&["istio"]), alpn_wanted: ALPN };
    let explanation = Explanation::new(&question, catalog);
    assert_eq!(explanation.refused_at(), Some(gate), "{explanation}");
    assert!(explanation.to_string().contains(hint), "{hint} is not in:\n{explanation}");
}

#[test]
fn a_refusal_names_what_would_have_matched() {
    let catalog = catalog(&[EXPOSE_ALL, BAR, RULE]);
    let explains = |name, gate, hint| explains(&catalog, name, gate, hint);
    explains("outbound_.8080_._.baz.ns2.global", Gate::Service, "near names: bar.ns2.global");
    explains(
        "outbound_.8080_._.bar.ns2.svc.cluster.locl",
        Gate::Service,
        "bar.ns2.svc.cluster.local",
    );
    explains("outbound_.80_._.bar.ns2.global", Gate::Port, "it has 8080");
    explains("outbound_.80_._.bar.ns2.global", Gate::Port, "target port of service port 8080");
    explains("outbound_.8080_.v2_.bar.ns2.global", Gate::Subset, "DestinationRule ns2/bar has v1");
    explains("outbound_.8080_.bar.ns2.global", Gate::Form, "outbound_.8080_._.host");
    explains("outbound_.08080_._.bar.ns2.global", Gate::Form, "leading zero");
    explains("inbound_.8080_._.bar.ns2.global", Gate::Form, "direction of a sidecar");
    explains("bar.ns2.global", Gate::Form, "plain host name");
    explains("outbound_.80_._.b\u{e4}r", Gate::Form, "only letters");
}

#[test]
fn a_name_that_is_not_exposed_is_told_by_which_gateway() {
    let hosts = |hosts: &str| catalog(&[&EXPOSE_ALL.replace("['*']", hosts), BAR]);
    let own = "outbound_.8080_._.bar.ns2.svc.cluster.local";
    explains(&hosts("['*.global']"), own, Gate::Hosts, "*/*.global of Gateway istio-system/all");
    explains(&hosts("['*.global']"), own, Gate::Hosts, "hosts: [\"bar.ns2.svc.cluster.local\"]");
    explains(&hosts("['*.global']"), own, Gate::Hosts, "asked for as bar.ns2.global");
    explains(&hosts("['ns1/*']"), own, Gate::Hosts, "for namespace ns1, the service is in ns2");
    let selects = EXPOSE_ALL.replace("selector: {}", "selector: {istio: ingressgateway}");
    let text = "selects label istio=ingressgateway, this gateway has no label istio";
    explains(&catalog(&[&selects, BAR]), own, Gate::Hosts, text);
    explains(&catalog(&[BAR]), own, Gate::Hosts, "no Gateway with a server");
    let hidden = RULE.replace("{host: bar,", "{host: bar, exportTo: ['.'],");
    let subset = "outbound_.8080_.v1_.bar.ns2.global";
    explains(&catalog(&[EXPOSE_ALL, BAR, &hidden]), subset, Gate::Subset, "ns2/bar has it, but");
}

#[test]
fn what_is_never_served_is_told_by_its_kind() {
    let external = "{apiVersion: v1, kind: Service, metadata: {name: ext, namespace: ns2}, \
                    spec: {type: ExternalName, externalName: a.org, ports: [{port: 80}]}}";
    let outside = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, \
                   metadata: {name: out, namespace: ns2}, spec: {hosts: [a.org], \
                   ports: [{number: 80, name: http, protocol: HTTP}]}}";
    let catalog = catalog(&[EXPOSE_ALL, external, outside]);
    explains(&catalog, "outbound_.80_._.ext.ns2.global", Gate::Service, "ExternalName");
    explains(&catalog, "outbound_.80_._.a.org", Gate::Service, "MESH_EXTERNAL");
}

#[test]
fn a_name_that_is_served_is_explained_down_to_its_endpoints() {
    let gone = BAR.replacen(
        "{addresses: [10.0.0.2],",
        "{addresses: [10.0.0.2], conditions: {ready: false},",
        1,
    );
    let catalog = catalog(&[EXPOSE_ALL, &gone, RULE]);
    let question = Question {
        server_name: "outbound_.8080_.v1_.bar.ns2.global",
        alpn: Some(&["istio"]),
        alpn_wanted: ALPN,
    };
    let explanation = Explanation::new(&question, &catalog);
    assert_eq!(
        explanation.to_string(),
        "\
outbound_.8080_.v1_.bar.ns2.global
  form      pass     port 8080, subset v1, host bar.ns2.global
  alpn      pass     offers istio
  service   pass     bar.ns2.global looked up as bar.ns2.svc.cluster.local: Service ns2/bar
  exportTo  pass     visible to namespace istio-system
  hosts     pass     */* of Gateway istio-system/all
  port      pass     8080
  subset    pass     v1 of DestinationRule ns2/bar: version=v1
  endpoints pass     1 in, 1 left out
    in   10.0.0.1:80  weight 1  ns2/bar-1  0 connections
    out  10.0.0.2:80  not ready
  policy    LEAST_REQUEST, connect timeout 10s (DestinationRule ns2/bar)
"
    );
}

#[test]
fn a_check_lists_what_is_exposed_and_what_is_left_out() {
    let gone = BAR.replacen(
        "{addresses: [10.0.0.2],",
        "{addresses: [10.0.0.2], conditions: {ready: false},",
        1,
    );
    let report = CheckReport::new(&catalog(&[
        &EXPOSE_ALL.replace("['*']", "['*.global']"),
        &gone,
        &gone.replace("bar", "foo").replace(
            "{name: foo, namespace",
            "{name: foo, annotations: {networking.istio.io/exportTo: .}, namespace",
        ),
        RULE,
    ]));
    assert_eq!(
        report.to_string(),
        "\
2 services, 1 exposed; 3 routes, 4 endpoints
selected by Gateway istio-system/all, port 15443: *.global
  bar.ns2.global -> bar.ns2.svc.cluster.local  8080 (2 endpoints) v1 (1)
2 endpoints left out
  bar.ns2.svc.cluster.local:8080  10.0.0.2:80  not ready
  foo.ns2.svc.cluster.local:8080  10.0.0.2:80  not ready
0 remarks
"
    );
}
