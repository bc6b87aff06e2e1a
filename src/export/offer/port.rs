//! A port as a ServiceEntry of another cluster writes it.
//!
//! Must not know: whether the port is served.

use crate::{
    export::names::is_label,
    manifests::kinds::{
        service::ServicePort,
        service_entry::{EntryPort, Protocol},
    },
};

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The number that a caller names; it travels in the server name.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// As a ServiceEntry writes it.
    pub protocol: &'static str,
}

impl From<&ServicePort> for Port {
    fn from(port: &ServicePort) -> Self {
        Self::new(port.port, &port.name, protocol(&port.name, port.app_protocol.as_deref()))
    }
}

/// Istio's rule: `appProtocol`, else what stands before the first `-` of the name. What says
/// nothing is TCP, which is right for everything, only less known.
fn protocol(name: &str, app_protocol: Option<&str>) -> &'static str {
    let of_word = |word: &str| {
        Some(match word.to_ascii_lowercase().as_str() {
            "tcp" => "TCP",
            "tls" => "TLS",
            "http" | "kubernetes.io/ws" => "HTTP",
            "http2" | "kubernetes.io/h2c" => "HTTP2",
            "https" | "kubernetes.io/wss" => "HTTPS",
            "grpc" => "GRPC",
            "grpc-web" => "GRPC-Web",
            "mongo" => "Mongo",
            "mysql" => "MySQL",
            "redis" => "Redis",
            _ => return None,
        })
    };
    let lower = name.to_ascii_lowercase();
    let grpc_web = lower == "grpc-web" || lower.starts_with("grpc-web-");
    let word = if grpc_web { "grpc-web" } else { lower.split('-').next().unwrap_or_default() };
    app_protocol.and_then(of_word).or_else(|| of_word(word)).unwrap_or("TCP")
}

impl From<&EntryPort> for Port {
    fn from(port: &EntryPort) -> Self {
        let written = match port.protocol {
            Protocol::Tls => "TLS",
            Protocol::Http | Protocol::HttpProxy => "HTTP",
            Protocol::Http2 => "HTTP2",
            Protocol::Https => "HTTPS",
            Protocol::Grpc => "GRPC",
            Protocol::GrpcWeb => "GRPC-Web",
            Protocol::Mongo => "Mongo",
            Protocol::Redis => "Redis",
            Protocol::Mysql => "MySQL",
            Protocol::Unset | Protocol::Tcp | Protocol::Udp | Protocol::Hbone => "TCP",
        };
        Self::new(port.number, &port.name, written)
    }
}

impl Port {
    fn new(number: u16, name: &str, protocol: &'static str) -> Self {
        let name = match name {
            name if is_label(name) => name.to_owned(),
            _ => format!("{}-{number}", protocol.to_ascii_lowercase()),
        };
        Self { number, name, protocol }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_read_as_istio_reads_it() {
        for (name, app_protocol, expected) in [
            ("http", None, "HTTP"),
            ("http-web", None, "HTTP"),
            ("HTTP2-x", None, "HTTP2"),
            ("http1", None, "TCP"),
            ("grpc-web-x", None, "GRPC-Web"),
            ("grpc-x", None, "GRPC"),
            ("web", Some("https"), "HTTPS"),
            ("http", Some("kubernetes.io/h2c"), "HTTP2"),
            ("http", Some("example.com/own"), "HTTP"),
            ("", None, "TCP"),
            ("redis-a", Some("tcp"), "TCP"),
        ] {
            assert_eq!(protocol(name, app_protocol), expected, "{name} {app_protocol:?}");
        }
    }

    #[test]
    fn a_port_without_a_fit_name_is_given_one() {
        for (name, expected) in [("http", "http"), ("", "http-80"), ("A b", "http-80")] {
            assert_eq!(Port::new(80, name, "HTTP").name, expected);
        }
    }
}
