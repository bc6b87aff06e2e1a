//! Names of single pods of headless Services.

use super::*;

/// Headless Service ns2/kafka with three pods, the last of which is not ready.
const KAFKA: &str = "
apiVersion: v1
kind: Service
metadata: {name: kafka, namespace: ns2}
spec: {clusterIP: None, ports: [{name: tcp, port: 9092}], selector: {app: kafka}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kafka-x, namespace: ns2, labels: {kubernetes.io/service-name: kafka}}
addressType: IPv4
ports: [{name: tcp, port: 9092}]
endpoints:
- {addresses: [10.0.0.1], hostname: pod-0, targetRef: {kind: Pod, name: pod-0}}
- {addresses: [10.0.0.2], hostname: pod-1, targetRef: {kind: Pod, name: pod-1}}
- {addresses: [10.0.0.3], hostname: pod-2, conditions: {ready: false}, targetRef: {kind: Pod, name: pod-2}}
---
apiVersion: v1
kind: Pod
metadata: {name: pod-0, namespace: ns2, labels: {v: a, security.istio.io/tlsMode: istio}}
---
apiVersion: v1
kind: Pod
metadata: {name: pod-1, namespace: ns2, labels: {v: b, security.istio.io/tlsMode: istio}}
";

const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: kafka, namespace: ns2}
spec:
  host: kafka
  subsets: [{name: b, labels: {v: b}}]
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}
";

fn per_pod(yaml: &[&str]) -> Catalog {
    catalog_of(Identity { per_pod_names: true, ..Identity::default() }, yaml)
}

fn of_pod(n: u32, subset: &str) -> String {
    format!("outbound_.9092_.{subset}_.pod-{n}.kafka.ns2.global")
}

#[test]
fn a_pod_is_found_by_its_hostname_only_where_that_is_asked_for() {
    let on = per_pod(&[EXPOSE_ALL, KAFKA, RULE]);
    check(&on, &of_pod(0, ""), Ok("10.0.0.1:9092"));
    check(&on, &of_pod(1, ""), Ok("10.0.0.2:9092"));
    check(&on, &of_pod(2, ""), Err(Gate::Endpoints));
    check(&on, &of_pod(3, ""), Err(Gate::Service));
    check(&on, &of_pod(1, "b"), Ok("10.0.0.2:9092"));
    check(&on, &of_pod(0, "b"), Err(Gate::Endpoints));
    check(&on, &of_pod(0, "c"), Err(Gate::Subset));
    check(&on, "outbound_.9092_._.pod-0.kafka.ns2.svc.cluster.local", Ok("10.0.0.1:9092"));
    let both = Ok("10.0.0.1:9092 10.0.0.2:9092");
    check(&on, "outbound_.9092_._.kafka.ns2.global", both);
    let off = catalog(&[EXPOSE_ALL, KAFKA, RULE]);
    check(&off, &of_pod(0, ""), Err(Gate::Service));
    check(&off, "outbound_.9092_._.kafka.ns2.global", both);
    let with_ip = KAFKA.replace("clusterIP: None", "clusterIP: 10.96.0.1");
    check(&per_pod(&[EXPOSE_ALL, &with_ip]), &of_pod(0, ""), Err(Gate::Service));
}

#[test]
fn a_pod_has_the_counters_and_the_policy_of_its_service() {
    let catalog = per_pod(&[EXPOSE_ALL, KAFKA, RULE]);
    let table = catalog.table();
    let set = |host: &str| table.service(host).expect(host).routes[0].endpoints.load_full();
    let (pod, whole) =
        (set("pod-0.kafka.ns2.svc.cluster.local"), set("kafka.ns2.svc.cluster.local"));
    assert!(Arc::ptr_eq(&pod.endpoints()[0], &whole.endpoints()[0]));
    assert_eq!(pod.policy().max_connections, Some(7));
    let why = left_out(&catalog, "pod-2.kafka.ns2.svc.cluster.local", "10.0.0.3:9092");
    assert_eq!(why.as_deref(), Some("not ready"));
}

#[test]
fn hosts_of_a_gateway_have_to_cover_the_longer_name() {
    let narrow = EXPOSE_ALL.replace("hosts: ['*']", "hosts: [kafka.ns2.global]");
    let catalog = per_pod(&[&narrow, KAFKA]);
    check(&catalog, &of_pod(0, ""), Err(Gate::Hosts));
    let private = KAFKA.replacen(
        "namespace: ns2}",
        "namespace: ns2, annotations: {networking.istio.io/exportTo: '.'}}",
        1,
    );
    check(&per_pod(&[EXPOSE_ALL, &private]), &of_pod(0, ""), Err(Gate::ExportTo));
}

#[test]
fn names_follow_the_pods() {
    let mut catalog = per_pod(&[EXPOSE_ALL, KAFKA]);
    let moved = KAFKA.replace("10.0.0.1", "10.0.0.9");
    let applied = put(&mut catalog, &moved);
    check(&catalog, &of_pod(0, ""), Ok("10.0.0.9:9092"));
    assert!(!applied.published && applied.swapped == 2, "{applied:?}");
    put(&mut catalog, &moved.replace("hostname: pod-0, ", ""));
    check(&catalog, &of_pod(0, ""), Err(Gate::Service));
    check(&catalog, &of_pod(1, ""), Ok("10.0.0.2:9092"));
    // Whatever makes everything be planned anew keeps them.
    put(&mut catalog, &EXPOSE_ALL.replace("name: all", "name: more"));
    check(&catalog, &of_pod(1, ""), Ok("10.0.0.2:9092"));
    remove(&mut catalog, Kind::Service, "ns2", "kafka");
    check(&catalog, &of_pod(1, ""), Err(Gate::Service));
    assert_eq!(catalog.table().services().count(), 0);
}
