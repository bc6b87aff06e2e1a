//! `diolkos export --watch`: a thread for each cluster's manifests, and one run after each change.
//!
//! Nothing is written before every cluster was read. Must not know: what is exported.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use super::{
    show::range_remark,
    status::{self, Told},
};
use crate::{
    cli::status::Status,
    config::types::Listen,
    export::{Destination, Done, Export, ExportError, Peer, Reader, Remark, Taken, View},
    manifests::{
        Changes, Kind, Severity, Store,
        keeper::{Keep, Keeper},
        kubernetes::{Backoff, Health},
    },
};

/// A run that failed, or could not write everything, is tried again after waits between these, if
/// nothing changes before.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// A cluster is looked at again after this long: not all that somebody may change there is told.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// What a thread has read.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    /// What the cluster in this place offers.
    View(usize, View),
    /// What others own in the importing cluster, and how often objects of the kinds that we write
    /// have changed there.
    Taken(Taken, u64),
}

/// Follows one cluster on its thread.
struct Follower {
    /// Its place and its reader; `None` for the importing cluster.
    exporting: Option<(usize, Reader)>,
    cluster: String,
    api: Option<Arc<Health>>,
    /// The exporter whose objects are ours, where they are in a cluster.
    exporter: Option<String>,
    changed: u64,
    last: Option<Seen>,
    tell: mpsc::UnboundedSender<Seen>,
}

impl Keep for Follower {
    type Ask = ();
    const NOTES_ARE_NEWS: bool = false;

    fn changed(&mut self, store: &Store, changes: &Changes) {
        let seen = match &mut self.exporting {
            Some((place, reader)) => {
                let mut view = reader.take(store, changes);
                view.doubt(&self.cluster, self.api.as_deref());
                Seen::View(*place, view)
            }
            None => {
                let written = [Kind::ServiceEntry, Kind::DestinationRule];
                let changed = changes.iter().any(|object| written.contains(&object.kind));
                // Somebody may have deleted what is ours.
                self.changed += u64::from(changed && self.exporter.is_some());
                Seen::Taken(Taken::of_store(store, self.exporter.as_deref()), self.changed)
            }
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
    status: Option<Listen>,
    reader: impl Fn(&Peer) -> Reader,
) -> anyhow::Result<bool> {
    let (tell, seen) = mpsc::unbounded_channel();
    let (mut keepers, mut apis) = (Vec::new(), Vec::new());
    let exporting = export.peers.iter().enumerate().map(|(place, peer)| (peer, Some(place)));
    for (peer, place) in exporting.chain(importing.map(|peer| (peer, None))) {
        let source = if place.is_some() { peer.open() } else { peer.open_importing() };
        let source = source.with_context(|| format!("--cluster {}", peer.name))?;
        let api = source.kubernetes();
        apis.extend(api.clone());
        let follower = Follower {
            exporting: place.map(|place| (place, reader(peer))),
            cluster: peer.name.clone(),
            api,
            exporter: export.shape.exporter.clone(),
            changed: 0,
            last: None,
            tell: tell.clone(),
        };
        keepers.push(Keeper::start("export", source, follower)?);
    }
    drop(tell);
    let (told, views) = Told::new(apis.clone());
    let mut current = Current {
        export,
        views: vec![None; export.peers.len()],
        taken: importing.is_none().then(Taken::default),
        remarks: BTreeSet::new(),
        told,
        backoff: Backoff::new(RETRY.0, RETRY.1),
        again: None,
        has_failed: false,
    };
    if let Some(remark) = range_remark(export.range) {
        log(&remark);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        status::serve(&views, status)?;
        let (tell, returned) = mpsc::unbounded_channel();
        apis.iter().for_each(|api| drop(tokio::spawn(tell_returns(api.returns(), tell.clone()))));
        current.follow((seen, returned), &keepers, &views).await
    })?;
    keepers.into_iter().for_each(Keeper::stop);
    tracing::info!("ended");
    Ok(true)
}

/// Tells each time when an API is followed again.
async fn tell_returns(mut returns: watch::Receiver<u64>, tell: mpsc::UnboundedSender<()>) {
    while returns.changed().await.is_ok() && tell.send(()).is_ok() {}
}

/// What is known of all clusters.
struct Current<'a> {
    export: &'a Export,
    views: Vec<Option<View>>,
    taken: Option<Taken>,
    /// As they were told last: each is logged once when it comes and once when it goes.
    remarks: BTreeSet<Remark>,
    told: Told,
    backoff: Backoff,
    /// When to run again, whether or not anything has changed.
    again: Option<Instant>,
    /// The last run did not do everything, for a reason that may have gone.
    has_failed: bool,
}

