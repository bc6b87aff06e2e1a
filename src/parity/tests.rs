//! Manifests and dumps in, reports out: what a real Envoy is not needed for.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{
    discovery::{Catalog, Change, Identity},
    manifests::{News, Store, parse},
    routing::{Locality, SharedTable},
};

const ALPN: [&str; 1] = ["istio"];

/// Service ns2/bar with two pods, exposed by these hosts.
fn mesh(hosts: &str, more: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: g, namespace: istio-system}}
spec:
  servers:
  - {{port: {{number: 15443, name: tls, protocol: TLS}}, tls: {{mode: AUTO_PASSTHROUGH}},
     hosts: [{hosts}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: bar, namespace: ns2}}
spec: {{ports: [{{name: http, port: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: bar-1, namespace: ns2, labels: {{kubernetes.io/service-name: bar}}}}
addressType: IPv4
ports: [{{name: http, port: 80}}]
endpoints:
- {{addresses: [10.0.0.1], nodeName: n1, targetRef: {{kind: Pod, name: bar-1}}}}
- {{addresses: [10.0.0.2], nodeName: n2, targetRef: {{kind: Pod, name: bar-2}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: bar-1, namespace: ns2, labels: {{security.istio.io/tlsMode: istio}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: bar-2, namespace: ns2, labels: {{security.istio.io/tlsMode: istio}}}}
---
{{apiVersion: v1, kind: Node, metadata: {{name: n1, labels: {{topology.kubernetes.io/region: eu}}}}}}
---
{{apiVersion: v1, kind: Node, metadata: {{name: n2, labels: {{topology.kubernetes.io/region: us}}}}}}
---
{more}
"
    )
}

fn rule(policy: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
         metadata: {{name: bar, namespace: ns2}}, spec: {{host: bar, trafficPolicy: {{{policy}}}}}}}"
    )
}

fn catalog(yaml: &str) -> Catalog {
    let file: Arc<Path> = Path::new("a.yaml").into();
    let parsed = parse(&file, yaml.as_bytes());
    let mut store = Store::new();
    let changes = store.apply(vec![News::File(file, Some(parsed))]);
    let identity = Identity { locality: Locality::parse("eu"), ..Identity::default() };
    let mut catalog = Catalog::new(identity, SharedTable::new().into());
    catalog.apply(&Change::of_store(store.objects(), &changes));
    catalog
}

const BAR: &str = "outbound_.8080_._.bar.ns2.svc.cluster.local";

fn cluster() -> Value {
    json!({
        "name": BAR,
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{"max_connections": 4_294_967_295_u32}]},
    })
}

fn endpoint(ip: &str, weight: u32) -> Value {
    let address = json!({"socket_address": {"address": ip, "port_value": 80}});
    json!({"endpoint": {"address": address}, "load_balancing_weight": weight})
}

fn both() -> Value {
    json!([{"lb_endpoints": [endpoint("10.0.0.1", 1), endpoint("10.0.0.2", 1)]}])
}

fn chain(name: &str) -> Value {
    json!({
        "filter_chain_match": {"server_names": [name], "application_protocols": ALPN},
        "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {"cluster": BAR}}],
    })
}

/// The older form: names under a suffix, which a filter may rewrite.
fn by_cluster(rewrite: Option<Value>) -> Value {
    let mut filters = vec![json!({"name": "envoy.filters.network.sni_cluster"})];
    filters.extend(rewrite);
    let proxy = json!({"cluster": "BlackHoleCluster"});
    filters.push(json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}));
    let fits = json!({"server_names": ["*.global"], "application_protocols": ALPN});
    json!({"filter_chain_match": fits, "filters": filters})
}

fn dump(cluster: &Value, endpoints: &Value, chains: &[Value]) -> Dump {
    Dump::read(text(cluster, endpoints, chains).as_bytes()).expect("a dump")
}

fn text(cluster: &Value, endpoints: &Value, chains: &[Value]) -> String {
    let kind = |kind: &str| format!("type.googleapis.com/envoy.admin.v3.{kind}");
    let assignment = json!({"cluster_name": BAR, "endpoints": endpoints});
    let listener = json!({"name": "0.0.0.0_15443", "filter_chains": chains});
    let text = json!({"configs": [
        {"@type": kind("ClustersConfigDump"), "dynamic_active_clusters": [{"cluster": cluster}]},
        {"@type": kind("EndpointsConfigDump"),
         "dynamic_endpoint_configs": [{"endpoint_config": assignment}]},
        {"@type": kind("ListenersConfigDump"),
         "dynamic_listeners": [{"name": "x", "active_state": {"listener": listener}}, {}]},
    ]});
    text.to_string()
}

