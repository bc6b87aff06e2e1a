//! What `diolkos export --watch` shows of itself: readiness and metrics. Must not know: what is
//! exported.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anyhow::Context as _;

use crate::{
    admin::{Port, Readiness, Server},
    cli::status::Status,
    config::types::Listen,
    export::Done,
    manifests::kubernetes::Health,
    metrics::{Counter, Gauge, Metrics, names},
};

/// Where runs are told.
#[derive(Debug)]
pub(super) struct Told {
    ok: Counter,
    partly: Counter,
    failed: Counter,
    names: Gauge,
    refused: Gauge,
    /// When a run came to its end.
    last: Arc<Mutex<Option<Instant>>>,
}

impl Told {
    /// Nothing was told yet. `apis` are those of the clusters that are followed.
    pub(super) fn new(apis: Vec<Arc<Health>>) -> (Self, Arc<Status>) {
        let mut metrics = Metrics::new();
        let runs = metrics.counters(&names::EXPORT_RUNS);
        let last = Arc::<Mutex<Option<Instant>>>::default();
        let told = Self {
            ok: runs.with(&["ok"]),
            partly: runs.with(&["partly"]),
            failed: runs.with(&["failed"]),
            names: metrics.gauge(&names::EXPORT_NAMES),
            refused: metrics.gauge(&names::EXPORT_REFUSED),
            last: Arc::clone(&last),
        };
        let (started, since) = (Instant::now(), Arc::clone(&last));
        metrics.collect(&names::EXPORT_AGE_SECONDS, move |samples| {
            let since = locked(&since).unwrap_or(started);
            samples.put(&[], since.elapsed().as_secs_f64());
        });
        metrics.collect(&names::KUBERNETES_AGE_SECONDS, move |samples| {
            let age = apis.iter().map(|api| api.age()).max().unwrap_or_default();
            samples.put(&[], age.as_secs_f64());
        });
        let readiness = move || {
            let ready = locked(&last).is_some();
            let waiting = (!ready).then(|| "nothing was exported yet".to_owned());
            Readiness { ready, reasons: waiting.into_iter().collect() }
        };
        (told, Arc::new(Status::new("an exporter", metrics, readiness)))
    }

    /// A run came to its end.
    pub(super) fn good(&self, done: &Done) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.names.set(count(done.objects.len()));
        self.refused.set(count(done.refused.len()));
        if done.refused.is_empty() {
            self.ok.inc()
        } else {
            self.partly.inc()
        };
        *locked(&self.last) = Some(Instant::now());
    }

    /// A run did not.
    pub(super) fn failed(&self) {
        self.failed.inc();
    }
}

fn locked(last: &Mutex<Option<Instant>>) -> MutexGuard<'_, Option<Instant>> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens where it is told to, on the runtime of the caller.
pub(super) fn serve(status: &Arc<Status>, at: Option<Listen>) -> anyhow::Result<()> {
    if let Some(Listen::At(address)) = at {
        let server = Server::bind(address)
            .with_context(|| format!("cannot listen on {address} (--status): give another"))?;
        tracing::info!(address = %server.address(), "listening for readiness and scrapes");
        tokio::spawn(server.run(Port::Agent, Arc::clone(status) as _));
    }
    Ok(())
}
