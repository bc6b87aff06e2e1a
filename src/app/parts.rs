//! From settings to what each component is told.
//!
//! Must not know: where settings come from, what components do with them.

use std::{net::SocketAddr, sync::Arc};

use anyhow::ensure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc;

use crate::{
    config::{
        Settings,
        file::{self, Rule},
        off_when_zero,
        types::{self, AccessLogFormat},
    },
    discovery::{Identity, NetworkView, Role},
    gateway::{
        self, AccessLogConfig, Format, LeaveConfig, LimitsConfig, LogTo, OnEndpointRemoved,
        Ourselves, QuietConfig, RelayConfig, SniffLimits, SourceAction, SourceRule,
    },
    net,
    routing::{Keepalive, Locality, Outlier},
};

/// Descriptors kept for everything that is neither a connection nor a pipe: listeners, admin, files,
/// replays. A quarter of all where that is less, and never less than what a start takes.
const DESCRIPTORS_RESERVED: usize = 256;
const DESCRIPTORS_RESERVED_MIN: usize = 48;

/// Of a set's connections each second, where they are rebalanced.
const REBALANCED: f64 = 0.01;

/// Lets the process open as many files as the hard limit allows. Failing is no reason not to
/// start: the soft limit holds then.
pub(super) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

/// How many files the process may open; without a limit a number that is never reached.
pub(super) fn descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// What the data plane is told. `lines` takes the place of the access log's file.
pub(super) fn gateway_config(
    settings: &Settings,
    lines: Option<mpsc::UnboundedSender<String>>,
) -> anyhow::Result<gateway::Config> {
    let (relay, share) = (&settings.relay, share(settings)?);
    let format = match settings.access_log.format {
        AccessLogFormat::Text => Format::Text,
        AccessLogFormat::Json => Format::Json,
        AccessLogFormat::Off => Format::Off,
    };
    let access_log = match lines {
        Some(lines) => AccessLogConfig { format: Format::Brief, to: LogTo::Lines(lines) },
        None => AccessLogConfig { format, to: LogTo::File(settings.access_log.path.clone()) },
    };
    Ok(gateway::Config {
        listen: settings.gateway.listen.clone(),
        workers: workers(settings),
        endpoints_are_gateways: settings.gateway.role == types::Role::Egress,
        alpn: settings.gateway.alpn.iter().map(|name| name.as_bytes().into()).collect(),
        sniff: SniffLimits { timeout: settings.sniff.timeout, bytes_max: settings.sniff.bytes_max },
        try_timeout: settings.connect.try_timeout,
        server_hello_timeout: off_when_zero(settings.first_flight.server_hello_timeout),
        check_interval: off_when_zero(settings.outlier_detection.check_interval),
        relay: RelayConfig {
            splice: relay.splice,
            pipes_max: share.pipes,
            idle_timeout: off_when_zero(relay.idle_timeout),
            max_duration: off_when_zero(relay.max_duration),
            keepalive: Keepalive {
                time: Some(relay.keepalive.time),
                interval: Some(relay.keepalive.interval),
                probes: Some(relay.keepalive.probes),
            },
            vanished_after: relay.vanished_after,
            abort_linger: relay.abort_linger,
        },
        leave: leave_config(settings),
        limits: limits_config(settings),
        connections_max: share.connections,
        access_log,
    })
}

/// The operator's rules about sources, in order.
pub(super) fn source_rules(settings: &Settings) -> Vec<SourceRule> {
    let rule = |rule: &Rule| SourceRule {
        action: match rule.action {
            types::RuleAction::Allow => SourceAction::Allow,
            types::RuleAction::Deny => SourceAction::Deny,
        },
        sources: rule.sources.clone(),
        names: rule.names.iter().map(|name| name.0.clone()).collect(),
        dry_run: rule.dry_run,
    };
    settings.gateway.policy.iter().map(rule).collect()
}

fn limits_config(settings: &Settings) -> LimitsConfig {
    let limits = &settings.limits;
    LimitsConfig {
        hellos_max: (limits.hellos_max > 0).then_some(limits.hellos_max),
        source_max: (limits.source_max > 0).then_some(limits.source_max),
        trusted_sources: limits.trusted_sources.clone(),
        proxies: settings.gateway.proxy_protocol.trusted.clone(),
        policy: source_rules(settings),
    }
}

fn leave_config(settings: &Settings) -> LeaveConfig {
    let drain = &settings.drain;
    LeaveConfig {
        quiet: QuietConfig { idle: drain.idle, late_idle: drain.late_idle },
        on_endpoint_removed: match settings.relay.on_endpoint_removed {
            types::OnEndpointRemoved::Keep => OnEndpointRemoved::Keep,
            types::OnEndpointRemoved::Drain => OnEndpointRemoved::Drain,
            types::OnEndpointRemoved::Reset => OnEndpointRemoved::Reset,
        },
        window: drain.deadline,
        rebalance: (settings.relay.rebalance == types::Rebalance::Quiet).then_some(REBALANCED),
    }
}

/// The CPUs that the scheduler and the cgroup allow.
fn workers(settings: &Settings) -> usize {
    match settings.gateway.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// What the limit of open files allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    pipes: usize,
    connections: usize,
}

