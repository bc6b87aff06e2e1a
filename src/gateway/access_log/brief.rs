//! A short sentence for people who watch.
//!
//! Must not know: where the line goes.

use super::Line;
use crate::gateway::refuse::alert_for;

/// One sentence, without newline.
pub(super) fn format(line: &Line<'_>) -> String {
    let reason = line.reason();
    match (line.route, line.endpoint) {
        (Some(_), Some(endpoint)) if line.upstream_local.is_some() => {
            let who = &endpoint.instance;
            let who = if who.is_empty() { "endpoint" } else { &**who };
            format!(
                "relayed to {who} at {}: {reason}, {} bytes in, {} out",
                endpoint.address, line.received, line.sent
            )
        }
        _ => match alert_for(line.outcome) {
            Some(alert) => format!("refused: {reason} (alert {})", alert.record()[6]),
            None => format!("ended: {reason}"),
        },
    }
}
