//! Envoy as the sidecar at both ends, as Istio sets it up, but for retries: there are none, so that
//! a request that fails is seen.
//!
//! Must not know: the gateways between them, but for the file that names their addresses.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use serde_json::{Value, json};

use super::application;
use crate::demo::{
    against::site::{replace, watched},
    rival::{address, assignment, kind},
};

/// Who calls, and who is called.
pub const SLEEP: &str = "spiffe://cluster.local/ns/ns1/sa/sleep";
/// The account of the pod.
pub const BAR: &str = "spiffe://cluster.local/ns/ns2/sa/bar";
/// The pod's port of mutual TLS.
pub const INBOUND: u16 = 18080;
/// Where the caller's sidecar answers operators, and the pod's too.
pub const ADMIN: u16 = 15000;
const GATEWAYS: &str = "gateways";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// A way through the caller's sidecar, by protocol: a port for the application, and the ALPN that
/// Istio's sidecar offers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Of listener and cluster.
    pub name: &'static str,
    /// Where the application calls.
    pub port: u16,
    alpn: &'static [&'static str],
}

/// HTTP/1.1 with kept connections.
pub const HTTP1: Way =
    Way { name: "http1", port: 8001, alpn: &["istio-http/1.1", "istio", "http/1.1"] };
/// HTTP/2: many streams on one connection.
pub const HTTP2: Way = Way { name: "http2", port: 8002, alpn: &["istio-h2", "istio", "h2"] };
/// The same as the first, where gateways have a single address: that of a load balancer.
pub const BEHIND: Way = Way { name: "behind", port: 8004, ..HTTP1 };
/// Any bytes.
pub const TCP: Way = Way { name: "tcp", port: 8003, alpn: &["istio-peer-exchange", "istio"] };

/// Writes the endpoints of the far service, which the caller's sidecar watches.
///
/// # Errors
/// When they cannot be written.
pub fn write_endpoints(dir: &Path, gateways: &[SocketAddr]) -> std::io::Result<()> {
    let mut endpoints = assignment(GATEWAYS, gateways);
    endpoints["@type"] = ENDPOINTS.into();
    replace(dir, "eds.json", &json!({"resources": [endpoints]}).to_string())
}

/// The caller's: plain in, mutual TLS to a gateway out. `own` holds its key and certificates.
#[must_use]
pub fn of_client(ip: Ipv4Addr, balancer: SocketAddr, dir: &Path, own: &Path, sni: &str) -> Value {
    let ways = [HTTP1, HTTP2, TCP, BEHIND];
    let listener = |way: &Way| {
        let filter = if *way == TCP { tcp_proxy(way.name) } else { http_manager(way.name) };
        json!({
            "name": way.name,
            "address": address((ip, way.port).into()),
            "filter_chains": [{"filters": [filter]}],
        })
    };
    let cluster = |way: &Way| {
        let mut common = certificates(own, BAR);
        common["alpn_protocols"] = json!(way.alpn);
        common["tls_params"] = json!({"tls_maximum_protocol_version": "TLSv1_3"});
        let context = json!({"sni": sni, "common_tls_context": common});
        let mut cluster = json!({
            "name": way.name,
            "lb_policy": "LEAST_REQUEST",
            "transport_socket": tls("UpstreamTlsContext", context),
        });
        if *way == BEHIND {
            cluster["type"] = "STATIC".into();
            cluster["load_assignment"] = assignment(way.name, &[balancer]);
        } else {
            cluster["type"] = "EDS".into();
            let source = watched(&dir.join("eds.json"));
            cluster["eds_cluster_config"] = json!({"service_name": GATEWAYS, "eds_config": source});
        }
        if *way == HTTP2 {
            let options = "upstreams.http.v3.HttpProtocolOptions";
            let http2 = json!({"explicit_http_config": {"http2_protocol_options": {}}});
            cluster["typed_extension_protocol_options"] =
                json!({format!("envoy.extensions.{options}"): typed(options, http2)});
        }
        cluster
    };
    json!({
        "node": {"id": "sleep", "cluster": "sleep"},
        "admin": {"address": address((ip, ADMIN).into())},
        "static_resources": {
            "listeners": ways.iter().map(listener).collect::<Vec<_>>(),
            "clusters": ways.iter().map(cluster).collect::<Vec<_>>(),
        },
    })
}

/// The pod's: one port that demands mutual TLS and tells HTTP from TCP by ALPN.
#[must_use]
pub fn of_pod(ip: Ipv4Addr, own: &Path) -> Value {
    let mut common = certificates(own, SLEEP);
    common["alpn_protocols"] = json!(["istio-peer-exchange", "h2", "http/1.1"]);
    let context = json!({"require_client_certificate": true, "common_tls_context": common});
    let chain = |alpn: &[&str], filter: Value| {
        json!({
            "filter_chain_match": {"transport_protocol": "tls", "application_protocols": alpn},
            "transport_socket": tls("DownstreamTlsContext", context.clone()),
            "filters": [filter],
        })
    };
    let cluster = |name: &str, port: u16| {
        let load_assignment = assignment(name, &[(ip, port).into()]);
        json!({"name": name, "type": "STATIC", "load_assignment": load_assignment})
    };
    let inspector = "filters.listener.tls_inspector.v3.TlsInspector";
    json!({
        "admin": {"address": address((ip, ADMIN).into())},
        "static_resources": {
            "listeners": [{
                "name": "inbound",
                "address": address((ip, INBOUND).into()),
                "listener_filters": [{"name": "tls", "typed_config": typed(inspector, json!({}))}],
                "filter_chains": [
                    chain(&["istio-http/1.0", "istio-http/1.1", "istio-h2"], http_manager("http")),
                    chain(&["istio-peer-exchange", "istio"], tcp_proxy("tcp")),
                ],
            }],
            "clusters": [cluster("http", application::HTTP), cluster("tcp", application::TCP)],
        },
    })
}

fn certificates(own: &Path, peer: &str) -> Value {
    json!({
        "tls_certificates": [{
            "certificate_chain": {"filename": own.join("cert-chain.pem")},
            "private_key": {"filename": own.join("key.pem")},
        }],
        "validation_context": {
            "trusted_ca": {"filename": own.join("root-cert.pem")},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    })
}

fn http_manager(cluster: &str) -> Value {
    let manager = json!({
        "stat_prefix": cluster,
        // The application hears of an answer that broke off at once, not a second later.
        "delayed_close_timeout": "0s",
        "http_filters": [{
            "name": "router",
            "typed_config": typed("filters.http.router.v3.Router", json!({})),
        }],
        // No retry_policy; and as Istio, no timeout.
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}],
        }]},
    });
    let kind = "filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!({"name": "http", "typed_config": typed(kind, manager)})
}

fn tcp_proxy(cluster: &str) -> Value {
    let proxy = json!({"stat_prefix": cluster, "cluster": cluster});
    json!({"name": "tcp", "typed_config": typed("filters.network.tcp_proxy.v3.TcpProxy", proxy)})
}

fn tls(context: &str, content: Value) -> Value {
    json!({
        "name": "tls",
        "typed_config": typed(&format!("transport_sockets.tls.v3.{context}"), content),
    })
}

fn typed(of: &str, mut content: Value) -> Value {
    content["@type"] = kind(of).into();
    content
}
