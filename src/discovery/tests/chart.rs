//! The objects that Istio's charts install, in both roles: nothing becomes a transit.

use super::*;
use crate::discovery::{CheckReport, NetworkView, Role};

/// What `global.multiCluster.enabled` rendered in Istio 1.4.
const CHART: &str = r#"
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {name: istio-multicluster-ingressgateway, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - hosts: ["*.global"]
    port: {name: tls, number: 15443, protocol: TLS}
    tls: {mode: AUTO_PASSTHROUGH}
---
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {name: istio-multicluster-egressgateway, namespace: istio-system}
spec:
  selector: {istio: egressgateway}
  servers:
  - hosts: ["*.global"]
    port: {name: tls, number: 15443, protocol: TLS}
    tls: {mode: AUTO_PASSTHROUGH}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: istio-multicluster-ingressgateway, namespace: istio-system}
spec:
  workloadLabels: {istio: ingressgateway}
  filters:
  - listenerMatch: {portNumber: 15443, listenerType: GATEWAY}
    insertPosition: {index: AFTER, relativeTo: envoy.filters.network.sni_cluster}
    filterName: envoy.filters.network.tcp_cluster_rewrite
    filterType: NETWORK
    filterConfig:
      cluster_pattern: "\\.global$"
      cluster_replacement: ".svc.cluster.local"
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: istio-multicluster-destinationrule, namespace: istio-system}
spec:
  host: "*.global"
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
"#;

/// The ServiceEntry of a client's cluster, with the endpoints of the egress variant as IPs.
const ENTRY: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: httpbin-bar, namespace: default}
spec:
  hosts: [httpbin.bar.global]
  location: MESH_INTERNAL
  ports: [{name: http1, number: 8000, protocol: http}]
  resolution: STATIC
  addresses: [240.0.0.2]
  endpoints:
  - {address: 192.0.2.7, network: external, ports: {http1: 15443}, labels: {cluster: two}}
  - {address: 10.96.0.20, ports: {http1: 15443}}
";

const ENTRY_KEY: &str = "outbound_.8000_._.httpbin.bar.global";

fn gateway(role: Role, view: &[&str], network_view: NetworkView) -> Identity {
    let label = if role == Role::Ingress { "ingressgateway" } else { "egressgateway" };
    Identity {
        role,
        labels: [("istio", label)].into_iter().collect(),
        requested_network_view: view.iter().map(ToString::to_string).collect(),
        network_view,
        ..Identity::default()
    }
}

#[test]
fn an_ingress_gateway_serves_its_own_services_and_no_entry() {
    for view in [NetworkView::Istio14, NetworkView::Istio18] {
        let identity = gateway(Role::Ingress, &["external"], view);
        let catalog = catalog_of(identity, &[CHART, ENTRY, BAR]);
        check(
            &catalog,
            "outbound_.8080_._.bar.ns2.global",
            Ok("10.0.0.1:80 10.0.0.2:80 10.0.0.3:80"),
        );
        check(&catalog, ENTRY_KEY, Err(Gate::Service));
        assert_eq!(catalog.summary().exposed, 1, "only bar, as an alias");
        let question = Question { server_name: ENTRY_KEY, ..Question::default() };
        let text = Explanation::new(&question, &catalog).to_string();
        assert!(text.contains("ServiceEntry default/httpbin-bar"), "{text}");
        assert!(text.contains("no transit"), "{text}");
    }
}

#[test]
fn an_entry_of_the_rewritten_host_is_no_way_round() {
    let local = ENTRY.replace("httpbin.bar.global", "httpbin.bar.svc.cluster.local");
    let catalog = catalog_of(gateway(Role::Ingress, &[], NetworkView::Istio14), &[CHART, &local]);
    check(&catalog, ENTRY_KEY, Err(Gate::Service));
}

#[test]
fn without_the_suffix_an_entry_in_another_network_is_not_served_by_an_ingress() {
    let mesh = ENTRY.replace("httpbin.bar.global", "httpbin.bar.mesh");
    let chart = CHART.replace("*.global", "*.mesh");
    let catalog =
        catalog_of(gateway(Role::Ingress, &["external"], NetworkView::Istio18), &[&chart, &mesh]);
    check(&catalog, "outbound_.8000_._.httpbin.bar.mesh", Ok("10.96.0.20:15443"));
    let reason = left_out(&catalog, "httpbin.bar.mesh", "192.0.2.7:15443").expect("left out");
    assert!(reason.contains("network external"), "{reason}");
}

