//! What others own in the importing cluster: hosts, rules, names of objects, addresses.
//!
//! Must not know: what is to be written.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::{EXPORTER_LABEL, OWNER, OWNER_LABEL};
use crate::{
    manifests::{Kind, Object, ObjectRef, Store, kinds::Meta, problem},
    routing::HostPattern,
};

/// True when the object says that we wrote it: to a file, or as the exporter of this name.
pub(super) fn is_ours(meta: &Meta, exporter: Option<&str>) -> bool {
    meta.labels.get(OWNER_LABEL) == Some(OWNER) && meta.labels.get(EXPORTER_LABEL) == exporter
}

/// Everything that somebody else owns, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Hosts of ServiceEntries.
    hosts: BTreeMap<String, Arc<str>>,
    /// Hosts of DestinationRules.
    rules: BTreeMap<String, Arc<str>>,
    /// Objects of the kinds that we write.
    objects: BTreeMap<ObjectRef, Arc<str>>,
    addresses: BTreeMap<Ipv4Addr, Arc<str>>,
    /// Base, mask, whose.
    ranges: Vec<(u32, u32, Arc<str>)>,
}

impl Taken {
    /// What the manifests of the importing cluster hold that is not ours: of the exporter of this
    /// name, or of files.
    #[must_use]
    pub fn of_store(store: &Store, exporter: Option<&str>) -> Self {
        let mut taken = Self::default();
        let objects = store.objects();
        let entries = objects.service_entries.iter().cloned().map(Object::ServiceEntry);
        let rules = objects.destination_rules.iter().cloned().map(Object::DestinationRule);
        let services = objects.services.iter().cloned().map(Object::Service);
        for object in entries.chain(rules).chain(services) {
            let place = store.place_of(&object.reference());
            if is_ours(object.meta(), exporter) {
                continue;
            }
            taken.add(&object, place.map(|(file, line)| problem::place(file, line)));
        }
        taken
    }

    /// Adds an object of somebody else.
    pub(super) fn add(&mut self, object: &Object, place: Option<String>) {
        let reference = object.reference();
        let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
        let whose: Arc<str> = format!("{reference}{place}").into();
        match object {
            Object::ServiceEntry(entry) => {
                for host in &entry.spec.hosts {
                    if let HostPattern::Exact(host) = &host.0 {
                        self.hosts.insert(host.to_string(), Arc::clone(&whose));
                    }
                }
                for address in &entry.spec.addresses {
                    self.address(address, &whose);
                }
            }
            Object::DestinationRule(rule) => {
                if let HostPattern::Exact(host) = &rule.spec.host.0 {
                    self.rules.insert(host.to_string(), Arc::clone(&whose));
                }
            }
            Object::Service(service) => {
                for address in service.spec.cluster_ip.iter().chain(&service.spec.cluster_ips) {
                    self.address(address, &whose);
                }
                return;
            }
            _ => return,
        }
        self.objects.insert(reference, whose);
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.hosts.extend(other.hosts);
        self.rules.extend(other.rules);
        self.objects.extend(other.objects);
        self.addresses.extend(other.addresses);
        self.ranges.extend(other.ranges);
    }

