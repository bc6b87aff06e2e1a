//! The discovery thread: reads manifests, watches them, feeds the catalog, answers questions.
//!
//! Must not know: connections, how answers are shown.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc as sync_mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};

use super::status::{Report, Status};
use crate::{
    config::file::Manifests,
    discovery::{Catalog, Change, CheckReport, Explanation, Finding, Identity, explain::Question},
    manifests::{Directories, Kind, Problem, Severity, Store, Update},
    routing::SharedTable,
};

/// What the thread is asked from outside.
#[derive(Debug)]
pub(super) enum Ask {
    /// Why a name leads where it leads.
    Explain(OwnedQuestion, oneshot::Sender<Explanation>),
    /// Look at every file again; answered when that is done.
    Rescan(oneshot::Sender<()>),
    /// End.
    Quit,
}

/// A [`Question`] that can be sent.
#[derive(Clone, Debug)]
pub(super) struct OwnedQuestion {
    pub(super) server_name: String,
    pub(super) alpn: Vec<String>,
    pub(super) alpn_wanted: Vec<String>,
}

impl OwnedQuestion {
    /// Asks a catalog.
    pub(super) fn answer(&self, catalog: &Catalog) -> Explanation {
        let alpn: Vec<&str> = self.alpn.iter().map(String::as_str).collect();
        let wanted: Vec<&str> = self.alpn_wanted.iter().map(String::as_str).collect();
        let question =
            Question { server_name: &self.server_name, alpn: Some(&alpn), alpn_wanted: &wanted };
        Explanation::new(&question, catalog)
    }
}

/// The thread, and the way to ask it.
#[derive(Debug)]
pub(super) struct Discovery {
    asks: mpsc::UnboundedSender<Ask>,
    first_load: sync_mpsc::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Discovery {
    /// Opens the directories and starts the thread, which begins with the first load.
    pub(super) fn start(
        identity: Identity,
        manifests: &Manifests,
        table: Arc<SharedTable>,
        status: Arc<Status>,
    ) -> anyhow::Result<Self> {
        let directories = open(&manifests.directories)?;
        let (asks, inbox) = mpsc::unbounded_channel();
        let (loaded, first_load) = sync_mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keeper = Keeper {
            directories,
            store: Store::new(),
            catalog: Catalog::new(identity, table),
            status,
            report_at: None,
            report_took: Duration::ZERO,
        };
        let thread = std::thread::Builder::new()
            .name("discovery".into())
            .spawn(move || runtime.block_on(keeper.run(inbox, loaded)))?;
        Ok(Self { asks, first_load, thread })
    }

    /// Waits for the first load.
    pub(super) fn loaded(&self) -> anyhow::Result<()> {
        self.first_load.recv().context("the discovery thread ended")
    }

    pub(super) fn questions(&self) -> mpsc::UnboundedSender<Ask> {
        self.asks.clone()
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

/// Opens what the settings name. No directory at all is valid: everything is refused then.
pub(super) fn open(paths: &[PathBuf]) -> anyhow::Result<Directories> {
    if paths.is_empty() {
        tracing::warn!("no manifests are given (--manifests DIR): every name is refused");
    }
    Ok(Directories::open(paths)?)
}

/// The objects and the catalog, on their thread.
struct Keeper {
    directories: Directories,
    store: Store,
    catalog: Catalog,
    status: Arc<Status>,
    /// When the report is to be made anew; `None`: it is as new as the objects.
    report_at: Option<Instant>,
    report_took: Duration,
}

impl Keeper {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Ask>, loaded: sync_mpsc::Sender<()>) {
        let update = self.directories.load();
        self.take(update);
        self.report();
        let _ = loaded.send(());
        loop {
            let report_at = self.report_at;
            tokio::select! {
                update = self.directories.changed() => self.take(update),
                () = sleep_until(report_at) => self.report(),
                ask = inbox.recv() => match ask {
                    Some(Ask::Explain(question, reply)) => {
                        let _ = reply.send(question.answer(&self.catalog));
                    }
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

    /// Folds what was read into the objects, and the objects into the table: from here on
    /// connections see it.
    fn take(&mut self, update: Update) {
        let changes = self.store.apply(update);
        let applied = self.catalog.apply(&Change::of_store(self.store.objects(), &changes));
        let generation = self.catalog.table().generation;
        if changes.problems {
            let problems = self.store.problems();
            let over = |problem: &Problem| tracing::info!("no more: {problem}");
            self.status.problems(problems, log_problem, over);
        }
        self.status.changed(generation, self.catalog.selection());
        if changes.is_empty() {
            return;
        }
        tracing::info!(
            added = changes.added.len(),
            changed = changes.changed.len(),
            removed = changes.removed.len(),
            services = applied.services,
            swapped = applied.swapped,
            generation,
            "manifests changed"
        );
        let pause = REPORT_PAUSE.max(self.report_took * REPORT_SHARE);
        self.report_at.get_or_insert(Instant::now() + pause);
    }

    /// Counts and lists everything, which walks the whole table: so not at every change.
    fn report(&mut self) {
        let begun = Instant::now();
        let report = CheckReport::new(&self.catalog);
        let objects = self.store.objects();
        let findings = located(&self.store, &report.findings);
        let before = self.status.snapshot().report;
        for news in
            findings.iter().filter(|finding| before.findings.binary_search(finding).is_err())
        {
            tracing::warn!("{news}");
        }
        self.status.report(Report {
            summary: report.summary,
            findings,
            left_out: report.left_out.iter().map(|(h, out)| format!("{h}:{out}")).collect(),
            objects: Kind::ALL.iter().map(|kind| (*kind, objects.count(*kind))).collect(),
        });
        self.report_took = begun.elapsed();
        self.report_at = None;
    }
}

/// A report follows a change after this long, or after so many times as long as the last one took,
/// so that reports take two per cent of a core at most.
const REPORT_PAUSE: Duration = Duration::from_millis(200);
const REPORT_SHARE: u32 = 50;

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

fn log_problem(problem: &Problem) {
    match problem.severity {
        Severity::Error => tracing::error!("{problem}"),
        Severity::Warning => tracing::warn!("{problem}"),
        Severity::Note => tracing::info!("{problem}"),
    }
}

/// Remarks with the file and line of their object in front, sorted.
pub(super) fn located(store: &Store, findings: &[Finding]) -> Vec<String> {
    let locate = |finding: &Finding| match store.place_of(&finding.object) {
        Some((file, line)) => format!("{}:{line}: {finding}", file.display()),
        None => finding.to_string(),
    };
    let mut located: Vec<String> = findings.iter().map(locate).collect();
    located.sort_unstable();
    located
}
