//! Feeds the catalog with what manifests say, reports on it, and answers questions.
//!
//! Must not know: connections, how answers are shown.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::status::{Report, Status};
use crate::{
    config::Settings,
    discovery::{Catalog, Change, CheckReport, Explanation, Finding, explain::Question},
    manifests::{Changes, Keep, Kind, Sources, Store, kubernetes, problem::place},
    resolver::{Names, Resolved},
};

/// What the thread is asked from outside.
#[derive(Debug)]
pub(super) enum Ask {
    /// Why a name leads where it leads.
    Explain(OwnedQuestion, oneshot::Sender<Explanation>),
    /// A host name has these addresses now.
    Resolved(Resolved),
    /// Answered when all that was asked before is done.
    Flush(oneshot::Sender<()>),
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

/// Opens what the settings name. Nothing at all is valid: everything is refused then.
pub(super) fn open(settings: &Settings) -> anyhow::Result<Sources> {
    let manifests = &settings.manifests;
    let api = &manifests.kubernetes;
    if manifests.directories.is_empty() && !api.enabled {
        tracing::warn!(
            "no manifests are given (--manifests DIR or --kubernetes): every name is refused"
        );
    }
    let kubernetes = api.enabled.then(|| {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut namespaces: BTreeSet<String> = api.namespaces.iter().cloned().collect();
        if !namespaces.is_empty() {
            namespaces.insert(settings.gateway.namespace.clone());
            namespaces.insert(manifests.root_namespace.clone());
        }
        let kubeconfig = Some(api.kubeconfig.clone()).filter(|path| !path.as_os_str().is_empty());
        // That of the revision `default` has no ending.
        let revision = settings.gateway.labels.get("istio.io/rev").filter(|rev| *rev != "default");
        let mesh = revision.map_or_else(|| "istio".to_owned(), |rev| format!("istio-{rev}"));
        let mesh = Some((manifests.root_namespace.clone(), mesh));
        let context = given(&api.context);
        kubernetes::Config { kubeconfig, context, namespaces, mesh }
    });
    Ok(Sources::open(&manifests.directories, kubernetes.as_ref())?)
}

/// The catalog, and what is known of it.
#[derive(Debug)]
pub(super) struct Discovery {
    catalog: Catalog,
    status: Arc<Status>,
    names: Arc<Names>,
    /// When the report is to be made anew; `None`: it is as new as the objects.
    report_at: Option<Instant>,
    report_took: Duration,
}

impl Discovery {
    pub(super) fn new(catalog: Catalog, status: Arc<Status>, names: Arc<Names>) -> Self {
        Self { catalog, status, names, report_at: None, report_took: Duration::ZERO }
    }
}

impl Keep for Discovery {
    type Ask = Ask;
    const NOTES_ARE_NEWS: bool = true;

    /// Folds what was read into the table: from here on connections see it.
    fn changed(&mut self, store: &Store, changes: &Changes) {
        let before = self.catalog.table().generation;
        let applied = self.catalog.apply(&Change::of_store(store.objects(), changes));
        self.names.want(self.catalog.names_wanted());
        let generation = self.catalog.table().generation;
        if changes.problems {
            self.status.problems(store.problems());
        }
        let is_first = self.status.changed(generation, self.catalog.selection());
        if !changes.is_empty() && generation == before {
            // Endpoints of a living cluster change all the time.
            let (changes, swapped) = (changes.iter().count(), applied.swapped);
            tracing::debug!(changes, swapped, "manifests changed, names and policy did not");
            self.report_soon();
        } else if !changes.is_empty() {
            tracing::info!(
                added = changes.added.len(),
                changed = changes.changed.len(),
                removed = changes.removed.len(),
                services = applied.services,
                swapped = applied.swapped,
                generation,
                "manifests changed"
            );
            self.report_soon();
        }
        if is_first {
            // Whoever waits for the first load sees a report.
            self.report(store);
        }
    }

    fn asked(&mut self, _: &Store, ask: Ask) {
        match ask {
            Ask::Explain(question, reply) => {
                let _ = reply.send(question.answer(&self.catalog));
            }
            Ask::Resolved(Resolved { name, addresses }) => {
                self.catalog.apply(&[Change::Resolved(name, addresses)]);
                self.report_soon();
            }
            Ask::Flush(done) => _ = done.send(()),
        }
    }

    fn alarm(&self) -> Option<Instant> {
        self.report_at
    }

    fn alarmed(&mut self, store: &Store) {
        self.report(store);
    }
}

impl Discovery {
    fn report_soon(&mut self) {
        let pause = (self.report_took * REPORT_SHARE).clamp(REPORT_PAUSE, REPORT_PAUSE_MAX);
        self.report_at.get_or_insert(Instant::now() + pause);
    }

    /// Counts and lists everything, which walks the whole table: so not at every change.
    fn report(&mut self, store: &Store) {
        let begun = Instant::now();
        let report = CheckReport::new(&self.catalog);
        let objects = store.objects();
        let findings = located(store, &report.findings);
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

/// A report follows a change after this long, or after so many times as long as the last one took:
/// while objects change all the time (10,000 services: 20 ms for a report), reports take half a per
/// cent of a core.
const REPORT_PAUSE: Duration = Duration::from_millis(200);
const REPORT_SHARE: u32 = 200;
/// But nobody waits longer than this to read of a change.
const REPORT_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Remarks with the file and line of their object in front, sorted.
pub(super) fn located(store: &Store, findings: &[Finding]) -> Vec<String> {
    let locate = |finding: &Finding| match store.place_of(&finding.object) {
        Some((file, line)) => format!("{}: {finding}", place(file, line)),
        None => finding.to_string(),
    };
    let mut located: Vec<String> = findings.iter().map(locate).collect();
    located.sort_unstable();
    located
}
