//! The thread that reads manifests, watches them and publishes zones.
//!
//! Must not know: sockets, what is asked.

use std::{collections::BTreeSet, sync::Arc, thread::JoinHandle};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use super::{entries, name::DnsName, zone::Zones};
use crate::{
    discovery::Finding,
    manifests::{Directories, Kind, Severity, Store, Update},
    metrics::Gauge,
};

/// What the thread is asked from outside.
#[derive(Debug)]
enum Ask {
    /// Look at every file again; answered when that is done.
    Rescan(oneshot::Sender<()>),
    /// End.
    Quit,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Keeper {
    asks: mpsc::UnboundedSender<Ask>,
    loaded: watch::Receiver<bool>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts the thread, which begins with the first load.
    pub(super) fn start(
        directories: Directories,
        suffixes: Vec<DnsName>,
        zones: Arc<ArcSwap<Zones>>,
        names: Gauge,
    ) -> std::io::Result<Self> {
        let (asks, inbox) = mpsc::unbounded_channel();
        let (on_load, loaded) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let held = Held {
            directories,
            suffixes,
            zones,
            names,
            store: Store::new(),
            serial: 0,
            findings: BTreeSet::new(),
        };
        let thread = std::thread::Builder::new()
            .name("dns-manifests".into())
            .spawn(move || runtime.block_on(held.run(inbox, on_load)))?;
        Ok(Self { asks, loaded, thread })
    }

    /// Turns true with the first load; closed when the thread ended.
    pub(super) fn loaded(&self) -> watch::Receiver<bool> {
        self.loaded.clone()
    }

    /// Looks at every file again, and waits until that is done.
    pub(super) async fn rescan(&self) {
        let (done, when_done) = oneshot::channel();
        let _ = self.asks.send(Ask::Rescan(done));
        let _ = when_done.await;
    }

    pub(super) fn stop(self) {
        let _ = self.asks.send(Ask::Quit);
        // It has nothing to lose: a panic there was said by the panic hook.
        let _ = self.thread.join();
    }
}

/// What the thread holds.
struct Held {
    directories: Directories,
    suffixes: Vec<DnsName>,
    zones: Arc<ArcSwap<Zones>>,
    names: Gauge,
    store: Store,
    serial: u32,
    /// What was remarked last, so that each remark is logged once.
    findings: BTreeSet<Finding>,
}

impl Held {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Ask>, loaded: watch::Sender<bool>) {
        let update = self.directories.load();
        self.take(update);
        let _ = loaded.send(true);
        loop {
            tokio::select! {
                update = self.directories.changed() => self.take(update),
                ask = inbox.recv() => match ask {
                    Some(Ask::Rescan(done)) => {
                        let update = self.directories.rescan();
                        self.take(update);
                        let _ = done.send(());
                    }
                    Some(Ask::Quit) | None => return,
                },
            }
        }
    }

    /// Takes in what was read and, when a ServiceEntry changed, publishes: all zones anew, which
    /// for 100,000 names takes a tenth of a second on this thread and nothing on the other.
    fn take(&mut self, update: Update) {
        let changes = self.store.apply(update);
        if changes.problems {
            self.log_problems();
        }
        let ours = changes.iter().any(|reference| reference.kind == Kind::ServiceEntry);
        if !ours && self.serial > 0 {
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        let entries = self.store.objects().service_entries.iter();
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

    fn log_problems(&self) {
        for problem in self.store.problems() {
            match problem.severity {
                Severity::Error => tracing::error!("{problem}"),
                Severity::Warning => tracing::warn!("{problem}"),
                // Mostly kinds that are not used: a DNS server reads one of them all.
                Severity::Note => tracing::debug!("{problem}"),
            }
        }
    }
}
