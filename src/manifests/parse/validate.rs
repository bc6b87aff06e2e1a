//! Rules that one object must keep and its types cannot say.
//!
//! Must not know: other objects. What refers to another object is judged where objects meet.

use std::{collections::BTreeSet, fmt::Display, time::Duration};

use super::fault::Fault;
use crate::manifests::{
    Object,
    kinds::{
        DestinationRule, EndpointSlice, Endpoints, Gateway, PeerAuthentication, Service,
        WorkloadEntry,
        destination_rule::{LoadBalancer, OutlierDetection, TcpSettings, TrafficPolicy},
        endpoints::AddressType,
        host::Address,
        service::{ServiceType, Transport},
    },
};

mod balancer;
mod service_entry;

/// What the Linux kernel takes of keepalive (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPCNT`).
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
const KEEPALIVE_PROBES_MAX: u32 = 127;

/// Adds a fault for every rule that `object` breaks.
pub(super) fn check(object: &Object, faults: &mut Vec<Fault>) {
    check_name(object, faults);
    match object {
        Object::Service(service) => check_service(service, faults),
        Object::EndpointSlice(slice) => check_slice(slice, faults),
        Object::Endpoints(endpoints) => check_endpoints(endpoints, faults),
        Object::Gateway(gateway) => check_gateway(gateway, faults),
        Object::ServiceEntry(entry) => service_entry::check(&entry.spec, faults),
        Object::WorkloadEntry(entry) => check_workload_entry(entry, faults),
        Object::DestinationRule(rule) => check_destination_rule(rule, faults),
        Object::PeerAuthentication(rule) => check_peer_authentication(rule, faults),
        Object::Pod(_)
        | Object::Node(_)
        | Object::Namespace(_)
        | Object::EnvoyFilter(_)
        | Object::ConfigMap(_) => {}
    }
}

/// Kubernetes takes DNS names of RFC 1123 in lower case: one label of at most 63 bytes for a
/// Service, whose name is a part of host names, and labels joined by dots, at most 253 bytes, for
/// the rest.
fn check_name(object: &Object, faults: &mut Vec<Fault>) {
    let name = &*object.meta().name;
    let is_label = |label: &str| {
        let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty()
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let (good, wanted) = match object {
        Object::Service(_) => (is_label(name) && name.len() <= 63, "up to 63 of a-z, 0-9 and -"),
        _ => (
            name.split('.').all(is_label) && name.len() <= 253,
            "up to 253 of a-z, 0-9, - and dots",
        ),
    };
    if !good {
        let start: String = name.chars().take(63).collect();
        let message = format!("\"{}\" is no name: write {wanted}", start.escape_debug());
        faults.push(Fault::new(message).field("metadata.name"));
    }
}

fn check_service(service: &Service, faults: &mut Vec<Fault>) {
    let spec = &service.spec;
    let ports = || spec.ports.iter();
    twice(ports().map(|port| &port.name), "spec.ports[]", "name", "port name", faults);
    let numbers = ports().map(|port| PortAndTransport(port.port, port.protocol));
    twice(numbers, "spec.ports[]", "port", "port", faults);
    if spec.service_type == ServiceType::ExternalName && spec.external_name.is_none() {
        let message = "is missing: a Service of type ExternalName needs it";
        faults.push(Fault::new(message).field("spec.externalName"));
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct PortAndTransport(u16, Transport);

impl Display for PortAndTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:?}", self.0, self.1)
    }
}

