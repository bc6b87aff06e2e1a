//! Envoy's configuration for the routes of a comparison: static, or by xDS from files where it is
//! to change. Must not know: how it runs.

use std::{io, net::SocketAddr, path::PathBuf};

use serde_json::{Value, json};

use super::{
    churn::replace,
    configs::{Site, name},
};

/// The ALPN names that Istio lets through to a passthrough chain.
const ALPN: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// Envoy as Istio sets it up: for each route a filter chain that matches the exact name and
/// Istio's ALPN, and a cluster. Without Istio's telemetry, which would cost it more.
#[must_use]
pub(super) fn static_bootstrap(site: &Site<'_>) -> Value {
    json!({"static_resources": {"listeners": [listener(site)], "clusters": clusters(site)}})
}

/// The same by files that are watched, which are written too.
///
/// # Errors
/// When they cannot be written.
pub(super) fn dynamic_bootstrap(site: &Site<'_>) -> io::Result<Value> {
    (0..site.routes).try_for_each(|route| write_endpoints(site, route))?;
    write_routes(site)?;
    Ok(json!({
        "node": {"id": "bench", "cluster": "bench"},
        "dynamic_resources": {
            "lds_config": watched(site.dir.join("lds.json")),
            "cds_config": watched(site.dir.join("cds.json")),
        },
    }))
}

/// Filter chains and clusters, for as many routes as there are now. The new route's endpoints are
/// there first.
///
/// # Errors
/// When they cannot be written.
pub(super) fn write_routes(site: &Site<'_>) -> io::Result<()> {
    write_endpoints(site, site.routes.saturating_sub(1))?;
    let clusters = clusters(site).into_iter().map(|cluster| typed(CLUSTER, cluster)).collect();
    write(site, "cds.json", clusters)?;
    write(site, "lds.json", vec![typed(LISTENER, listener(site))])
}

/// The endpoints of one route.
///
/// # Errors
/// When they cannot be written.
pub(super) fn write_endpoints(site: &Site<'_>, route: usize) -> io::Result<()> {
    write(site, &endpoints_file(route), vec![typed(ENDPOINTS, assignment(site, route))])
}

fn write(site: &Site<'_>, name: &str, resources: Vec<Value>) -> io::Result<()> {
    replace(site.dir, name, json!({"resources": resources}).to_string())
}

fn endpoints_file(route: usize) -> String {
    format!("eds-{route}.json")
}

fn typed(kind: &str, mut resource: Value) -> Value {
    resource["@type"] = kind.into();
    resource
}

fn watched(path: PathBuf) -> Value {
    json!({"path_config_source": {"path": path}, "resource_api_version": "V3"})
}

fn listener(site: &Site<'_>) -> Value {
    let chains: Vec<Value> = (0..site.routes).map(chain).collect();
    json!({
        "name": "gateway",
        "address": address(site.listen),
        "per_connection_buffer_limit_bytes": 32768,
        "listener_filters": [{
            "name": "tls_inspector",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.\
                tls_inspector.v3.TlsInspector"},
        }],
        "filter_chains": chains,
    })
}

fn chain(route: usize) -> Value {
    json!({
        // One that changes is then told apart from those that do not.
        "name": name(route),
        "filter_chain_match": {"server_names": [name(route)], "application_protocols": ALPN},
        "filters": [{
            "name": "tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.\
                    TcpProxy",
                "stat_prefix": name(route),
                "cluster": name(route),
                "idle_timeout": "3600s",
            },
        }],
    })
}

fn clusters(site: &Site<'_>) -> Vec<Value> {
    (0..site.routes).map(|route| cluster(site, route)).collect()
}

fn cluster(site: &Site<'_>, route: usize) -> Value {
    // Istio lifts Envoy's own limit of 1,024 connections.
    let lifted = u32::MAX;
    let limits = json!({"thresholds": [{
        "max_connections": lifted, "max_pending_requests": lifted, "max_requests": lifted,
        "max_retries": lifted,
    }]});
    let mut cluster = json!({
        "name": name(route),
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": 32768,
        "circuit_breakers": limits,
    });
    if site.changing {
        cluster["type"] = "EDS".into();
        let file = site.dir.join(endpoints_file(route));
        cluster["eds_cluster_config"] = json!({"eds_config": watched(file)});
    } else {
        cluster["type"] = "STATIC".into();
        cluster["load_assignment"] = assignment(site, route);
    }
    cluster
}

fn assignment(site: &Site<'_>, route: usize) -> Value {
    let pods = site.pods_of(route).into_iter();
    let pods: Vec<Value> =
        pods.map(|(_, pod)| json!({"endpoint": {"address": address(pod)}})).collect();
    json!({"cluster_name": name(route), "endpoints": [{"lb_endpoints": pods}]})
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}
