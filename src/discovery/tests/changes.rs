//! What changes touch, what they leave alone, and how much they cost.

use std::time::{Duration, Instant};

use super::*;
use crate::routing::{Pick, RouteTable};

const KEY: &str = "outbound_.8080_._.bar.ns2.svc.cluster.local";
const SUBSETS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bar, namespace: ns2}
spec: {host: bar, subsets: [{name: v1, labels: {version: v1}}]}
";

fn slice(addresses: &[&str]) -> String {
    let endpoint = |ip: &&str| {
        let last = ip.rsplit('.').next().unwrap_or_default();
        format!("{{addresses: [{ip}], targetRef: {{kind: Pod, name: bar-{last}}}}}")
    };
    let endpoints: Vec<String> = addresses.iter().map(endpoint).collect();
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: bar-1, \
         namespace: ns2, labels: {{kubernetes.io/service-name: bar}}}}, addressType: IPv4, \
         ports: [{{name: http, port: 80}}], endpoints: [{}]}}",
        endpoints.join(", ")
    )
}

fn route(table: &RouteTable) -> Arc<crate::routing::Route> {
    Arc::clone(table.find(&SubsetKey::parse(KEY).expect("a key")).expect("a route"))
}

#[test]
fn a_change_of_endpoints_swaps_cells_and_publishes_no_table() {
    let mut catalog = catalog(&[EXPOSE_ALL, BAR, SUBSETS]);
    let before = Arc::clone(catalog.table());
    let applied = put(&mut catalog, &slice(&["10.0.0.1", "10.0.0.3"]));
    assert_eq!(applied, Applied { services: 1, swapped: 2, published: false });
    assert!(Arc::ptr_eq(&before, catalog.table()));
    check(&catalog, KEY, Ok("10.0.0.1:80 10.0.0.3:80"));
    // Only the whole port has 10.0.0.3.
    let applied = put(&mut catalog, &slice(&["10.0.0.1"]));
    assert_eq!(applied, Applied { services: 1, swapped: 1, published: false });
}

#[test]
fn the_same_object_again_is_no_change() {
    let mut catalog = catalog(&[EXPOSE_ALL, BAR, SUBSETS]);
    let before = Arc::clone(catalog.table());
    assert_eq!(put(&mut catalog, BAR), Applied::default());
    assert_eq!(put(&mut catalog, &[EXPOSE_ALL, SUBSETS].join("---")), Applied::default());
    assert!(Arc::ptr_eq(&before, catalog.table()));
}

