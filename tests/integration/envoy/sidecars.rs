//! The configuration of Envoy as a sidecar, in the shape that Istio gives it.
//!
//! Must not know: the gateway between them, but for its address.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

use crate::support::envoy::loopback;

pub const SNI: &str = "outbound_.8080_._.bar.ns2.global";
/// Who calls, and who is called.
pub const SLEEP: &str = "spiffe://cluster.local/ns/ns1/sa/sleep";
pub const BAR: &str = "spiffe://cluster.local/ns/ns2/sa/bar";

/// A way through the client's sidecar: a listener and a cluster, both of this name.
pub struct Way {
    pub name: &'static str,
    /// The ALPN that Istio's sidecar offers for it.
    pub alpn: &'static [&'static str],
    pub tls_max: &'static str,
    protocol: Protocol,
}

#[derive(PartialEq)]
enum Protocol {
    Http1,
    Http2,
    Tcp,
}

const HTTP1_ALPN: &[&str] = &["istio-http/1.1", "istio", "http/1.1"];
/// What Envoy's upstream context speaks unless told more.
pub const HTTP1_TLS12: Way =
    Way { name: "http1-tls12", alpn: HTTP1_ALPN, tls_max: "TLSv1_2", protocol: Protocol::Http1 };
pub const HTTP1_TLS13: Way =
    Way { name: "http1-tls13", alpn: HTTP1_ALPN, tls_max: "TLSv1_3", protocol: Protocol::Http1 };
pub const HTTP2: Way = Way {
    name: "http2",
    alpn: &["istio-h2", "istio", "h2"],
    tls_max: "TLSv1_3",
    protocol: Protocol::Http2,
};
pub const TCP: Way = Way {
    name: "tcp",
    alpn: &["istio-peer-exchange", "istio"],
    tls_max: "TLSv1_3",
    protocol: Protocol::Tcp,
};

/// The client's sidecar: plain in, mutual TLS to the gateway out. `own` holds its key and
/// certificates, `root` is whom it trusts.
pub fn of_client(gateway: SocketAddr, own: &Path, root: &Path) -> Value {
    let ways = [HTTP1_TLS12, HTTP1_TLS13, HTTP2, TCP];
    let listener = |way: &Way| {
        let filter = match way.protocol {
            Protocol::Tcp => tcp_proxy(way.name),
            _ => http_manager(way.name, json!([header("x-server", "%UPSTREAM_PEER_URI_SAN%")])),
        };
        json!({
            "name": way.name,
            "address": loopback(0),
            "filter_chains": [{"filters": [filter]}],
        })
    };
    let cluster = |way: &Way| {
        let mut common = certificates(own, root, BAR);
        common["alpn_protocols"] = json!(way.alpn);
        common["tls_params"] = json!({"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": way.tls_max});
        let context = json!({"sni": SNI, "common_tls_context": common});
        let mut cluster = static_cluster(way.name, gateway);
        cluster["transport_socket"] = tls("UpstreamTlsContext", context);
        if way.protocol == Protocol::Http2 {
            let options = "extensions.upstreams.http.v3.HttpProtocolOptions";
            cluster["typed_extension_protocol_options"] = json!({
                format!("envoy.{options}"): typed(
                    options,
                    json!({"explicit_http_config": {"http2_protocol_options": {}}}),
                ),
            });
        }
        cluster
    };
    json!({
        "listeners": ways.iter().map(listener).collect::<Vec<_>>(),
        "clusters": ways.iter().map(cluster).collect::<Vec<_>>(),
    })
}

/// The name of the listener of [`of_pod`].
pub const INBOUND: &str = "inbound";

/// The pod's sidecar: one port that demands mutual TLS and tells HTTP from TCP by ALPN. `own` holds
/// its key and certificates, `root` is whom it trusts.
pub fn of_pod(http: SocketAddr, tcp: SocketAddr, own: &Path, root: &Path) -> Value {
    let mut common = certificates(own, root, SLEEP);
    common["alpn_protocols"] = json!(["istio-peer-exchange", "h2", "http/1.1"]);
    let context = json!({"require_client_certificate": true, "common_tls_context": common});
    let chain = |alpn: &[&str], filter: Value| {
        json!({
            "filter_chain_match": {"transport_protocol": "tls", "application_protocols": alpn},
            "transport_socket": tls("DownstreamTlsContext", context.clone()),
            "filters": [filter],
        })
    };
    let seen = json!([
        header("x-protocol", "%PROTOCOL%"),
        header("x-server-name", "%REQUESTED_SERVER_NAME%"),
        header("x-caller", "%DOWNSTREAM_PEER_URI_SAN%"),
        header("x-tls", "%DOWNSTREAM_TLS_VERSION%"),
    ]);
    json!({
        "listeners": [{
            "name": INBOUND,
            "address": loopback(0),
            "listener_filters": [{
                "name": "tls",
                "typed_config": typed(
                    "extensions.filters.listener.tls_inspector.v3.TlsInspector",
                    json!({}),
                ),
            }],
            "filter_chains": [
                chain(&["istio-http/1.0", "istio-http/1.1", "istio-h2"], http_manager("http", seen)),
                chain(&["istio-peer-exchange", "istio"], tcp_proxy("tcp")),
            ],
        }],
        "clusters": [static_cluster("http", http), static_cluster("tcp", tcp)],
    })
}

fn certificates(own: &Path, root: &Path, peer: &str) -> Value {
    json!({
        "tls_certificates": [{
            "certificate_chain": {"filename": own.join("cert-chain.pem")},
            "private_key": {"filename": own.join("key.pem")},
        }],
        "validation_context": {
            "trusted_ca": {"filename": root},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    })
}

fn http_manager(cluster: &str, headers: Value) -> Value {
    let manager = json!({
        "stat_prefix": cluster,
        // An answer of Envoy's own says what TLS had to say, as its access log would.
        "local_reply_config": {"body_format": {"text_format_source": {
            "inline_string": "%LOCAL_REPLY_BODY%: %UPSTREAM_TRANSPORT_FAILURE_REASON%",
        }}},
        "http_filters": [{
            "name": "router",
            "typed_config": typed("extensions.filters.http.router.v3.Router", json!({})),
        }],
        "route_config": {
            "response_headers_to_add": headers,
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}],
            }],
        },
    });
    let kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!({"name": "http", "typed_config": typed(kind, manager)})
}

fn header(name: &str, value: &str) -> Value {
    json!({"header": {"key": name, "value": value}})
}

fn tcp_proxy(cluster: &str) -> Value {
    let proxy = json!({"stat_prefix": cluster, "cluster": cluster});
    let kind = "extensions.filters.network.tcp_proxy.v3.TcpProxy";
    json!({"name": "tcp", "typed_config": typed(kind, proxy)})
}

fn static_cluster(name: &str, to: SocketAddr) -> Value {
    let endpoint = json!({"endpoint": {"address": loopback(to.port())}});
    let assignment = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]});
    json!({"name": name, "type": "STATIC", "load_assignment": assignment})
}

fn tls(context: &str, content: Value) -> Value {
    let kind = format!("extensions.transport_sockets.tls.v3.{context}");
    json!({"name": "tls", "typed_config": typed(&kind, content)})
}

fn typed(kind: &str, mut content: Value) -> Value {
    content["@type"] = format!("type.googleapis.com/envoy.{kind}").into();
    content
}
