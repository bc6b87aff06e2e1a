//! Envoy as Istio sets it up for a gateway with AUTO_PASSTHROUGH: a filter chain that matches the
//! exact server name and Istio's ALPN, and a cluster of the pods behind it.
//!
//! Must not know: how it is started, who calls.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

/// Beside PATH: where `tests/setup.sh` of this repository puts it.
const HERE: &str = "target/counterparts/envoy";
/// The names that Istio lets through to such a chain.
const ALPN: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// What Istio allows a connection to hold in each direction.
const BUFFER_BYTES: u32 = 32_768;

/// Envoy on this machine, if it is installed.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|dir| dir.join("envoy"));
    let here = std::path::absolute(HERE).ok();
    places.chain(here).find(|file| file.is_file())
}

/// A configuration that serves one name from these pods, and writes a line of JSON to `log` for
/// each connection that has ended.
#[must_use]
pub fn config(listen: SocketAddr, name: &str, pods: &[SocketAddr], log: &Path) -> Value {
    json!({"static_resources": {
        "listeners": [listener(listen, vec![chain(name, None, log)])],
        "clusters": [cluster(name, pods)],
    }})
}

/// The listener `gateway` with these chains.
#[must_use]
pub fn listener(listen: SocketAddr, chains: Vec<Value>) -> Value {
    json!({
        "name": "gateway",
        "address": address(listen),
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "listener_filters": [{
            "name": "tls_inspector",
            "typed_config": {
                "@type": kind("filters.listener.tls_inspector.v3.TlsInspector"),
            },
        }],
        "filter_chains": chains,
    })
}

/// The chain of one name, to the cluster of that name. `idle` is what a DestinationRule may set.
#[must_use]
pub fn chain(name: &str, idle: Option<Duration>, log: &Path) -> Value {
    let mut proxy = json!({
        "@type": kind("filters.network.tcp_proxy.v3.TcpProxy"),
        "stat_prefix": name,
        "cluster": name,
        "access_log": [access_log(log)],
    });
    if let Some(idle) = idle {
        proxy["idle_timeout"] = format!("{}s", idle.as_secs()).into();
    }
    json!({
        // One that changes is then told apart from those that do not.
        "name": name,
        "filter_chain_match": {"server_names": [name], "application_protocols": ALPN},
        "filters": [{"name": "tcp_proxy", "typed_config": proxy}],
    })
}

/// The cluster of one name. Istio lifts Envoy's own limit of 1,024 connections.
#[must_use]
pub fn cluster(name: &str, pods: &[SocketAddr]) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "circuit_breakers": {"thresholds": [{
            "max_connections": u32::MAX, "max_pending_requests": u32::MAX,
            "max_requests": u32::MAX, "max_retries": u32::MAX,
        }]},
        "load_assignment": assignment(name, pods),
    })
}

/// The endpoints of a cluster.
#[must_use]
pub fn assignment(name: &str, pods: &[SocketAddr]) -> Value {
    let endpoints: Vec<_> =
        pods.iter().map(|pod| json!({"endpoint": {"address": address(*pod)}})).collect();
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]})
}

/// An access log of JSON lines.
#[must_use]
pub fn access_log(log: &Path) -> Value {
    json!({
        "name": "file",
        "typed_config": {
            "@type": kind("access_loggers.file.v3.FileAccessLog"),
            "path": log,
            "log_format": {"json_format": {
                "upstream_host": "%UPSTREAM_HOST%",
                "response_flags": "%RESPONSE_FLAGS%",
                "response_code_details": "%RESPONSE_CODE_DETAILS%",
                "requested_server_name": "%REQUESTED_SERVER_NAME%",
            }},
        },
    })
}

/// An address as Envoy writes it.
#[must_use]
pub fn address(of: SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}

/// The name of one of Envoy's extensions.
#[must_use]
pub fn kind(of: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{of}")
}
