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
    assert_eq!(plain(&[&entry("vm", &only.replace("STATIC", "DNS"))]).findings().len(), 1);
}

#[test]
fn a_name_waits_for_its_answer_and_addresses_beside_it_are_used() {
    let dns = BASE.replace("STATIC", "DNS");
    let endpoints = "endpoints: [{address: GW.example.org., serviceAccount: vm}, \
                     {address: 10.1.0.1, serviceAccount: vm}, {address: 'unix:///a'}]";
    let mut catalog = plain(&[&entry("vm", &format!("{dns}, {endpoints}"))]);
    check(&catalog, KEY, Ok("10.1.0.1:80"));
    let reason = left_out(&catalog, "vm.mesh", "GW.example.org.:80").expect("left out");
    assert!(reason.contains("answer of DNS"), "{reason}");
    assert_eq!(wanted(&catalog), ["gw.example.org"]);
    // Of what is answered, what must not be dialled is refused as if it had been written.
    resolve(&mut catalog, "gw.example.org", &["10.2.0.2", "169.254.169.254", "10.2.0.1"]);
    check(&catalog, KEY, Ok("10.1.0.1:80 10.2.0.1:80 10.2.0.2:80"));
    let reason = left_out(&catalog, "vm.mesh", "169.254.169.254:80").expect("left out");
    assert!(reason.contains("link-local"), "{reason}");
    resolve(&mut catalog, "gw.example.org", &["10.2.0.9"]);
    check(&catalog, KEY, Ok("10.1.0.1:80 10.2.0.9:80"));
    resolve(&mut catalog, "other.example.org", &["10.6.6.6"]);
    check(&catalog, KEY, Ok("10.1.0.1:80 10.2.0.9:80"));
}

#[test]
fn dns_without_endpoints_means_the_host_itself() {
    let dns = BASE.replace("STATIC", "DNS") + ", endpoints: []";
    let labels = "labels: {security.istio.io/tlsMode: istio}, name";
    let mut catalog = plain(&[&entry("vm", &dns).replacen("name", labels, 1)]);
    assert_eq!(wanted(&catalog), ["vm.mesh"]);
    check(&catalog, KEY, Err(Gate::Endpoints));
    resolve(&mut catalog, "vm.mesh", &["10.2.0.1"]);
    check(&catalog, KEY, Ok("10.2.0.1:80"));
}

#[test]
fn the_name_of_a_local_service_is_what_the_manifests_say_of_it() {
    let service = |extra: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: gw, namespace: a}}, spec: \
             {{ports: [{{name: tls, port: 15443}}]{extra}}}}}"
        )
    };
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: gw-1, \
                 namespace: a, labels: {kubernetes.io/service-name: gw}}, addressType: IPv4, \
                 ports: [{name: tls, port: 443}], endpoints: [{addresses: [10.3.0.1]}]}";
    let endpoints = "endpoints: [{address: gw.a.svc.cluster.local, serviceAccount: vm, \
                     ports: {http: 15443}}]";
    let dns = entry("vm", &format!("{}, {endpoints}", BASE.replace("STATIC", "DNS")));
    let mut catalog = plain(&[&dns]);
    assert_eq!(wanted(&catalog), ["gw.a.svc.cluster.local"]);
    put(&mut catalog, &service(", clusterIP: 10.96.0.9"));
    assert_eq!(wanted(&catalog), [""; 0]);
    check(&catalog, KEY, Ok("10.96.0.9:15443"));
    put(&mut catalog, slice);
    check(&catalog, KEY, Ok("10.3.0.1:443"));
    put(&mut catalog, &slice.replace("10.3.0.1", "10.3.0.2"));
    check(&catalog, KEY, Ok("10.3.0.2:443"));
}

fn wanted(catalog: &Catalog) -> Vec<String> {
    catalog.names_wanted().iter().map(ToString::to_string).collect()
}

fn resolve(catalog: &mut Catalog, name: &str, addresses: &[&str]) {
    let addresses = addresses.iter().map(|ip| ip.parse().expect("an address")).collect();
    catalog.apply(&[Change::Resolved(name.into(), addresses)]);
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
    let well = ", status: {conditions: [{type: Healthy, status: 'True'}]}";
    // Its health is checked; before the first answer it has none.
    let checked = {
        let checks = "proxy.istio.io/health-checks-enabled: 'true'";
        format!("namespace: a, annotations: {{{checks}}}")
    };
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
        &workload("w7", "10.1.0.7", &checked, "labels: {app: vm}", ""),
        &workload("w8", "10.1.0.8", &checked, "labels: {app: vm}", well),
        &workload("w6", "10.1.0.6", "namespace: a", "labels: {app: vm}, ports: {http: 9}", ""),
        &pod("p1", "10.2.0.1", ""),
        &pod("p2", "10.2.0.2", ", phase: Succeeded"),
        &pod("p3", "10.2.0.3", ", conditions: [{type: Ready, status: 'False'}]"),
    ]);
    check(&catalog, KEY, Ok("10.1.0.1:80 10.1.0.2:80 10.1.0.6:9 10.1.0.8:80 10.2.0.1:80"));
    assert_eq!(left_out(&catalog, "vm.mesh", "10.1.0.5:80").as_deref(), Some("not ready"));
    assert_eq!(left_out(&catalog, "vm.mesh", "10.1.0.7:80").as_deref(), Some("not ready"));
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
