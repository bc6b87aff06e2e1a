//! Every metric and label name, once, with its help text. The README's table is checked against
//! this file.
//!
//! Must not know: who counts. Names of counters end in `_total`, of measures in their unit.

use prometheus_client::registry::Unit as TextUnit;

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As it stands in a scrape.
    pub name: &'static str,
    /// Whether it can fall.
    pub kind: Kind,
    /// What one is.
    pub unit: Unit,
    /// One sentence, without its full stop.
    pub help: &'static str,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
}

/// Whether a metric can fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// What one of a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A thing counted.
    Count,
    /// A byte.
    Bytes,
    /// A second.
    Seconds,
}

impl Metric {
    /// The name without what the exposition adds: `_total` and the unit.
    pub(super) fn stem(&self) -> (&'static str, Option<TextUnit>) {
        let stem = match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge => self.name,
        };
        let (suffix, unit) = match self.unit {
            Unit::Count => return (stem, None),
            Unit::Bytes => ("_bytes", TextUnit::Bytes),
            Unit::Seconds => ("_seconds", TextUnit::Seconds),
        };
        (stem.strip_suffix(suffix).unwrap_or(stem), Some(unit))
    }
}

/// The labels of Istio's TCP metrics. `source_*` is this gateway itself, as Istio has it for a
/// gateway that does not terminate TLS.
pub const ISTIO_TCP_LABELS: &[&str] = &[
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
];