#[track_caller]
fn check(yaml: &str, dump: &Dump, expected: &str) {
    let report = compare(&catalog(yaml), &ALPN.map(String::from), dump);
    let shown = report.to_string();
    let found = shown.lines().skip(1).collect::<Vec<_>>().join("\n");
    assert_eq!(found, expected, "{shown}");
    let plain = !expected.is_empty() && !expected.starts_with("remark");
    assert_eq!(report.is_equal(), !plain);
}

const ALSO: &str = "remark: 1 names are served here that lead to a route of both and have no \
                    filter chain there: gateway.rewrite_suffix, or hosts of a Gateway";

#[test]
fn a_name_is_compared_as_it_is_asked_for() {
    let own = dump(&cluster(), &both(), &[chain(BAR)]);
    check(&mesh("'*.local'", ""), &own, "");
    check(&mesh("'*'", ""), &own, ALSO);
    // What clients of Envoy ask for would be refused here.
    let refused = format!(
        "differs    {BAR}\n           Service ns2/bar\n           server name {BAR}: here refused \
         here at hosts: no Gateway that selects this one covers bar.ns2.svc.cluster.local; there is \
         */*.global of Gateway istio-system/g; hosts: [\"bar.ns2.svc.cluster.local\"] in a Gateway \
         would cover it; it is covered when asked for as bar.ns2.global, there served\n{ALSO}"
    );
    check(&mesh("'*.global'", ""), &own, &refused);
}

#[test]
fn the_older_form_serves_names_that_a_filter_rewrites() {
    let filter = |key: &str| {
        let rewrite =
            json!({"cluster_pattern": "\\.global$", "cluster_replacement": ".svc.cluster.local"});
        let mut filter = json!({"name": "envoy.filters.network.tcp_cluster_rewrite"});
        filter[key] = rewrite;
        filter
    };
    let typed = json!({
        "name": "rewrite",
        "typed_config": {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
                         "type_url": "x.TcpClusterRewrite",
                         "value": filter("config")["config"]},
    });
    for filter in [filter("typed_config"), filter("config"), typed] {
        let dump = dump(&cluster(), &both(), &[by_cluster(Some(filter))]);
        check(&mesh("'*.global'", ""), &dump, "");
        check(&mesh("'*'", ""), &dump, ALSO);
    }
    let without = dump(&cluster(), &both(), &[by_cluster(None)]);
    let missing = format!(
        "here only  {BAR}\n           Service ns2/bar\n           there is a cluster of this name \
         there, but no filter chain leads to it\nremark: 1 clusters there have no filter chain: \
         nobody reaches them"
    );
    check(&mesh("'*.global'", ""), &without, &missing);
}

#[test]
fn an_endpoint_that_envoy_does_not_use_is_not_served() {
    let mut sick = both();
    sick[0]["lb_endpoints"][1]["health_status"] = "UNHEALTHY".into();
    let expected = format!(
        "differs    {BAR}\n           Service ns2/bar\n           endpoint 10.0.0.2:80: here served, \
         there left out: UNHEALTHY"
    );
    check(&mesh("'*.local'", ""), &dump(&cluster(), &sick, &[chain(BAR)]), &expected);
    sick[0]["lb_endpoints"][1]["health_status"] = "HEALTHY".into();
    check(&mesh("'*.local'", ""), &dump(&cluster(), &sick, &[chain(BAR)]), "");
    let not_ready = mesh("'*.local'", "")
        .replace("addresses: [10.0.0.2]", "addresses: [10.0.0.2], conditions: {ready: false}");
    let expected = format!(
        "differs    {BAR}\n           Service ns2/bar\n           endpoint 10.0.0.2:80: here left \
         out: not ready, there served"
    );
    check(&not_ready, &dump(&cluster(), &both(), &[chain(BAR)]), &expected);
}

