//! Joining Services, slices, Endpoints and pods.

use super::*;

/// A catalog that asks for no evidence of mesh TLS, so that endpoints alone are seen.
fn open(yaml: &[&str]) -> Catalog {
    let identity = Identity { require_mesh_tls: false, ..Identity::default() };
    let mut all = vec![EXPOSE_ALL];
    all.extend(yaml);
    catalog_of(identity, &all)
}

fn service(spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: a}}, spec: {{{spec}}}}}"
    )
}

fn slice(name: &str, ports: &str, endpoints: &str) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, \
         namespace: a, labels: {{kubernetes.io/service-name: web}}}}, addressType: IPv4, \
         ports: [{ports}], endpoints: [{endpoints}]}}"
    )
}

fn endpoints(subsets: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Endpoints, metadata: {{name: web, namespace: a}}, \
         subsets: [{subsets}]}}"
    )
}

const KEY: &str = "outbound_.80_._.web.a.global";
const ONE: &str = "{addresses: [10.0.0.1]}";

#[test]
fn endpoints_are_joined_by_the_name_of_the_port() {
    let two = service("ports: [{name: http, port: 80}, {name: admin, port: 9090}]");
    let joined = open(&[
        &two,
        &slice("s1", "{name: http, port: 8080}, {name: admin, port: 9000}", ONE),
        &slice("s2", "{name: http, port: 8081}", "{addresses: [10.0.0.2]}"),
        &slice("s3", "{name: other, port: 80}", "{addresses: [10.0.0.3]}"),
        &slice("s4", "{name: http, port: 80, protocol: UDP}", "{addresses: [10.0.0.4]}"),
    ]);
    check(&joined, KEY, Ok("10.0.0.1:8080 10.0.0.2:8081"));
    check(&joined, "outbound_.9090_._.web.a.global", Ok("10.0.0.1:9000"));
    let unnamed = open(&[&service("ports: [{port: 80}]"), &slice("s", "{port: 8080}", ONE)]);
    check(&unnamed, KEY, Ok("10.0.0.1:8080"));
    let null = open(&[&service("ports: [{port: 80}]"), &slice("s", "{name: '', port: 8080}", ONE)]);
    check(&null, KEY, Ok("10.0.0.1:8080"));
}

#[test]
fn what_cannot_be_served_over_tcp_is_not() {
    let slices = slice("s", "{name: x, port: 53, protocol: UDP}, {port: 80}", ONE);
    for spec in [
        "ports: [{name: x, port: 80, protocol: UDP}]",
        "ports: [{name: x, port: 80, protocol: SCTP}]",
        "type: ExternalName, externalName: example.org, ports: [{port: 80}]",
    ] {
        let found = ask(&open(&[&service(spec), &slices]), KEY);
        assert!(matches!(found, Err(Gate::Port | Gate::Service)), "{spec} {found:?}");
    }
    for spec in ["clusterIP: None, ports: [{port: 80}]", "type: LoadBalancer, ports: [{port: 80}]"]
    {
        check(&open(&[&service(spec), &slices]), KEY, Ok("10.0.0.1:80"));
    }
}

#[test]
fn only_what_is_ready_and_stays_is_served() {
    for (conditions, served) in [
        ("", true),
        ("ready: true", true),
        ("ready: null", true),
        ("ready: false", false),
        ("ready: true, terminating: true", false),
        ("ready: false, serving: true, terminating: true", false),
        ("ready: true, serving: true, terminating: false", true),
    ] {
        let endpoint = format!("{{addresses: [10.0.0.1], conditions: {{{conditions}}}}}");
        let catalog =
            open(&[&service("ports: [{port: 80}]"), &slice("s", "{port: 80}", &endpoint)]);
        let expected = if served { Ok("10.0.0.1:80") } else { Err(Gate::Endpoints) };
        check(&catalog, KEY, expected);
        let reason = left_out(&catalog, "web.a.svc.cluster.local", "10.0.0.1:80");
        assert_eq!(reason.is_none(), served, "{conditions}");
    }
}

#[test]
fn slices_of_both_families_add_up_and_an_address_counts_once() {
    let six = slice("s6", "{port: 80}", "{addresses: ['fd00::1']}").replace("IPv4", "IPv6");
    let names = slice("s7", "{port: 80}", "{addresses: [example.org]}").replace("IPv4", "FQDN");
    let catalog = open(&[
        &service("ports: [{port: 80}]"),
        &slice("s1", "{port: 80}", "{addresses: [10.0.0.2]}, {addresses: [10.0.0.1]}"),
        &slice("s2", "{port: 80}", ONE),
        &slice("s3", "{port: 80}", "{addresses: [10.0.0.2], conditions: {ready: false}}"),
        &six,
        &names,
    ]);
    check(&catalog, KEY, Ok("10.0.0.1:80 10.0.0.2:80 [fd00::1]:80"));
    assert!(catalog.left_out().is_empty());
}

#[test]
fn endpoints_of_the_old_kind_count_only_without_a_slice() {
    let web = service("ports: [{name: http, port: 80}]");
    let old = endpoints(
        "{addresses: [{ip: 10.0.0.8}], notReadyAddresses: [{ip: 10.0.0.9}], \
         ports: [{name: http, port: 8080}]}, \
         {addresses: [{ip: 10.0.0.7}], ports: [{name: x, port: 1}]}",
    );
    let alone = open(&[&web, &old]);
    check(&alone, KEY, Ok("10.0.0.8:8080"));
    let reason = left_out(&alone, "web.a.svc.cluster.local", "10.0.0.9:8080");
    assert_eq!(reason.as_deref(), Some("not ready"));
    check(&open(&[&web, &old, &slice("s", "{name: http, port: 1}", ONE)]), KEY, Ok("10.0.0.1:1"));
    check(
        &open(&[&web, &old, &slice("s", "{name: http, port: 1}", "")]),
        KEY,
        Err(Gate::Endpoints),
    );
}

