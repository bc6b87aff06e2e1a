//! ServiceEntries, WorkloadEntries and networks.

use super::*;

/// A gateway without the rewrite, so that every host is asked for as it is.
fn plain(yaml: &[&str]) -> Catalog {
    let identity = Identity { rewrite_suffix: None, ..Identity::default() };
    let mut all = vec![EXPOSE_ALL];
    all.extend(yaml);
    catalog_of(identity, &all)
}

fn entry(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1beta1, kind: ServiceEntry, \
         metadata: {{name: {name}, namespace: a}}, spec: {{{spec}}}}}"
    )
}

const BASE: &str = "hosts: [vm.mesh], location: MESH_INTERNAL, resolution: STATIC, \
                    ports: [{name: http, number: 80, protocol: HTTP}]";
const KEY: &str = "outbound_.80_._.vm.mesh";

#[test]
fn only_what_is_inside_the_mesh_is_served() {
    let endpoints = "endpoints: [{address: 10.1.0.1, serviceAccount: vm}]";
    let inside = entry("vm", &format!("{BASE}, {endpoints}"));
    check(&plain(&[&inside]), KEY, Ok("10.1.0.1:80"));
    let outside = inside.replace("MESH_INTERNAL", "MESH_EXTERNAL");
    check(&plain(&[&outside]), KEY, Err(Gate::Service));
    let unset = inside.replace("location: MESH_INTERNAL,", "");
    check(&plain(&[&unset]), KEY, Err(Gate::Service));
    let udp = inside.replace("protocol: HTTP", "protocol: UDP");
    check(&plain(&[&udp]), KEY, Err(Gate::Port));
}

#[test]
fn the_port_of_an_endpoint_is_its_own_or_the_target_port_or_the_number() {
    for (target, ports, expected) in [
        ("", "", "10.1.0.1:80"),
        (", targetPort: 8080", "", "10.1.0.1:8080"),
        (", targetPort: 8080", ", ports: {http: 15443}", "10.1.0.1:15443"),
        ("", ", ports: {other: 15443}", "10.1.0.1:80"),
    ] {
        let base = BASE.replace("protocol: HTTP", &format!("protocol: HTTP{target}"));
        let endpoints = format!("endpoints: [{{address: 10.1.0.1, serviceAccount: vm{ports}}}]");
        check(&plain(&[&entry("vm", &format!("{base}, {endpoints}"))]), KEY, Ok(expected));
    }
}

#[test]
fn an_endpoint_speaks_mesh_tls_by_its_label_or_its_service_account() {
    for (endpoint, served) in [
        ("serviceAccount: vm", true),
        ("labels: {security.istio.io/tlsMode: istio}", true),
        ("labels: {security.istio.io/tlsMode: disabled}, serviceAccount: vm", false),
        ("labels: {app: vm}", false),
    ] {
        let endpoints = format!("endpoints: [{{address: 10.1.0.1, {endpoint}}}]");
        let expected = if served { Ok("10.1.0.1:80") } else { Err(Gate::Endpoints) };
        check(&plain(&[&entry("vm", &format!("{BASE}, {endpoints}"))]), KEY, expected);
    }
}

#[test]
fn weight_locality_and_labels_are_those_of_the_endpoint() {
    let endpoints = "endpoints: [\
        {address: 10.1.0.1, serviceAccount: v, weight: 0, locality: r/z, labels: {version: v1}}, \
        {address: 10.1.0.2, serviceAccount: v, weight: 7, labels: {version: v2}}]";
    let rule = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
                metadata: {name: r, namespace: a}, spec: {host: vm.mesh, \
                subsets: [{name: v2, labels: {version: v2}}]}}";
    let catalog = plain(&[&entry("vm", &format!("{BASE}, {endpoints}")), rule]);
    check(&catalog, "outbound_.80_.v2_.vm.mesh", Ok("10.1.0.2:80"));
    let routes = &catalog.table().service("vm.mesh").expect("vm").routes;
    let set = routes[0].endpoints.load();
    let facts = set.endpoints().iter().map(|e| (e.weight, e.locality.to_string()));
    assert_eq!(facts.collect::<Vec<_>>(), [(1, "r/z/".to_owned()), (7, "//".to_owned())]);
}

#[test]
fn a_wildcard_host_is_skipped_and_harms_no_other() {
    let hosts = BASE.replace("[vm.mesh]", "['*.mesh', vm.mesh, two.mesh]");
    let endpoints = "endpoints: [{address: 10.1.0.1, serviceAccount: vm}]";
    let catalog = plain(&[&entry("vm", &format!("{hosts}, {endpoints}"))]);
    check(&catalog, KEY, Ok("10.1.0.1:80"));
    check(&catalog, "outbound_.80_._.two.mesh", Ok("10.1.0.1:80"));
    check(&catalog, "outbound_.80_._.three.mesh", Err(Gate::Service));
    let findings = catalog.findings();
    assert_eq!(findings.len(), 1, "told once, not once for each host: {findings:?}");
    assert!(findings[0].message.contains("*.mesh"), "{findings:?}");
    let only = BASE.replace("[vm.mesh]", "['*.mesh']");
    assert_eq!(plain(&[&entry("vm", &only.replace("STATIC", "DNS"))]).findings().len(), 2);
}

