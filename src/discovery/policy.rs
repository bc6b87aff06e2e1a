//! What a DestinationRule's `trafficPolicy` comes to for one port of one subset.
//!
//! Pure. As in Istio a subset's block (`connectionPool`, `loadBalancer`, `outlierDetection`, `tls`)
//! replaces the rule's block, and an entry of `portLevelSettings`, found by the *service* port,
//! replaces all blocks of its level: what it does not set has its default. Must not know: how the rule was found.

use std::time::Duration;

use super::{
    Finding,
    destination_rule::{Rule, Subset},
    outlier,
};
use crate::{
    manifests::{
        Kind,
        kinds::{
            DestinationRule,
            destination_rule::{
                ClientTls, ClientTlsMode, ConnectionPool, ConsistentHash, LoadBalancer,
                LocalitySetting, OutlierDetection, SimpleBalance, TcpKeepalive, TrafficPolicy,
            },
        },
    },
    routing::{Balance, Keepalive, Outlier, Policy, Warmup},
};

/// Istio's default of `minimumRingSize`.
const RING_MINIMUM: u32 = 1024;
/// More points are not made: with these, shares of 300 endpoints deviate by 7 % (one in the root of
/// their points). Envoy's most, 8,388,608, took 160 MB and two seconds for each set, while other
/// services' changes waited.
const RING_MAXIMUM: u32 = 65_536;

/// What the rule says where it says something, and the gateway's own defaults where not.
#[derive(Clone, Debug)]
pub(super) struct Merged<'a> {
    pub(super) policy: Policy,
    pub(super) locality: Option<&'a LocalitySetting>,
    /// The rule itself has `outlierDetection`, on which Istio's locality tiers depend.
    pub(super) detects: bool,
}

/// What holds where no rule speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults<'a> {
    pub(super) connect_timeout: Duration,
    /// From the mesh's ConfigMap.
    pub(super) keepalive: Option<TcpKeepalive>,
    pub(super) outlier: Option<&'a Outlier>,
}

/// The blocks of one level that bear on us.
#[derive(Clone, Copy, Default)]
struct Blocks<'a> {
    balancer: Option<&'a LoadBalancer>,
    pool: Option<&'a ConnectionPool>,
    outlier: Option<&'a OutlierDetection>,
    /// Taken from `portLevelSettings`.
    of_port: bool,
}

/// The policy for a port.
pub(super) fn merge<'a>(
    rule: Option<&'a Rule>,
    subset: Option<&'a Subset>,
    port: u16,
    defaults: Defaults<'_>,
) -> Merged<'a> {
    let top = blocks(rule.and_then(|rule| rule.policy.as_deref()), port);
    let sub = blocks(subset.and_then(|subset| subset.policy.as_deref()), port);
    let Blocks { balancer, pool, outlier, .. } = if sub.of_port {
        sub
    } else {
        Blocks {
            balancer: sub.balancer.or(top.balancer),
            pool: sub.pool.or(top.pool),
            outlier: sub.outlier.or(top.outlier),
            of_port: top.of_port,
        }
    };
    let balance = balancer.map(balance).unwrap_or_default();
    let policy = Policy {
        balance,
        warmup: balancer.and_then(|balancer| warmup(balancer, balance)),
        outlier: outlier.map(outlier::translate).or_else(|| defaults.outlier.cloned()),
        ..pooled(pool, defaults)
    };
    let locality = balancer.and_then(|balancer| balancer.locality_lb_setting.as_ref());
    Merged { policy, locality, detects: outlier.is_some() }
}

/// The limits of connections alone.
fn pooled(pool: Option<&ConnectionPool>, defaults: Defaults<'_>) -> Policy {
    let Defaults { connect_timeout, keepalive, .. } = defaults;
    let of_mesh = keepalive.map(|mesh| merged_keepalive(TcpKeepalive::default(), mesh));
    let unlimited = Policy { connect_timeout, keepalive: of_mesh, ..Policy::default() };
    let Some(tcp) = pool.map(|pool| &pool.tcp) else { return unlimited };
    Policy {
        max_connections: tcp.max_connections.filter(|max| *max != 0),
        connect_timeout: set(tcp.connect_timeout).unwrap_or(connect_timeout),
        keepalive: match tcp.tcp_keepalive {
            Some(of_rule) => Some(merged_keepalive(of_rule, keepalive.unwrap_or_default())),
            None => of_mesh,
        },
        idle_timeout: set(tcp.idle_timeout),
        max_duration: set(tcp.max_connection_duration),
        ..unlimited
    }
}

/// As in Istio, zero means "not set" in all of these.
fn set(duration: Option<Duration>) -> Option<Duration> {
    duration.filter(|duration| !duration.is_zero())
}

/// The rule's values, and where it has none those of the mesh.
fn merged_keepalive(rule: TcpKeepalive, mesh: TcpKeepalive) -> Keepalive {
    let probes = |keepalive: TcpKeepalive| keepalive.probes.filter(|probes| *probes != 0);
    Keepalive {
        time: set(rule.time).or(set(mesh.time)),
        interval: set(rule.interval).or(set(mesh.interval)),
        probes: probes(rule).or(probes(mesh)),
    }
}

