//! The settings file exactly as written: a serde mirror with its defaults.
//!
//! Must not know: layers, the environment, what a setting is used for. What each key does and
//! costs stands beside it in `config/diolkos.yaml`; a test keeps the two equal.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use limits::Limits;
pub use manifests::{Kubernetes, Manifests};
pub use outlier_detection::OutlierDetection;
pub use relay::{Keepalive, Relay};
pub use resolver::Resolver;
pub use sidecar::Sidecar;
pub use sources::{ProxyProtocol, Rule};

use super::types::{AccessLogFormat, Listen, LogFormat, NetworkView, Role, addresses};

mod limits;
mod manifests;
mod outlier_detection;
mod relay;
mod resolver;
mod sidecar;
mod sources;

/// All settings, one field for each section of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Who this gateway is and what it lets through.
    pub gateway: Gateway,
    /// Where manifests are read from.
    pub manifests: Manifests,
    /// Reading the ClientHello.
    pub sniff: Sniff,
    /// Reaching an endpoint.
    pub connect: Connect,
    /// Between the ClientHello and the endpoint's answer.
    pub first_flight: FirstFlight,
    /// Endpoints that fail are left alone for a while.
    pub outlier_detection: OutlierDetection,
    /// Moving bytes.
    pub relay: Relay,
    /// How much at once.
    pub limits: Limits,
    /// Ending.
    pub drain: Drain,
    /// One line for each connection.
    pub access_log: AccessLog,
    /// The operators' port.
    pub admin: Admin,
    /// The readiness port.
    pub health: Health,
    /// The port on which Istio's agent answers.
    pub agent: Agent,
    /// The scrape port.
    pub metrics: Metrics,
    /// The DNS server.
    pub dns: Dns,
    /// Looking up endpoints that are host names.
    pub resolver: Resolver,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// What the program says of itself.
    pub log: Log,
}

/// Section `gateway`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// Where connections arrive; never empty.
    #[serde(deserialize_with = "addresses")]
    pub listen: Vec<SocketAddr>,
    /// Worker threads; 0 means the CPUs that the cgroup allows.
    pub workers: usize,
    /// Which services are served.
    pub role: Role,
    /// Our own namespace.
    pub namespace: String,
    /// Our own labels, which selectors are compared with.
    pub labels: BTreeMap<String, String>,
    /// The cluster's DNS domain, lower case.
    pub cluster_domain: String,
    /// The suffix that stands for `svc.<cluster_domain>`; empty means no rewrite.
    pub rewrite_suffix: String,
    /// A hello must offer one of these; empty lets any through.
    pub alpn: Vec<String>,
    /// Serve only endpoints known to speak mesh mutual TLS.
    pub require_mesh_tls: bool,
    /// Not ready while no AUTO_PASSTHROUGH server selects us.
    pub require_selection: bool,
    /// Who may ask for which name, by source; the first rule that fits.
    pub policy: Vec<Rule>,
    /// Proxies before us.
    pub proxy_protocol: ProxyProtocol,
    /// Pods of headless Services have names of their own.
    pub per_pod_names: bool,
    /// Our own network; empty means none.
    pub network: String,
    /// Serve only endpoints of these networks; empty means no view.
    pub requested_network_view: Vec<String>,
    /// Which rule reads the view.
    pub network_view: NetworkView,
    /// `region/zone/subzone`; empty means the node's.
    pub locality: String,
    /// Our own node; empty means unknown.
    pub node: String,
}

impl Default for Gateway {
    fn default() -> Self {
        let labels = [("istio", "ingressgateway"), ("app", "istio-ingressgateway")];
        let alpn = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
        Self {
            listen: vec![any(15443)],
            workers: 0,
            role: Role::Ingress,
            namespace: "istio-system".into(),
            labels: labels.map(|(k, v)| (k.into(), v.into())).into(),
            cluster_domain: "cluster.local".into(),
            rewrite_suffix: "global".into(),
            alpn: alpn.map(Into::into).into(),
            require_mesh_tls: true,
            require_selection: true,
            policy: Vec::new(),
            proxy_protocol: ProxyProtocol::default(),
            per_pod_names: false,
            network: String::new(),
            requested_network_view: Vec::new(),
            network_view: NetworkView::Istio14,
            locality: String::new(),
            node: String::new(),
        }
    }
}

/// Section `sniff`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sniff {
    /// From accept to the whole hello.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Bytes on the wire.
    pub bytes_max: usize,
}

impl Default for Sniff {
    fn default() -> Self {
        Self { timeout: seconds(5), bytes_max: 16_384 }
    }
}

/// Section `connect`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connect {
    /// All tries together.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// One try, while another endpoint is left.
    #[serde(with = "humantime_serde")]
    pub try_timeout: Duration,
}

impl Default for Connect {
    fn default() -> Self {
        Self { timeout: seconds(10), try_timeout: seconds(1) }
    }
}

/// Section `first_flight`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FirstFlight {
    /// Silence after the hello until the next endpoint is tried; zero means for ever.
    #[serde(with = "humantime_serde")]
    pub server_hello_timeout: Duration,
}

impl Default for FirstFlight {
    fn default() -> Self {
        Self { server_hello_timeout: seconds(5) }
    }
}

/// Section `drain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// Not ready, still accepting.
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
    /// For live connections, after the pause.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// Without a byte either way, after the endpoint spoke.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// Without a byte either way, in the last third of the deadline.
    #[serde(with = "humantime_serde")]
    pub late_idle: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        let (pause, deadline) = (seconds(5), seconds(20));
        Self { pause, deadline, idle: seconds(1), late_idle: seconds(5) }
    }
}

/// Section `access_log`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// The form of a line.
    pub format: AccessLogFormat,
    /// The file appended to.
    pub path: PathBuf,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { format: AccessLogFormat::Text, path: "/dev/stdout".into() }
    }
}

/// Declares a section that holds one listen address.
macro_rules! listening_section {
    ($name:ident, $what:literal, $default:expr) => {
        #[doc = $what]
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// The address, or off.
            pub listen: Listen,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { listen: Listen::At($default) }
            }
        }
    };
}

listening_section!(Admin, "Section `admin`.", SocketAddr::from(([127, 0, 0, 1], 15000)));
listening_section!(Health, "Section `health`.", any(15021));
listening_section!(Agent, "Section `agent`.", any(15020));
listening_section!(Metrics, "Section `metrics`.", any(15090));

/// Section `dns`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Where queries arrive, by UDP and TCP; never empty.
    #[serde(deserialize_with = "addresses")]
    pub listen: Vec<SocketAddr>,
    /// What is answered for; never empty.
    pub suffixes: Vec<String>,
    /// How long others may keep an answer, whole seconds.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// Connections over TCP on each address.
    pub tcp_connections_max: usize,
    /// Without a whole message.
    #[serde(with = "humantime_serde")]
    pub tcp_timeout: Duration,
    /// Readiness and scrape of the DNS server, or off.
    pub status: Listen,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 15053))],
            suffixes: vec!["global".into()],
            ttl: seconds(30),
            tcp_connections_max: 256,
            tcp_timeout: seconds(10),
            status: Listen::Off,
        }
    }
}

/// Section `log`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level, optionally followed by `module=level` parts; as [`crate::telemetry`] reads it.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// Every IPv6 and IPv4 address of this machine.
fn any(port: u16) -> SocketAddr {
    (std::net::Ipv6Addr::UNSPECIFIED, port).into()
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
