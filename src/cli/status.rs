//! What the status port of `diolkos dns` and `diolkos sidecar` shows. Must not know: DNS, TLS.
//!
//! Of the views that a gateway has, these have readiness and metrics; the paths of the others are
//! not served on their port.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;
use tokio::sync::Notify;

use crate::{
    admin::{Answer, ConnectionFilter, ExplainQuery, Explanation, Listing, Readiness, Views},
    metrics::{Metrics, names},
    routing::EndpointSet,
};

/// Readiness, metrics, and the order to end.
pub(super) struct Status {
    /// What it is, for people.
    what: &'static str,
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    metrics: Metrics,
    quit: Notify,
    leaving: Arc<AtomicBool>,
}

impl Status {
    pub(super) fn new(
        what: &'static str,
        mut metrics: Metrics,
        readiness: impl Fn() -> Readiness + Send + Sync + 'static,
    ) -> Self {
        let leaving = Arc::new(AtomicBool::new(false));
        let is_leaving = Arc::clone(&leaving);
        let readiness: Arc<dyn Fn() -> Readiness + Send + Sync> = Arc::new(move || {
            if is_leaving.load(Ordering::Relaxed) {
                return Readiness { ready: false, reasons: vec!["it is ending".to_owned()] };
            }
            readiness()
        });
        let ready = Arc::clone(&readiness);
        metrics.collect(&names::READY, move |samples| {
            samples.put(&[], u64::from(ready().ready));
        });
        Self { what, readiness, metrics, quit: Notify::new(), leaving }
    }

    /// From here on it is not ready.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Waits for the order to end.
    pub(super) async fn told_to_quit(&self) {
        self.quit.notified().await;
    }
}

impl Views for Status {
    fn readiness(&self) -> Readiness {
        (self.readiness)()
    }

    fn metrics_text(&self) -> String {
        self.metrics.text()
    }

    fn clusters(&self, _visit: &mut dyn FnMut(&str, &EndpointSet)) {}

    fn config_dump(&self) -> Value {
        Value::Null
    }

    fn server_info(&self) -> Value {
        Value::Null
    }

    fn connections(&self, _filter: ConnectionFilter) -> Answer<Value> {
        Box::pin(std::future::ready(Value::Null))
    }

    fn failures(&self, _filter: &ConnectionFilter) -> Listing {
        Listing::default()
    }

    fn explain(&self, query: ExplainQuery) -> Answer<Explanation> {
        let text = format!("{} is no gateway: it explains nothing of {:?}", self.what, query.sni);
        let explanation = Explanation { served: false, text, json: Value::Null };
        Box::pin(std::future::ready(explanation))
    }

    fn log_level(&self) -> String {
        String::new()
    }

    fn set_log_level(&self, _level: &str) -> Result<(), String> {
        Err("not on this port".to_owned())
    }

    fn drain_listeners(&self) {
        self.quit.notify_one();
    }

    fn quit(&self) {
        self.quit.notify_one();
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status").field("what", &self.what).finish_non_exhaustive()
    }
}
