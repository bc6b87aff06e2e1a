//! The three forms, read back by the parser of manifests.

use std::path::Path;

use super::*;
use crate::{
    export::offer::Port,
    manifests::{
        Object as Read,
        kinds::{DestinationRule, ServiceEntry},
        parse,
    },
};

fn peers() -> Vec<Peer> {
    [
        "c2=d,gateway=192.0.2.2,locality=eu/eu-1,label.version=beta",
        "c3=d,gateway=192.0.2.3:443,gateway=192.0.2.4,locality=us",
        "c4=d,gateway=gw4.example",
        "c5=d,gateway=192.0.2.5,network=n5",
    ]
    .map(|text| text.parse().expect("a cluster"))
    .into()
}

fn written(
    clusters: &[usize],
    shape: &Shape,
    with_rule: bool,
) -> (ServiceEntry, Option<DestinationRule>) {
    let port = |number, name: &str, protocol| Port { number, name: name.to_owned(), protocol };
    let subsets = [("v1", vec![0, 1]), ("v2", vec![1])];
    let import = Import {
        ports: vec![port(80, "http", "HTTP"), port(90, "y", "TCP")],
        clusters: clusters.to_vec(),
        subsets: subsets
            .map(|(name, of)| {
                (name.into(), of.into_iter().filter(|n| clusters.contains(n)).collect())
            })
            .into_iter()
            .filter(|(_, of): &(_, Vec<usize>)| !of.is_empty())
            .collect(),
    };
    let address = Ipv4Addr::new(240, 240, 0, 2);
    let all = peers();
    let text = text(
        ("bar.ns2.global", &import, address),
        shape,
        &all.iter().collect::<Vec<_>>(),
        with_rule,
    );
    let parsed = parse(&Path::new("a.yaml").into(), text.as_bytes());
    assert_eq!((parsed.problems.len(), parsed.skipped.len()), (0, 0), "{:?}", parsed.problems);
    let (mut entry, mut rule) = (None, None);
    for item in parsed.items {
        let reference = item.reference.to_string();
        assert!(reference.ends_with(" mesh/bar.ns2.global"), "{reference}");
        let object = item.object.expect("a good object");
        assert_eq!(object.meta().labels.to_string(), "app.kubernetes.io/managed-by=diolkos-export");
        match object {
            Read::ServiceEntry(read) => entry = Some((*read).clone()),
            Read::DestinationRule(read) => rule = Some((*read).clone()),
            other => panic!("{other:?}"),
        }
    }
    (entry.expect("a ServiceEntry"), rule)
}

fn shape(form: Form) -> Shape {
    Shape { form, namespace: "mesh".to_owned(), ..Shape::default() }
}

/// `address:port network locality labels`, port by port name.
fn endpoints(entry: &ServiceEntry) -> Vec<String> {
    let endpoint = |e: &crate::manifests::kinds::service_entry::Workload| {
        let ports: Vec<_> = e.ports.iter().map(|(name, port)| format!("{name}:{port}")).collect();
        let labels = e.labels.iter().filter(|(key, _)| *key != "security.istio.io/tlsMode");
        assert_eq!(e.labels.get("security.istio.io/tlsMode"), Some("istio"));
        let labels: Vec<_> = labels.map(|(key, value)| format!("{key}={value}")).collect();
        let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
        let address = e.address.as_ref().expect("an address");
        let (network, locality) = (text(&e.network), text(&e.locality));
        format!("{address} {} {network} {locality} {}", ports.join(","), labels.join(","))
    };
    entry.spec.endpoints.iter().map(endpoint).collect()
}

fn subsets(rule: &DestinationRule) -> Vec<String> {
    rule.spec.subsets.iter().map(|s| format!("{}: {}", s.name, s.labels)).collect()
}

