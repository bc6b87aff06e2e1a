//! How a connection ended: stage × cause × side.
//!
//! Every match here names every variant, so that a new way to end does not compile until it has a
//! stage, a side, a reason, flags and a line of help. Must not know: how an outcome is counted or
//! written.

mod help;

/// The one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Closed before a byte came: a load balancer's or kubelet's probe.
    Probe,
    /// The ClientHello was not whole before the deadline.
    HelloTimeout,
    /// FIN inside the ClientHello.
    ClientEofBeforeHello,
    /// RST inside the ClientHello.
    ClientResetBeforeHello,
    /// The first bytes are not TLS.
    NotTls,
    /// A record or ClientHello of a version that is not TLS 1.0 or later.
    BadVersion,
    /// Not exactly one well-formed ClientHello.
    HelloMalformed,
    /// The ClientHello is larger than the limit.
    HelloTooLarge,
    /// A trusted proxy sent no well-formed PROXY header.
    BadProxyHeader,
    /// Memory was short.
    ShedMemory,
    /// Too many connections had sent no ClientHello, and it had waited for longest.
    ShedHellos,
    /// Its source had the most connections of all, and the gateway was under pressure.
    ShedSource,
    /// A ClientHello without server name.
    NoServerName,
    /// A server name that is not of the `outbound_.` form.
    BadName,
    /// No ALPN that a mesh sidecar offers.
    AlpnRefused,
    /// A service that does not exist here.
    UnknownName,
    /// A service that is not exported, or not under the Gateway's hosts.
    NotExported,
    /// The service has no such port.
    NoSuchPort,
    /// The port has no such subset.
    NoSuchSubset,
    /// Its ClientHello waits here for an answer already: it came back to us.
    Loop,
    /// A rule keeps this source from this name.
    SourceDenied,
    /// The service has no endpoint that can be served.
    NoEndpoint,
    /// `maxConnections` of the DestinationRule is reached.
    ConnectionLimit,
    /// No endpoint could be connected to.
    ConnectFailed,
    /// The connect timeout passed.
    ConnectTimeout,
    /// The client reset before an endpoint was connected.
    ClientGoneBeforeConnect,
    /// The last endpoint that could be asked reset, or refused by alert, before its first byte
    /// was relayed.
    FirstFlightFailed,
    /// Both sides ended by FIN.
    Finished,
    /// The client reset.
    ClientReset,
    /// The endpoint reset.
    EndpointReset,
    /// The client's host stopped answering.
    ClientVanished,
    /// The endpoint's host stopped answering.
    EndpointVanished,
    /// No byte for the idle timeout.
    IdleTimeout,
    /// Older than the maximum duration.
    MaxDuration,
    /// Ended at a quiet moment of a drain.
    QuietDrain,
    /// Its endpoint was removed, and the operator wants such connections ended.
    EndpointRemoved,
    /// Ended at a quiet moment, so that its client comes to an endpoint with fewer connections.
    Rebalanced,
    /// Cut by the gateway's own shutdown.
    Drained,
    /// A bug: the connection's task panicked.
    Panicked,
}

/// Where on its path a connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the ClientHello.
    Sniff,
    /// Looking the name up.
    Route,
    /// Dialling an endpoint.
    Connect,
    /// Waiting for the endpoint's first byte.
    FirstFlight,
    /// Moving bytes.
    Relay,
}

impl Stage {
    /// As it is written in logs and views.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sniff => "sniff",
            Self::Route => "route",
            Self::Connect => "connect",
            Self::FirstFlight => "first_flight",
            Self::Relay => "relay",
        }
    }
}

/// Who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The side that dialled us.
    Downstream,
    /// The side we dialled.
    Upstream,
    /// The gateway: by policy, limit or refusal.
    Gateway,
}

impl Origin {
    /// As it is written in logs and views.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}

impl Outcome {
    /// Every outcome, in the order of the path.
    pub const ALL: [Self; 39] = [
        Self::Probe,
        Self::HelloTimeout,
        Self::ClientEofBeforeHello,
        Self::ClientResetBeforeHello,
        Self::NotTls,
        Self::BadVersion,
        Self::HelloMalformed,
        Self::HelloTooLarge,
        Self::BadProxyHeader,
        Self::ShedMemory,
        Self::ShedHellos,
        Self::ShedSource,
        Self::NoServerName,
        Self::BadName,
        Self::AlpnRefused,
        Self::UnknownName,
        Self::NotExported,
        Self::NoSuchPort,
        Self::NoSuchSubset,
        Self::Loop,
        Self::SourceDenied,
        Self::NoEndpoint,
        Self::ConnectionLimit,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::ClientGoneBeforeConnect,
        Self::FirstFlightFailed,
        Self::Finished,
        Self::ClientReset,
        Self::EndpointReset,
        Self::ClientVanished,
        Self::EndpointVanished,
        Self::IdleTimeout,
        Self::MaxDuration,
        Self::QuietDrain,
        Self::EndpointRemoved,
        Self::Rebalanced,
        Self::Drained,
        Self::Panicked,
    ];

