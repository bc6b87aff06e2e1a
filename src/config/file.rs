//! The settings file exactly as written: a serde mirror with its defaults.
//!
//! Must not know: layers, the environment, what a setting is used for. What each key does and
//! costs stands beside it in `config/diolkos.yaml`; a test keeps the two equal.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

mod resolver;

pub use resolver::Resolver;

use super::types::{AccessLogFormat, Listen, LogFormat, NetworkView, Role, addresses};

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
            network: String::new(),
            requested_network_view: Vec::new(),
            network_view: NetworkView::Istio14,
            locality: String::new(),
            node: String::new(),
        }
    }
}

/// Section `manifests`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifests {
    /// Watched directories.
    pub directories: Vec<PathBuf>,
    /// The namespace whose policy holds for the whole mesh.
    pub root_namespace: String,
}

impl Default for Manifests {
    fn default() -> Self {
        Self { directories: Vec::new(), root_namespace: "istio-system".into() }
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

/// Section `outlier_detection`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutlierDetection {
    /// Failures in a row that eject; 0 means off.
    pub consecutive: u16,
    /// The n-th ejection lasts n times this.
    #[serde(with = "humantime_serde")]
    pub base_ejection_time: Duration,
    /// No ejection is longer.
    #[serde(with = "humantime_serde")]
    pub max_ejection_time: Duration,
    /// In service for this long, one earlier ejection is forgiven.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Of the endpoints of a set; one may always be ejected.
    pub max_ejection_percent: u8,
    /// With fewer in service, ejections are not looked at; 0 means never.
    pub min_health_percent: u8,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive: 3,
            base_ejection_time: seconds(5),
            max_ejection_time: seconds(60),
            interval: seconds(10),
            max_ejection_percent: 100,
            min_health_percent: 30,
        }
    }
}

/// Section `relay`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// Bulk bytes through kernel pipes.
    pub splice: bool,
    /// Pipes of all workers together.
    pub pipes_max: usize,
    /// No byte either way; zero means off.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Age; zero means off.
    #[serde(with = "humantime_serde")]
    pub max_duration: Duration,
    /// Probes on both sides.
    pub keepalive: Keepalive,
    /// Nothing acknowledged while something is out.
    #[serde(with = "humantime_serde")]
    pub vanished_after: Duration,
    /// For bytes taken before a reset; zero means none.
    #[serde(with = "humantime_serde")]
    pub abort_linger: Duration,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            splice: true,
            pipes_max: 256,
            idle_timeout: Duration::ZERO,
            max_duration: Duration::ZERO,
            keepalive: Keepalive::default(),
            vanished_after: seconds(30),
            abort_linger: seconds(1),
        }
    }
}

/// Section `relay.keepalive`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keepalive {
    /// Silence before the first probe.
    #[serde(with = "humantime_serde")]
    pub time: Duration,
    /// Between probes.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Unanswered probes until the peer is dead.
    pub probes: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { time: seconds(30), interval: seconds(10), probes: 3 }
    }
}

/// Section `limits`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Live connections; 0 means what the descriptor limit allows.
    pub connections_max: usize,
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
}

impl Default for Drain {
    fn default() -> Self {
        Self { pause: seconds(5), deadline: seconds(20) }
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
