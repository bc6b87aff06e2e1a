//! What Envoy's `/config_dump?include_eds` says, as far as it is looked at: a serde mirror.
//!
//! Everything may be missing, as in any JSON of protocol buffers: defaults are filled in where a
//! value is used. Must not know: what a value means, which side is right.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

use super::entry;

/// Bytes of a dump: 100,000 clusters with three endpoints each have about 300 MB.
pub const DUMP_BYTES_MAX: usize = 1 << 30;

/// Why a dump cannot be compared with anything.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Longer than any that is real.
    #[error("it has more than {DUMP_BYTES_MAX} bytes: dump one gateway, with ?include_eds")]
    TooLarge,
    /// Not JSON, or not of the form that Envoy writes.
    #[error("it is not a config dump of Envoy: {why}{}", if *is_cut { " (it is cut short)" } else { "" })]
    Malformed {
        /// What is wrong.
        why: String,
        /// It ends in the middle.
        is_cut: bool,
    },
    /// A part of it, without which there is nothing to compare.
    #[error("{place} of it cannot be read: {why}")]
    Part {
        /// Which part.
        place: String,
        /// What is wrong with it.
        why: String,
    },
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
        let written: Written = serde_json::from_slice(bytes).map_err(|error| {
            DumpError::Malformed { why: error.to_string(), is_cut: error.is_eof() }
        })?;
        let mut dump = Self::default();
        let (mut has_clusters, mut has_listeners, mut has_endpoints) = (false, false, false);
        for (at, section) in written.configs.into_iter().enumerate() {
            let section: Section = entry::read(section).map_err(|why| {
                let kind = entry::name(section, &["@type"]);
                part(&format!("configs[{at}]"), kind, why)
            })?;
            let kind = section.kind.rsplit('.').next().unwrap_or_default();
            has_clusters |= kind == "ClustersConfigDump";
            has_listeners |= kind == "ListenersConfigDump";
            has_endpoints |= kind == "EndpointsConfigDump";
            dump.take(&section)?;
        }
        match (has_clusters, has_listeners, has_endpoints) {
            (false, ..) => Err(DumpError::Missing("clusters (ClustersConfigDump)")),
            (_, false, _) => Err(DumpError::Missing("listeners (ListenersConfigDump)")),
            (_, _, false) => Err(DumpError::Missing("endpoints (EndpointsConfigDump)")),
            _ => Ok(dump),
        }
    }

    /// A cluster that cannot be read costs only itself: whatever leads to it differs. What a
    /// listener lets in, and what has no name, nobody could tell the lack of.
    fn take(&mut self, section: &Section) -> Result<(), DumpError> {
        let clusters = section.static_clusters.iter().chain(&section.dynamic_active_clusters);
        for raw in clusters {
            let cluster = match entry::read::<ClusterEntry>(raw) {
                Ok(entry) => entry.cluster,
                Err(why) => match entry::name(raw, &["cluster", "name"]) {
                    Some(name) => Cluster { name, unread: Some(why), ..Cluster::default() },
                    None => return Err(part("a cluster", None, why)),
                },
            };
            self.clusters.push(cluster);
        }
        let endpoints = section.static_endpoint_configs.iter();
        for raw in endpoints.chain(&section.dynamic_endpoint_configs) {
            let assignment = match entry::read::<EndpointsEntry>(raw) {
                Ok(entry) => entry.endpoint_config,
                Err(why) => match entry::name(raw, &["endpoint_config", "cluster_name"]) {
                    Some(cluster_name) => {
                        let unread = Some(format!("its endpoints: {why}"));
                        Assignment { cluster_name, unread, ..Assignment::default() }
                    }
                    None => return Err(part("endpoints", None, why)),
                },
            };
            self.endpoints.insert(assignment.cluster_name.clone(), assignment);
        }
        for raw in &section.static_listeners {
            let name = || entry::name(raw, &["listener", "name"]);
            let entry: ListenerEntry =
                entry::read(raw).map_err(|why| part("a listener", name(), why))?;
            self.listeners.push(entry.listener);
        }
        for raw in &section.dynamic_listeners {
            let entry: DynamicListener = entry::read(raw)
                .map_err(|why| part("a listener", entry::name(raw, &["name"]), why))?;
            self.listeners.extend(entry.active_state.map(|state| state.listener));
        }
        Ok(())
    }
}

fn part(what: &str, name: Option<String>, why: String) -> DumpError {
    let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
    DumpError::Part { place: format!("{what}{name}"), why }
}

#[derive(Deserialize)]
#[serde(expecting = "an object with a list `configs`")]
struct Written<'a> {
    #[serde(borrow)]
    configs: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `@type`")]
struct Section<'a> {
    #[serde(rename = "@type")]
    kind: String,
    #[serde(borrow, default)]
    static_clusters: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    dynamic_active_clusters: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    static_endpoint_configs: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    dynamic_endpoint_configs: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    static_listeners: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    dynamic_listeners: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct ClusterEntry {
    #[serde(default)]
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct EndpointsEntry {
    #[serde(default)]
    endpoint_config: Assignment,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct ListenerEntry {
    #[serde(default)]
    listener: Listener,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct DynamicListener {
    active_state: Option<ListenerEntry>,
}

/// Declares structures of which every field may be missing.
macro_rules! mirror {
    ($($(#[$doc:meta])* $name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(default, expecting = "an object")]
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
        /// Why nothing but its name could be read.
        #[serde(skip)] unread: Option<String>,
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
    Assignment {
        cluster_name: String,
        endpoints: Vec<LocalityEndpoints>,
        /// As that of a cluster.
        #[serde(skip)] unread: Option<String>,
    }
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
            Ok(NumberOrText::Text(text)) => {
                let wrong = || format!("`{text}` is no whole number, not negative");
                text.parse().map(Self).map_err(|_| D::Error::custom(wrong()))
            }
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
        let wrong = || D::Error::custom(format!("`{text}` is no duration, such as 10s"));
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