#[test]
fn counters_of_routes_and_endpoints_outlive_every_change() {
    let mut catalog = catalog(&[EXPOSE_ALL, BAR]);
    let old = route(catalog.table());
    let permit = old.state.admit(None).expect("no limit");
    let set = old.endpoints.load_full();
    let now = std::time::Instant::now();
    let leases: Vec<_> = (0..3)
        .map(|tried| {
            let tried: Vec<usize> = (0..tried).collect();
            set.pick(Pick { tried: &tried, turn: 0, random: 0, source: None, now })
                .expect("an endpoint")
                .1
        })
        .collect();
    let connections = |catalog: &Catalog| {
        let route = route(catalog.table());
        let endpoints = route.endpoints.load();
        let counts = endpoints.endpoints().iter().map(|endpoint| endpoint.state.connections());
        (route.state.connections(), counts.collect::<Vec<_>>())
    };
    let counted: u32 = connections(&catalog).1.iter().sum();
    assert_eq!((connections(&catalog).0, counted), (1, 3));
    let before = connections(&catalog);
    // A swap, a new table with subsets, one with another policy, one after a Gateway changed.
    put(&mut catalog, &slice(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]));
    put(&mut catalog, &slice(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
    assert!(put(&mut catalog, SUBSETS).published);
    let policy = "spec: {trafficPolicy: {connectionPool: {tcp: {maxConnections: 9}}}, host";
    assert!(put(&mut catalog, &SUBSETS.replace("spec: {host", policy)).published);
    put(&mut catalog, &EXPOSE_ALL.replace("['*']", "['*.local']"));
    let node = "{apiVersion: v1, kind: Pod, metadata: {name: bar-1, namespace: ns2, labels: \
                {app: bar, version: v7, security.istio.io/tlsMode: istio}}}";
    put(&mut catalog, node);
    assert_eq!(connections(&catalog), before);
    drop(leases);
    drop(permit);
    assert_eq!(connections(&catalog), (0, vec![0, 0, 0]));
}

#[test]
fn a_pod_moves_its_services_and_no_others() {
    let mut catalog = catalog(&[EXPOSE_ALL, BAR, &BAR.replace("bar", "foo"), SUBSETS]);
    let relabelled = "{apiVersion: v1, kind: Pod, metadata: {name: bar-3, namespace: ns2, labels: \
                      {app: bar, version: v1, security.istio.io/tlsMode: istio}}}";
    let applied = put(&mut catalog, relabelled);
    assert_eq!((applied.services, applied.published), (1, false));
    check(
        &catalog,
        "outbound_.8080_.v1_.bar.ns2.global",
        Ok("10.0.0.1:80 10.0.0.2:80 10.0.0.3:80"),
    );
    assert_eq!(remove(&mut catalog, Kind::Pod, "ns2", "bar-3").services, 1);
    check(&catalog, KEY, Ok("10.0.0.1:80 10.0.0.2:80"));
    assert_eq!(put(&mut catalog, relabelled).services, 1);
    check(&catalog, KEY, Ok("10.0.0.1:80 10.0.0.2:80 10.0.0.3:80"));
}

#[test]
fn a_node_moves_the_endpoints_that_run_on_it() {
    let on_node = BAR.replacen(
        "metadata: {name: bar-1, namespace: ns2, labels: {app",
        "spec: {nodeName: n1}\nmetadata: {name: bar-1, namespace: ns2, labels: {app",
        1,
    );
    let bare = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: b, \
                namespace: ns2, labels: {kubernetes.io/service-name: bare}}, addressType: IPv4, \
                endpoints: [{addresses: [10.0.0.9], nodeName: n1}]}";
    let service = "{apiVersion: v1, kind: Service, metadata: {name: bare, namespace: ns2}}";
    let mut catalog = catalog(&[EXPOSE_ALL, &on_node, bare, service]);
    let node = |zone: &str| {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: n1, labels: \
             {{topology.kubernetes.io/zone: {zone}}}}}}}"
        )
    };
    let zone = |catalog: &Catalog| {
        route(catalog.table()).endpoints.load().endpoints()[0].locality.to_string()
    };
    for name in ["a", "b"] {
        let applied = put(&mut catalog, &node(name));
        assert_eq!((applied.services, applied.published), (2, false), "{name}");
        assert_eq!(zone(&catalog), format!("/{name}/"));
    }
}

#[test]
fn what_is_removed_is_refused_and_what_comes_back_is_served() {
    let mut catalog = catalog(&[EXPOSE_ALL, BAR, SUBSETS]);
    let all = Ok("10.0.0.1:80 10.0.0.2:80 10.0.0.3:80");
    let subset = "outbound_.8080_.v1_.bar.ns2.global";
    assert!(remove(&mut catalog, Kind::DestinationRule, "ns2", "bar").published);
    check(&catalog, subset, Err(Gate::Subset));
    assert!(!remove(&mut catalog, Kind::EndpointSlice, "ns2", "bar-1").published);
    check(&catalog, KEY, Err(Gate::Endpoints));
    put(&mut catalog, BAR);
    check(&catalog, KEY, all);
    assert!(remove(&mut catalog, Kind::Gateway, "istio-system", "all").published);
    check(&catalog, KEY, Err(Gate::Hosts));
    put(&mut catalog, EXPOSE_ALL);
    check(&catalog, KEY, all);
    assert!(remove(&mut catalog, Kind::Service, "ns2", "bar").published);
    check(&catalog, KEY, Err(Gate::Service));
    assert_eq!(remove(&mut catalog, Kind::Service, "ns2", "bar"), Applied::default());
    put(&mut catalog, BAR);
    check(&catalog, KEY, all);
}

