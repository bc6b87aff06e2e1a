//! Rules of a ServiceEntry.
//!
//! Must not know: other objects.

use std::net::IpAddr;

use super::{Fault, twice};
use crate::{
    manifests::kinds::{
        host::Address,
        service_entry::{Resolution, ServiceEntrySpec, Workload},
    },
    routing::{Host, HostPattern},
};

pub(super) fn check(spec: &ServiceEntrySpec, faults: &mut Vec<Fault>) {
    if spec.hosts.is_empty() {
        faults.push(Fault::new("is empty: list at least one host").field("spec.hosts"));
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        if host.0 == HostPattern::Any {
            let message = "`*` is not a host of a service: write a name or `*.suffix`";
            faults.push(Fault::new(message).field(format!("spec.hosts[{index}]")));
        }
    }
    for (index, address) in spec.addresses.iter().enumerate() {
        if !is_ip_or_range(address) {
            let message = format!("`{address}` is not an IP address or a CIDR range");
            faults.push(Fault::new(message).field(format!("spec.addresses[{index}]")));
        }
    }
    let ports = || spec.ports.iter();
    twice(ports().map(|port| &port.name), "spec.ports[]", "name", "port name", faults);
    twice(ports().map(|port| port.number), "spec.ports[]", "number", "port", faults);
    check_endpoints(spec, faults);
}

fn check_endpoints(spec: &ServiceEntrySpec, faults: &mut Vec<Fault>) {
    if !spec.endpoints.is_empty() && spec.workload_selector.is_some() {
        let message = "stands beside endpoints: keep one of the two";
        faults.push(Fault::new(message).field("spec.workloadSelector"));
    }
    if !spec.endpoints.is_empty() && spec.resolution == Resolution::None {
        let message = "is there with resolution NONE: write resolution STATIC or DNS";
        faults.push(Fault::new(message).field("spec.endpoints"));
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let path = format!("spec.endpoints[{index}]");
        check_address(spec.resolution, endpoint, &path, faults);
        for (name, _) in endpoint.ports.iter() {
            if !spec.ports.iter().any(|port| &*port.name == name) {
                let message = format!("the ServiceEntry has no port named `{name}`");
                faults.push(Fault::new(message).field(format!("{path}.ports.{name}")));
            }
        }
    }
    let sum: u64 = spec.endpoints.iter().map(|endpoint| u64::from(endpoint.weight.max(1))).sum();
    if sum > u64::from(u32::MAX) {
        let message = format!("the weights sum to {sum}, more than {}: scale them down", u32::MAX);
        faults.push(Fault::new(message).field("spec.endpoints"));
    }
}

fn check_address(resolution: Resolution, endpoint: &Workload, path: &str, faults: &mut Vec<Fault>) {
    let is_static = resolution == Resolution::Static;
    let fault = match &endpoint.address {
        Some(Address::Ip(_)) => return,
        Some(Address::Unix(_)) if !endpoint.ports.is_empty() => {
            Fault::new("a unix: path has no ports: remove the ports of this endpoint")
        }
        Some(Address::Unix(_)) => Fault::warning("a unix: path is never dialled from here"),
        Some(Address::Name(name)) if is_static => {
            Fault::new(format!("`{name}` is not an IP address: write one, or resolution DNS"))
        }
        Some(Address::Name(name)) if is_host(name) => return,
        Some(Address::Name(name)) => {
            Fault::new(format!("`{name}` is not an IP address, a host or a unix: path"))
        }
        None if endpoint.network.is_some() => return,
        None => Fault::new("is missing: write an address, or the network whose gateway is dialled"),
    };
    faults.push(fault.field(format!("{path}.address")));
}

/// A trailing dot is DNS's way to say that a name is whole.
pub(super) fn is_host(name: &str) -> bool {
    Host::parse(name.strip_suffix('.').unwrap_or(name)).is_some()
}

fn is_ip_or_range(text: &str) -> bool {
    let (ip, prefix) = match text.split_once('/') {
        Some((ip, prefix)) => (ip, Some(prefix)),
        None => (text, None),
    };
    let Ok(ip) = ip.parse::<IpAddr>() else { return false };
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|prefix| prefix <= bits))
}
