//! What Envoy would do, from its dump.
//!
//! Two forms of AUTO_PASSTHROUGH are known: a filter chain for each server name, which leads to the
//! cluster of that name; and the older one, in which `sni_cluster` takes the name for a cluster,
//! after a filter rewrote its suffix. Must not know: what is right.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    dump::{
        Assignment, Cluster, CommonLb, Dump, Extension, FilterChain, HashPolicy, Number,
        OutlierDetection, Percent, Seconds, SlowStart, SlowStarting, TypedConfig,
    },
    view::{Algorithm, Member, RouteSeen, Seen, SetSeen},
};
use crate::routing::{Balance, Keepalive, Outlier, Rewrite, SubsetKey, Warmup};

/// Clusters of other purposes, of which it is said that they cannot be read.
const REMARKS_MAX: usize = 10;
/// Envoy's default of `circuit_breakers` and `connect_timeout`.
const CONNECTIONS_MAX: u64 = 1_024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads what is served by a dump. `rewrite` is ours, by which names are brought to the service's
/// own host.
pub(super) fn seen(dump: &Dump, rewrite: Option<&Rewrite>) -> Seen {
    let mut reader = Reader {
        clusters: dump.clusters.iter().map(|cluster| (&*cluster.name, cluster)).collect(),
        dump,
        rewrite,
        seen: Seen::default(),
        named: 0,
    };
    for listener in &dump.listeners {
        for chain in &listener.filter_chains {
            reader.chain(chain);
        }
    }
    let Reader { mut seen, clusters, named, .. } = reader;
    seen.clusters = clusters.keys().map(|name| lower(name)).collect();
    let of_gateway = seen.clusters.iter().filter(|name| SubsetKey::parse(name).is_some());
    let unused = of_gateway.count().saturating_sub(named);
    let unread = dump.clusters.iter().filter_map(|cluster| {
        let is_of_gateway = SubsetKey::parse(&lower(&cluster.name)).is_some();
        Some((&cluster.name, cluster.unread.as_ref().filter(|_| !is_of_gateway)?))
    });
    for (name, why) in unread.take(REMARKS_MAX) {
        let text = format!("cluster {} there cannot be read: {}", short(name), short(why));
        seen.remarks.push(text);
    }
    if unused > 0 {
        let text = format!("{unused} clusters there have no filter chain: nobody reaches them");
        seen.remarks.push(text);
    }
    seen
}

struct Reader<'a> {
    dump: &'a Dump,
    clusters: BTreeMap<&'a str, &'a Cluster>,
    rewrite: Option<&'a Rewrite>,
    seen: Seen,
    /// Clusters that some chain leads to.
    named: usize,
}

/// What a chain says besides its names.
struct Way<'a> {
    alpn: BTreeSet<String>,
    proxy: &'a TypedConfig,
}

impl<'a> Reader<'a> {
    fn chain(&mut self, chain: &'a FilterChain) {
        let configs =
            || chain.filters.iter().flat_map(|f| [Some(&f.typed_config), f.config.as_ref()]);
        let configs = || configs().flatten().map(TypedConfig::inner);
        let Some(proxy) = configs().find(|config| config.cluster.is_some()) else { return };
        let alpn = chain.filter_chain_match.application_protocols.iter();
        let alpn = alpn.map(|name| short(name)).collect();
        let way = Way { alpn, proxy };
        let is_sni_cluster = |config: &TypedConfig| config.type_name().ends_with("SniCluster");
        let by_name = chain.filters.iter().any(|filter| filter.name.ends_with("sni_cluster"));
        if by_name || configs().any(is_sni_cluster) {
            let rewriting = configs().find_map(rewrite_of);
            return self.by_cluster(chain, &way, rewriting);
        }
        for name in &chain.filter_chain_match.server_names {
            let name = lower(name);
            if SubsetKey::parse(&name).is_some() {
                self.enter(&name, way.proxy.cluster.as_deref().unwrap_or_default(), &way);
            }
        }
    }

