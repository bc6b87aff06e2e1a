//! Publishes zones of the manifests, whenever they change.
//!
//! Must not know: sockets, what is asked.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use arc_swap::ArcSwap;

use super::{entries, name::DnsName, zone::Zones};
use crate::{
    discovery::Finding,
    manifests::{Changes, Keep, Kind, Store},
    metrics::Gauge,
};

/// Who makes zones of ServiceEntries.
pub(super) struct Publisher {
    suffixes: Vec<DnsName>,
    zones: Arc<ArcSwap<Zones>>,
    names: Gauge,
    serial: u32,
    /// What was remarked last, so that each remark is logged once.
    findings: BTreeSet<Finding>,
}

impl Publisher {
    /// Publishes to `zones` and counts in `names`.
    pub(super) fn new(suffixes: Vec<DnsName>, zones: Arc<ArcSwap<Zones>>, names: Gauge) -> Self {
        Self { suffixes, zones, names, serial: 0, findings: BTreeSet::new() }
    }
}

impl Keep for Publisher {
    type Ask = Infallible;
    /// Mostly kinds that are not used: a DNS server reads one of them all.
    const NOTES_ARE_NEWS: bool = false;

    /// When a ServiceEntry changed, publishes all zones anew, which for 100,000 names takes a tenth
    /// of a second on this thread and nothing on the one that answers.
    fn changed(&mut self, store: &Store, changes: &Changes) {
        let ours = changes.iter().any(|reference| reference.kind == Kind::ServiceEntry);
        if !ours && self.serial > 0 {
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        let entries = store.objects().service_entries.iter();
        let zones = self.zones.load();
        let (names, findings) = entries::names(entries.map(|entry| &**entry), &zones);
        let zones = Zones::loaded(&self.suffixes, self.serial, &names);
        tracing::info!(
            names = names.len(),
            added = changes.added.len(),
            changed = changes.changed.len(),
            removed = changes.removed.len(),
            serial = self.serial,
            "zones published"
        );
        self.names.set(i64::try_from(zones.names()).unwrap_or(i64::MAX));
        self.zones.store(Arc::new(zones));
        let findings = BTreeSet::from_iter(findings);
        for finding in findings.difference(&self.findings) {
            tracing::warn!("{finding}");
        }
        self.findings = findings;
    }

    fn asked(&mut self, _: &Store, ask: Infallible) {
        match ask {}
    }
}
