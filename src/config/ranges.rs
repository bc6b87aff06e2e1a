//! Which values make sense: the range of each key, and keys that must agree.
//!
//! Must not know: which layer set a value.

use std::{ops::RangeInclusive, time::Duration};

use super::{Settings, file};
use crate::net::{KEEPALIVE_MAX, KEEPALIVE_PROBES_MAX};

/// A key whose value is of the right type and makes no sense.
#[derive(Debug, PartialEq)]
pub(super) struct Violation {
    /// The dotted key.
    pub key: &'static str,
    /// What would make sense.
    pub expected: String,
}

type Check = Result<(), Violation>;

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Finds the first value that makes no sense.
pub(super) fn check(settings: &Settings) -> Check {
    gateway(&settings.gateway)?;
    relay(&settings.relay)?;
    outlier(&settings.outlier_detection)?;
    dns(&settings.dns)?;
    sidecar(&settings.sidecar)?;
    resolver(&settings.resolver)?;
    manifests(&settings.manifests)?;
    duration("sniff.timeout", settings.sniff.timeout, MILLISECOND..=HOUR)?;
    // A ClientHello without extensions has some 50 bytes; 16 MiB is what its length field can say.
    number("sniff.bytes_max", settings.sniff.bytes_max, 64..=1 << 24)?;
    duration("connect.timeout", settings.connect.timeout, MILLISECOND..=HOUR)?;
    duration("connect.try_timeout", settings.connect.try_timeout, MILLISECOND..=HOUR)?;
    let first_flight = settings.first_flight.server_hello_timeout;
    duration("first_flight.server_hello_timeout", first_flight, Duration::ZERO..=HOUR)?;
    duration("drain.pause", settings.drain.pause, Duration::ZERO..=HOUR)?;
    duration("drain.deadline", settings.drain.deadline, Duration::ZERO..=YEAR)?;
    duration("drain.idle", settings.drain.idle, MILLISECOND..=HOUR)?;
    duration("drain.late_idle", settings.drain.late_idle, MILLISECOND..=HOUR)?;
    let percent = (0..=100).contains(&settings.limits.memory_percent);
    require("limits.memory_percent", percent, "expected 0 to 100")?;
    let path = settings.access_log.path.as_os_str();
    require("access_log.path", !path.is_empty(), "expected a file")?;
    crate::telemetry::check_level(&settings.log.level)
        .map_err(|error| Violation { key: "log.level", expected: error.to_string() })
}

fn manifests(manifests: &file::Manifests) -> Check {
    name("manifests.root_namespace", &manifests.root_namespace)?;
    let namespaces = &manifests.kubernetes.namespaces;
    namespaces.iter().try_for_each(|each| name("manifests.kubernetes.namespaces", each))
}

fn gateway(gateway: &file::Gateway) -> Check {
    listen("gateway.listen", &gateway.listen)?;
    number("gateway.workers", gateway.workers, 0..=1024)?;
    name("gateway.namespace", &gateway.namespace)?;
    name("gateway.cluster_domain", &gateway.cluster_domain)?;
    if !gateway.rewrite_suffix.is_empty() {
        name("gateway.rewrite_suffix", &gateway.rewrite_suffix)?;
    }
    let fits = |protocol: &String| (1..=255).contains(&protocol.len());
    let alpn = gateway.alpn.iter().all(fits);
    require("gateway.alpn", alpn, "expected protocol names of 1 to 255 bytes")
}

fn dns(dns: &file::Dns) -> Check {
    listen("dns.listen", &dns.listen)?;
    require("dns.suffixes", !dns.suffixes.is_empty(), "expected at least one suffix")?;
    dns.suffixes.iter().try_for_each(|suffix| name("dns.suffixes", suffix))?;
    duration("dns.ttl", dns.ttl, Duration::ZERO..=HOUR)?;
    require("dns.ttl", dns.ttl.subsec_nanos() == 0, "DNS counts it in whole seconds")?;
    number("dns.tcp_connections_max", dns.tcp_connections_max, 1..=1 << 16)?;
    duration("dns.tcp_timeout", dns.tcp_timeout, MILLISECOND..=HOUR)
}

