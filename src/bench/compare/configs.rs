//! The rivals' configurations for one and the same set of routes. Must not know: how they run.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

use serde_json::{Value, json};

/// What every gateway is told.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Files go here.
    pub dir: &'a Path,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Behind every route.
    pub pods: &'a [SocketAddr],
    /// How many routes.
    pub routes: usize,
}

/// The ALPN names that Istio lets through to a passthrough chain.
const ALPN: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// The server name of a route.
#[must_use]
pub fn name(route: usize) -> String {
    format!("outbound_.8080_._.svc-{route}.bench.global")
}

/// The first server names.
#[must_use]
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(name).collect()
}

/// HAProxy's map from names to backends.
#[must_use]
pub fn haproxy_map(site: &Site<'_>) -> String {
    (0..site.routes).map(|i| format!("{} b{i}\n", name(i))).collect()
}

/// HAProxy: one thread, splicing, waking with the hello there.
#[must_use]
pub fn haproxy(site: &Site<'_>, map: &Path) -> String {
    let (listen, map) = (site.listen, map.display());
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 9500\n  maxpipes 256\n\
         defaults\n  mode tcp\n  option splice-auto\n  timeout connect 10s\n  timeout client 1h\n  \
         timeout server 1h\n\
         frontend f\n  bind {listen} defer-accept\n  tcp-request inspect-delay 5s\n  \
         tcp-request content accept if {{ req.ssl_hello_type 1 }}\n  \
         use_backend %[req.ssl_sni,lower,map({map})]\n"
    );
    for i in 0..site.routes {
        let _ = writeln!(text, "backend b{i}\n  balance leastconn");
        for (n, pod) in site.pods.iter().enumerate() {
            let _ = writeln!(text, "  server s{n} {pod}");
        }
    }
    text
}

/// nginx: one process, `ssl_preread`.
#[must_use]
pub fn nginx(site: &Site<'_>, module: &str) -> String {
    let dir = site.dir.display();
    let mut text = format!(
        "load_module {module};\ndaemon off;\nmaster_process off;\npid {dir}/pid;\n\
         error_log stderr error;\nevents {{ worker_connections 19500; }}\nstream {{\n\
         map_hash_max_size 262144;\nmap_hash_bucket_size 256;\nproxy_timeout 1h;\n\
         map $ssl_preread_server_name $to {{\n"
    );
    for i in 0..site.routes {
        let _ = writeln!(text, "  {} b{i};", name(i));
    }
    text.push_str("}\n");
    for i in 0..site.routes {
        let _ = write!(text, "upstream b{i} {{ least_conn;");
        for pod in site.pods {
            let _ = write!(text, " server {pod};");
        }
        text.push_str(" }\n");
    }
    let listen = site.listen;
    let _ = writeln!(
        text,
        "server {{ listen {listen} backlog=4096; ssl_preread on; proxy_pass $to; }}\n}}"
    );
    text
}

/// Envoy as Istio sets it up: for each route a filter chain that matches the exact name and
/// Istio's ALPN, and a cluster. Without Istio's telemetry, which would cost it more.
#[must_use]
pub fn envoy(site: &Site<'_>) -> Value {
    let chains: Vec<Value> = (0..site.routes).map(envoy_chain).collect();
    let clusters: Vec<Value> = (0..site.routes).map(|i| envoy_cluster(i, site.pods)).collect();
    json!({"static_resources": {
        "listeners": [{
            "name": "gateway",
            "address": envoy_address(site.listen),
            "per_connection_buffer_limit_bytes": 32768,
            "listener_filters": [{
                "name": "tls_inspector",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.\
                    tls_inspector.v3.TlsInspector"},
            }],
            "filter_chains": chains,
        }],
        "clusters": clusters,
    }})
}

fn envoy_chain(route: usize) -> Value {
    json!({
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

fn envoy_cluster(route: usize, pods: &[SocketAddr]) -> Value {
    let pods: Vec<Value> =
        pods.iter().map(|pod| json!({"endpoint": {"address": envoy_address(*pod)}})).collect();
    // Istio lifts Envoy's own limit of 1,024 connections.
    let lifted = u32::MAX;
    let limits = json!({"thresholds": [{
        "max_connections": lifted, "max_pending_requests": lifted, "max_requests": lifted,
        "max_retries": lifted,
    }]});
    json!({
        "name": name(route),
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": 32768,
        "circuit_breakers": limits,
        "load_assignment": {"cluster_name": name(route), "endpoints": [{"lb_endpoints": pods}]},
    })
}

fn envoy_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}
