//! What operators read of each outcome.
//!
//! Must not know: anything but the outcome.

use super::Outcome;

impl Outcome {
    /// What an operator reads in the README's table.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Probe => "Closed without a byte. Counted, not logged.",
            Self::HelloTimeout => "No whole ClientHello within `sniff.timeout`.",
            Self::ClientEofBeforeHello => "The client closed inside its ClientHello.",
            Self::ClientResetBeforeHello => "The client reset inside its ClientHello.",
            Self::NotTls => {
                "The first bytes are not TLS: a plain-text client, or a load balancer that ended TLS."
            }
            Self::BadVersion => "Older than TLS 1.0, or not a TLS version.",
            Self::HelloMalformed => {
                "Not exactly one well-formed ClientHello; the log says which rule."
            }
            Self::HelloTooLarge => "The ClientHello is larger than `sniff.bytes_max`.",
            Self::BadProxyHeader => {
                "A trusted proxy sent no well-formed PROXY header; the log says which rule."
            }
            Self::ShedMemory => "Reset: memory was short, and it had sent no ClientHello yet.",
            Self::ShedHellos => "Reset: it waited for longest of more than `limits.hellos_max`.",
            Self::ShedSource => {
                "Reset: under pressure, from the largest source above `limits.source_max`."
            }
            Self::NoServerName => "The ClientHello names no server.",
            Self::BadName => "The name is not `outbound_.<port>_.<subset>_.<host>`.",
            Self::AlpnRefused => "No ALPN of `gateway.alpn` was offered: not a mesh sidecar.",
            Self::UnknownName => "No such service in this cluster.",
            Self::NotExported => "The service is not exported, or not under the Gateway's `hosts`.",
            Self::NoSuchPort => "The service has no such port that could be served.",
            Self::NoSuchSubset => "No DestinationRule of the service has such a subset.",
            Self::Loop => "The same ClientHello still waits here: two gateways name each other.",
            Self::SourceDenied => "A rule of `gateway.policy` keeps this source from this name.",
            Self::NoEndpoint => "No endpoint is ready and known to speak mesh mutual TLS.",
            Self::ConnectionLimit => "`maxConnections` of the DestinationRule is reached.",
            Self::ConnectFailed => "Every endpoint tried refused or could not be reached.",
            Self::ConnectTimeout => "The connect timeout passed.",
            Self::ClientGoneBeforeConnect => "The client reset before an endpoint was connected.",
            Self::FirstFlightFailed => {
                "The endpoints reset or refused before a first byte could be relayed."
            }
            Self::Finished => "Both sides ended by FIN.",
            Self::ClientReset => "The client reset; passed on as RST.",
            Self::EndpointReset => "The endpoint reset; passed on as RST.",
            Self::ClientVanished => "The client's host stopped answering.",
            Self::EndpointVanished => "The endpoint's host stopped answering.",
            Self::IdleTimeout => "No byte in either direction for the idle timeout.",
            Self::MaxDuration => "Older than the maximum connection duration.",
            Self::QuietDrain => "Ended by FIN at a quiet moment of a drain.",
            Self::EndpointRemoved => {
                "Its endpoint was removed, and `relay.on_endpoint_removed` has it ended."
            }
            Self::Rebalanced => "Ended by FIN at a quiet moment, as `relay.rebalance` asks.",
            Self::Drained => "Reset when the time of the gateway's shutdown was over.",
            Self::Panicked => "A bug: the connection's task panicked. Please report it.",
        }
    }
}
