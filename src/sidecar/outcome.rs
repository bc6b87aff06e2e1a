//! How a connection ended: one word for the metric and the log.
//!
//! Must not know: sockets, what was said.

/// Which way a connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the application to the mesh.
    Outbound,
    /// From the mesh to the application.
    Inbound,
}

impl Direction {
    /// Both, in the order of the enum.
    pub const ALL: [Self; 2] = [Self::Outbound, Self::Inbound];

    /// The label in metrics and log lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// How a connection ended. Downstream is who dialled us, upstream whom we dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides closed by FIN.
    Ok,
    /// The downstream reset.
    DownstreamReset,
    /// The upstream reset.
    UpstreamReset,
    /// The mesh's side was cut: FIN without TLS's close_notify.
    Truncated,
    /// TLS failed after the handshake: a peer's alert, or bytes that are none of the session's.
    TlsFailed,
    /// The service, its port or the subset is not there (any more).
    NoRoute,
    /// There is no endpoint.
    NoEndpoint,
    /// `maxConnections` of the DestinationRule is reached.
    ConnectionLimit,
    /// Nobody could be connected to: outbound no endpoint, inbound the application.
    ConnectFailed,
    /// The connect timeout passed.
    ConnectTimeout,
    /// TLS could not be agreed on: outbound with any endpoint, inbound with the peer.
    HandshakeFailed,
    /// Closed before the first byte, as probes of load balancers do.
    Probe,
    /// No byte in either direction for the idle timeout.
    IdleTimeout,
    /// Older than the maximum connection duration.
    MaxDuration,
    /// Cut when the sidecar ended.
    Drained,
    /// A bug: the connection's task panicked.
    Panic,
}

impl Outcome {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 16] = [
        Self::Ok,
        Self::DownstreamReset,
        Self::UpstreamReset,
        Self::Truncated,
        Self::TlsFailed,
        Self::NoRoute,
        Self::NoEndpoint,
        Self::ConnectionLimit,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::HandshakeFailed,
        Self::Probe,
        Self::IdleTimeout,
        Self::MaxDuration,
        Self::Drained,
        Self::Panic,
    ];

    /// The label in metrics and log lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::DownstreamReset => "downstream_reset",
            Self::UpstreamReset => "upstream_reset",
            Self::Truncated => "truncated",
            Self::TlsFailed => "tls_failed",
            Self::NoRoute => "no_route",
            Self::NoEndpoint => "no_endpoint",
            Self::ConnectionLimit => "connection_limit",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::HandshakeFailed => "handshake_failed",
            Self::Probe => "probe",
            Self::IdleTimeout => "idle_timeout",
            Self::MaxDuration => "max_duration",
            Self::Drained => "drained",
            Self::Panic => "panic",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_label_of_its_own() {
        let labels: std::collections::BTreeSet<_> = Outcome::ALL.map(Outcome::as_str).into();
        assert_eq!(labels.len(), Outcome::ALL.len());
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
        }
    }
}
