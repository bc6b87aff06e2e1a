//! Who answers: service accounts, the identities that callers expect, trust domains.
//!
//! Pods of a Service are those that its selector picks; where none are known nothing is compared.
//! Must not know: ports of entries, certificates.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Asked, Member, Mismatch, World, asked, reference, remote};
use crate::{
    certs::SpiffeId,
    export::offer::Port,
    manifests::{Object, ObjectRef, kinds::Pod},
};

/// A trust domain, and where it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain {
    /// `cluster.local`.
    pub name: String,
    /// Object and field, or file.
    pub place: String,
}

/// Service accounts of the pods behind a Service, as `/ns/NS/sa/SA`, and the first pod of each.
fn accounts<'m>(member: &'m Member, asked: &Asked<'_>) -> BTreeMap<String, &'m Arc<Pod>> {
    let mut accounts = BTreeMap::new();
    let Some(service) = member.service(asked).filter(|s| !s.spec.selector.is_empty()) else {
        return accounts;
    };
    let pods = member.store.objects().pods.in_namespace(asked.namespace);
    for pod in pods.filter(|pod| pod.meta.labels.matches(&service.spec.selector)) {
        let account = pod.spec.service_account_name.as_deref().unwrap_or("default");
        accounts.entry(format!("/ns/{}/sa/{account}", asked.namespace)).or_insert(pod);
    }
    accounts
}

/// Identities that callers expect of a host.
struct Expected<'a> {
    object: ObjectRef,
    field: &'static str,
    /// The host, and its part before the suffix.
    host: (&'a str, &'a str),
    names: &'a [Box<str>],
}

/// Every such list of one cluster.
fn expected<'a>(world: &World<'a>) -> Vec<Expected<'a>> {
    let mut lists = Vec::new();
    let objects = world.member.store.objects();
    for entry in objects.service_entries.iter() {
        let object = reference(Object::ServiceEntry(Arc::clone(entry)));
        let names = &*entry.spec.subject_alt_names;
        for host in entry.spec.hosts.iter().filter_map(|host| remote(&host.0, world.suffix)) {
            let object = object.clone();
            lists.push(Expected { object, field: "spec.subjectAltNames", host, names });
        }
    }
    for rule in objects.destination_rules.iter() {
        let tls = rule.spec.traffic_policy.as_ref().and_then(|policy| policy.tls.as_ref());
        let host = remote(&rule.spec.host.0, world.suffix);
        if let Some((tls, host)) = tls.zip(host) {
            let object = reference(Object::DestinationRule(Arc::clone(rule)));
            let field = "spec.trafficPolicy.tls.subjectAltNames";
            lists.push(Expected { object, field, host, names: &tls.subject_alt_names });
        }
    }
    lists.retain(|list| !list.names.is_empty());
    lists
}

/// Callers that expect identities which the pods called do not have.
pub(super) fn compare(world: &World<'_>, found: &mut Vec<Mismatch>) {
    for Expected { object, field, host, names } in expected(world) {
        let mut welcome = BTreeSet::new();
        for (index, name) in names.iter().enumerate() {
            match SpiffeId::parse(name) {
                Ok(id) => {
                    let path = id.as_str().trim_start_matches("spiffe://");
                    welcome.extend(path.find('/').map(|at| path[at..].to_owned()));
                }
                Err(error) => {
                    let field = format!("{field}[{index}]");
                    found.push(world.member.mismatch(&object, field, error.to_string()));
                }
            }
        }
        let Some(asked) = asked(host).filter(|_| welcome.len() == names.len()) else { continue };
        let entries = world.member.store.objects().service_entries.iter();
        let entries: Vec<_> = entries
            .filter(|entry| {
                let mut hosts = entry.spec.hosts.iter().filter_map(|h| remote(&h.0, world.suffix));
                hosts.any(|other| other == host)
            })
            .collect();
        let (targets, _) = world.targets(entries.iter().flat_map(|e| e.spec.endpoints.iter()));
        for target in targets {
            for (account, pod) in accounts(target, &asked) {
                if !welcome.contains(&account) {
                    let pod = target.shown(&reference(Object::Pod(Arc::clone(pod))));
                    let text = format!(
                        "{}: {pod}, behind {}, has the identity {account}, which is not among them",
                        asked.host,
                        target.shown(&asked.reference())
                    );
                    found.push(world.member.mismatch(&object, field, text));
                }
            }
        }
    }
}

/// One name in several clusters is one service: its ports and its accounts are the same.
pub(super) fn same_services(members: &[Member], found: &mut Vec<Mismatch>) {
    let mut first: BTreeMap<&str, &Member> = BTreeMap::new();
    for member in members {
        for (host, offer) in &member.view.offers {
            let Some(other) = first.get(host.as_str()) else {
                first.insert(host, member);
                continue;
            };
            let (namespace, service) = (&*offer.service.namespace, &*offer.service.name);
            let asked = Asked { host, service, namespace };
            let shown = other.shown(&offer.service);
            let ports = |member: &Member| -> String {
                let ports = member.view.offers[host].ports.iter();
                let port = |port: &Port| format!("{} {}", port.number, port.protocol);
                ports.map(port).collect::<Vec<_>>().join(", ")
            };
            let (ours, theirs) = (ports(member), ports(other));
            if ours != theirs {
                let text = format!("{host} has {ours} here, and {theirs} as {shown}");
                found.push(member.mismatch(&offer.service, "spec.ports", text));
            }
            let names =
                |member: &Member| -> Vec<String> { accounts(member, &asked).into_keys().collect() };
            let (ours, theirs) = (names(member), names(other));
            if !ours.is_empty() && !theirs.is_empty() && ours != theirs {
                let text = format!(
                    "pods of {host} have {} here, and {} as {shown}",
                    ours.join(", "),
                    theirs.join(", ")
                );
                found.push(member.mismatch(&offer.service, "spec.selector", text));
            }
        }
    }
}

/// Every trust domain that callers expect, each once, with the first place that names it.
#[must_use]
pub fn trust_domains(members: &[Member], suffix: &str) -> Vec<TrustDomain> {
    let mut domains: Vec<TrustDomain> = Vec::new();
    for member in members {
        let world = World { member, members, suffix };
        for Expected { object, field, names, .. } in expected(&world) {
            for id in names.iter().filter_map(|name| SpiffeId::parse(name).ok()) {
                let domain = id.trust_domain();
                if domains.iter().all(|known| known.name != domain) {
                    let place = member.mismatch(&object, field, "").at;
                    domains.push(TrustDomain { name: domain.to_owned(), place });
                }
            }
        }
    }
    domains
}
