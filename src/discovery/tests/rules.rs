//! DestinationRules: which is in force, and what it comes to.

use std::time::Duration;

use super::*;
use crate::routing::{Balance, Keepalive, Outlier, Policy};

fn rule(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
         metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}"
    )
}

/// The rule as the gateway in namespace `gw` sees it: told by the maximum of connections.
#[track_caller]
fn in_force(namespace: &str, rules: &[(&str, &str, &str, u32)], expected: Option<u32>) {
    let rules: Vec<String> = rules
        .iter()
        .map(|(namespace, host, more, max)| {
            let pool = format!("{{connectionPool: {{tcp: {{maxConnections: {max}}}}}}}");
            rule(
                namespace,
                &format!("r{max}"),
                &format!("host: '{host}', trafficPolicy: {pool}{more}"),
            )
        })
        .collect();
    let labels = [("app", "gateway")].into_iter().collect();
    let identity = Identity { namespace: namespace.into(), labels, ..Identity::default() };
    let catalog = catalog_of(identity, &[BAR, &rules.join("\n---\n")]);
    let services = catalog.table().service("bar.ns2.svc.cluster.local").expect("bar");
    let found = services.routes[0].endpoints.load().policy().max_connections;
    assert_eq!(found, expected, "{rules:?}");
}

#[test]
fn the_first_namespace_with_a_rule_decides_and_there_the_narrowest_host() {
    let (gw, ns, root) = ("gw", "ns2", "istio-system");
    let full = "bar.ns2.svc.cluster.local";
    in_force(gw, &[], None);
    in_force(gw, &[(ns, "bar", "", 1)], Some(1));
    in_force(gw, &[(ns, "bar", "", 1), (gw, "*.local", "", 2)], Some(2));
    in_force(gw, &[(ns, "*", "", 1), (root, full, "", 2)], Some(1));
    in_force(gw, &[(root, full, "", 2)], Some(2));
    in_force(gw, &[("ns3", full, "", 1)], None);
    in_force(gw, &[("ns3", "bar", "", 1), (gw, "bar", "", 2)], None);
    in_force(gw, &[(ns, "bar.ns2", "", 1)], None);
    let narrow = "*.ns2.svc.cluster.local";
    in_force(gw, &[(ns, "*", "", 1), (ns, "*.local", "", 2), (ns, narrow, "", 3)], Some(3));
    in_force(gw, &[(ns, narrow, "", 3), (ns, full, "", 4), (ns, "*", "", 1)], Some(4));
    in_force(gw, &[(ns, "BAR", "", 5)], Some(5));
}

#[test]
fn a_rule_holds_only_where_it_is_exported() {
    let (gw, ns, root) = ("gw", "ns2", "istio-system");
    in_force(gw, &[(ns, "bar", ", exportTo: ['.']", 1)], None);
    in_force(gw, &[(ns, "bar", ", exportTo: [gw]", 1)], Some(1));
    in_force(gw, &[(ns, "bar", ", exportTo: ['.']", 1), (root, "*", "", 2)], Some(2));
    in_force(gw, &[(gw, "*", ", exportTo: ['.']", 1)], Some(1));
    // In the root namespace, which every namespace falls back to, only private rules go first.
    in_force(root, &[(ns, "bar", "", 1), (root, "*.local", "", 2)], Some(1));
    in_force(root, &[(ns, "bar", "", 1), (root, "*.local", ", exportTo: ['.']", 2)], Some(2));
}

#[test]
fn a_rule_for_workloads_holds_for_those_it_selects_in_its_own_namespace() {
    let selects = ", workloadSelector: {matchLabels: {app: gateway}}";
    let other = ", workloadSelector: {matchLabels: {app: other}}";
    in_force("gw", &[("gw", "*", "", 1), ("gw", "*", selects, 2)], Some(2));
    in_force("gw", &[("gw", "*", "", 1), ("gw", "*", other, 2)], Some(1));
    in_force("gw", &[("gw", "*", other, 2)], None);
    in_force("gw", &[("ns2", "bar", selects, 2)], None);
    in_force("istio-system", &[("istio-system", "*", selects, 2)], Some(2));
}

