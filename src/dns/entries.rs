//! From ServiceEntries to names and addresses.
//!
//! Pure. Every entry counts, whatever its resolution and its `exportTo`: a resolver in between
//! does not say which namespace asks. Entries that share a host are merged. Must not know: files,
//! what is asked.

use std::{collections::HashMap, net::IpAddr};

use super::{
    name::DnsName,
    zone::{Names, Zones},
};
use crate::{
    discovery::Finding,
    manifests::{
        Kind, ObjectRef,
        kinds::{
            ServiceEntry,
            service_entry::{Protocol, single_address},
        },
    },
    routing::HostPattern,
};

/// The names of `entries` that `zones` answer for, and remarks on what cannot be answered.
pub fn names<'e>(
    entries: impl IntoIterator<Item = &'e ServiceEntry>,
    zones: &Zones,
) -> (Names, Vec<Finding>) {
    let mut names = Names::new();
    let mut findings = Vec::new();
    let mut users = Users::default();
    for entry in entries {
        let mut ours = Vec::new();
        for host in &entry.spec.hosts {
            match dns_name(&host.0) {
                Some(name) if zones.apex_of(&name).is_some() => ours.push(name),
                Some(_) => {}
                None if host.0 == HostPattern::Any => {}
                None => findings.push(finding(
                    entry,
                    "spec.hosts",
                    format!("{} is no DNS name: a part may have 63 letters, the whole 253", host.0),
                )),
            }
        }
        if ours.is_empty() {
            continue;
        }
        let addresses = addresses(entry, &mut findings);
        findings.extend(users.shared(entry, &addresses));
        findings.extend(only_udp(entry));
        for name in ours {
            names.entry(name).or_default().extend(&addresses);
        }
    }
    (names, findings)
}

/// `None` for `*`, which is below no suffix, and for what is too long.
fn dns_name(host: &HostPattern) -> Option<DnsName> {
    match host {
        HostPattern::Any => None,
        HostPattern::Suffix(suffix) => DnsName::parse(&format!("*{suffix}")),
        HostPattern::Exact(host) => DnsName::parse(host.as_str()),
    }
}

fn addresses(entry: &ServiceEntry, findings: &mut Vec<Finding>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in &entry.spec.addresses {
        match single_address(text) {
            Ok(ip) => addresses.push(ip),
            Err(why) => {
                let message = format!("{text} is not answered: {why}");
                findings.push(finding(entry, "spec.addresses", message));
            }
        }
    }
    if addresses.is_empty() {
        let message = "holds no single address: its names exist and lead nowhere; give it one";
        findings.push(finding(entry, "spec.addresses", message.into()));
    }
    addresses
}

/// Which entry was the first with an address and a port.
#[derive(Default)]
struct Users<'e>(HashMap<(IpAddr, u16), &'e ServiceEntry>);

impl<'e> Users<'e> {
    /// Notes the first address and port that an entry of other hosts has too: a sidecar cannot
    /// tell their connections apart, unless they are HTTP. One remark for each entry is enough.
    fn shared(&mut self, entry: &'e ServiceEntry, addresses: &[IpAddr]) -> Option<Finding> {
        let mut shared = None;
        let tcp = entry.spec.ports.iter().filter(|port| port.protocol != Protocol::Udp);
        for port in tcp {
            for ip in addresses {
                let first = *self.0.entry((*ip, port.number)).or_insert(entry);
                let differ = !entry.spec.hosts.iter().any(|host| first.spec.hosts.contains(host));
                if differ && shared.is_none() {
                    shared = Some((*ip, port.number, first));
                }
            }
        }
        let (ip, port, first) = shared?;
        let (namespace, name) = (&first.meta.namespace, &first.meta.name);
        let message = format!(
            "{ip} with port {port} is also that of ServiceEntry {namespace}/{name}, for other hosts: \
             only HTTP says which is meant; give each an address of its own"
        );
        Some(finding(entry, "spec.addresses", message))
    }
}

/// Names are answered whatever the port, and then nothing carries what is sent.
fn only_udp(entry: &ServiceEntry) -> Option<Finding> {
    let ports = &entry.spec.ports;
    let only = !ports.is_empty() && ports.iter().all(|port| port.protocol == Protocol::Udp);
    let message = "all are UDP: its names are answered, but gateways carry only TCP";
    only.then(|| finding(entry, "spec.ports", message.into()))
}

