//! Istio `DestinationRule`: subsets of a host, and the policy for connections to it.
//!
//! Must not know: how rules are selected and merged, and Istio's defaults: what is not written is
//! `None`, because a subset inherits field by field.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use super::{ExportTo, HostName, Labels, List, Meta, budget, scalar};

/// A DestinationRule.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct DestinationRule {
    /// Name, namespace, age.
    #[serde(rename = "metadata")]
    pub meta: Meta,
    /// The rule.
    pub spec: DestinationRuleSpec,
}

/// `spec` of a DestinationRule.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRuleSpec {
    /// The host it is about: a short name, a full one or a wildcard.
    pub host: HostName,
    /// Policy for all ports and subsets.
    #[serde(default)]
    pub traffic_policy: Option<Box<TrafficPolicy>>,
    /// Named parts of the endpoints.
    #[serde(default)]
    pub subsets: List<Subset>,
    /// Who sees it; empty: the mesh's default.
    #[serde(default)]
    pub export_to: List<ExportTo>,
    /// Workloads it is for; `None`: all.
    #[serde(default)]
    pub workload_selector: Option<MatchLabels>,
}

/// A selector by `matchLabels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchLabels {
    /// Labels that a workload must have.
    #[serde(default)]
    pub match_labels: Labels,
}

/// A named part of the endpoints.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subset {
    /// Its name, never empty.
    pub name: Box<str>,
    /// Labels of its endpoints; empty: all endpoints.
    #[serde(default)]
    pub labels: Labels,
    /// Policy that overrides the rule's, field by field.
    #[serde(default)]
    pub traffic_policy: Option<Box<TrafficPolicy>>,
}

/// A `trafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How an endpoint is picked.
    #[serde(default)]
    pub load_balancer: Option<Box<LoadBalancer>>,
    /// Limits of connections.
    #[serde(default)]
    pub connection_pool: Option<Box<ConnectionPool>>,
    /// When an endpoint is ejected.
    #[serde(default)]
    pub outlier_detection: Option<Box<OutlierDetection>>,
    /// TLS of the client.
    #[serde(default)]
    pub tls: Option<Box<ClientTls>>,
    /// Policy by service port; replaces all of the above for that port.
    #[serde(default)]
    pub port_level_settings: List<PortPolicy>,
}

/// An entry of `portLevelSettings`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortPolicy {
    /// The service port it is for.
    pub port: PortSelector,
    /// How an endpoint is picked.
    #[serde(default)]
    pub load_balancer: Option<Box<LoadBalancer>>,
    /// Limits of connections.
    #[serde(default)]
    pub connection_pool: Option<Box<ConnectionPool>>,
    /// When an endpoint is ejected.
    #[serde(default)]
    pub outlier_detection: Option<Box<OutlierDetection>>,
    /// TLS of the client.
    #[serde(default)]
    pub tls: Option<Box<ClientTls>>,
}

/// `port` of a port's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct PortSelector {
    /// Its number.
    #[serde(deserialize_with = "scalar::port")]
    pub number: u16,
}

/// `loadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// A plain algorithm.
    #[serde(default)]
    pub simple: Option<SimpleBalance>,
    /// Equal keys go to equal endpoints.
    #[serde(default)]
    pub consistent_hash: Option<ConsistentHash>,
    /// Preference by locality.
    #[serde(default)]
    pub locality_lb_setting: Option<LocalitySetting>,
    /// `warmupDurationSecs`, the older form of `warmup.duration`.
    #[serde(default, deserialize_with = "scalar::optional_duration")]
    pub warmup_duration_secs: Option<Duration>,
    /// A new endpoint gets its share slowly.
    #[serde(default)]
    pub warmup: Option<Warmup>,
}

/// `loadBalancer.simple`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum SimpleBalance {
    Unspecified,
    Random,
    Passthrough,
    RoundRobin,
    /// Old name of least request.
    LeastConn,
    LeastRequest,
}

/// `loadBalancer.consistentHash`; the keys taken from HTTP cannot be seen here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsistentHash {
    /// The key is the source IP.
    #[serde(default, rename = "useSourceIp", deserialize_with = "scalar::or_default")]
    pub use_source_ip: bool,
    /// The older form of `ringHash.minimumRingSize`.
    #[serde(default)]
    pub minimum_ring_size: Option<u32>,
    /// By a ring, as when neither is written.
    #[serde(default)]
    pub ring_hash: Option<RingHash>,
    /// By Maglev's table.
    #[serde(default)]
    pub maglev: Option<Maglev>,
}

/// `consistentHash.ringHash`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RingHash {
    /// Points of the ring at least.
    #[serde(default)]
    pub minimum_ring_size: Option<u32>,
}

/// `consistentHash.maglev`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Maglev {
    /// Slots of the table, a prime number.
    #[serde(default)]
    pub table_size: Option<u32>,
}