fn sidecar(sidecar: &file::Sidecar) -> Check {
    for text in &sidecar.inbound {
        let parsed = text.parse::<crate::sidecar::Inbound>();
        parsed.map_err(|expected| Violation { key: "sidecar.inbound", expected })?;
    }
    for text in &sidecar.subsets {
        let parsed = file::Sidecar::subset(text).is_some();
        let expected = format!("{text:?} is not HOST=SUBSET, such as bar.ns2.global=v1");
        require("sidecar.subsets", parsed, &expected)?;
    }
    for text in &sidecar.allow_principals {
        let parsed = crate::certs::NamePattern::parse(text).is_some();
        let expected = format!("{text:?} is neither a name nor the beginning of one and a `*`");
        require("sidecar.allow_principals", parsed, &expected)?;
        let is_identity = text == "*" || text.starts_with("spiffe://");
        let expected = format!(
            "{text:?} is no identity: one is spiffe://cluster.local/ns/ns1/sa/a, or its beginning \
             and a `*`"
        );
        require("sidecar.allow_principals", is_identity, &expected)?;
    }
    if !sidecar.namespace.is_empty() {
        name("sidecar.namespace", &sidecar.namespace)?;
    }
    let times = [
        ("sidecar.connect_timeout", sidecar.connect_timeout),
        ("sidecar.try_timeout", sidecar.try_timeout),
        ("sidecar.handshake_timeout", sidecar.handshake_timeout),
    ];
    for (key, value) in times {
        duration(key, value, MILLISECOND..=HOUR)?;
    }
    number("sidecar.connections_max", sidecar.connections_max, 1..=1 << 20)?;
    duration("sidecar.drain", sidecar.drain, Duration::ZERO..=HOUR)
}

fn resolver(resolver: &file::Resolver) -> Check {
    duration("resolver.ttl_min", resolver.ttl_min, MILLISECOND..=HOUR)?;
    duration("resolver.ttl_max", resolver.ttl_max, resolver.ttl_min..=YEAR)?;
    duration("resolver.timeout", resolver.timeout, MILLISECOND..=HOUR)?;
    duration("resolver.start_wait", resolver.start_wait, Duration::ZERO..=HOUR)
}

fn listen(key: &'static str, listen: &[std::net::SocketAddr]) -> Check {
    require(key, !listen.is_empty(), "expected at least one address")?;
    let twice = |(i, address): (usize, &std::net::SocketAddr)| {
        address.port() != 0 && listen[..i].contains(address)
    };
    let once = !listen.iter().enumerate().any(twice);
    require(key, once, "an address stands there twice")
}

fn relay(relay: &file::Relay) -> Check {
    number("relay.pipes_max", relay.pipes_max, 0..=1 << 20)?;
    duration("relay.idle_timeout", relay.idle_timeout, Duration::ZERO..=YEAR)?;
    duration("relay.max_duration", relay.max_duration, Duration::ZERO..=YEAR)?;
    let keepalive = &relay.keepalive;
    for (key, value) in
        [("relay.keepalive.time", keepalive.time), ("relay.keepalive.interval", keepalive.interval)]
    {
        duration(key, value, Duration::from_secs(1)..=KEEPALIVE_MAX)?;
        require(key, value.subsec_nanos() == 0, "the kernel counts it in whole seconds")?;
    }
    let probes = (1..=KEEPALIVE_PROBES_MAX).contains(&keepalive.probes);
    require("relay.keepalive.probes", probes, "expected 1 to 127")?;
    duration("relay.vanished_after", relay.vanished_after, MILLISECOND..=YEAR)?;
    duration("relay.abort_linger", relay.abort_linger, Duration::ZERO..=HOUR)
}

fn outlier(outlier: &file::OutlierDetection) -> Check {
    let base = outlier.base_ejection_time;
    duration("outlier_detection.base_ejection_time", base, MILLISECOND..=HOUR)?;
    duration("outlier_detection.max_ejection_time", outlier.max_ejection_time, base..=24 * HOUR)?;
    duration("outlier_detection.interval", outlier.interval, MILLISECOND..=HOUR)?;
    let check = outlier.check_interval;
    let expected = "expected 0s, or 1s to 1day";
    let fits = check.is_zero() || (Duration::from_secs(1)..=24 * HOUR).contains(&check);
    require("outlier_detection.check_interval", fits, expected)?;
    for (key, percent) in [
        ("outlier_detection.max_ejection_percent", outlier.max_ejection_percent),
        ("outlier_detection.min_health_percent", outlier.min_health_percent),
    ] {
        number(key, percent.into(), 0..=100)?;
    }
    Ok(())
}

fn require(key: &'static str, holds: bool, expected: &str) -> Check {
    if holds { Ok(()) } else { Err(Violation { key, expected: expected.to_owned() }) }
}

fn number(key: &'static str, value: usize, range: RangeInclusive<usize>) -> Check {
    require(key, range.contains(&value), &format!("expected {} to {}", range.start(), range.end()))
}

fn duration(key: &'static str, value: Duration, range: RangeInclusive<Duration>) -> Check {
    let print = humantime_serde::re::humantime::format_duration;
    let expected = format!("expected {} to {}", print(*range.start()), print(*range.end()));
    require(key, range.contains(&value), &expected)
}

/// A DNS name of one or more labels, lower case as hosts are compared, without dots at its ends.
fn name(key: &'static str, value: &str) -> Check {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
    };
    let valid = value.len() <= 253 && value.split('.').all(label);
    require(key, valid, "expected lower-case letters, digits, - and _, in parts joined by dots")
}
