//! Keeps the table and the plan of listeners as the manifests say.
//!
//! Must not know: sockets, connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::watch;

use super::plan::{self, Plan};
use crate::{
    discovery::{Catalog, Change, Finding},
    manifests::{Changes, Keep, Kind, Store},
    resolver::{Names, Resolved},
    routing::Host,
};

/// The catalog, and who is told of a new plan.
pub(super) struct Follow {
    catalog: Catalog,
    subsets: BTreeMap<Host, Arc<str>>,
    plans: watch::Sender<Option<Arc<Plan>>>,
    names: Names,
    /// What was remarked last, so that each remark is logged once.
    findings: BTreeSet<Finding>,
    /// Hosts of `subsets` that nothing listens for, as told last.
    missed: BTreeSet<Host>,
}

impl Follow {
    pub(super) fn new(
        catalog: Catalog,
        subsets: BTreeMap<Host, Arc<str>>,
        plans: watch::Sender<Option<Arc<Plan>>>,
        names: Names,
    ) -> Self {
        Self { catalog, subsets, plans, names, findings: BTreeSet::new(), missed: BTreeSet::new() }
    }

    /// Logs what is new, and what is no more.
    fn remark(&mut self, plan: &Plan) {
        let ours = |finding: &Finding| {
            matches!(finding.object.kind, Kind::ServiceEntry | Kind::DestinationRule)
        };
        let of_catalog = self.catalog.findings().into_iter().filter(ours);
        let now: BTreeSet<_> = plan.findings.iter().cloned().chain(of_catalog).collect();
        for finding in now.difference(&self.findings) {
            tracing::warn!("{finding}");
        }
        for finding in self.findings.difference(&now) {
            tracing::info!("no more: {finding}");
        }
        self.findings = now;
        let missed = missed(&self.subsets, plan);
        for host in missed.difference(&self.missed) {
            tracing::warn!("--subset {host}: no ServiceEntry that is listened for has this host");
        }
        for host in self.missed.difference(&missed) {
            tracing::info!("no more: --subset {host}: no ServiceEntry has this host");
        }
        self.missed = missed;
    }
}

/// Hosts with a subset that nothing listens for: misspelt, most often.
fn missed(subsets: &BTreeMap<Host, Arc<str>>, plan: &Plan) -> BTreeSet<Host> {
    let served: BTreeSet<&Host> = plan.listeners.values().map(|target| &target.host).collect();
    subsets.keys().filter(|host| !served.contains(host)).cloned().collect()
}

impl Keep for Follow {
    type Ask = Resolved;

    const NOTES_ARE_NEWS: bool = false;

    fn changed(&mut self, store: &Store, changes: &Changes) {
        let applied = self.catalog.apply(&Change::of_store(store.objects(), changes));
        self.names.want(self.catalog.names_wanted());
        if changes.is_empty() && self.plans.borrow().is_some() {
            return;
        }
        let entries = store.objects().service_entries.iter().map(|entry| &**entry);
        let plan = plan::plan(&self.catalog, entries, &self.subsets);
        tracing::info!(
            added = changes.added.len(),
            changed = changes.changed.len(),
            removed = changes.removed.len(),
            services = applied.services,
            swapped = applied.swapped,
            listeners = plan.listeners.len(),
            generation = self.catalog.table().generation,
            "manifests changed"
        );
        self.remark(&plan);
        let is_same = self.plans.borrow().as_deref() == Some(&plan);
        if !is_same {
            self.plans.send_replace(Some(Arc::new(plan)));
        }
    }

    fn asked(&mut self, _: &Store, Resolved { name, addresses }: Resolved) {
        self.catalog.apply(&[Change::Resolved(name, addresses)]);
    }
}
