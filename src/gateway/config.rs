//! What the data plane is told at start.
//!
//! Plain values with their defaults. Must not know: the settings file, or who reads a value.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{AccessLogConfig, Format, ISTIO_ALPN, LogTo, QuietConfig, SniffLimits, SourceRule};
use crate::{net::cidr::Cidr, routing::Keepalive};

/// What the data plane is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where connections arrive. Port 0 takes any.
    pub listen: Vec<SocketAddr>,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// A ClientHello must offer one of these; empty opens the gate.
    pub alpn: Vec<Box<[u8]>>,
    /// Endpoints are other gateways: a ClientHello that comes back to us is refused as a loop.
    pub endpoints_are_gateways: bool,
    /// Limits of the sniff.
    pub sniff: SniffLimits,
    /// How long one try to connect may take while another endpoint is left.
    pub try_timeout: Duration,
    /// How long an endpoint may be silent after the ClientHello while another is left.
    pub server_hello_timeout: Option<Duration>,
    /// Rest between two rounds in which each endpoint is asked for its ServerHello; `None`: none
    /// is asked.
    pub check_interval: Option<Duration>,
    /// Moving bytes.
    pub relay: RelayConfig,
    /// Ending connections before their peers do.
    pub leave: LeaveConfig,
    /// Who may have how much.
    pub limits: LimitsConfig,
    /// Live connections at once; two descriptors each.
    pub connections_max: usize,
    /// One line for each connection.
    pub access_log: AccessLogConfig,
}

/// How bytes are moved and when a relay is ended.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Bulk flows go through the kernel.
    pub splice: bool,
    /// Pipes at once, over all workers.
    pub pipes_max: usize,
    /// Where no DestinationRule says otherwise.
    pub idle_timeout: Option<Duration>,
    /// Where no DestinationRule says otherwise.
    pub max_duration: Option<Duration>,
    /// Both sides.
    pub keepalive: Keepalive,
    /// A peer that owes an acknowledgement and gives none for so long is gone.
    pub vanished_after: Duration,
    /// How long bytes taken before a reset may hold the reset back.
    pub abort_linger: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0; 16], 15443))],
            workers: 1,
            alpn: ISTIO_ALPN.iter().map(|name| name.as_bytes().into()).collect(),
            endpoints_are_gateways: false,
            sniff: SniffLimits { timeout: Duration::from_secs(5), bytes_max: 16 * 1024 },
            try_timeout: Duration::from_secs(1),
            server_hello_timeout: Some(Duration::from_secs(5)),
            check_interval: None,
            relay: RelayConfig::default(),
            leave: LeaveConfig::default(),
            limits: LimitsConfig::default(),
            connections_max: 9_000,
            access_log: AccessLogConfig {
                format: Format::Off,
                to: LogTo::File("/dev/stdout".into()),
            },
        }
    }
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            splice: true,
            pipes_max: 256,
            idle_timeout: None,
            max_duration: None,
            keepalive: Keepalive {
                time: Some(Duration::from_secs(30)),
                interval: Some(Duration::from_secs(10)),
                probes: Some(3),
            },
            vanished_after: Duration::from_secs(30),
            abort_linger: Duration::from_secs(1),
        }
    }
}

/// Who may have how much, and who says where a connection comes from.
#[derive(Clone, Debug, Default)]
pub struct LimitsConfig {
    /// Connections without a whole ClientHello, over all workers; `None`: three quarters of
    /// [`Config::connections_max`], so that silent ones never fill the gateway.
    pub hellos_max: Option<usize>,
    /// Under pressure a source with so many connections or more gets no further one, if none has
    /// more.
    pub source_max: Option<u32>,
    /// Sources that are not limited.
    pub trusted_sources: Vec<Cidr>,
    /// Proxies that must name their client in a PROXY header. From others it is not TLS.
    pub proxies: Vec<Cidr>,
    /// Who may ask for which name.
    pub policy: Vec<SourceRule>,
}

impl LimitsConfig {
    /// Whether a PROXY header is owed by this address.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|range| range.contains(address))
    }
}

/// When connections are ended that their peers would keep.
#[derive(Clone, Debug)]
pub struct LeaveConfig {
    /// What a quiet moment is.
    pub quiet: QuietConfig,
    /// What becomes of the connections of an endpoint that was removed.
    pub on_endpoint_removed: OnEndpointRemoved,
    /// How long [`OnEndpointRemoved::Drain`] waits for quiet moments.
    pub window: Duration,
    /// Connections of endpoints that carry more than their share are ended at quiet moments: at
    /// most this part of a set's each second. `None`: never.
    pub rebalance: Option<f64>,
}

impl Default for LeaveConfig {
    fn default() -> Self {
        Self {
            quiet: QuietConfig::default(),
            on_endpoint_removed: OnEndpointRemoved::Keep,
            window: Duration::from_secs(20),
            rebalance: None,
        }
    }
}

/// What becomes of the connections of an endpoint that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEndpointRemoved {
    /// They go on to their own end.
    Keep,
    /// They end at quiet moments; after the window they are reset.
    Drain,
    /// They are reset at once.
    Reset,
}