/// Declares the metrics and the list of all.
macro_rules! metrics {
    ($($constant:ident $name:literal $kind:ident $unit:ident $labels:expr, $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help, ".")]
            pub const $constant: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                help: $help,
                labels: $labels,
            };
        )*

        /// All metrics.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    ISTIO_TCP_CONNECTIONS_OPENED "istio_tcp_connections_opened_total" Counter Count
        ISTIO_TCP_LABELS, "Connections relayed to an endpoint";
    ISTIO_TCP_CONNECTIONS_CLOSED "istio_tcp_connections_closed_total" Counter Count
        ISTIO_TCP_LABELS, "Relayed connections that ended";
    ISTIO_TCP_SENT_BYTES "istio_tcp_sent_bytes_total" Counter Bytes
        ISTIO_TCP_LABELS, "Bytes sent to the downstream";
    ISTIO_TCP_RECEIVED_BYTES "istio_tcp_received_bytes_total" Counter Bytes
        ISTIO_TCP_LABELS, "Bytes received from the downstream";
    ISTIO_BUILD "istio_build" Gauge Count
        &["component", "tag"], "1, labelled with the version of this program";

    ACCEPTED "diolkos_accepted_total" Counter Count
        &[], "Connections accepted from the listeners";
    ACCEPT_ERRORS "diolkos_accept_errors_total" Counter Count
        &[], "Errors of accept, other than a peer that had gone, and sockets that could not be watched";
    ACCEPT_PAUSES "diolkos_accept_pauses_total" Counter Count
        &[], "Times that accepting stopped because a limit was reached";
    HANDED_OVER "diolkos_handed_over_total" Counter Count
        &[], "Fresh connections given to a worker with fewer of them";
    CONNECTIONS "diolkos_connections_total" Counter Count
        &["outcome"], "Connections that ended, each counted once, by how";
    CONNECTIONS_ACTIVE "diolkos_connections_active" Gauge Count
        &[], "Connections alive now";
    CONNECTIONS_MAX "diolkos_connections_max" Gauge Count
        &[], "Connections that may be alive at once";

    HELLOS_WAITING "diolkos_hellos_waiting" Gauge Count
        &[], "Connections alive now that have sent no whole ClientHello yet";
    SOURCES "diolkos_sources" Gauge Count
        &[], "Sources with a live connection, where `limits.source_max` is on";
    SOURCE_LARGEST "diolkos_source_largest" Gauge Count
        &[], "Live connections of the source with most, where `limits.source_max` is on";
    MEMORY_SHORT "diolkos_memory_short" Gauge Count
        &[], "1 while memory is short and new connections are shed, 0 otherwise";
    POLICY_DRY_RUNS "diolkos_policy_dry_run_denied_total" Counter Count
        &[], "Connections that a rule with dry_run would have refused";

    CONNECT_ATTEMPTS "diolkos_connect_attempts_total" Counter Count
        &["result"], "Tries to reach an endpoint, by result";
    REPLAYS "diolkos_replays_total" Counter Count
        &[], "ClientHellos sent again to another endpoint";
    REPLAYS_DENIED "diolkos_replays_denied_total" Counter Count
        &[], "ClientHellos not sent again because too many were";
    EJECTIONS "diolkos_ejections_total" Counter Count
        &[], "Ejections of an endpoint, those after a failed probe included";
    EJECTIONS_ENDED "diolkos_ejections_ended_total" Counter Count
        &[], "Ejected endpoints that answered again";
    HEALTH_CHECKS "diolkos_health_checks_total" Counter Count
        &["result"], "Endpoints asked for their ServerHello by the gateway itself, by result";
    HANDSHAKES "diolkos_handshakes_total" Counter Count
        &["destination_service", "class", "ended_by"],
        "TLS handshakes with endpoints, by how they ended as seen from outside";
    SPLICE_FALLBACKS "diolkos_splice_fallbacks_total" Counter Count
        &[], "Workers that copy because the kernel refused splice";

    PIPES_OPEN "diolkos_pipes_open" Gauge Count
        &[], "Pipes that exist, lent or pooled";
    PIPE_SHORTAGES "diolkos_pipe_shortages_total" Counter Count
        &[], "Times that bulk bytes were copied because no pipe was left";

    MANIFEST_OBJECTS "diolkos_manifest_objects" Gauge Count
        &["kind"], "Objects in use, by kind";
    MANIFEST_PROBLEMS "diolkos_manifest_problems" Gauge Count
        &["severity"], "Problems in the manifests as they are now, by severity";
    KUBERNETES_FOLLOWED "diolkos_kubernetes_followed" Gauge Count
        &["state"], "Kinds followed in the Kubernetes API, each in all namespaces or in one, by state";
    KUBERNETES_AGE_SECONDS "diolkos_kubernetes_age_seconds" Gauge Seconds
        &[], "Time since contact with the Kubernetes API was lost, 0 while every watch is open";
    KUBERNETES_EVENTS "diolkos_kubernetes_events_total" Counter Count
        &[], "Changes of objects that the Kubernetes API told";
    KUBERNETES_LISTS "diolkos_kubernetes_lists_total" Counter Count
        &[], "Lists of a kind read from the Kubernetes API, the first ones and those after an outage";
    RESOLVED_NAMES "diolkos_resolved_names" Gauge Count
        &["state"], "Host names of endpoints: fresh, stale (old addresses kept) or unresolved";
    TABLE_GENERATION "diolkos_table_generation" Gauge Count
        &[], "Number of the table in use; rises with each change of names or policy";
    TABLE_SERVICES "diolkos_table_services" Gauge Count
        &[], "Services in the table";
    TABLE_ROUTES "diolkos_table_routes" Gauge Count
        &[], "Keys of port, subset and host in the table";
    TABLE_ENDPOINTS "diolkos_table_endpoints" Gauge Count
        &[], "Endpoints in the table, each counted in every set it is in";
    CONFIG_AGE_SECONDS "diolkos_config_age_seconds" Gauge Seconds
        &[], "Time since the manifests were last read without an error of the source";

    DNS_QUERIES "diolkos_dns_queries_total" Counter Count
        &["transport", "result"], "DNS queries received, by how they were answered";
    DNS_NAMES "diolkos_dns_names" Gauge Count
        &[], "DNS names that exist, suffixes and empty non-terminals included";
    DNS_CONNECTIONS_ACTIVE "diolkos_dns_connections_active" Gauge Count
        &[], "DNS connections over TCP alive now";

    SIDECAR_CONNECTIONS "diolkos_sidecar_connections_total" Counter Count
        &["direction", "outcome"], "Connections of a sidecar that ended, each counted once, by how";
    SIDECAR_CONNECTIONS_ACTIVE "diolkos_sidecar_connections_active" Gauge Count
        &["direction"], "Connections of a sidecar alive now";
    SIDECAR_HANDSHAKE_FAILURES "diolkos_sidecar_handshake_failures_total" Counter Count
        &["direction", "cause"], "TLS handshakes that failed, outbound each try, by cause";
    SIDECAR_RECEIVED_BYTES "diolkos_sidecar_received_bytes_total" Counter Bytes
        &["direction"], "Plain bytes received from the side that dialled";
    SIDECAR_SENT_BYTES "diolkos_sidecar_sent_bytes_total" Counter Bytes
        &["direction"], "Plain bytes sent to the side that dialled";
    SIDECAR_LISTENERS "diolkos_sidecar_listeners" Gauge Count
        &["state"], "Addresses of ServiceEntries, by whether they could be bound";
    SIDECAR_CERTIFICATE_END_SECONDS "diolkos_sidecar_certificate_end_seconds" Gauge Seconds
        &[], "End of the sidecar's certificate, since the epoch";

    EXPORT_RUNS "diolkos_export_runs_total" Counter Count
        &["result"], "Runs of an exporter: ok, partly (somebody or the API did not let it write all), failed";
    EXPORT_NAMES "diolkos_export_names" Gauge Count
        &[], "Names exported by the last run";
    EXPORT_REFUSED "diolkos_export_refused" Gauge Count
        &[], "Names that the last run could not write because somebody or the API did not let it";
    EXPORT_AGE_SECONDS "diolkos_export_age_seconds" Gauge Seconds
        &[], "Time since a run came to its end, or since the start";

    READY "diolkos_ready" Gauge Count
        &[], "1 while ready, 0 otherwise";
    WORKERS "diolkos_workers" Gauge Count
        &[], "Worker threads";
    PANICS "diolkos_panics_total" Counter Count
        &[], "Panics, each of which cost one connection";
    LOG_LINES_DROPPED "diolkos_log_lines_dropped_total" Counter Count
        &[], "Access-log lines dropped because their reader was too slow or the disk full";

    PROCESS_CPU_SECONDS "process_cpu_seconds_total" Counter Seconds
        &[], "User and system time that the process took";
    PROCESS_RESIDENT_MEMORY_BYTES "process_resident_memory_bytes" Gauge Bytes
        &[], "Memory of the process that is in RAM";
    PROCESS_THREADS "process_threads" Gauge Count
        &[], "Threads of the process";
    PROCESS_OPEN_FDS "process_open_fds" Gauge Count
        &[], "Open file descriptors";
    PROCESS_MAX_FDS "process_max_fds" Gauge Count
        &[], "Limit of open file descriptors";
    PROCESS_START_TIME_SECONDS "process_start_time_seconds" Gauge Seconds
        &[], "Start of the process, since the epoch";
}
