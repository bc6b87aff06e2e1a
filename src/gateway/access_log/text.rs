//! Istio's default text format for TCP, field by field.
//!
//! Every HTTP field is `-`; the reason stands where Envoy has its connection termination details.
//! Must not know: where the line goes.

use std::fmt::{Display, Write};

use super::{Line, timestamp};

/// One line with its newline.
pub(super) fn format(line: &Line<'_>) -> String {
    let mut out = String::with_capacity(384);
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "[{start}] \"- - -\" 0 {flags} {code_details} {termination} \"{failure}\" {received} \
         {sent} {duration} - \"-\" \"-\" \"-\" \"-\" \"{upstream}\" {cluster} {upstream_local} \
         {downstream_local} {downstream_remote} {server_name} -",
        start = timestamp(line.started),
        flags = line.outcome.flags(),
        code_details = or_dash(line.code_details()),
        termination = line.reason(),
        failure = or_dash(line.transport_failure()),
        received = line.received,
        sent = line.sent,
        duration = line.duration.as_millis(),
        upstream = or_dash(line.endpoint.map(|e| e.address)),
        cluster = or_dash(line.route),
        upstream_local = or_dash(line.upstream_local),
        downstream_local = or_dash(line.downstream_local),
        downstream_remote = line.downstream_remote,
        server_name = or_dash(line.server_name()),
    );
    out
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

#[cfg(test)]
pub(in crate::gateway) mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::gateway::outcome::Outcome;

    /// A refused connection from a hostile client.
    pub(in crate::gateway) fn line() -> Line<'static> {
        Line {
            started: SystemTime::UNIX_EPOCH,
            duration: Duration::from_millis(12),
            outcome: Outcome::UnknownName,
            handshake: None,
            detail: None,
            last_error: None,
            attempts: 0,
            received: 517,
            sent: 0,
            spliced: false,
            hello: None,
            route: None,
            endpoint: None,
            upstream_local: None,
            downstream_local: Some(([10, 16, 0, 15], 15443).into()),
            downstream_remote: ([10, 16, 0, 1], 20071).into(),
        }
    }

    #[test]
    fn a_refusal_reads_as_istio_writes_it() {
        let expected = "[1970-01-01T00:00:00.000Z] \"- - -\" 0 NR filter_chain_not_found \
                        unknown_name \"-\" 517 0 12 - \"-\" \"-\" \"-\" \"-\" \"-\" - - \
                        10.16.0.15:15443 10.16.0.1:20071 - -\n";
        assert_eq!(format(&line()), expected);
    }
}
