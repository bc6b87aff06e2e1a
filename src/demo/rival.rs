//! Envoy as Istio sets it up for a gateway with AUTO_PASSTHROUGH: a filter chain that matches the
//! exact server name and Istio's ALPN, and a cluster of the pods behind it.
//!
//! Must not know: how it is started, who calls.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// Beside PATH: where `tests/setup.sh` of this repository puts it.
const HERE: &str = "target/counterparts/envoy";
/// The names that Istio lets through to such a chain.
const ALPN: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

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
    let kind = |kind: &str| format!("type.googleapis.com/envoy.extensions.{kind}");
    let endpoints: Vec<_> =
        pods.iter().map(|pod| json!({"endpoint": {"address": address(*pod)}})).collect();
    json!({"static_resources": {
        "listeners": [{
            "name": "gateway",
            "address": address(listen),
            "listener_filters": [{
                "name": "tls_inspector",
                "typed_config": {
                    "@type": kind("filters.listener.tls_inspector.v3.TlsInspector"),
                },
            }],
            "filter_chains": [{
                "filter_chain_match": {"server_names": [name], "application_protocols": ALPN},
                "filters": [{
                    "name": "tcp_proxy",
                    "typed_config": {
                        "@type": kind("filters.network.tcp_proxy.v3.TcpProxy"),
                        "stat_prefix": "bar",
                        "cluster": "bar",
                        "access_log": [{
                            "name": "file",
                            "typed_config": {
                                "@type": kind("access_loggers.file.v3.FileAccessLog"),
                                "path": log,
                                "log_format": {"json_format": {
                                    "upstream_host": "%UPSTREAM_HOST%",
                                    "response_flags": "%RESPONSE_FLAGS%",
                                }},
                            },
                        }],
                    },
                }],
            }],
        }],
        "clusters": [{
            "name": "bar",
            "type": "STATIC",
            "connect_timeout": "10s",
            "load_assignment": {
                "cluster_name": "bar",
                "endpoints": [{"lb_endpoints": endpoints}],
            },
        }],
    }})
}

fn address(of: SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}