fn blocks(policy: Option<&TrafficPolicy>, port: u16) -> Blocks<'_> {
    let Some(policy) = policy else { return Blocks::default() };
    match policy.port_level_settings.iter().find(|entry| entry.port.number == port) {
        Some(entry) => Blocks {
            balancer: entry.load_balancer.as_deref(),
            pool: entry.connection_pool.as_deref(),
            outlier: entry.outlier_detection.as_deref(),
            of_port: true,
        },
        None => Blocks {
            balancer: policy.load_balancer.as_deref(),
            pool: policy.connection_pool.as_deref(),
            outlier: policy.outlier_detection.as_deref(),
            of_port: false,
        },
    }
}

fn balance(balancer: &LoadBalancer) -> Balance {
    if let Some(hash) = &balancer.consistent_hash {
        return hashed(hash);
    }
    match balancer.simple {
        Some(SimpleBalance::Random) => Balance::Random,
        Some(SimpleBalance::RoundRobin) => Balance::RoundRobin,
        Some(
            SimpleBalance::Unspecified
            | SimpleBalance::Passthrough
            | SimpleBalance::LeastConn
            | SimpleBalance::LeastRequest,
        )
        | None => Balance::LeastRequest,
    }
}

/// By the source's address, as Istio has it: with a ring unless Maglev is written. A key of HTTP is
/// never seen here, and without a key Envoy's tables draw at random.
fn hashed(hash: &ConsistentHash) -> Balance {
    let written = |size: Option<u32>| size.filter(|size| *size != 0);
    match hash.maglev {
        _ if !hash.use_source_ip => Balance::Random,
        Some(maglev) => Balance::Maglev { table_size: written(maglev.table_size) },
        None => {
            let minimum = ring_size(hash).unwrap_or(RING_MINIMUM).min(RING_MAXIMUM);
            Balance::RingHash { minimum }
        }
    }
}

/// `minimumRingSize`, in its newer or older place.
fn ring_size(hash: &ConsistentHash) -> Option<u32> {
    let of_ring = hash.ring_hash.and_then(|ring| ring.minimum_ring_size);
    let places = [of_ring, hash.minimum_ring_size];
    places.into_iter().flatten().find(|size| *size != 0)
}

/// Slow start, with Envoy's defaults. As in Envoy, chance and hashes know none.
fn warmup(balancer: &LoadBalancer, balance: Balance) -> Option<Warmup> {
    if !matches!(balance, Balance::LeastRequest | Balance::RoundRobin) {
        return None;
    }
    let written = balancer.warmup.as_ref();
    let window = set(written.map_or(balancer.warmup_duration_secs, |warmup| warmup.duration))?;
    let minimum = written.and_then(|warmup| warmup.minimum_percent).unwrap_or(10.0);
    let aggression = written.and_then(|warmup| warmup.aggression).unwrap_or(1.0);
    Warmup::new(window, minimum, aggression)
}

/// What one level says of TLS towards `port`: the port's entry, if it says anything, else the
/// level itself.
pub(super) fn tls(policy: &TrafficPolicy, port: u16) -> Option<&ClientTls> {
    let entries = policy.port_level_settings.iter();
    let of_port = entries.filter(|entry| entry.port.number == port).find_map(|e| e.tls.as_ref());
    of_port.or(policy.tls.as_ref()).map(|tls| &**tls)
}

/// The mode as manifests write it.
pub(super) fn tls_mode_as_str(mode: ClientTlsMode) -> &'static str {
    match mode {
        ClientTlsMode::Disable => "DISABLE",
        ClientTlsMode::Simple => "SIMPLE",
        ClientTlsMode::Mutual => "MUTUAL",
        ClientTlsMode::IstioMutual => "ISTIO_MUTUAL",
    }
}

/// Says what of a rule's policy is read but done differently.
pub(super) fn remarks(rule: &DestinationRule, findings: &mut Vec<Finding>) {
    let subsets = || rule.spec.subsets.iter().filter_map(|s| s.traffic_policy.as_deref());
    let policies = || rule.spec.traffic_policy.as_deref().into_iter().chain(subsets());
    let balancers = policies().flat_map(|policy| {
        let of_ports = policy.port_level_settings.iter().map(|e| e.load_balancer.as_deref());
        std::iter::once(policy.load_balancer.as_deref()).chain(of_ports).flatten()
    });
    let mut note = |field, message| {
        findings.push(Finding::new(Kind::DestinationRule, &rule.meta, field, message));
    };
    for balancer in balancers {
        let hash = balancer.consistent_hash.as_ref();
        if hash.is_some_and(|hash| !hash.use_source_ip) {
            let message = "only useSourceIp can be seen here, HTTP cannot: endpoints are drawn at \
                           random, as by Envoy";
            note("trafficPolicy.loadBalancer.consistentHash", message);
        }
        if hash.and_then(ring_size).is_some_and(|size| size > RING_MAXIMUM) {
            let message = "65536 points are the most that are made: sources will not go where \
                           Envoy with a larger ring sends them";
            note("trafficPolicy.loadBalancer.consistentHash.ringHash.minimumRingSize", message);
        }
        if balancer.simple == Some(SimpleBalance::Passthrough) {
            let message = "PASSTHROUGH has no meaning on a gateway: LEAST_REQUEST is used";
            note("trafficPolicy.loadBalancer.simple", message);
        }
        let warms = balancer.warmup.is_some() || balancer.warmup_duration_secs.is_some();
        if warms && warmup(balancer, balance(balancer)).is_none() {
            let message = "has no effect with this algorithm, as in Envoy: LEAST_REQUEST and \
                           ROUND_ROBIN warm up";
            note("trafficPolicy.loadBalancer.warmup", message);
        }
    }
}