#[test]
fn rules_for_one_host_in_one_namespace_are_merged_oldest_first() {
    let written = |name: &str, created: &str, spec: &str| {
        rule("ns2", name, &format!("host: bar, {spec}")).replace(
            "namespace: ns2}",
            &format!("namespace: ns2, creationTimestamp: '2024-01-0{created}T00:00:00Z'}}"),
        )
    };
    let catalog = catalog(&[
        EXPOSE_ALL,
        BAR,
        &written(
            "young",
            "3",
            "subsets: [{name: V1, labels: {app: nothing}}, {name: v2, labels: {version: v2}}]",
        ),
        &written("old", "1", "subsets: [{name: v1, labels: {version: v1}}]"),
        &written("middle", "2", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}"),
        &written("last", "4", "trafficPolicy: {connectionPool: {tcp: {maxConnections: 8}}}"),
    ]);
    let key = |subset| format!("outbound_.8080_.{subset}_.bar.ns2.svc.cluster.local");
    check(&catalog, &key("v1"), Ok("10.0.0.1:80 10.0.0.2:80"));
    check(&catalog, &key("v2"), Ok("10.0.0.3:80"));
    let routes = &catalog.table().service("bar.ns2.svc.cluster.local").expect("bar").routes;
    assert!(routes.iter().all(|r| r.endpoints.load().policy().max_connections == Some(7)));
    assert_eq!(routes.len(), 3);
    let findings: Vec<String> = catalog.findings().iter().map(ToString::to_string).collect();
    assert_eq!(
        findings,
        [
            "DestinationRule ns2/last: trafficPolicy: that of ns2/old, older, is used",
            "DestinationRule ns2/young: subsets: subset v1: that of ns2/old, older, is used",
        ]
    );
}

#[test]
fn rules_exported_differently_are_not_merged() {
    let catalog = catalog(&[
        EXPOSE_ALL,
        BAR,
        &rule(
            "ns2",
            "a",
            "host: bar, exportTo: ['*'], subsets: [{name: v1, labels: {version: v1}}]",
        ),
        &rule(
            "ns2",
            "b",
            "host: bar, exportTo: [istio-system], subsets: [{name: v2, labels: {version: v2}}]",
        ),
    ]);
    check(&catalog, "outbound_.8080_.v1_.bar.ns2.global", Ok("10.0.0.1:80 10.0.0.2:80"));
    check(&catalog, "outbound_.8080_.v2_.bar.ns2.global", Err(Gate::Subset));
}

#[test]
fn a_subset_is_the_endpoints_that_have_its_labels() {
    let catalog = catalog(&[
        EXPOSE_ALL,
        BAR,
        &rule(
            "ns2",
            "bar",
            "host: bar, subsets: [{name: all}, {name: none, labels: {version: v9}}, \
             {name: two, labels: {app: bar, version: v2}}]",
        ),
    ]);
    check(
        &catalog,
        "outbound_.8080_.all_.bar.ns2.global",
        Ok("10.0.0.1:80 10.0.0.2:80 10.0.0.3:80"),
    );
    check(&catalog, "outbound_.8080_.none_.bar.ns2.global", Err(Gate::Endpoints));
    check(&catalog, "outbound_.8080_.two_.bar.ns2.global", Ok("10.0.0.3:80"));
    check(&catalog, "outbound_.8080_.other_.bar.ns2.global", Err(Gate::Subset));
    let routes = &catalog.table().service("bar.ns2.svc.cluster.local").expect("bar").routes;
    let endpoint = |at: usize| Arc::clone(&routes[at].endpoints.load().endpoints()[0].state);
    let all = routes.iter().position(|route| &*route.subset == "all").expect("all");
    assert!(Arc::ptr_eq(&endpoint(0), &endpoint(all)), "one endpoint has one set of counters");
}

/// The policy of port 8080, subset `v1` of a rule with these parts.
fn policy(top: &str, subset: &str) -> Policy {
    let spec = format!(
        "host: bar, trafficPolicy: {{{top}}}, \
         subsets: [{{name: v1, trafficPolicy: {{{subset}}}}}]"
    );
    let catalog = catalog(&[EXPOSE_ALL, BAR, &rule("ns2", "bar", &spec)]);
    let table = catalog.table();
    let name = "outbound_.8080_.v1_.bar.ns2.global";
    let route = table.find(&SubsetKey::parse(name).expect("a key")).expect("a route");
    route.endpoints.load().policy().clone()
}

const TCP: &str = "connectionPool: {tcp: {maxConnections: 5, connectTimeout: 3s, \
                   tcpKeepalive: {time: 60s, interval: 5s, probes: 4}, idleTimeout: 1h, \
                   maxConnectionDuration: 24h}}";