#[test]
fn tiers_are_compared_by_their_order() {
    let detect = mesh("'*.local'", &rule("outlierDetection: {}"));
    let of = |first: u32, second: u32| {
        json!([
            {"lb_endpoints": [endpoint("10.0.0.1", 1)], "priority": first},
            {"lb_endpoints": [endpoint("10.0.0.2", 1)], "priority": second},
        ])
    };
    let mut detecting = cluster();
    detecting["outlier_detection"] = json!({"consecutive_5xx": 5});
    detecting["common_lb_config"] = json!({"healthy_panic_threshold": {}});
    check(&detect, &dump(&detecting, &of(0, 1), &[chain(BAR)]), "");
    check(&detect, &dump(&detecting, &of(1, 3), &[chain(BAR)]), "");
    let expected = format!(
        "differs    {BAR}\n           Service ns2/bar, DestinationRule ns2/bar\n           tier of \
         10.0.0.2:80: here 1, there 0"
    );
    check(&detect, &dump(&detecting, &of(0, 0), &[chain(BAR)]), &expected);
}

#[test]
fn shares_of_localities_are_compared_by_proportion() {
    let share = "loadBalancer: {localityLbSetting: {distribute: \
                 [{from: 'eu/*', to: {'eu/*': 30, 'us/*': 70}}]}}";
    let yaml = mesh("'*.local'", &rule(share));
    let of = |first: u32| {
        json!([
            {"lb_endpoints": [endpoint("10.0.0.1", 7)], "load_balancing_weight": first},
            {"lb_endpoints": [endpoint("10.0.0.2", 1)], "load_balancing_weight": 70},
        ])
    };
    let mut weighted = cluster();
    weighted["common_lb_config"] = json!({"locality_weighted_lb_config": {}});
    check(&yaml, &dump(&weighted, &of(30), &[chain(BAR)]), "");
    let expected = format!(
        "differs    {BAR}\n           Service ns2/bar, DestinationRule ns2/bar\n           weight of \
         10.0.0.1:80: here 30.0 %, there 50.0 %\n           weight of 10.0.0.2:80: here 70.0 %, \
         there 50.0 %"
    );
    check(&yaml, &dump(&weighted, &of(70), &[chain(BAR)]), &expected);
}

#[test]
fn the_gateways_own_outlier_detection_is_no_difference_but_a_rules_is() {
    let mut detecting = cluster();
    detecting["outlier_detection"] = json!({});
    let dump = dump(&detecting, &both(), &[chain(BAR)]);
    let catalog = catalog(&mesh("'*.local'", ""));
    let report = compare(&catalog, &ALPN.map(String::from), &dump);
    let differences = &report.names[0].differences;
    assert_eq!((differences.len(), &*differences[0].here), (1, "off"), "{report}");
}

#[test]
fn an_algorithm_that_is_none_of_ours_is_shown_as_it_is_written() {
    let with = |key: &str, value: Value| {
        let mut cluster = cluster();
        cluster[key] = value;
        dump(&cluster, &both(), &[chain(BAR)])
    };
    let differs = |dump: &Dump, there: &str| {
        let expected = format!(
            "differs    {BAR}\n           Service ns2/bar\n           load balancing: here \
             LEAST_REQUEST, there {there}"
        );
        check(&mesh("'*.local'", ""), dump, &expected);
    };
    let none = "which is none of this gateway's";
    for name in ["CLUSTER_PROVIDED", "LOAD_BALANCING_POLICY_CONFIG", "least_request"] {
        differs(&with("lb_policy", name.into()), &format!("`{name}`, {none}"));
    }
    differs(&with("lb_policy", "a\n\u{1b}".into()), &format!("`a\\n\\u{{1b}}`, {none}"));
    differs(&with("lb_policy", "".into()), "ROUND_ROBIN");

    let policy = |name: &str| {
        let config = json!({"name": name, "typed_config": {"@type": "x"}});
        with("load_balancing_policy", json!({"policies": [{"typed_extension_config": config}]}))
    };
    check(&mesh("'*.local'", ""), &policy("envoy.load_balancing_policies.least_request"), "");
    differs(&policy("envoy.load_balancing_policies.round_robin"), "ROUND_ROBIN");
    let maglev = "envoy.load_balancing_policies.maglev";
    differs(&policy(maglev), &format!("`{maglev}`, {none}"));
    let unnamed = format!("`load_balancing_policy without the name of an extension`, {none}");
    differs(&policy("LEAST_REQUEST"), &unnamed);
    let without = with("load_balancing_policy", json!({}));
    differs(&without, &format!("`load_balancing_policy without a policy`, {none}"));
}

mod odd;
