//! Istio's default JSON keys for TCP, and our own behind them.
//!
//! A missing value is null. Must not know: where the line goes.

use serde_json::{Value, json};

use super::{Line, timestamp};
use crate::gateway::client_hello::Alpn;

/// One line with its newline.
pub(super) fn format(line: &Line<'_>) -> String {
    let text = |value: Option<String>| value.map_or(Value::Null, Value::String);
    let hello = line.hello;
    let object = json!({
        "start_time": timestamp(line.started),
        "route_name": null,
        "method": null,
        "path": null,
        "protocol": null,
        "response_code": 0,
        "response_flags": line.outcome.flags(),
        "response_code_details": line.code_details(),
        "connection_termination_details": line.reason(),
        "bytes_received": line.received,
        "bytes_sent": line.sent,
        "duration": u64::try_from(line.duration.as_millis()).unwrap_or(u64::MAX),
        "upstream_service_time": null,
        "x_forwarded_for": null,
        "user_agent": null,
        "request_id": null,
        "authority": null,
        "upstream_host": text(line.endpoint.map(|e| e.address.to_string())),
        "upstream_cluster": text(line.route.map(ToString::to_string)),
        "upstream_local_address": text(line.upstream_local.map(|a| a.to_string())),
        "downstream_local_address": text(line.downstream_local.map(|a| a.to_string())),
        "downstream_remote_address": line.downstream_remote.to_string(),
        "requested_server_name": text(line.server_name()),
        "upstream_transport_failure_reason": line.transport_failure(),
        // ours
        "outcome": line.outcome.reason(),
        "stage": line.outcome.stage().as_str(),
        "ended_by": line.outcome.origin().as_str(),
        "detail": line.detail,
        "tls": line.handshake.map(|end| end.class()),
        "tls_ended_by": line.handshake.map(|end| end.ended_by()),
        "connect_attempts": line.attempts,
        "spliced": line.spliced,
        "alpn": hello.map(|h| joined(&h.alpn)),
        "tls_versions": hello.map(|h| hex(&h.tls_versions)),
        "key_share_groups": hello.map(|h| hex(&h.key_share_groups)),
        "upstream_workload": text(line.endpoint.map(|e| e.instance.to_string())),
    });
    format!("{object}\n")
}

/// As offered, separated by commas.
fn joined(alpn: &Alpn) -> String {
    let names: Vec<&[u8]> = alpn.iter().collect();
    crate::telemetry::escape(&names.join(&b',')).to_string()
}

fn hex(codes: &[u16]) -> Vec<String> {
    codes.iter().map(|code| format!("{code:#06x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object() {
        let line = format(&super::super::text::tests::line());
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["response_flags"], "NR");
        assert_eq!(value["connection_termination_details"], "unknown_name");
        assert_eq!(value["upstream_host"], Value::Null);
    }
}