#[test]
fn addresses_that_are_never_endpoints_are_refused_one_by_one() {
    let all = "{addresses: [10.0.0.1]}, {addresses: [127.0.0.1]}, {addresses: [169.254.169.254]}, \
               {addresses: [0.0.0.0]}, {addresses: [224.0.0.1]}, {addresses: [10.9.9.9]}";
    let yaml = [EXPOSE_ALL, &service("ports: [{port: 80}]"), &slice("s", "{port: 15443}", all)]
        .join("\n---\n");
    let identity = Identity {
        require_mesh_tls: false,
        listeners: vec!["[::]:15443".parse().expect("a listener")],
        own_addresses: vec!["10.9.9.9".parse().expect("an address")],
        ..Identity::default()
    };
    let catalog = catalog_of(identity.clone(), &[&yaml]);
    check(&catalog, KEY, Ok("10.0.0.1:15443"));
    assert_eq!(catalog.left_out().len(), 5);
    let loopback = vec!["127.0.0.1:1".parse().expect("a listener")];
    let catalog = catalog_of(Identity { listeners: loopback, ..identity }, &[&yaml]);
    check(&catalog, KEY, Ok("10.0.0.1:15443 10.9.9.9:15443 127.0.0.1:15443"));
}

/// Pods of one service, told apart by the label that a subset asks for.
fn labelled(endpoint: &str, pod: &str) -> Catalog {
    let rule = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
                metadata: {name: web, namespace: a}, spec: {host: web, \
                subsets: [{name: v1, labels: {version: v1}}]}}";
    open(&[
        &service("ports: [{port: 80}]"),
        &slice("s", "{port: 80}", endpoint),
        &format!("{{apiVersion: v1, kind: Pod, {pod}}}"),
        rule,
    ])
}

#[test]
fn a_pod_is_found_by_reference_or_else_by_address() {
    let named = "{addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-1}}";
    let other = "{addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-2}}";
    let node = "{addresses: [10.0.0.1], targetRef: {kind: Node, name: web-1}}";
    let pod = |more: &str| {
        format!("metadata: {{name: web-1, namespace: a, labels: {{version: v1}}}}{more}")
    };
    let at = pod(", status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}");
    let over = pod(", status: {podIP: 10.0.0.1, phase: Succeeded}");
    let on_host = pod(", spec: {hostNetwork: true}, status: {podIP: 10.0.0.1}");
    let subset = "outbound_.80_.v1_.web.a.global";
    for (endpoint, pod, found) in [
        (named, &pod(""), true),
        (other, &at, false),
        (ONE, &at, true),
        (node, &at, true),
        (ONE, &pod(""), false),
        (ONE, &over, false),
        (ONE, &on_host, false),
        (named, &on_host, true),
    ] {
        let catalog = labelled(endpoint, pod);
        check(&catalog, KEY, Ok("10.0.0.1:80"));
        check(&catalog, subset, if found { Ok("10.0.0.1:80") } else { Err(Gate::Endpoints) });
    }
}

#[test]
fn locality_is_the_pods_label_or_else_its_nodes() {
    let node = "{apiVersion: v1, kind: Node, metadata: {name: n1, labels: \
                {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z, \
                topology.istio.io/subzone: s}}}";
    let named = "{addresses: [10.0.0.1], targetRef: {kind: Pod, name: p}}";
    let on_node = "{addresses: [10.0.0.1], nodeName: n1}";
    let pod = |labels: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: a, \
             labels: {{{labels}}}}}, spec: {{nodeName: n1}}}}"
        )
    };
    for (endpoint, labels, expected) in [
        (named, "", "r/z/s"),
        (named, "istio-locality: a.b.c", "a/b/c"),
        (named, "istio-locality: a", "a//"),
        (on_node, "", "r/z/s"),
        (ONE, "", "//"),
    ] {
        let catalog = open(&[
            &service("ports: [{port: 80}]"),
            &slice("s", "{port: 80}", endpoint),
            &pod(labels),
            node,
        ]);
        let routes = &catalog.table().service("web.a.svc.cluster.local").expect("web").routes;
        let found = routes[0].endpoints.load().endpoints()[0].locality.to_string();
        assert_eq!(found, expected, "{endpoint} {labels}");
    }
}

#[test]
fn a_service_for_the_node_alone_has_the_endpoints_of_our_node() {
    let local = service("internalTrafficPolicy: Local, ports: [{port: 80}]");
    let two = "{addresses: [10.0.0.1], nodeName: n1}, {addresses: [10.0.0.2], nodeName: n2}";
    let yaml = [EXPOSE_ALL, &local, &slice("s", "{port: 80}", two)].join("\n---\n");
    let open = Identity { require_mesh_tls: false, ..Identity::default() };
    check(&catalog_of(open.clone(), &[&yaml]), KEY, Ok("10.0.0.1:80 10.0.0.2:80"));
    let here = Identity { node: Some("n2".into()), ..open };
    check(&catalog_of(here, &[&yaml]), KEY, Ok("10.0.0.2:80"));
}