#[test]
fn policies_that_come_later_hold_for_what_is_there() {
    let mut catalog = catalog(&[EXPOSE_ALL, BAR]);
    let peer = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, \
                metadata: {name: p, namespace: ns2}, spec: {mtls: {mode: DISABLE}}}";
    put(&mut catalog, peer);
    check(&catalog, KEY, Err(Gate::Endpoints));
    remove(&mut catalog, Kind::PeerAuthentication, "ns2", "p");
    check(&catalog, KEY, Ok("10.0.0.1:80 10.0.0.2:80 10.0.0.3:80"));
    put(&mut catalog, &peer.replace("ns2", "istio-system"));
    check(&catalog, KEY, Err(Gate::Endpoints));
}

#[test]
fn a_retired_table_is_kept_while_a_reader_holds_it() {
    let mut catalog = catalog(&[EXPOSE_ALL, BAR]);
    let reader = Arc::clone(catalog.table());
    put(&mut catalog, SUBSETS);
    assert_eq!(Arc::strong_count(&reader), 2, "the catalog holds it, so that it ends there");
    put(&mut catalog, &slice(&["10.0.0.1"]));
    assert_eq!(Arc::strong_count(&reader), 2);
    let weak = Arc::downgrade(&reader);
    drop(reader);
    put(&mut catalog, &slice(&["10.0.0.2"]));
    assert!(weak.upgrade().is_none());
}

#[test]
fn one_change_among_many_services_looks_at_one_service() {
    let service = |i: usize| {
        let bar = BAR.split("---").take(2).collect::<Vec<_>>().join("---");
        bar.replace("bar", &format!("bar{i}"))
    };
    let many: Vec<String> = (0..500).map(service).collect();
    let mut catalog = catalog(&[EXPOSE_ALL, &many.join("---")]);
    assert_eq!(catalog.summary().services, 500);
    let one = service(7).replace("10.0.0.3", "10.0.0.9");
    assert_eq!(put(&mut catalog, &one).services, 1);
}

#[test]
fn an_object_that_is_put_again_as_it_is_can_still_be_replaced() {
    let mut catalog = catalog(&[EXPOSE_ALL, BAR]);
    assert_eq!(put(&mut catalog, BAR), Applied::default());
    put(&mut catalog, &slice(&["10.0.0.1"]));
    check(&catalog, KEY, Ok("10.0.0.1:80"));
}

#[test]
fn an_endpoint_is_new_when_it_joins_a_service_that_is_there() {
    let start = Instant::now();
    let later = start + Duration::from_secs(60);
    let mut catalog = Catalog::new(Identity::default(), Arc::new(SharedTable::new()));
    let put_at = |catalog: &mut Catalog, yaml: &str, now: Instant| {
        let changes: Vec<Change> = objects(yaml).into_iter().map(Change::Put).collect();
        catalog.apply_at(&changes, now);
    };
    let added = |catalog: &Catalog| {
        let table = catalog.table();
        let set = table.service("bar.ns2.svc.cluster.local").expect("bar").routes[0]
            .endpoints
            .load_full();
        set.endpoints().iter().map(|endpoint| endpoint.added).collect::<Vec<_>>()
    };
    let two = BAR.replace("- {addresses: [10.0.0.3], targetRef: {kind: Pod, name: bar-3}}", "");
    put_at(&mut catalog, &two, start);
    assert_eq!(added(&catalog), [None, None], "who was first is as warm as anybody");
    put_at(&mut catalog, BAR, later);
    assert_eq!(added(&catalog), [None, None, Some(later)]);
    let relabelled = BAR.replace("version: v2", "version: v3");
    put_at(&mut catalog, &relabelled, later + Duration::from_secs(1));
    assert_eq!(added(&catalog)[2], Some(later), "it is the same pod");
    put_at(&mut catalog, &two, later);
    assert_eq!(added(&catalog).len(), 2);
    let again = later + Duration::from_secs(9);
    put_at(&mut catalog, BAR, again);
    assert_eq!(added(&catalog)[2], Some(again), "it was gone and is new again");
}