fn check_slice(slice: &EndpointSlice, faults: &mut Vec<Fault>) {
    twice(slice.ports.iter().map(|port| &port.name), "ports[]", "name", "port name", faults);
    if slice.service().is_none() {
        let message = "is missing: without this label no Service has these endpoints";
        let field = "metadata.labels.kubernetes.io/service-name";
        faults.push(Fault::warning(message).field(field));
    }
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        if endpoint.addresses.is_empty() {
            let field = format!("endpoints[{index}].addresses");
            faults.push(Fault::new("is empty: an endpoint has an address").field(field));
        }
        for (place, address) in endpoint.addresses.iter().enumerate() {
            let wanted = match (slice.address_type, address) {
                (AddressType::IPv4, Address::Ip(ip)) if ip.is_ipv4() => continue,
                (AddressType::IPv6, Address::Ip(ip)) if ip.is_ipv6() => continue,
                (AddressType::Fqdn, _) => continue,
                (AddressType::IPv4, _) => "IPv4",
                (AddressType::IPv6, _) => "IPv6",
            };
            let message = format!("`{address}` is not an {wanted} address, as addressType says");
            let field = format!("endpoints[{index}].addresses[{place}]");
            faults.push(Fault::new(message).field(field));
        }
    }
}

fn check_endpoints(endpoints: &Endpoints, faults: &mut Vec<Fault>) {
    for (index, subset) in endpoints.subsets.iter().enumerate() {
        let list = format!("subsets[{index}].ports[]");
        twice(subset.ports.iter().map(|port| &port.name), &list, "name", "port name", faults);
    }
}

fn check_gateway(gateway: &Gateway, faults: &mut Vec<Fault>) {
    for (index, server) in gateway.spec.servers.iter().enumerate() {
        if server.hosts.is_empty() {
            let field = format!("spec.servers[{index}].hosts");
            faults.push(Fault::new("is empty: list at least one host, or `*`").field(field));
        }
    }
}

fn check_workload_entry(entry: &WorkloadEntry, faults: &mut Vec<Fault>) {
    match &entry.spec.address {
        None if entry.spec.network.is_none() => {
            let message = "is missing: write an address, or the network whose gateway is dialled";
            faults.push(Fault::new(message).field("spec.address"));
        }
        Some(Address::Name(name)) if !service_entry::is_host(name) => {
            let message = format!("`{name}` is not an IP address, a host or a unix: path");
            faults.push(Fault::new(message).field("spec.address"));
        }
        _ => {}
    }
}

fn check_destination_rule(rule: &DestinationRule, faults: &mut Vec<Fault>) {
    let spec = &rule.spec;
    if let Some(policy) = &spec.traffic_policy {
        check_policy(policy, "spec.trafficPolicy", faults);
    }
    let names = spec.subsets.iter().map(|subset| &subset.name);
    twice(names, "spec.subsets[]", "name", "subset", faults);
    for (index, subset) in spec.subsets.iter().enumerate() {
        if !is_subset_name(&subset.name) {
            let message = format!(
                "`{}` is not a subset name: write up to 63 letters, digits and inner `-`",
                subset.name
            );
            faults.push(Fault::new(message).field(format!("spec.subsets[{index}].name")));
        }
        if let Some(policy) = &subset.traffic_policy {
            check_policy(policy, &format!("spec.subsets[{index}].trafficPolicy"), faults);
        }
    }
}

/// As Istio has it: a DNS label, but with upper case too.
fn is_subset_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(is_inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn check_policy(policy: &TrafficPolicy, path: &str, faults: &mut Vec<Fault>) {
    let settings = |balancer, pool, outlier, path: &str, faults: &mut Vec<Fault>| {
        check_balancer(balancer, path, faults);
        check_tcp(pool, path, faults);
        check_outlier(outlier, path, faults);
    };
    let tcp = policy.connection_pool.as_deref().map(|pool| &pool.tcp);
    let (balancer, outlier) = (&policy.load_balancer, &policy.outlier_detection);
    settings(balancer.as_deref(), tcp, outlier.as_deref(), path, faults);
    let list = format!("{path}.portLevelSettings[]");
    let numbers = policy.port_level_settings.iter().map(|port| port.port.number);
    twice(numbers, &list, "port.number", "port", faults);
    for (index, port) in policy.port_level_settings.iter().enumerate() {
        let path = format!("{path}.portLevelSettings[{index}]");
        let tcp = port.connection_pool.as_deref().map(|pool| &pool.tcp);
        let (balancer, outlier) = (&port.load_balancer, &port.outlier_detection);
        settings(balancer.as_deref(), tcp, outlier.as_deref(), &path, faults);
    }
}

fn check_balancer(balancer: Option<&LoadBalancer>, path: &str, faults: &mut Vec<Fault>) {
    let Some(balancer) = balancer else { return };
    if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
        let message = "has both simple and consistentHash: keep one of them";
        faults.push(Fault::new(message).field(format!("{path}.loadBalancer")));
    }
    balancer::check(balancer, &format!("{path}.loadBalancer"), faults);
    let Some(setting) = &balancer.locality_lb_setting else { return };
    for (index, distribute) in setting.distribute.iter().enumerate() {
        let sum: u64 = distribute.to.iter().map(|(_, share)| u64::from(*share)).sum();
        if sum != 100 {
            let message = format!("the shares sum to {sum}: make it 100");
            let list = format!("{path}.loadBalancer.localityLbSetting.distribute");
            faults.push(Fault::new(message).field(format!("{list}[{index}].to")));
        }
    }
}