#[test]
fn every_tcp_setting_is_taken_from_every_level() {
    let all = Policy {
        balance: Balance::LeastRequest,
        warmup: None,
        max_connections: Some(5),
        connect_timeout: Duration::from_secs(3),
        keepalive: Some(Keepalive {
            time: Some(Duration::from_secs(60)),
            interval: Some(Duration::from_secs(5)),
            probes: Some(4),
        }),
        idle_timeout: Some(Duration::from_secs(3600)),
        max_duration: Some(Duration::from_secs(86_400)),
        outlier: Some(Outlier::default()),
    };
    let on_port = format!("portLevelSettings: [{{port: {{number: 8080}}, {TCP}}}]");
    assert_eq!(policy(TCP, ""), all);
    assert_eq!(policy("", TCP), all);
    assert_eq!(policy(&on_port, ""), all);
    assert_eq!(policy("", &on_port), all);
    let none = Policy { outlier: Some(Outlier::default()), ..Policy::default() };
    assert_eq!(policy("", ""), none, "the gateway's own outlier detection is on");
}

#[test]
fn outlier_detection_is_merged_as_the_other_blocks_and_has_a_default() {
    let of = |n: u16| format!("outlierDetection: {{consecutive5xxErrors: {n}}}");
    let count = |top: &str, subset: &str| policy(top, subset).outlier.map(|o| o.consecutive);
    assert_eq!(count("", ""), Some(3));
    assert_eq!(count(&of(7), ""), Some(7));
    assert_eq!(count(&of(7), &of(8)), Some(8));
    assert_eq!(count(&of(7), TCP), Some(7));
    let on_port = format!("portLevelSettings: [{{port: {{number: 8080}}, {}}}]", of(9));
    assert_eq!(count(&of(7), &on_port), Some(9));
    let elsewhere = format!("portLevelSettings: [{{port: {{number: 8080}}, {TCP}}}]");
    assert_eq!(count(&of(7), &elsewhere), Some(3), "a port's entry replaces all blocks");
    let off = Identity { outlier: None, ..Identity::default() };
    let catalog = catalog_of(off, &[EXPOSE_ALL, BAR]);
    let route = &catalog.table().service("bar.ns2.svc.cluster.local").expect("bar").routes[0];
    assert_eq!(route.endpoints.load().policy().outlier, None);
}

#[test]
fn a_subset_replaces_block_by_block_and_a_port_replaces_all() {
    let robin = "loadBalancer: {simple: ROUND_ROBIN}";
    let both = policy(robin, TCP);
    assert_eq!((both.balance, both.max_connections), (Balance::RoundRobin, Some(5)));
    let one = policy(TCP, "connectionPool: {tcp: {maxConnections: 9}}");
    assert_eq!((one.max_connections, one.idle_timeout), (Some(9), None));
    let on_port = format!("{TCP}, portLevelSettings: [{{port: {{number: 8080}}, {robin}}}]");
    let port = policy(&on_port, "");
    assert_eq!((port.balance, port.max_connections), (Balance::RoundRobin, None));
    let port = policy(TCP, &format!("portLevelSettings: [{{port: {{number: 8080}}, {robin}}}]"));
    assert_eq!((port.balance, port.max_connections), (Balance::RoundRobin, None));
    let other = policy(TCP, &format!("portLevelSettings: [{{port: {{number: 9090}}, {robin}}}]"));
    assert_eq!((other.balance, other.max_connections), (Balance::LeastRequest, Some(5)));
}

