//! What operators ask: readiness, metrics, clusters, connections, explain, log level.
//!
//! Must not know: the planes; `app` hands it [`Views`].
//!
//! Bind first, so that a taken port stops the start; run later, on the control runtime.
//!
//! * [`Port::Admin`][]: `/` `/ready` `/clusters` `/config_dump` `/stats` `/stats/prometheus`
//!   `/server_info` `/logging` `/connections` `/explain` `/drain_listeners` `/quitquitquit`
//! * [`Port::Health`][]: `/healthz/ready`
//! * [`Port::Agent`][]: `/healthz/ready` `/stats/prometheus` `/drain` `/quitquitquit`
//! * [`Port::Metrics`][]: `/stats/prometheus`

use std::{fmt, future::Future, net::IpAddr, pin::Pin};

use serde::Deserialize;
use serde_json::Value;

use crate::routing::EndpointSet;

pub mod readiness;

mod clusters;
mod guards;
mod page;
mod routes;
mod server;

pub use readiness::{Readiness, ReadinessGuard, ReadinessGuards};
pub use server::Server;

/// Which of the ports a server answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 15000: everything; commands by POST. Keep it on loopback.
    Admin,
    /// 15021: the readiness probe.
    Health,
    /// 15020: what Istio's agent answers; commands only from loopback.
    Agent,
    /// 15090: the scrape.
    Metrics,
}

/// An answer that takes a while, because workers are asked.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the ports show and do. All is called on the control thread and must not block it.
pub trait Views: Send + Sync + 'static {
    /// Whether traffic should come, and what stands in the way or is worth knowing.
    fn readiness(&self) -> Readiness;
    /// The scrape.
    fn metrics_text(&self) -> String;
    /// Shows each endpoint set with the name that Envoy would give its cluster.
    fn clusters(&self, visit: &mut dyn FnMut(&str, &EndpointSet));
    /// Settings, sources, objects with their problems, and the table.
    fn config_dump(&self) -> Value;
    /// Version, addresses, uptime, state.
    fn server_info(&self) -> Value;
    /// Live connections that the filter lets through.
    fn connections(&self, filter: ConnectionFilter) -> Answer<Value>;
    /// Connections that failed lately and that the filter lets through.
    fn failures(&self, filter: &ConnectionFilter) -> Listing;
    /// What happens to a connection.
    fn explain(&self, query: ExplainQuery) -> Answer<Explanation>;
    /// The level of the log.
    fn log_level(&self) -> String;
    /// Changes it.
    ///
    /// # Errors
    /// What is wrong with the level.
    fn set_log_level(&self, level: &str) -> Result<(), String>;
    /// Starts draining; the process goes on.
    fn drain_listeners(&self);
    /// Starts draining, then ends the process. Returns at once: the answer is sent after it.
    fn quit(&self);
}

/// Which connections to show; all of the parts given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionFilter {
    /// Part of the server name.
    pub sni: Option<String>,
    /// Address of the downstream.
    pub source: Option<IpAddr>,
    /// Address of the endpoint.
    pub endpoint: Option<IpAddr>,
    /// At most so many; 1,000 unless told.
    pub limit: Option<usize>,
    /// Written without a value or with any: the last failures instead of what is alive.
    pub failed: Option<String>,
    /// `text` shows failures as lines for people.
    pub format: Option<String>,
}

/// A list in two forms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// A line for each, for people.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl ConnectionFilter {
    /// How many connections to show at most.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(1000)
    }
}

/// A connection to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainQuery {
    /// The server name asked for.
    pub sni: String,
    /// ALPN names offered.
    pub alpn: Vec<String>,
    /// Where it comes from.
    pub source: Option<IpAddr>,
}

/// What happens to a connection, gate by gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Whether it would be relayed.
    pub served: bool,
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Health => "health",
            Self::Agent => "agent",
            Self::Metrics => "metrics",
        })
    }
}

#[cfg(test)]
mod tests;