    fn address(&mut self, text: &str, whose: &Arc<str>) {
        let (ip, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let Ok(ip) = ip.parse::<Ipv4Addr>() else { return };
        match prefix.parse::<u32>() {
            Ok(32) => _ = self.addresses.insert(ip, Arc::clone(whose)),
            Ok(prefix @ 0..32) => {
                let mask = !u32::MAX.checked_shr(prefix).unwrap_or(0);
                self.ranges.push((u32::from(ip) & mask, mask, Arc::clone(whose)));
            }
            _ => {}
        }
    }

    /// Who has a ServiceEntry for this host, or an object under the name that ours would have.
    pub(super) fn owner_of(&self, host: &str, namespace: &str) -> Option<&str> {
        let object = self.object(Kind::ServiceEntry, host, namespace);
        self.hosts.get(host).map(|whose| &**whose).or(object)
    }

    /// Who has a DestinationRule for this host, or one under the name that ours would have.
    pub(super) fn rule_of(&self, host: &str, namespace: &str) -> Option<&str> {
        let object = self.object(Kind::DestinationRule, host, namespace);
        self.rules.get(host).map(|whose| &**whose).or(object)
    }

    fn object(&self, kind: Kind, name: &str, namespace: &str) -> Option<&str> {
        let reference = ObjectRef { kind, namespace: namespace.into(), name: name.into() };
        self.objects.get(&reference).map(|whose| &**whose)
    }

    /// Who uses this address.
    pub(super) fn user_of(&self, address: IpAddr) -> Option<&str> {
        let IpAddr::V4(address) = address else { return None };
        let number = u32::from(address);
        let range = || self.ranges.iter().find(|(base, mask, _)| number & mask == *base);
        let single = self.addresses.get(&address);
        single.map(|whose| &**whose).or_else(|| range().map(|(_, _, whose)| &**whose))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_by(exporter: Option<&str>, objects: &[&str]) -> Taken {
        let file: Arc<std::path::Path> = std::path::Path::new("a.yaml").into();
        let mut taken = Taken::default();
        for yaml in objects {
            let mut store = Store::new();
            let parsed = crate::manifests::parse(&file, yaml.as_bytes());
            store.apply(vec![crate::manifests::News::File(Arc::clone(&file), Some(parsed))]);
            taken.extend(Taken::of_store(&store, exporter));
        }
        taken
    }

    fn taken(objects: &[&str]) -> Taken {
        taken_by(None, objects)
    }

    const ENTRY: &str = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, \
        metadata: {name: mine, namespace: ns1, labels: {LABEL: x}}, spec: {resolution: STATIC, \
        hosts: [Bar.ns2.global, '*.wild.global'], addresses: [10.0.0.2, 10.0.1.0/24, 'fd00::1']}}";

    #[test]
    fn what_others_have_is_found_with_its_place() {
        let taken = taken(&[
            ENTRY,
            "{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
             metadata: {name: r, namespace: ns1}, spec: {host: foo.ns2.global}}",
            "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 10.0.2.7}}",
        ]);
        let entry = "ServiceEntry ns1/mine (a.yaml:1)";
        let rule = "DestinationRule ns1/r (a.yaml:1)";
        assert_eq!(taken.owner_of("bar.ns2.global", "x"), Some(entry));
        assert_eq!(taken.owner_of("mine", "ns1"), Some(entry));
        assert_eq!(taken.owner_of("mine", "ns2"), None);
        assert_eq!(taken.owner_of("a.wild.global", "ns1"), None);
        assert_eq!(taken.rule_of("foo.ns2.global", "x"), Some(rule));
        assert_eq!(taken.rule_of("bar.ns2.global", "ns1"), None);
        let user = |ip: &str| taken.user_of(ip.parse().expect("an address"));
        assert_eq!((user("10.0.0.2"), user("10.0.0.3")), (Some(entry), None));
        assert_eq!((user("10.0.1.255"), user("10.0.2.0")), (Some(entry), None));
        assert_eq!(user("10.0.2.7"), Some("Service default/s (a.yaml:1)"));
    }

    #[test]
    fn what_is_live_has_no_line() {
        let api: Arc<std::path::Path> = std::path::Path::new("kubernetes").into();
        let object = "{\"apiVersion\": \"networking.istio.io/v1\", \"kind\": \"ServiceEntry\", \
                      \"metadata\": {\"name\": \"a\", \"namespace\": \"ns1\"}, \
                      \"spec\": {\"hosts\": [\"a.global\"]}}";
        let (kind, namespace) = (Kind::ServiceEntry, "ns1".into());
        let reference = ObjectRef { kind, namespace, name: "a".into() };
        let single = crate::manifests::parse_single(&api, reference, object);
        let mut store = Store::new();
        store.apply(vec![crate::manifests::News::Object(Arc::clone(&api), single)]);
        let taken = Taken::of_store(&store, None);
        let whose = "ServiceEntry ns1/a (kubernetes)";
        assert_eq!(taken.owner_of("a.global", "x"), Some(whose));
    }

    #[test]
    fn what_is_ours_is_not_taken() {
        let ours = ENTRY.replace("LABEL: x", "app.kubernetes.io/managed-by: diolkos-export");
        assert_eq!(taken(&[&ours]), Taken::default());
        let theirs = ENTRY.replace("LABEL: x", "app.kubernetes.io/managed-by: Helm");
        assert_ne!(taken(&[&theirs]), Taken::default());
        let applied =
            ours.replace("managed-by", "managed-by: diolkos-export, diolkos/exporter: a, x");
        assert_ne!(taken(&[&applied]), Taken::default(), "an exporter's");
        assert_ne!(taken_by(Some("b"), &[&applied]), Taken::default(), "another's");
        assert_eq!(taken_by(Some("a"), &[&applied]), Taken::default());
        assert_ne!(taken_by(Some("a"), &[&ours]), Taken::default(), "of a file");
    }
}