    /// The reason in log lines and the metric label: stable, lower case.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::HelloTimeout => "hello_timeout",
            Self::ClientEofBeforeHello => "client_eof_before_hello",
            Self::ClientResetBeforeHello => "client_rst_before_hello",
            Self::NotTls => "not_tls",
            Self::BadVersion => "bad_version",
            Self::HelloMalformed => "malformed",
            Self::HelloTooLarge => "hello_too_large",
            Self::BadProxyHeader => "bad_proxy_header",
            Self::ShedMemory => "shed_memory",
            Self::ShedHellos => "shed_hellos",
            Self::ShedSource => "shed_source",
            Self::NoServerName => "no_sni",
            Self::BadName => "bad_name",
            Self::AlpnRefused => "alpn_denied",
            Self::UnknownName => "unknown_name",
            Self::NotExported => "not_exported",
            Self::NoSuchPort => "no_such_port",
            Self::NoSuchSubset => "no_such_subset",
            Self::Loop => "loop",
            Self::SourceDenied => "source_denied",
            Self::NoEndpoint => "no_endpoint",
            Self::ConnectionLimit => "connection_limit",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::ClientGoneBeforeConnect => "client_abort_preconnect",
            Self::FirstFlightFailed => "first_flight_failed",
            Self::Finished => "ok",
            Self::ClientReset => "client_rst",
            Self::EndpointReset => "endpoint_rst",
            Self::ClientVanished => "client_vanished",
            Self::EndpointVanished => "endpoint_vanished",
            Self::IdleTimeout => "idle_timeout",
            Self::MaxDuration => "max_duration",
            Self::QuietDrain => "quiet_drain",
            Self::EndpointRemoved => "endpoint_removed",
            Self::Rebalanced => "rebalanced",
            Self::Drained => "drained",
            Self::Panicked => "panic",
        }
    }

    /// The stage it belongs to.
    #[must_use]
    pub fn stage(self) -> Stage {
        match self {
            Self::Probe
            | Self::HelloTimeout
            | Self::ClientEofBeforeHello
            | Self::ClientResetBeforeHello
            | Self::NotTls
            | Self::BadVersion
            | Self::HelloMalformed
            | Self::HelloTooLarge
            | Self::BadProxyHeader
            | Self::ShedMemory
            | Self::ShedHellos
            | Self::ShedSource => Stage::Sniff,
            Self::NoServerName
            | Self::BadName
            | Self::AlpnRefused
            | Self::UnknownName
            | Self::NotExported
            | Self::NoSuchPort
            | Self::NoSuchSubset
            | Self::Loop
            | Self::SourceDenied => Stage::Route,
            Self::NoEndpoint
            | Self::ConnectionLimit
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::ClientGoneBeforeConnect => Stage::Connect,
            Self::FirstFlightFailed => Stage::FirstFlight,
            Self::Finished
            | Self::ClientReset
            | Self::EndpointReset
            | Self::ClientVanished
            | Self::EndpointVanished
            | Self::IdleTimeout
            | Self::MaxDuration
            | Self::QuietDrain
            | Self::EndpointRemoved
            | Self::Rebalanced
            | Self::Drained
            | Self::Panicked => Stage::Relay,
        }
    }

    /// Who ended it. A normal end counts as the downstream's doing, as in Envoy.
    #[must_use]
    pub fn origin(self) -> Origin {
        match self {
            Self::Probe
            | Self::HelloTimeout
            | Self::ClientEofBeforeHello
            | Self::ClientResetBeforeHello
            | Self::ClientGoneBeforeConnect
            | Self::Finished
            | Self::ClientReset
            | Self::ClientVanished => Origin::Downstream,
            Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::FirstFlightFailed
            | Self::EndpointReset
            | Self::EndpointVanished => Origin::Upstream,
            Self::NotTls
            | Self::BadVersion
            | Self::HelloMalformed
            | Self::HelloTooLarge
            | Self::BadProxyHeader
            | Self::ShedMemory
            | Self::ShedHellos
            | Self::ShedSource
            | Self::NoServerName
            | Self::BadName
            | Self::AlpnRefused
            | Self::UnknownName
            | Self::NotExported
            | Self::NoSuchPort
            | Self::NoSuchSubset
            | Self::Loop
            | Self::SourceDenied
            | Self::NoEndpoint
            | Self::ConnectionLimit
            | Self::IdleTimeout
            | Self::MaxDuration
            | Self::QuietDrain
            | Self::EndpointRemoved
            | Self::Rebalanced
            | Self::Drained
            | Self::Panicked => Origin::Gateway,
        }
    }

    /// Envoy's response flags, as Istio's dashboards know them.
    #[must_use]
    pub fn flags(self) -> &'static str {
        match self {
            Self::Probe | Self::HelloTimeout | Self::Finished | Self::IdleTimeout => "-",
            Self::NotTls
            | Self::BadVersion
            | Self::HelloMalformed
            | Self::HelloTooLarge
            | Self::BadProxyHeader
            | Self::NoServerName
            | Self::BadName
            | Self::AlpnRefused
            | Self::UnknownName
            | Self::NotExported
            | Self::NoSuchPort
            | Self::NoSuchSubset
            | Self::Loop => "NR",
            Self::SourceDenied => "UAEX",
            Self::NoEndpoint => "UH",
            Self::ConnectionLimit | Self::ShedMemory | Self::ShedHellos | Self::ShedSource => "UO",
            Self::ConnectFailed | Self::ConnectTimeout => "UF,URX",
            Self::FirstFlightFailed | Self::EndpointReset | Self::EndpointVanished => "UC",
            Self::ClientEofBeforeHello
            | Self::ClientResetBeforeHello
            | Self::ClientGoneBeforeConnect
            | Self::ClientReset
            | Self::ClientVanished => "DC",
            Self::MaxDuration => "DT",
            Self::QuietDrain
            | Self::EndpointRemoved
            | Self::Rebalanced
            | Self::Drained
            | Self::Panicked => "LR",
        }
    }

    /// The index in [`Outcome::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_list_of_all_is_in_the_order_of_the_enum() {
        for (i, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), i, "{outcome:?}");
        }
    }

    #[test]
    fn no_two_outcomes_share_a_reason() {
        let reasons: HashSet<_> = Outcome::ALL.iter().map(|o| o.reason()).collect();
        assert_eq!(reasons.len(), Outcome::ALL.len());
    }
}
