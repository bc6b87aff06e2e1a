//! Two clusters and more on hosts of their own: a caller that reaches nobody but a gateway calls a
//! service by name, with an unmodified curl, and an unmodified HTTP server answers.

use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, TcpStream},
};

use crate::support::{host::Host, tools};

mod world;

use world::{Caller, Cluster, Egress, Mesh};

/// By this address nobody is reached from a host.
fn is_unreachable(caller: &Caller, to: SocketAddr) {
    let error = caller.host.within(|| TcpStream::connect(to)).expect_err("there is no way");
    assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable, "{to}: {error}");
}

/// Calls until these have answered, by names that take turns, and nobody else.
fn all_answer(caller: &Caller, names: &[&str], expected: &[&str]) {
    let mut answered = BTreeSet::new();
    for round in 0..20 {
        for name in names {
            let url = format!("http://{name}:8080/");
            let said = caller.curl(&url);
            assert!(said.good, "{url}: {said:?}");
            let pod = said.stdout.trim().to_owned();
            assert!(expected.contains(&pod.as_str()), "{url}: {pod:?} answered");
            answered.insert(pod);
        }
        if round >= 2 && answered.len() == expected.len() {
            return;
        }
    }
    panic!("of {expected:?} only {answered:?} answered");
}

#[test]
fn a_caller_that_reaches_only_the_gateway_calls_by_name_what_no_route_leads_to() {
    if tools::find("curl").is_none() || tools::find("python3").is_none() {
        return;
    }
    let mesh = Mesh::new();
    let Some(two) = Cluster::start(&mesh, 2, "v1", &["pod-a", "pod-b"]) else { return };
    let Some(caller) = Host::new() else { return };
    caller.link("10.100.0.2/24", &two.gateway, "10.100.0.1/24");
    mesh.entry("bar", "bar.ns2.global", world::VIP, &[([10, 100, 0, 1], 15443).into()], "");
    let caller = Caller::start(caller, &mesh, &[]);
    for pod in two.addresses() {
        is_unreachable(&caller, pod);
        two.gateway.within(|| TcpStream::connect(pod)).expect("the gateway reaches its pods");
    }

    all_answer(&caller, &["bar.ns2.global", "bar.ns2"], &["pod-a", "pod-b"]);

    let nobody = caller.curl("http://nobody.ns2.global:8080/");
    assert!(!nobody.good && nobody.stderr.contains("Could not resolve host"), "{nobody:?}");
    for line in two.connections(6) {
        assert_eq!(line["requested_server_name"], "outbound_.8080_._.bar.ns2.global", "{line}");
        assert!(world::source(&line).starts_with("10.100.0.2:"), "{line}");
    }
}

#[test]
fn through_the_egress_gateway_a_caller_never_meets_the_other_cluster() {
    if tools::find("curl").is_none() || tools::find("python3").is_none() {
        return;
    }
    let mesh = Mesh::new();
    let Some(two) = Cluster::start(&mesh, 2, "v1", &["pod-a", "pod-b"]) else { return };
    let (Some(caller), Some(egress)) = (Host::new(), Host::new()) else { return };
    caller.link("10.100.0.2/24", &egress, "10.100.0.1/24");
    egress.link("10.101.0.2/24", &two.gateway, "10.101.0.1/24");
    mesh.write("bar", &world::egress_entry("10.100.0.1", "10.101.0.1"));
    let egress = Egress::start(egress, &mesh);
    let caller = Caller::start(caller, &mesh, &[]);
    is_unreachable(&caller, ([10, 101, 0, 1], 15443).into());
    two.addresses().for_each(|pod| is_unreachable(&caller, pod));

    all_answer(&caller, &["bar.ns2.global", "bar.ns2"], &["pod-a", "pod-b"]);

    for (lines, source) in
        [(egress.connections(6), "10.100.0.2:"), (two.connections(6), "10.101.0.2:")]
    {
        for line in lines {
            assert_eq!(line["requested_server_name"], "outbound_.8080_._.bar.ns2.global", "{line}");
            assert!(world::source(&line).starts_with(source), "{line}");
        }
    }
}

#[test]
fn a_labelled_entry_leads_to_the_gateway_of_the_subset_and_without_one_to_both() {
    if tools::find("curl").is_none() || tools::find("python3").is_none() {
        return;
    }
    let mesh = Mesh::new();
    let Some(two) = Cluster::start(&mesh, 2, "beta", &["pod-beta"]) else { return };
    let Some(three) = Cluster::start(&mesh, 3, "stable", &["pod-stable"]) else { return };
    let Some(mut caller) = Host::new() else { return };
    caller.link("10.100.0.2/24", &two.gateway, "10.100.0.1/24");
    caller.link("10.101.0.2/24", &three.gateway, "10.101.0.1/24");
    mesh.write("bar", &world::labelled_entry("10.100.0.1", "10.101.0.1"));
    for (subset, expected) in [
        (None, &["pod-beta", "pod-stable"][..]),
        (Some("beta"), &["pod-beta"]),
        (Some("stable"), &["pod-stable"]),
    ] {
        let subset = subset.map(|name| format!("bar.ns2.global={name}"));
        let more: Vec<&str> = subset.iter().flat_map(|subset| ["--subset", subset]).collect();
        let calling = Caller::start(caller, &mesh, &more);
        all_answer(&calling, &["bar.ns2.global", "bar.ns2"], expected);
        caller = calling.host;
    }
    for (cluster, subset) in [(&two, "beta"), (&three, "stable")] {
        let asked: BTreeSet<_> =
            cluster.connections(1).iter().map(|l| l["requested_server_name"].to_string()).collect();
        let key = |subset| format!("\"outbound_.8080_.{subset}_.bar.ns2.global\"");
        assert_eq!(asked, [key(""), key(subset)].into());
    }
}