impl Current<'_> {
    async fn follow(
        &mut self,
        (mut seen, mut returned): (mpsc::UnboundedReceiver<Seen>, mpsc::UnboundedReceiver<()>),
        keepers: &[Keeper<()>],
        status: &Status,
    ) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut end = std::pin::pin!(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = status.told_to_quit() => {}
            }
        });
        loop {
            let again = self.again;
            let again = async {
                match again {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut end => return Ok(()),
                _ = hangup.recv() => {
                    for keeper in keepers {
                        keeper.rescan().await;
                    }
                    tracing::info!("manifests were read again");
                }
                () = again => {}
                Some(()) = returned.recv() => {
                    // What failed meanwhile failed because that API was away.
                    if !self.has_failed {
                        continue;
                    }
                    self.backoff.reset();
                }
                first = seen.recv() => {
                    self.take(first.context("the threads that read manifests ended")?);
                }
            }
            while let Ok(more) = seen.try_recv() {
                self.take(more);
            }
            // A run writes each object whole or not at all: it may be cut short, and the next one
            // goes on from there.
            tokio::select! {
                () = &mut end => return Ok(()),
                () = self.run() => {}
            }
        }
    }

    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::View(place, view) => self.views[place] = Some(view),
            Seen::Taken(taken, _) => self.taken = Some(taken),
        }
    }

    /// Brings what is written up to date, once everything was read.
    async fn run(&mut self) {
        let views: Option<Vec<View>> = self.views.iter().cloned().collect();
        let (Some(views), Some(taken)) = (views, &self.taken) else { return };
        let result = self.export.run(&views, taken, true).await;
        let is_cluster = matches!(self.export.destination, Destination::Cluster(_));
        let pause = match &result {
            // What is empty now is tried again when some manifest changes.
            Err(ExportError::Empty { .. }) => None,
            Err(_) => Some(self.backoff.pause()),
            Ok(done) if !done.refused.is_empty() => Some(self.backoff.pause()),
            Ok(_) => {
                self.backoff.reset();
                is_cluster.then(|| self.backoff.jittered(LOOK_AGAIN))
            }
        };
        self.has_failed = match &result {
            Ok(done) => !done.refused.is_empty(),
            Err(error) => !matches!(error, ExportError::Empty { .. }),
        };
        self.again = pause.map(|pause| Instant::now() + pause);
        match result {
            Ok(done) => self.tell(done),
            Err(error) => {
                tracing::error!("not exported: {:#}", anyhow::Error::new(error));
                self.told.failed();
            }
        }
    }

    fn tell(&mut self, done: Done) {
        self.told.good(&done);
        let nothing = done.is_nothing();
        let remarks = BTreeSet::from_iter(done.remarks);
        remarks.difference(&self.remarks).for_each(log);
        for gone in self.remarks.difference(&remarks) {
            tracing::info!("no more: {gone}");
        }
        self.remarks = remarks;
        for host in &done.removed {
            tracing::info!(host = %host, "removed: it is not exported any more");
        }
        if nothing {
            tracing::debug!(names = done.objects.len(), "all is as it should be");
            return;
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
}

fn log(remark: &Remark) {
    match remark.severity {
        Severity::Error => tracing::error!("{}", remark.text),
        Severity::Warning => tracing::warn!("{}", remark.text),
        Severity::Note => tracing::info!("{}", remark.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin::Views as _,
        export::{AddressFile, Folder, Record, Shape},
    };

    const HOUR: Duration = Duration::from_secs(3_600);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_run_that_failed_is_made_again_when_the_api_is_followed_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let addresses = dir.path().join("addresses");
        // A directory is no file of addresses.
        std::fs::create_dir(&addresses).expect("made");
        let export = Export {
            peers: vec!["c2=d,gateway=192.0.2.1".parse().expect("a cluster")],
            shape: Shape::default(),
            range: "127.255.0.0/16".parse().expect("a range"),
            record: Record::File(AddressFile::new(&addresses)),
            destination: Destination::Folder(Folder::new(&dir.path().join("out"))),
            forget: Vec::new(),
            allow_empty: false,
        };
        let (told, status) = Told::new(Vec::new());
        let mut current = Current {
            export: &export,
            views: vec![None],
            taken: Some(Taken::default()),
            remarks: BTreeSet::new(),
            told,
            backoff: Backoff::new(HOUR, HOUR),
            again: None,
            has_failed: false,
        };
        let (tell, seen) = mpsc::unbounded_channel();
        let (count, returns) = watch::channel(0);
        let (tell_returned, returned) = mpsc::unbounded_channel();
        let until = async |reached: &dyn Fn() -> bool| {
            while !reached() {
                tokio::task::yield_now().await;
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            tokio::spawn(tell_returns(returns, tell_returned));
            tell.send(Seen::View(0, View::default())).expect("followed");
            let failed = || status.metrics_text().contains("{result=\"failed\"} 1");
            let steps = async {
                until(&failed).await;
                std::fs::remove_dir(&addresses).expect("removed");
                assert!(!status.readiness().ready);
                count.send_modify(|count| *count += 1);
                until(&|| status.readiness().ready).await;
            };
            tokio::select! {
                _ = current.follow((seen, returned), &[], &status) => panic!("it goes on"),
                ended = tokio::time::timeout(LONG, steps) => ended.expect("it has run again"),
            }
        });
    }
}
