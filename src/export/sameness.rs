//! Whether clusters agree with each other: what one calls, another has.
//!
//! ```text
//! entries     ServiceEntries and DestinationRules for hosts of others: port, gate, subset
//! identities  service accounts, subjectAltNames, trust domains
//! ```
//!
//! Each mismatch names both objects. What an endpoint's label `cluster` names is looked for there;
//! an entry without such labels is content with any other cluster. Must not know: the command
//! line, certificates.

use std::fmt;

use super::{Reader, View};
use crate::{
    manifests::{
        Changes, Kind, Object, ObjectRef, Store,
        kinds::{Service, service_entry::Workload},
        problem,
    },
    routing::HostPattern,
};

mod entries;
mod identities;

pub use identities::{TrustDomain, trust_domains};

/// One cluster under comparison.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its manifests.
    pub store: Store,
    /// What it offers.
    pub view: View,
    reader: Reader,
}

/// Something in one cluster that does not fit another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mismatch {
    /// Cluster, file and line, object and field.
    pub at: String,
    /// What does not fit, and with what.
    pub message: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

impl Member {
    /// A cluster with these manifests, of which `changes` are all. `reader` is new.
    #[must_use]
    pub fn new(name: &str, store: Store, changes: &Changes, mut reader: Reader) -> Self {
        let view = reader.take(&store, changes);
        Self { name: name.to_owned(), store, view, reader }
    }

    /// How many ServiceEntries it has for hosts under the suffix.
    #[must_use]
    pub fn imports(&self, suffix: &str) -> usize {
        let entries = self.store.objects().service_entries.iter();
        entries.filter(|e| e.spec.hosts.iter().any(|h| remote(&h.0, suffix).is_some())).count()
    }

    fn service(&self, asked: &Asked<'_>) -> Option<&Service> {
        let services = &self.store.objects().services;
        services.get(asked.namespace, asked.service).map(|service| &**service)
    }

    /// `Service ns2/bar of cluster2 (dir/a.yaml:5)`.
    fn shown(&self, reference: &ObjectRef) -> String {
        let place = self.store.place_of(reference);
        let place = place.map(|(file, line)| format!(" ({})", problem::place(file, line)));
        format!("{reference} of {}{}", self.name, place.unwrap_or_default())
    }

    fn mismatch(
        &self,
        object: &ObjectRef,
        field: impl fmt::Display,
        message: impl Into<String>,
    ) -> Mismatch {
        let place = self.store.place_of(object);
        let place = place.map(|(file, line)| format!("{}: ", problem::place(file, line)));
        let at = format!("{}: {}{object}: {field}", self.name, place.unwrap_or_default());
        Mismatch { at, message: message.into() }
    }
}

/// A host of another cluster, as somebody calls it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    host: &'a str,
    service: &'a str,
    namespace: &'a str,
}

impl Asked<'_> {
    fn reference(&self) -> ObjectRef {
        let (namespace, name) = (self.namespace.into(), self.service.into());
        ObjectRef { kind: Kind::Service, namespace, name }
    }
}

/// What does not fit, sorted. `suffix` is that of hosts of other clusters, without a dot.
#[must_use]
pub fn compare(members: &[Member], suffix: &str) -> Vec<Mismatch> {
    let mut found = Vec::new();
    for member in members {
        let world = World { member, members, suffix };
        entries::compare(&world, &mut found);
        identities::compare(&world, &mut found);
    }
    identities::same_services(members, &mut found);
    found.sort();
    found.dedup();
    found
}

/// One cluster, and all of them.
struct World<'a> {
    member: &'a Member,
    members: &'a [Member],
    suffix: &'a str,
}

impl<'a> World<'a> {
    /// Where these endpoints lead: the clusters that their labels name, each of which must fit; or
    /// all others, of which one must (`true`).
    fn targets<'e>(
        &self,
        endpoints: impl Iterator<Item = &'e Workload> + Clone,
    ) -> (Vec<&'a Member>, bool) {
        let others = || self.members.iter().filter(|other| other.name != self.member.name);
        let named = |other: &&Member| {
            endpoints.clone().any(|e| e.labels.get("cluster") == Some(&other.name))
        };
        let targets: Vec<_> = others().filter(named).collect();
        if targets.is_empty() { (others().collect(), true) } else { (targets, false) }
    }
}

/// A host under the suffix, and its part before that.
fn remote<'h>(host: &'h HostPattern, suffix: &str) -> Option<(&'h str, &'h str)> {
    let HostPattern::Exact(host) = host else { return None };
    let host = host.as_str();
    Some((host, host.strip_suffix(suffix)?.strip_suffix('.')?))
}

/// Reads `bar.ns2` before the suffix.
fn asked<'h>((host, stem): (&'h str, &'h str)) -> Option<Asked<'h>> {
    let (service, namespace) = stem.split_once('.')?;
    (!namespace.contains('.')).then_some(Asked { host, service, namespace })
}

fn reference(object: impl Into<Object>) -> ObjectRef {
    object.into().reference()
}

#[cfg(test)]
mod tests;