    /// Every cluster that this chain's names can lead to.
    fn by_cluster(&mut self, chain: &FilterChain, way: &Way<'a>, rewriting: Option<Rewrite>) {
        let patterns: Vec<String> =
            chain.filter_chain_match.server_names.iter().map(|name| lower(name)).collect();
        let covered = |name: &str| {
            patterns.is_empty()
                || patterns.iter().any(|pattern| match pattern.strip_prefix('*') {
                    Some(suffix) => name.ends_with(suffix),
                    None => name == pattern,
                })
        };
        let clusters: Vec<&str> = self.clusters.keys().copied().collect();
        for cluster in clusters {
            let own = lower(cluster);
            if SubsetKey::parse(&own).is_none() {
                continue;
            }
            let rewritten = |rewrite: &Rewrite| {
                let stem = own.strip_suffix(&*rewrite.replacement)?;
                Some([stem, &*rewrite.suffix].concat())
            };
            let alias = rewriting.as_ref().and_then(rewritten);
            // A name that is rewritten itself never leads to the cluster of that name.
            let moved = rewriting.as_ref().is_some_and(|r| own.ends_with(&*r.suffix));
            let own = Some(own.clone()).filter(|_| !moved);
            for name in own.into_iter().chain(alias).filter(|name| covered(name)) {
                self.enter(&name, cluster, way);
            }
        }
    }

    /// Takes in that this name leads to this cluster.
    fn enter(&mut self, name: &str, cluster: &str, way: &Way<'_>) {
        let Some(key) = SubsetKey::parse(name) else { return };
        let host = self.rewrite.and_then(|rewrite| rewrite.apply(key.host));
        let host = host.as_deref().unwrap_or(key.host);
        let route = short(&SubsetKey { host, ..key }.to_string());
        let known = self.seen.routes.contains_key(&route);
        let entry = self.seen.routes.entry(route).or_default();
        entry.names.insert(short(name), way.alpn.clone());
        if known {
            return;
        }
        let found = self.clusters.get(cluster).copied();
        let unread = found.and_then(|found| unread(found, self.dump)).map(short);
        self.named += usize::from(found.is_some());
        let by_source =
            way.proxy.hash_policy.iter().any(|HashPolicy { source_ip }| source_ip.is_some());
        *entry = RouteSeen {
            names: std::mem::take(&mut entry.names),
            set: found
                .filter(|_| unread.is_none())
                .map(|cluster| set(cluster, self.dump, by_source)),
            unread,
            idle_timeout: way.proxy.idle_timeout.and_then(|t| t.0).filter(|t| !t.is_zero()),
            max_duration: way.proxy.max_downstream_connection_duration.and_then(|t| t.0),
            objects: found.into_iter().filter_map(object).collect(),
        };
        if found.is_none() {
            self.seen.remarks.push(format!(
                "{} leads to {} there, and there is no such cluster",
                short(name),
                short(cluster)
            ));
        }
    }
}

impl TypedConfig {
    /// Itself, or what a TypedStruct holds.
    fn inner(&self) -> &Self {
        self.value.as_deref().unwrap_or(self)
    }

    fn type_name(&self) -> &str {
        if self.type_url.is_empty() { &self.kind } else { &self.type_url }
    }
}

/// As much of a text as is shown of it. No name that is right is longer.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

/// The rewrite of a filter, when it is one of a suffix.
fn rewrite_of(config: &TypedConfig) -> Option<Rewrite> {
    let pattern = config.cluster_pattern.as_deref()?.strip_suffix('$')?;
    let suffix = pattern.replace("\\.", ".");
    let replacement = config.cluster_replacement.as_deref()?;
    Some(Rewrite { suffix: lower(&suffix).into(), replacement: lower(replacement).into() })
}

