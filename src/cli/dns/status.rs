//! What the status port of `diolkos dns` shows. Must not know: DNS.
//!
//! Of the views that a gateway has, a DNS server has readiness and metrics; the paths of the
//! others are not served on its port.

use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::{
    admin::{Answer, ConnectionFilter, ExplainQuery, Explanation, Listing, Readiness, Views},
    metrics::{Metrics, names},
    routing::EndpointSet,
};

/// Readiness, metrics, and the order to end.
#[derive(Debug)]
pub(super) struct Status {
    loaded: watch::Receiver<bool>,
    metrics: Metrics,
    quit: Notify,
}

impl Status {
    pub(super) fn new(loaded: watch::Receiver<bool>, mut metrics: Metrics) -> Self {
        let ready = loaded.clone();
        metrics.collect(&names::READY, move |samples| {
            samples.put(&[], u64::from(*ready.borrow()));
        });
        Self { loaded, metrics, quit: Notify::new() }
    }

    /// Waits for the order to end.
    pub(super) async fn told_to_quit(&self) {
        self.quit.notified().await;
    }
}

impl Views for Status {
    fn readiness(&self) -> Readiness {
        let ready = *self.loaded.borrow();
        let waiting = (!ready).then(|| "the manifests are not loaded yet".to_owned());
        Readiness { ready, reasons: waiting.into_iter().collect() }
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
        let text = format!("a DNS server relays nothing, {:?} included", query.sni);
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