#[test]
fn the_direct_form_has_an_endpoint_for_each_gateway() {
    let (entry, rule) = written(&[0, 1], &shape(Form::Direct), true);
    let spec = &entry.spec;
    assert_eq!(spec.hosts[0].0.to_string(), "bar.ns2.global");
    assert_eq!(&*spec.addresses[0], "240.240.0.2");
    let ports: Vec<_> = spec.ports.iter().map(|p| (p.number, &*p.name, p.protocol)).collect();
    use crate::manifests::kinds::service_entry::{Location, Protocol, Resolution};
    assert_eq!(ports, [(80, "http", Protocol::Http), (90, "y", Protocol::Tcp)]);
    assert_eq!((spec.location, spec.resolution), (Location::MeshInternal, Resolution::Static));
    assert_eq!(
        endpoints(&entry),
        [
            "192.0.2.2 http:15443,y:15443 - eu/eu-1 cluster=c2,region=eu,version=beta",
            "192.0.2.3 http:443,y:443 - us cluster=c3,region=us",
            "192.0.2.4 http:15443,y:15443 - us cluster=c3,region=us",
        ]
    );
    let rule = rule.expect("a rule");
    assert_eq!(subsets(&rule), [""; 0]);
    let policy = rule.spec.traffic_policy.expect("a policy");
    let outliers = policy.outlier_detection.expect("outlier detection");
    assert_eq!(outliers.consecutive_5xx_errors, Some(5));
    assert_eq!(outliers.max_ejection_percent, Some(100));
    let locality = policy.load_balancer.and_then(|lb| lb.locality_lb_setting).expect("locality");
    assert_eq!((locality.enabled, locality.failover.len()), (Some(true), 0));
    use crate::manifests::kinds::destination_rule::ClientTlsMode;
    assert_eq!(policy.tls.expect("tls").mode, ClientTlsMode::IstioMutual);
}

#[test]
fn one_gateway_has_nothing_to_fail_over_to() {
    let (entry, rule) = written(&[2], &shape(Form::Direct), true);
    assert_eq!(endpoints(&entry), ["gw4.example http:15443,y:15443 - - cluster=c4"]);
    use crate::manifests::kinds::service_entry::Resolution;
    assert_eq!(entry.spec.resolution, Resolution::Dns);
    let policy = rule.expect("a rule").spec.traffic_policy.expect("a policy");
    assert!(policy.outlier_detection.is_none() && policy.load_balancer.is_none());
    assert!(policy.tls.is_some());
    assert!(written(&[2], &shape(Form::Direct), false).1.is_none());
}

#[test]
fn the_labelled_form_has_the_subsets_of_the_clusters() {
    let failover = vec!["eu=us".parse().expect("a failover")];
    let (entry, rule) = written(&[0, 1], &Shape { failover, ..shape(Form::Labelled) }, true);
    let rule = rule.expect("a rule");
    assert_eq!(subsets(&rule), ["v1: subset.diolkos/v1=true", "v2: cluster=c3"]);
    // Each subset picks the gateways of those clusters that have it, and no others.
    for (subset, expected) in
        rule.spec.subsets.iter().zip([vec!["c2", "c3", "c3"], vec!["c3", "c3"]])
    {
        let picked = entry.spec.endpoints.iter().filter(|e| e.labels.matches(&subset.labels));
        let picked: Vec<_> = picked.filter_map(|e| e.labels.get("cluster")).collect();
        assert_eq!(picked, expected, "{}", subset.name);
    }
    let balancer = rule.spec.traffic_policy.and_then(|policy| policy.load_balancer);
    let failover = balancer.and_then(|lb| lb.locality_lb_setting).expect("locality").failover;
    assert_eq!((&*failover[0].from, &*failover[0].to), ("eu", "us"));
}

#[test]
fn the_egress_form_shows_gateways_to_the_egress_gateway_only() {
    let egress = Some("egress.istio-system.svc.cluster.local".parse().expect("an address"));
    let (entry, rule) = written(&[0, 3], &Shape { egress, ..shape(Form::Egress) }, true);
    assert_eq!(
        endpoints(&entry),
        [
            "192.0.2.2 http:15443,y:15443 external eu/eu-1 cluster=c2,region=eu,version=beta",
            "192.0.2.5 http:15443,y:15443 n5 - cluster=c5",
            "egress.istio-system.svc.cluster.local http:15443,y:15443 - - ",
        ]
    );
    assert_eq!(subsets(&rule.expect("a rule")), [""; 0]);
}

#[test]
fn a_failover_names_two_regions() {
    for text in ["eu", "eu=", "=us", "eu=eu", "e u=us"] {
        assert!(text.parse::<Failover>().is_err(), "{text}");
    }
}