fn finding(entry: &ServiceEntry, field: &'static str, message: String) -> Finding {
    let (namespace, name) = (entry.meta.namespace.clone(), entry.meta.name.clone());
    let object = ObjectRef { kind: Kind::ServiceEntry, namespace, name };
    Finding { object, field, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, hosts: &str, addresses: &str) -> ServiceEntry {
        let yaml = format!(
            "{{metadata: {{name: {name}, namespace: ns1}}, \
             spec: {{hosts: [{hosts}], addresses: [{addresses}]}}}}"
        );
        serde_norway::from_str(&yaml).expect("a ServiceEntry")
    }

    fn check(entries: &[ServiceEntry], expected: &[&str], expected_findings: &[&str]) {
        let suffixes = ["global", "mesh"].map(|s| DnsName::parse(s).expect("a name"));
        let (names, findings) = names(entries, &Zones::unloaded(&suffixes));
        let told = |(name, ips): (&DnsName, &std::collections::BTreeSet<IpAddr>)| {
            let ips: Vec<_> = ips.iter().map(ToString::to_string).collect();
            format!("{name} {}", ips.join(" "))
        };
        assert_eq!(names.iter().map(told).collect::<Vec<_>>(), expected);
        let findings: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(findings, expected_findings);
    }

    #[test]
    fn single_addresses_of_hosts_under_a_suffix_are_taken() {
        check(
            &[
                entry("a", "Bar.ns2.global, www.example.com, '*', b.mesh", "127.255.0.2"),
                entry("b", "'*.wild.global'", "127.255.0.3/32, 'fd00::1/128', '::ffff:10.0.0.1'"),
                entry("c", "www.example.com", "10.0.0.0/8"),
            ],
            &[
                "*.wild.global 10.0.0.1 127.255.0.3 fd00::1",
                "b.mesh 127.255.0.2",
                "bar.ns2.global 127.255.0.2",
            ],
            &[],
        );
    }

    #[test]
    fn entries_of_one_host_are_merged_in_any_order() {
        let entries = [
            entry("a", "bar.ns2.global", "127.255.0.9, 127.255.0.2"),
            entry("b", "bar.ns2.global, bar.ns2.global", "127.255.0.5, 127.255.0.2"),
        ];
        let expected = ["bar.ns2.global 127.255.0.2 127.255.0.5 127.255.0.9"];
        check(&entries, &expected, &[]);
        let [a, b] = entries;
        check(&[b, a], &expected, &[]);
    }

    #[test]
    fn entries_that_connections_cannot_tell_apart_are_named() {
        let with = |name: &str, host: &str, ip: &str, port: u16, protocol: &str| {
            let mut entry = entry(name, host, ip);
            let yaml = format!("[{{number: {port}, name: p, protocol: {protocol}}}]");
            entry.spec.ports = serde_norway::from_str(&yaml).expect("ports");
            entry
        };
        check(
            &[
                with("a", "a.global", "127.255.0.2", 80, "TCP"),
                with("same", "a.global", "127.255.0.2", 80, "TCP"),
                with("port", "b.global", "127.255.0.2", 81, "TCP"),
                with("twice", "c.global", "127.255.0.3, 127.255.0.2", 80, "HTTP"),
                with("udp", "d.global", "127.255.0.2", 80, "UDP"),
                with("elsewhere", "www.example.com", "127.255.0.2", 80, "TCP"),
            ],
            &[
                "a.global 127.255.0.2",
                "b.global 127.255.0.2",
                "c.global 127.255.0.2 127.255.0.3",
                "d.global 127.255.0.2",
            ],
            &[
                "ServiceEntry ns1/twice: spec.addresses: 127.255.0.2 with port 80 is also that of \
                 ServiceEntry ns1/a, for other hosts: only HTTP says which is meant; give each an \
                 address of its own",
                "ServiceEntry ns1/udp: spec.ports: all are UDP: its names are answered, but \
                 gateways carry only TCP",
            ],
        );
    }

    #[test]
    fn what_cannot_be_answered_is_named() {
        let odd = "10.0.0.0/8, here, 0.0.0.0, 224.0.0.1, 10.0.0.1/33, 10.0.0.2/x, 010.0.0.1";
        check(
            &[entry("odd", "a.global", odd)],
            &["a.global "],
            &[
                "ServiceEntry ns1/odd: spec.addresses: 10.0.0.0/8 is not answered: it is a range, \
                 not a single address",
                "ServiceEntry ns1/odd: spec.addresses: here is not answered: it is not an IP \
                 address",
                "ServiceEntry ns1/odd: spec.addresses: 0.0.0.0 is not answered: nothing can be \
                 reached there",
                "ServiceEntry ns1/odd: spec.addresses: 224.0.0.1 is not answered: nothing can be \
                 reached there",
                "ServiceEntry ns1/odd: spec.addresses: 10.0.0.1/33 is not answered: it is a range, \
                 not a single address",
                "ServiceEntry ns1/odd: spec.addresses: 10.0.0.2/x is not answered: it is neither \
                 an IP address nor a range",
                "ServiceEntry ns1/odd: spec.addresses: 010.0.0.1 is not answered: it is not an IP \
                 address",
                "ServiceEntry ns1/odd: spec.addresses: holds no single address: its names exist \
                 and lead nowhere; give it one",
            ],
        );
        let long = format!("{}.global", "a".repeat(64));
        let said = format!(
            "ServiceEntry ns1/long: spec.hosts: {long} is no DNS name: a part may have 63 \
             letters, the whole 253"
        );
        check(&[entry("long", &long, "127.255.0.2")], &[], &[&said]);
    }
}