/// `loadBalancer.localityLbSetting`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalitySetting {
    /// Off when false; not written, the mesh decides.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Shares by locality.
    #[serde(default)]
    pub distribute: List<Distribute>,
    /// Which region comes next.
    #[serde(default)]
    pub failover: List<Failover>,
    /// Labels, `key` or `key=value`, that make an endpoint near.
    #[serde(default)]
    pub failover_priority: List<Box<str>>,
}

/// An entry of `distribute`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Distribute {
    /// Locality of the gateway, `region/zone/*`.
    pub from: Box<str>,
    /// Shares of localities; they sum to 100.
    #[serde(default, deserialize_with = "shares")]
    pub to: Shares,
}

/// Shares by locality, in the order written.
pub type Shares = Box<[(Box<str>, u32)]>;

/// An entry of `failover`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Failover {
    /// The gateway's region.
    pub from: Box<str>,
    /// The region that comes next.
    pub to: Box<str>,
}

/// `loadBalancer.warmup`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Warmup {
    /// How long an endpoint is new.
    #[serde(default, deserialize_with = "scalar::optional_duration")]
    pub duration: Option<Duration>,
    /// Its share at the start, in per cent.
    #[serde(default)]
    pub minimum_percent: Option<f64>,
    /// How fast its share grows.
    #[serde(default)]
    pub aggression: Option<f64>,
}

/// `connectionPool`; only `tcp` is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ConnectionPool {
    /// Limits of TCP connections.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub tcp: TcpSettings,
}

/// `connectionPool.tcp`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpSettings {
    /// Live connections; 0 and absent both mean no limit.
    #[serde(default)]
    pub max_connections: Option<u32>,
    /// Time to connect.
    #[serde(default, deserialize_with = "scalar::optional_duration")]
    pub connect_timeout: Option<Duration>,
    /// Keepalive towards endpoints.
    #[serde(default)]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Silence that ends a connection; 0 means never.
    #[serde(default, deserialize_with = "scalar::optional_duration")]
    pub idle_timeout: Option<Duration>,
    /// Age that ends a connection.
    #[serde(default, deserialize_with = "scalar::optional_duration")]
    pub max_connection_duration: Option<Duration>,
}

/// `connectionPool.tcp.tcpKeepalive`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TcpKeepalive {
    /// Unanswered probes before the peer counts as gone.
    #[serde(default)]
    pub probes: Option<u32>,
    /// Silence before the first probe.
    #[serde(default, deserialize_with = "scalar::optional_duration")]
    pub time: Option<Duration>,
    /// Time between probes.
    #[serde(default, deserialize_with = "scalar::optional_duration")]
    pub interval: Option<Duration>,
}

/// `outlierDetection`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// `consecutiveErrors`, the old name of `consecutiveGatewayErrors`.
    #[serde(default)]
    pub consecutive_errors: Option<u32>,
    /// Count failures to connect apart.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub split_external_local_origin_errors: bool,
    /// Failures to connect in a row.
    #[serde(default)]
    pub consecutive_local_origin_failures: Option<u32>,
    /// Gateway errors in a row.
    #[serde(default)]
    pub consecutive_gateway_errors: Option<u32>,
    /// Errors in a row.
    #[serde(default, rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Time between looks.
    #[serde(default, deserialize_with = "scalar::optional_duration")]
    pub interval: Option<Duration>,
    /// Time out, times the number of ejections.
    #[serde(default, deserialize_with = "scalar::optional_duration")]
    pub base_ejection_time: Option<Duration>,
    /// Endpoints that may be out at once, in per cent.
    #[serde(default)]
    pub max_ejection_percent: Option<u32>,
    /// Endpoints below which nothing is ejected, in per cent.
    #[serde(default)]
    pub min_health_percent: Option<u32>,
}

/// `tls` of a trafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// Its mode; not written, it is `DISABLE`.
    #[serde(default, deserialize_with = "scalar::or_default")]
    pub mode: ClientTlsMode,
    /// The server name to send.
    #[serde(default, deserialize_with = "scalar::optional_text")]
    pub sni: Option<Box<str>>,
    /// Identities the endpoint may have.
    #[serde(default)]
    pub subject_alt_names: List<Box<str>>,
}

/// `tls.mode` of a trafficPolicy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum ClientTlsMode {
    #[default]
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

fn shares<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Shares, D::Error> {
    deserializer.deserialize_map(SharesVisitor)
}

struct SharesVisitor;

impl<'de> Visitor<'de> for SharesVisitor {
    type Value = Shares;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of localities to shares")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut shares = Vec::new();
        while let Some(entry) = map.next_entry()? {
            budget::spend()?;
            shares.push(entry);
        }
        Ok(shares.into())
    }
}
