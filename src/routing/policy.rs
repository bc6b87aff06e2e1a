//! What a DestinationRule says of connections to one endpoint set.
//!
//! Plain values with Istio's defaults. Must not know: how rules are found and merged.

use std::time::Duration;

use super::{Balance, Outlier, Warmup};

/// Connection policy of an endpoint set; shared by the sets it is equal for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How an endpoint is picked.
    pub balance: Balance,
    /// How a new endpoint comes to its share; `None`: it has it at once.
    pub warmup: Option<Warmup>,
    /// `connectionPool.tcp.maxConnections`: live connections of the set, over all workers.
    pub max_connections: Option<u32>,
    /// `connectionPool.tcp.connectTimeout`: bounds the connect stage, all tries together.
    pub connect_timeout: Duration,
    /// `connectionPool.tcp.tcpKeepalive` towards endpoints; `None`: the gateway's own setting.
    pub keepalive: Option<Keepalive>,
    /// `connectionPool.tcp.idleTimeout`: no byte in either direction for so long ends it.
    pub idle_timeout: Option<Duration>,
    /// `connectionPool.tcp.maxConnectionDuration`.
    pub max_duration: Option<Duration>,
    /// `outlierDetection`, or the gateway's default; `None`: nobody is ejected.
    pub outlier: Option<Outlier>,
}

impl Default for Policy {
    /// Istio's defaults: least request, 10 s to connect, nothing else limited, nobody ejected.
    fn default() -> Self {
        Self {
            balance: Balance::LeastRequest,
            warmup: None,
            max_connections: None,
            connect_timeout: Duration::from_secs(10),
            keepalive: None,
            idle_timeout: None,
            max_duration: None,
            outlier: None,
        }
    }
}

/// TCP keepalive; a `None` leaves the kernel's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// Idle time before the first probe (`TCP_KEEPIDLE`).
    pub time: Option<Duration>,
    /// Time between probes (`TCP_KEEPINTVL`).
    pub interval: Option<Duration>,
    /// Unanswered probes before the peer counts as gone (`TCP_KEEPCNT`).
    pub probes: Option<u32>,
}
