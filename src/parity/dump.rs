//! What Envoy's `/config_dump?include_eds` says, as far as it is looked at: a serde mirror.
//!
//! Everything may be missing, as in any JSON of protocol buffers: defaults are filled in where a
//! value is used. Must not know: what a value means, which side is right.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

/// Bytes of a dump: 100,000 clusters with three endpoints each have about 300 MB.
pub const DUMP_BYTES_MAX: usize = 1 << 30;

/// Why a dump cannot be compared with anything.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Longer than any that is real.
    #[error("it has more than {DUMP_BYTES_MAX} bytes: dump one gateway, with ?include_eds")]
    TooLarge,
    /// Not JSON, or not of the form that Envoy writes.
    #[error("it is not a config dump of Envoy: {0}")]
    Malformed(serde_json::Error),
    /// JSON of some other kind.
    #[error(
        "it has no {0}: take all of /config_dump?include_eds, of the gateway and not a sidecar"
    )]
    Missing(&'static str),
}

/// A dump.
#[derive(Debug, Default)]
pub struct Dump {
    pub(super) clusters: Vec<Cluster>,
    /// By the name that an EDS cluster asks for.
    pub(super) endpoints: BTreeMap<String, Assignment>,
    pub(super) listeners: Vec<Listener>,
}

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    /// When it is too large, is none, or lacks clusters, listeners or endpoints.
    pub fn read(bytes: &[u8]) -> Result<Self, DumpError> {
        if bytes.len() > DUMP_BYTES_MAX {
            return Err(DumpError::TooLarge);
        }
        let written: Written = serde_json::from_slice(bytes).map_err(DumpError::Malformed)?;
        let mut dump = Self::default();
        let (mut has_clusters, mut has_listeners, mut has_endpoints) = (false, false, false);
        for section in written.configs {
            let kind = section.kind.rsplit('.').next().unwrap_or_default();
            has_clusters |= kind == "ClustersConfigDump";
            has_listeners |= kind == "ListenersConfigDump";
            has_endpoints |= kind == "EndpointsConfigDump";
            let clusters =
                section.static_clusters.into_iter().chain(section.dynamic_active_clusters);
            dump.clusters.extend(clusters.map(|entry| entry.cluster));
            let endpoints = section.static_endpoint_configs.into_iter();
            for entry in endpoints.chain(section.dynamic_endpoint_configs) {
                let assignment = entry.endpoint_config;
                dump.endpoints.insert(assignment.cluster_name.clone(), assignment);
            }
            dump.listeners.extend(section.static_listeners.into_iter().map(|l| l.listener));
            let dynamic = section.dynamic_listeners.into_iter();
            dump.listeners.extend(dynamic.filter_map(|l| Some(l.active_state?.listener)));
        }
        match (has_clusters, has_listeners, has_endpoints) {
            (false, ..) => Err(DumpError::Missing("clusters (ClustersConfigDump)")),
            (_, false, _) => Err(DumpError::Missing("listeners (ListenersConfigDump)")),
            (_, _, false) => Err(DumpError::Missing("endpoints (EndpointsConfigDump)")),
            _ => Ok(dump),
        }
    }
}

#[derive(Deserialize)]
struct Written {
    configs: Vec<Section>,
}

#[derive(Deserialize)]
struct Section {
    #[serde(rename = "@type")]
    kind: String,
    #[serde(default)]
    static_clusters: Vec<ClusterEntry>,
    #[serde(default)]
    dynamic_active_clusters: Vec<ClusterEntry>,
    #[serde(default)]
    static_endpoint_configs: Vec<EndpointsEntry>,
    #[serde(default)]
    dynamic_endpoint_configs: Vec<EndpointsEntry>,
    #[serde(default)]
    static_listeners: Vec<ListenerEntry>,
    #[serde(default)]
    dynamic_listeners: Vec<DynamicListener>,
}

#[derive(Deserialize)]
struct ClusterEntry {
    #[serde(default)]
    cluster: Cluster,
}

#[derive(Deserialize)]
struct EndpointsEntry {
    #[serde(default)]
    endpoint_config: Assignment,
}

#[derive(Deserialize)]
struct ListenerEntry {
    #[serde(default)]
    listener: Listener,
}

#[derive(Deserialize)]
struct DynamicListener {
    active_state: Option<ListenerEntry>,
}