#[test]
fn an_algorithm_is_read_by_its_name() {
    for (name, expected) in [
        ("LEAST_REQUEST", Balance::LeastRequest),
        ("LEAST_CONN", Balance::LeastRequest),
        ("PASSTHROUGH", Balance::LeastRequest),
        ("UNSPECIFIED", Balance::LeastRequest),
        ("ROUND_ROBIN", Balance::RoundRobin),
        ("RANDOM", Balance::Random),
    ] {
        let found = policy(&format!("loadBalancer: {{simple: {name}}}"), "").balance;
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn tls_of_a_subset_goes_before_that_of_the_rule_and_a_port_before_its_level() {
    let tls = |mode: &str| format!("tls: {{mode: {mode}}}");
    let on_port = |mode: &str| {
        format!("portLevelSettings: [{{port: {{number: 8080}}, tls: {{mode: {mode}}}}}]")
    };
    let (yes, no) = (tls("ISTIO_MUTUAL"), tls("DISABLE"));
    let (port_yes, port_no) = (on_port("ISTIO_MUTUAL"), on_port("DISABLE"));
    for (top, subset, served) in [
        (yes.clone(), String::new(), true),
        (no.clone(), String::new(), false),
        (no.clone(), yes.clone(), true),
        (yes.clone(), no.clone(), false),
        (format!("{no}, {port_yes}"), String::new(), true),
        (format!("{yes}, {port_no}"), String::new(), false),
        (port_no.clone(), yes.clone(), true),
        (yes.clone(), format!("{yes}, {port_no}"), false),
        (no, port_yes, true),
    ] {
        let spec = format!(
            "host: bar, trafficPolicy: {{{top}}}, \
             subsets: [{{name: v1, labels: {{version: v2}}, trafficPolicy: {{{subset}}}}}]"
        );
        let catalog = catalog(&[EXPOSE_ALL, BAR, &rule("ns2", "bar", &spec)]);
        let expected = if served { Ok("10.0.0.3:80") } else { Err(Gate::Endpoints) };
        check(&catalog, "outbound_.8080_.v1_.bar.ns2.global", expected);
    }
}

#[test]
fn what_is_done_differently_is_said() {
    let check = |balancer: &str, field: Option<&str>| {
        let spec = format!("host: bar, trafficPolicy: {{loadBalancer: {{{balancer}}}}}");
        let catalog = catalog(&[EXPOSE_ALL, BAR, &rule("ns2", "bar", &spec)]);
        let fields: Vec<_> = catalog.findings().iter().map(|finding| finding.field).collect();
        let expected = field.map(|field| format!("trafficPolicy.loadBalancer.{field}"));
        assert_eq!(fields, expected.iter().collect::<Vec<_>>(), "{balancer}");
    };
    check("consistentHash: {useSourceIp: true}", None);
    check("warmup: {duration: 30s}", None);
    check("simple: ROUND_ROBIN, warmupDurationSecs: 30s", None);
    check("consistentHash: {httpHeaderName: x}", Some("consistentHash"));
    check("simple: PASSTHROUGH", Some("simple"));
    check("simple: RANDOM, warmup: {duration: 30s}", Some("warmup"));
    check("consistentHash: {useSourceIp: true}, warmupDurationSecs: 30s", Some("warmup"));
}

#[test]
fn sources_decide_by_the_table_that_is_asked_for() {
    let check = |hash: &str, expected: Balance| {
        let found = policy(&format!("loadBalancer: {{consistentHash: {{{hash}}}}}"), "").balance;
        assert_eq!(found, expected, "{hash}");
    };
    check("useSourceIp: true", Balance::RingHash { minimum: 1024 });
    check("useSourceIp: true, minimumRingSize: 99", Balance::RingHash { minimum: 99 });
    let most = Balance::RingHash { minimum: 65_536 };
    check("useSourceIp: true, ringHash: {minimumRingSize: 8388608}", most);
    check("useSourceIp: true, ringHash: {}", Balance::RingHash { minimum: 1024 });
    let written = "useSourceIp: true, ringHash: {minimumRingSize: 2048}, minimumRingSize: 99";
    check(written, Balance::RingHash { minimum: 2048 });
    check("useSourceIp: true, maglev: {}", Balance::Maglev { table_size: None });
    let written = "useSourceIp: true, maglev: {tableSize: 1009}";
    check(written, Balance::Maglev { table_size: Some(1009) });
    check("httpHeaderName: x", Balance::Random);
    check("useSourceIp: false, maglev: {}", Balance::Random);
}

#[test]
fn a_warm_up_has_envoys_defaults() {
    let check = |balancer: &str, expected: Option<(u64, u8, u32)>| {
        let found = policy(&format!("loadBalancer: {{{balancer}}}"), "").warmup;
        let found = found.map(|w| (w.window.as_secs(), w.minimum_percent, w.aggression_percent));
        assert_eq!(found, expected, "{balancer}");
    };
    check("simple: LEAST_REQUEST", None);
    check("warmupDurationSecs: 30s", Some((30, 10, 100)));
    check("warmupDurationSecs: 0s", None);
    let written = "simple: ROUND_ROBIN, warmup: {duration: 60s, minimumPercent: 25, \
                   aggression: 2.5}, warmupDurationSecs: 30s";
    check(written, Some((60, 25, 250)));
    check("simple: RANDOM, warmup: {duration: 30s}", None);
    check("warmup: {duration: 30s}, consistentHash: {useSourceIp: true}", None);
}