fn check_tcp(tcp: Option<&TcpSettings>, path: &str, faults: &mut Vec<Fault>) {
    let Some(tcp) = tcp else { return };
    let path = format!("{path}.connectionPool.tcp");
    if tcp.connect_timeout.is_some_and(|timeout| timeout < Duration::from_millis(1)) {
        let field = format!("{path}.connectTimeout");
        faults.push(Fault::new("is shorter than 1ms: allow some time").field(field));
    }
    let keepalive = tcp.tcp_keepalive.unwrap_or_default();
    if keepalive.probes.is_some_and(|probes| probes > KEEPALIVE_PROBES_MAX) {
        let message = format!("the kernel takes {KEEPALIVE_PROBES_MAX} at most, which are used");
        faults.push(Fault::warning(message).field(format!("{path}.tcpKeepalive.probes")));
    }
    for (field, time) in [("time", keepalive.time), ("interval", keepalive.interval)] {
        if time.is_some_and(|time| time > KEEPALIVE_MAX) {
            let most = KEEPALIVE_MAX.as_secs();
            let message = format!("the kernel takes {most}s at most, which is used");
            faults.push(Fault::warning(message).field(format!("{path}.tcpKeepalive.{field}")));
        }
    }
}

fn check_outlier(outlier: Option<&OutlierDetection>, path: &str, faults: &mut Vec<Fault>) {
    let Some(outlier) = outlier else { return };
    for (field, percent) in [
        ("maxEjectionPercent", outlier.max_ejection_percent),
        ("minHealthPercent", outlier.min_health_percent),
    ] {
        if let Some(percent) = percent.filter(|percent| *percent > 100) {
            let message = format!("{percent} is more than 100 per cent");
            faults.push(Fault::new(message).field(format!("{path}.outlierDetection.{field}")));
        }
    }
}

fn check_peer_authentication(rule: &PeerAuthentication, faults: &mut Vec<Fault>) {
    let selects = rule.spec.selector.as_ref().is_some_and(|s| !s.match_labels.is_empty());
    if !selects && rule.spec.port_level_mtls.iter().next().is_some() {
        let message = "needs a selector: ports of a whole namespace or mesh have no mode";
        faults.push(Fault::new(message).field("spec.portLevelMtls"));
    }
}

/// Adds a fault for each value that came before in `list`, of which `[]` stands for the index.
fn twice<T: Ord + Display>(
    values: impl Iterator<Item = T>,
    list: &str,
    key: &str,
    what: &str,
    faults: &mut Vec<Fault>,
) {
    let mut seen = BTreeSet::new();
    for (index, value) in values.enumerate() {
        if seen.contains(&value) {
            let message = format!("{what} `{value}` is there twice: each needs its own");
            let field = format!("{}[{index}].{key}", list.trim_end_matches("[]"));
            faults.push(Fault::new(message).field(field));
        }
        seen.insert(value);
    }
}