#[test]
fn a_pod_in_another_network_is_never_served() {
    let labelled = BAR.replacen(
        "labels: {app: bar, version: v1,",
        "labels: {app: bar, version: v1, topology.istio.io/network: there,",
        1,
    );
    let identity = Identity {
        network: Some("here".into()),
        ..gateway(Role::Ingress, &[], NetworkView::Istio14)
    };
    let catalog = catalog_of(identity, &[CHART, &labelled]);
    check(&catalog, "outbound_.8080_._.bar.ns2.global", Ok("10.0.0.2:80 10.0.0.3:80"));
}

#[test]
fn an_egress_gateway_serves_entries_through_its_view_and_nothing_local() {
    let both = Ok("10.96.0.20:15443 192.0.2.7:15443");
    for (view, network_view, expected) in [
        (&["external"][..], NetworkView::Istio14, Ok("192.0.2.7:15443")),
        (&[], NetworkView::Istio14, Ok("10.96.0.20:15443")),
        (&["elsewhere"], NetworkView::Istio14, Err(Gate::Endpoints)),
        (&["external"], NetworkView::Istio18, both),
        (&[], NetworkView::Istio18, both),
        (&["elsewhere"], NetworkView::Istio18, Ok("10.96.0.20:15443")),
    ] {
        let identity = gateway(Role::Egress, view, network_view);
        let catalog = catalog_of(identity, &[CHART, ENTRY, BAR]);
        check(&catalog, ENTRY_KEY, expected);
        check(&catalog, "outbound_.8080_._.bar.ns2.global", Err(Gate::Service));
        check(&catalog, "outbound_.8080_._.bar.ns2.svc.cluster.local", Err(Gate::Hosts));
    }
}

#[test]
fn the_rule_for_the_suffix_is_built_in_until_a_user_writes_one() {
    let identity = gateway(Role::Egress, &["external"], NetworkView::Istio14);
    let gateways = CHART.split("---").take(2).collect::<Vec<_>>().join("---");
    check(&catalog_of(identity.clone(), &[&gateways, ENTRY]), ENTRY_KEY, Ok("192.0.2.7:15443"));
    let rule = |tls: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
             metadata: {{name: u, namespace: default}}, spec: {{host: httpbin.bar.global, \
             trafficPolicy: {{{tls}}}}}}}"
        )
    };
    let forgets = catalog_of(identity.clone(), &[&gateways, ENTRY, &rule("")]);
    check(&forgets, ENTRY_KEY, Err(Gate::Endpoints));
    let restates = rule("tls: {mode: ISTIO_MUTUAL}");
    check(&catalog_of(identity, &[&gateways, ENTRY, &restates]), ENTRY_KEY, Ok("192.0.2.7:15443"));
}

#[test]
fn the_rewrite_of_an_envoy_filter_is_compared_with_ours() {
    let identity = || gateway(Role::Ingress, &[], NetworkView::Istio14);
    let findings =
        |identity, chart: &str| CheckReport::new(&catalog_of(identity, &[chart])).findings.len();
    assert_eq!(findings(identity(), CHART), 0);
    assert_eq!(findings(identity(), &CHART.replace("\\\\.global$", "\\\\.mesh$")), 1);
    assert_eq!(findings(Identity { rewrite_suffix: None, ..identity() }, CHART), 1);
}

#[test]
fn the_nearest_gateway_is_named_when_none_selects_us() {
    let labels = [("istio", "ingress-gateway"), ("app", "x")].into_iter().collect();
    let catalog = catalog_of(Identity { labels, ..Identity::default() }, &[CHART]);
    let selection = catalog.selection();
    assert!(selection.selected.is_empty());
    let nearest = selection.nearest.as_ref().expect("one");
    assert_eq!(
        nearest.to_string(),
        "Gateway istio-system/istio-multicluster-egressgateway selects label \
         istio=egressgateway, this gateway has istio=ingress-gateway"
    );
}