/// `/apis/networking.istio.io/v1alpha3/namespaces/ns2/destination-rule/bar`, which Istio notes.
fn object(cluster: &Cluster) -> Option<String> {
    let path = cluster.metadata.filter_metadata.istio.config.as_deref()?;
    let (_, rest) = path.split_once("/namespaces/")?;
    let mut parts = rest.split('/');
    let (namespace, _, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some(short(&format!("DestinationRule {namespace}/{name} (there)")))
}

fn number(number: Option<Number>) -> Option<u64> {
    number.map(|number| number.0)
}

/// Why this cluster, or where its endpoints are, could not be read.
fn unread<'d>(cluster: &'d Cluster, dump: &'d Dump) -> Option<&'d str> {
    let of_endpoints = || assignment(cluster, dump).and_then(|found| found.unread.as_deref());
    cluster.unread.as_deref().or_else(of_endpoints)
}

fn assignment<'d>(cluster: &'d Cluster, dump: &'d Dump) -> Option<&'d Assignment> {
    let service = cluster.eds_cluster_config.as_ref().map(|eds| &*eds.service_name);
    let service = service.filter(|name| !name.is_empty()).unwrap_or(&cluster.name);
    dump.endpoints.get(service).or(cluster.load_assignment.as_ref())
}

fn set(cluster: &Cluster, dump: &Dump, by_source: bool) -> SetSeen {
    let thresholds = cluster.circuit_breakers.thresholds.iter();
    let mut usual = thresholds.filter(|t| t.priority.is_empty() || t.priority == "DEFAULT");
    let connections = usual.next().and_then(|threshold| number(threshold.max_connections));
    let (balance, settings) = balance(cluster, by_source);
    let by_locality = [&cluster.common_lb_config, &settings.locality_lb_config]
        .iter()
        .any(|config| config.locality_weighted_lb_config.is_some());
    let keepalive = cluster.upstream_connection_options.tcp_keepalive.as_ref();
    let mut set = SetSeen {
        members: BTreeMap::new(),
        idle: BTreeMap::new(),
        by_share: by_locality,
        balance,
        warmup: settings.slow_start_config.as_ref().and_then(warmup),
        connect_timeout: cluster.connect_timeout.map_or(CONNECT_TIMEOUT, |Seconds(time)| time),
        // Istio writes "no limit" as the largest number.
        max_connections: u32::try_from(connections.unwrap_or(CONNECTIONS_MAX))
            .ok()
            .filter(|max| *max != u32::MAX),
        outlier: cluster.outlier_detection.as_ref().map(|written| outlier(written, cluster)),
        keepalive: keepalive.map(|keepalive| Keepalive {
            time: number(keepalive.keepalive_time).map(Duration::from_secs),
            interval: number(keepalive.keepalive_interval).map(Duration::from_secs),
            probes: number(keepalive.keepalive_probes).and_then(|n| u32::try_from(n).ok()),
        }),
    };
    let assignment = assignment(cluster, dump).into_iter();
    assignment.for_each(|assignment| members(assignment, by_locality, &mut set));
    set.compact();
    set
}

fn members(assignment: &Assignment, by_locality: bool, set: &mut SetSeen) {
    for group in &assignment.endpoints {
        let weight = |weight| number(weight).unwrap_or(1) as f64;
        let sum: f64 = group.lb_endpoints.iter().map(|e| weight(e.load_balancing_weight)).sum();
        for endpoint in &group.lb_endpoints {
            let socket = &endpoint.endpoint.address.socket_address;
            let address = match (&endpoint.endpoint.address.pipe, socket.address.parse()) {
                (Some(pipe), _) => pipe.path.clone(),
                (None, Ok(ip)) => match u16::try_from(socket.port_value.0) {
                    Ok(port) => std::net::SocketAddr::new(ip, port).to_string(),
                    Err(_) => format!("{ip}:{}", socket.port_value.0),
                },
                (None, Err(_)) => format!("{}:{}", socket.address, socket.port_value.0),
            };
            let address = short(&address);
            if !matches!(&*endpoint.health_status, "" | "UNKNOWN" | "HEALTHY" | "DEGRADED") {
                set.idle.insert(address, short(&endpoint.health_status));
                continue;
            }
            let own = weight(endpoint.load_balancing_weight);
            // A locality without a weight gets nothing where localities are weighed.
            let of_group = number(group.load_balancing_weight).unwrap_or(0) as f64;
            let weight = if by_locality { of_group * own / sum } else { own };
            set.members.insert(address, Member { weight, tier: group.priority.0 });
        }
    }
}

/// The algorithm that comes into effect, and its settings of warm-up and shares.
fn balance(cluster: &Cluster, by_source: bool) -> (Algorithm, &SlowStarting) {
    const NO_LOCALITY: CommonLb =
        CommonLb { healthy_panic_threshold: None, locality_weighted_lb_config: None };
    const NONE: &SlowStarting =
        &SlowStarting { slow_start_config: None, locality_lb_config: NO_LOCALITY };
    let (name, settings) = match &cluster.load_balancing_policy {
        // Envoy takes the first that it has. Which it has is not in a dump.
        Some(policy) => match policy.policies.first() {
            Some(policy) => extension(&policy.typed_extension_config),
            None => ("load_balancing_policy without a policy", NONE),
        },
        None => match &*cluster.lb_policy {
            name @ "LEAST_REQUEST" => (name, &cluster.least_request_lb_config),
            // The first of the enum is left out of JSON.
            "ROUND_ROBIN" | "" => ("ROUND_ROBIN", &cluster.round_robin_lb_config),
            name => (name, NONE),
        },
    };
    let small = |n: Option<Number>| number(n).and_then(|n| u32::try_from(n).ok());
    let known = match name {
        "LEAST_REQUEST" => Balance::LeastRequest,
        "ROUND_ROBIN" => Balance::RoundRobin,
        "RANDOM" => Balance::Random,
        // A table without a hash of the source draws at random.
        "MAGLEV" | "RING_HASH" if !by_source => Balance::Random,
        "MAGLEV" => {
            let size = small(cluster.maglev_lb_config.table_size).unwrap_or(65_537);
            Balance::Maglev { table_size: Some(size) }
        }
        "RING_HASH" => {
            let minimum = small(cluster.ring_hash_lb_config.minimum_ring_size).unwrap_or(1_024);
            Balance::RingHash { minimum }
        }
        other => return (Algorithm::Other(short(other)), NONE),
    };
    (Algorithm::Known(known), settings)
}

/// The name in `lb_policy` of what an extension does too. Those with tables have theirs, and their
/// hashes, elsewhere: they are none of ours.
fn extension(config: &Extension) -> (&str, &SlowStarting) {
    let name = match config.name.strip_prefix("envoy.load_balancing_policies.") {
        Some("least_request") => "LEAST_REQUEST",
        Some("round_robin") => "ROUND_ROBIN",
        Some("random") => "RANDOM",
        // What looks like an `lb_policy` is none here.
        _ if !config.name.contains('.') => "load_balancing_policy without the name of an extension",
        _ => &config.name,
    };
    (name, &config.typed_config)
}

fn warmup(written: &SlowStart) -> Option<Warmup> {
    let window = written.slow_start_window.map(|Seconds(window)| window)?;
    let percent = written.min_weight_percent.as_ref().map_or(10.0, |percent| percent.value);
    let aggression = written.aggression.as_ref().map_or(1.0, |a| a.default_value);
    Warmup::new(window, percent, aggression)
}

/// Envoy's meaning of `outlier_detection`, in the words of ours.
fn outlier(written: &OutlierDetection, cluster: &Cluster) -> Outlier {
    let small = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    let percent = |n: u64| u8::try_from(n.min(100)).unwrap_or(100);
    let seconds = |time: Option<Seconds>, default| {
        time.map_or(Duration::from_secs(default), |Seconds(time)| time)
    };
    let enforced = |enforcing: Option<Number>, default| number(enforcing).unwrap_or(default) > 0;
    let of_5xx = enforced(written.enforcing_consecutive_5xx, 100)
        .then(|| number(written.consecutive_5xx).unwrap_or(5));
    let of_gateway = enforced(written.enforcing_consecutive_gateway_failure, 0)
        .then(|| number(written.consecutive_gateway_failure).unwrap_or(5));
    let in_force = of_5xx.into_iter().chain(of_gateway).filter(|n| *n > 0);
    let panic = cluster.common_lb_config.healthy_panic_threshold.as_ref();
    Outlier {
        consecutive: small(in_force.min().unwrap_or(0)),
        consecutive_local: written
            .split_external_local_origin_errors
            .then(|| small(number(written.consecutive_local_origin_failure).unwrap_or(5))),
        interval: seconds(written.interval, 10),
        base_ejection_time: seconds(written.base_ejection_time, 30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_percent: percent(number(written.max_ejection_percent).unwrap_or(10)),
        min_health_percent: panic.map_or(50, |Percent { value }| whole_percent(*value)),
    }
}

#[allow(clippy::cast_possible_truncation)] // clamped: only a fraction is lost
fn whole_percent(percent: f64) -> u8 {
    percent.clamp(0.0, 100.0) as u8
}