impl Share {
    /// Two descriptors for each connection and each pipe, and a reserve. Pipes get a quarter at
    /// most of what is left: bytes without one are copied, but nobody is served without a
    /// connection.
    fn of(files: usize, pipes_wanted: usize) -> Self {
        let quarter = (files / 4).max(DESCRIPTORS_RESERVED_MIN);
        let rest = files.saturating_sub(quarter.min(DESCRIPTORS_RESERVED));
        let pipes = pipes_wanted.min(rest / 8);
        Self { pipes, connections: rest / 2 - pipes }
    }
}

/// Pipes and connections, as wanted or as many as there can be.
fn share(settings: &Settings) -> anyhow::Result<Share> {
    let (files, wanted) = (descriptor_limit(), settings.relay.pipes_max);
    let share = Share::of(files, wanted);
    ensure!(
        share.connections > 0,
        "the limit of open files is {files}, and {DESCRIPTORS_RESERVED_MIN} are kept for listeners, \
         operators and manifests: nothing is left for connections. Raise it (ulimit -n)"
    );
    if share.pipes < wanted {
        let Share { pipes, connections } = share;
        tracing::warn!(files, pipes, connections, "few files may be open: fewer pipes than wanted");
    }
    let connections = match settings.limits.connections_max {
        0 => share.connections,
        wanted if wanted > share.connections => {
            let room = share.connections;
            tracing::warn!(wanted, room, "limits.connections_max is above what open files allow");
            room
        }
        wanted => wanted,
    };
    Ok(Share { connections, ..share })
}

/// Who the gateway is, for translation.
pub(super) fn identity(
    settings: &Settings,
    listeners: &[SocketAddr],
    operator_listeners: Vec<SocketAddr>,
) -> Identity {
    let of = &settings.gateway;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Identity {
        role: match of.role {
            types::Role::Ingress => Role::Ingress,
            types::Role::Egress => Role::Egress,
        },
        namespace: of.namespace.clone(),
        labels: of.labels.iter().collect(),
        cluster_domain: of.cluster_domain.clone(),
        rewrite_suffix: given(&of.rewrite_suffix),
        require_mesh_tls: of.require_mesh_tls,
        network: given(&of.network),
        requested_network_view: of.requested_network_view.clone(),
        network_view: network_view(of.network_view),
        locality: Locality::parse(&of.locality),
        node: given(&of.node),
        root_namespace: settings.manifests.root_namespace.clone(),
        connect_timeout: settings.connect.timeout,
        per_pod_names: of.per_pod_names,
        outlier: outlier(&settings.outlier_detection),
        listeners: listeners.to_vec(),
        operator_listeners,
        own_addresses: net::own_addresses(),
    }
}

/// Which generation reads a network view.
pub(super) fn network_view(of: types::NetworkView) -> NetworkView {
    match of {
        types::NetworkView::Istio14 => NetworkView::Istio14,
        types::NetworkView::Istio18 => NetworkView::Istio18,
    }
}

/// Outlier detection where no DestinationRule has any.
pub(super) fn outlier(of: &file::OutlierDetection) -> Option<Outlier> {
    let outlier = Outlier {
        consecutive: of.consecutive,
        consecutive_local: None,
        interval: of.interval,
        base_ejection_time: of.base_ejection_time,
        max_ejection_time: of.max_ejection_time,
        max_ejection_percent: of.max_ejection_percent,
        min_health_percent: of.min_health_percent,
    };
    (outlier.consecutive != 0).then_some(outlier)
}

/// Who the gateway is, for Istio's metrics.
pub(super) fn ourselves(settings: &Settings) -> Ourselves {
    let labels = &settings.gateway.labels;
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let app = label("app");
    let canonical = label("service.istio.io/canonical-name");
    let environment = |name| std::env::var(name).unwrap_or_default();
    let workload = environment("ISTIO_META_WORKLOAD_NAME");
    Ourselves {
        workload: if workload.is_empty() { app.clone() } else { workload },
        namespace: settings.gateway.namespace.clone(),
        canonical_service: if canonical.is_empty() { app.clone() } else { canonical },
        app,
        cluster: environment("ISTIO_META_CLUSTER_ID"),
    }
}

/// A value behind a lock that many read, and one replaces.
pub(super) type Shared<T> = Arc<std::sync::Mutex<T>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_shared_by_connections_pipes_and_a_reserve() {
        let check = |files, pipes, connections| {
            let share = Share::of(files, 256);
            assert_eq!(share, Share { pipes, connections }, "{files} files");
            let reserved = files - 2 * (share.pipes + share.connections);
            assert!(reserved >= (files / 4).min(DESCRIPTORS_RESERVED), "{reserved} of {files}");
        };
        check(1_048_576, 256, 523_904);
        check(20_000, 256, 9_616);
        check(1_024, 96, 288);
        check(256, 24, 72);
        check(64, 2, 6);
        assert_eq!(Share::of(DESCRIPTORS_RESERVED_MIN, 256).connections, 0);
        assert_eq!(Share::of(256, 8), Share { pipes: 8, connections: 88 });
    }
}