#[test]
fn names_are_not_resolved_and_addresses_beside_them_are_used() {
    let dns = BASE.replace("STATIC", "DNS");
    let endpoints = "endpoints: [{address: gw.example.org}, \
                     {address: 10.1.0.1, serviceAccount: vm}, {address: 'unix:///a'}]";
    let catalog = plain(&[&entry("vm", &format!("{dns}, {endpoints}"))]);
    check(&catalog, KEY, Ok("10.1.0.1:80"));
    assert_eq!(catalog.findings().len(), 1);
    let reason = left_out(&catalog, "vm.mesh", "gw.example.org:80").expect("left out");
    assert!(reason.contains("not resolved"), "{reason}");
    let bare = plain(&[&entry("vm", &dns)]);
    check(&bare, KEY, Err(Gate::Endpoints));
    assert_eq!(bare.findings().len(), 1);
}

#[test]
fn a_workload_selector_takes_pods_and_workload_entries_of_its_namespace() {
    let selecting = entry("vm", &format!("{BASE}, workloadSelector: {{labels: {{app: vm}}}}"));
    let workload = |name: &str, ip: &str, meta: &str, spec: &str, status: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: {name}, \
             {meta}}}, spec: {{address: {ip}, serviceAccount: vm, {spec}}}{status}}}"
        )
    };
    let sick = ", status: {conditions: [{type: Healthy, status: 'False'}]}";
    let pod = |name: &str, ip: &str, more: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: a, labels: \
             {{app: vm, security.istio.io/tlsMode: istio}}}}, status: {{podIP: {ip}{more}}}}}"
        )
    };
    let catalog = plain(&[
        &selecting,
        &workload("w1", "10.1.0.1", "namespace: a", "labels: {app: vm}", ""),
        &workload("w2", "10.1.0.2", "namespace: a, labels: {app: vm}", "labels: {app: x}", ""),
        &workload("w3", "10.1.0.3", "namespace: a, labels: {app: x}", "labels: {app: vm}", ""),
        &workload("w4", "10.1.0.4", "namespace: b", "labels: {app: vm}", ""),
        &workload("w5", "10.1.0.5", "namespace: a", "labels: {app: vm}", sick),
        &workload("w6", "10.1.0.6", "namespace: a", "labels: {app: vm}, ports: {http: 9}", ""),
        &pod("p1", "10.2.0.1", ""),
        &pod("p2", "10.2.0.2", ", phase: Succeeded"),
        &pod("p3", "10.2.0.3", ", conditions: [{type: Ready, status: 'False'}]"),
    ]);
    check(&catalog, KEY, Ok("10.1.0.1:80 10.1.0.2:80 10.1.0.6:9 10.2.0.1:80"));
    assert_eq!(left_out(&catalog, "vm.mesh", "10.1.0.5:80").as_deref(), Some("not ready"));
    assert_eq!(left_out(&catalog, "vm.mesh", "10.2.0.3:80").as_deref(), Some("not ready"));
}

#[test]
fn a_workload_that_comes_later_is_selected() {
    let selecting = entry("vm", &format!("{BASE}, workloadSelector: {{labels: {{app: vm}}}}"));
    let mut catalog = plain(&[&selecting]);
    check(&catalog, KEY, Err(Gate::Endpoints));
    let workload = "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, \
                    metadata: {name: w, namespace: a}, \
                    spec: {address: 10.1.0.1, serviceAccount: vm, labels: {app: vm}}}";
    put(&mut catalog, workload);
    check(&catalog, KEY, Ok("10.1.0.1:80"));
    remove(&mut catalog, Kind::WorkloadEntry, "a", "w");
    check(&catalog, KEY, Err(Gate::Endpoints));
}

#[test]
fn a_service_goes_before_an_entry_of_its_host_and_that_is_said() {
    let shaded = BASE.replace("vm.mesh", "bar.ns2.svc.cluster.local").replace("80", "8080");
    let endpoints = "endpoints: [{address: 10.1.0.1, serviceAccount: vm}]";
    let mut catalog = plain(&[BAR, &entry("vm", &format!("{shaded}, {endpoints}"))]);
    let key = "outbound_.8080_._.bar.ns2.svc.cluster.local";
    check(&catalog, key, Ok("10.0.0.1:80 10.0.0.2:80 10.0.0.3:80"));
    assert_eq!(catalog.findings()[0].object.to_string(), "ServiceEntry a/vm");
    remove(&mut catalog, Kind::Service, "ns2", "bar");
    check(&catalog, key, Ok("10.1.0.1:8080"));
    assert!(catalog.findings().is_empty());
}

#[test]
fn of_two_entries_with_one_host_the_visible_and_older_is_used() {
    let of = |name: &str, ip: &str, more: &str| {
        let endpoints = format!("endpoints: [{{address: {ip}, serviceAccount: vm}}]{more}");
        entry(name, &format!("{BASE}, {endpoints}"))
    };
    let hidden = of("a", "10.1.0.1", ", exportTo: ['.']");
    let catalog = plain(&[&hidden, &of("b", "10.1.0.2", ""), &of("c", "10.1.0.3", "")]);
    check(&catalog, KEY, Ok("10.1.0.2:80"));
    assert_eq!(catalog.findings().len(), 2);
    check(&plain(&[&hidden]), KEY, Err(Gate::ExportTo));
}