/// Declares structures of which every field may be missing.
macro_rules! mirror {
    ($($(#[$doc:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct $name {
            $($(#[$meta])* pub(super) $field: $type,)*
        })*
    };
}

mirror! {
    /// envoy.config.cluster.v3.Cluster
    Cluster {
        name: String,
        eds_cluster_config: Option<EdsClusterConfig>,
        load_assignment: Option<Assignment>,
        connect_timeout: Option<Seconds>,
        lb_policy: String,
        load_balancing_policy: Option<LoadBalancing>,
        ring_hash_lb_config: RingHash,
        maglev_lb_config: Maglev,
        least_request_lb_config: SlowStarting,
        round_robin_lb_config: SlowStarting,
        circuit_breakers: CircuitBreakers,
        outlier_detection: Option<OutlierDetection>,
        common_lb_config: CommonLb,
        upstream_connection_options: ConnectionOptions,
        metadata: Metadata,
    }
    EdsClusterConfig { service_name: String, }
    /// The newer way to name an algorithm, which wins over `lb_policy`.
    LoadBalancing { policies: Vec<LoadBalancingPolicy>, }
    LoadBalancingPolicy { typed_extension_config: Extension, }
    Extension { name: String, typed_config: SlowStarting, }
    RingHash { minimum_ring_size: Option<Number>, }
    Maglev { table_size: Option<Number>, }
    /// An algorithm's settings; that of shares is in those of an extension only.
    SlowStarting { slow_start_config: Option<SlowStart>, locality_lb_config: CommonLb, }
    SlowStart {
        slow_start_window: Option<Seconds>,
        aggression: Option<RuntimeDouble>,
        min_weight_percent: Option<Percent>,
    }
    RuntimeDouble { default_value: f64, }
    Percent { value: f64, }
    CircuitBreakers { thresholds: Vec<Threshold>, }
    Threshold { priority: String, max_connections: Option<Number>, }
    OutlierDetection {
        consecutive_5xx: Option<Number>,
        enforcing_consecutive_5xx: Option<Number>,
        consecutive_gateway_failure: Option<Number>,
        enforcing_consecutive_gateway_failure: Option<Number>,
        split_external_local_origin_errors: bool,
        consecutive_local_origin_failure: Option<Number>,
        interval: Option<Seconds>,
        base_ejection_time: Option<Seconds>,
        max_ejection_percent: Option<Number>,
    }
    CommonLb {
        healthy_panic_threshold: Option<Percent>,
        locality_weighted_lb_config: Option<Empty>,
    }
    Empty {}
    ConnectionOptions { tcp_keepalive: Option<Keepalive>, }
    Keepalive {
        keepalive_probes: Option<Number>,
        keepalive_time: Option<Number>,
        keepalive_interval: Option<Number>,
    }
    /// What Istio notes of the objects that a cluster was made of.
    Metadata { filter_metadata: FilterMetadata, }
    FilterMetadata { istio: IstioMetadata, }
    IstioMetadata { config: Option<String>, }
    /// envoy.config.endpoint.v3.ClusterLoadAssignment
    Assignment { cluster_name: String, endpoints: Vec<LocalityEndpoints>, }
    LocalityEndpoints {
        lb_endpoints: Vec<LbEndpoint>,
        load_balancing_weight: Option<Number>,
        priority: Number,
    }
    LbEndpoint {
        endpoint: EndpointOf,
        health_status: String,
        load_balancing_weight: Option<Number>,
    }
    EndpointOf { address: Address, }
    Address { socket_address: SocketAddress, pipe: Option<Pipe>, }
    SocketAddress { address: String, port_value: Number, }
    Pipe { path: String, }
    /// envoy.config.listener.v3.Listener
    Listener { name: String, filter_chains: Vec<FilterChain>, }
    FilterChain { filter_chain_match: ChainMatch, filters: Vec<Filter>, }
    ChainMatch { server_names: Vec<String>, application_protocols: Vec<String>, }
    Filter { name: String, typed_config: TypedConfig, config: Option<TypedConfig>, }
    /// A tcp_proxy, or the filter that rewrites clusters; also inside a TypedStruct.
    TypedConfig {
        #[serde(rename = "@type")] kind: String,
        type_url: String,
        value: Option<Box<TypedConfig>>,
        cluster: Option<String>,
        hash_policy: Vec<HashPolicy>,
        idle_timeout: Option<Lenient>,
        max_downstream_connection_duration: Option<Lenient>,
        cluster_pattern: Option<String>,
        cluster_replacement: Option<String>,
    }
    HashPolicy { source_ip: Option<Empty>, }
}

/// A number, which protocol buffers write as text when it has 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Number(pub(super) u64);

/// A duration, as protocol buffers write it: seconds, and an `s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) Duration);

/// A duration where it is one. Filters of other kinds may have anything under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lenient(pub(super) Option<Duration>);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer) {
            Ok(NumberOrText::Number(number)) => Ok(Self(number)),
            Ok(NumberOrText::Text(text)) => text.parse().map(Self).map_err(D::Error::custom),
            Err(_) => Err(D::Error::custom("expected a whole number, not negative")),
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || D::Error::custom("expected a duration in seconds, such as 10s");
        duration(&text).map(Self).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Text(String),
            Other(serde::de::IgnoredAny),
        }
        Ok(match Any::deserialize(deserializer)? {
            Any::Text(text) => Self(duration(&text)),
            Any::Other(_) => Self(None),
        })
    }
}
