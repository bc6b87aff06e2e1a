//! The last failures as `/connections?failed` shows them.
//!
//! Must not know: how they came about.

use serde_json::{Value, json};

use crate::{
    admin::{ConnectionFilter, Listing},
    gateway::FailureView,
};

/// Both forms of those that the filter lets through.
pub(super) fn listing(failures: &[FailureView], filter: &ConnectionFilter) -> Listing {
    let shown: Vec<_> =
        failures.iter().filter(|f| is_wanted(f, filter)).take(filter.limit()).collect();
    let failed: Vec<_> = shown.iter().map(|failure| object(failure)).collect();
    Listing {
        text: shown.iter().map(|failure| format!("{failure}\n")).collect(),
        json: json!({ "failed": failed }),
    }
}

fn is_wanted(failure: &FailureView, filter: &ConnectionFilter) -> bool {
    let names = [&failure.server_name, &failure.route];
    let named = |part: &String| names.into_iter().flatten().any(|name| name.contains(part));
    filter.sni.as_ref().is_none_or(named)
        && filter.source.is_none_or(|source| failure.downstream.ip() == source)
        && filter.endpoint.is_none_or(|at| failure.endpoint.is_some_and(|e| e.ip() == at))
}

fn object(failure: &FailureView) -> Value {
    json!({
        "start_time": failure.started,
        "duration_seconds": failure.duration.as_secs_f64(),
        "outcome": failure.outcome.reason(),
        "stage": failure.outcome.stage().as_str(),
        "ended_by": failure.outcome.origin().as_str(),
        "detail": failure.detail,
        "tls": failure.handshake.map(|(class, _)| class),
        "tls_ended_by": failure.handshake.map(|(_, by)| by),
        "last_error": failure.last_error,
        "connect_attempts": failure.attempts,
        "downstream": failure.downstream.to_string(),
        "server_name": failure.server_name,
        "route": failure.route,
        "upstream": failure.endpoint.map(|endpoint| endpoint.to_string()),
        "bytes_received": failure.received,
        "bytes_sent": failure.sent,
    })
}
