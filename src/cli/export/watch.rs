//! `diolkos export --watch`: a thread for each cluster's manifests, and one run after each change.
//!
//! Nothing is written before every cluster was read. Must not know: what is exported.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::range_remark;
use crate::{
    export::{Export, ExportError, Peer, Reader, Remark, Taken, View},
    manifests::{
        Changes, Severity, Store,
        keeper::{Keep, Keeper},
    },
};

/// A run that failed is tried again after this long, if nothing changes before.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a thread has read.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    /// What the cluster in this place offers.
    View(usize, View),
    /// What others own in the importing cluster.
    Taken(Taken),
}

/// Follows one cluster on its thread.
struct Follower {
    /// Its place and its reader; `None` for the importing cluster.
    exporting: Option<(usize, Reader)>,
    last: Option<Seen>,
    tell: mpsc::UnboundedSender<Seen>,
}

impl Keep for Follower {
    type Ask = ();
    const NOTES_ARE_NEWS: bool = false;

    fn changed(&mut self, store: &Store, changes: &Changes) {
        let seen = match &mut self.exporting {
            Some((place, reader)) => Seen::View(*place, reader.take(store, changes)),
            None => Seen::Taken(Taken::of_store(store)),
        };
        // Most changes are of endpoints, which are not exported.
        if self.last.as_ref() != Some(&seen) {
            self.last = Some(seen.clone());
            let _ = self.tell.send(seen);
        }
    }

    fn asked(&mut self, _: &Store, (): ()) {}
}

pub(super) fn run(
    export: &Export,
    importing: Option<&Peer>,
    reader: impl Fn(&Peer) -> Reader,
) -> anyhow::Result<bool> {
    let (tell, seen) = mpsc::unbounded_channel();
    let mut keepers = Vec::new();
    let exporting = export.peers.iter().enumerate().map(|(place, peer)| (peer, Some(place)));
    for (peer, place) in exporting.chain(importing.map(|peer| (peer, None))) {
        let source = peer.open().with_context(|| format!("--cluster {}", peer.name))?;
        let follower = Follower {
            exporting: place.map(|place| (place, reader(peer))),
            last: None,
            tell: tell.clone(),
        };
        keepers.push(Keeper::start("export", source, follower)?);
    }
    drop(tell);
    let mut current = Current {
        export,
        views: vec![None; export.peers.len()],
        taken: importing.is_none().then(Taken::default),
        remarks: BTreeSet::new(),
        retry: None,
    };
    if let Some(remark) = range_remark(export.range) {
        log(&remark);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(current.follow(seen, &keepers))?;
    keepers.into_iter().for_each(Keeper::stop);
    tracing::info!("ended");
    Ok(true)
}

/// What is known of all clusters.
struct Current<'a> {
    export: &'a Export,
    views: Vec<Option<View>>,
    taken: Option<Taken>,
    /// As they were told last: each is logged once when it comes and once when it goes.
    remarks: BTreeSet<Remark>,
    retry: Option<Instant>,
}

impl Current<'_> {
    async fn follow(
        &mut self,
        mut seen: mpsc::UnboundedReceiver<Seen>,
        keepers: &[Keeper<()>],
    ) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            let retry = self.retry;
            let retry = async {
                match retry {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => {
                    for keeper in keepers {
                        keeper.rescan().await;
                    }
                    tracing::info!("manifests were read again");
                }
                () = retry => {}
                first = seen.recv() => {
                    self.take(first.context("the threads that read manifests ended")?);
                }
            }
            while let Ok(more) = seen.try_recv() {
                self.take(more);
            }
            self.run();
        }
    }

    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::View(place, view) => self.views[place] = Some(view),
            Seen::Taken(taken) => self.taken = Some(taken),
        }
    }

    /// Brings the directory up to date, once everything was read.
    fn run(&mut self) {
        let views: Option<Vec<View>> = self.views.iter().cloned().collect();
        let (Some(views), Some(taken)) = (views, &self.taken) else { return };
        self.retry = None;
        match self.export.run(&views, taken, true) {
            Ok(done) => {
                let remarks = BTreeSet::from_iter(done.remarks);
                remarks.difference(&self.remarks).for_each(log);
                for gone in self.remarks.difference(&remarks) {
                    tracing::info!("no more: {gone}");
                }
                self.remarks = remarks;
                for host in &done.removed {
                    tracing::info!(host = %host, "removed: it is not exported any more");
                }
                tracing::info!(
                    names = done.objects.len(),
                    new_addresses = done.named,
                    written = done.written.len(),
                    removed = done.removed.len(),
                    unchanged = done.unchanged,
                    "exported"
                );
            }
            Err(error) => {
                // What is empty now is tried again when some manifest changes.
                let passing = !matches!(error, ExportError::Empty { .. });
                self.retry = passing.then(|| Instant::now() + RETRY_AFTER);
                tracing::error!("not exported: {:#}", anyhow::Error::new(error));
            }
        }
    }
}

fn log(remark: &Remark) {
    match remark.severity {
        Severity::Error => tracing::error!("{}", remark.text),
        Severity::Warning => tracing::warn!("{}", remark.text),
        Severity::Note => tracing::info!("{}", remark.text),
    }
}
