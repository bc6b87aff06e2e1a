//! Endpoint sets in the two forms that Envoy's `/clusters` has, for the scripts that read them.
//!
//! Must not know: where the sets come from. What we do not count is left out, not shown as zero.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Views;
use crate::routing::{Endpoint, EndpointSet};

/// One fact a line: `cluster::address::fact::value`.
pub(super) fn text(views: &dyn Views) -> String {
    let mut text = String::new();
    views.clusters(&mut |name, set| {
        // Writing to a String cannot fail.
        let _ = write_set(&mut text, name, set);
    });
    text
}

/// Envoy's `cluster_statuses`; as in protobuf's JSON, 64-bit numbers are texts.
pub(super) fn json(views: &dyn Views) -> Value {
    let mut statuses = Vec::new();
    views.clusters(&mut |name, set| {
        let hosts: Vec<_> = set.endpoints().iter().map(|endpoint| host_status(endpoint)).collect();
        statuses.push(json!({"name": name, "added_via_api": true, "host_statuses": hosts}));
    });
    json!({ "cluster_statuses": statuses })
}

fn write_set(text: &mut String, name: &str, set: &EndpointSet) -> std::fmt::Result {
    writeln!(text, "{name}::observability_name::{name}")?;
    // Envoy shows its largest number where nothing is limited.
    let limit = set.policy().max_connections.unwrap_or(u32::MAX);
    writeln!(text, "{name}::default_priority::max_connections::{limit}")?;
    writeln!(text, "{name}::added_via_api::true")?;
    for endpoint in set.endpoints() {
        let of = format!("{name}::{}", endpoint.address);
        writeln!(text, "{of}::cx_active::{}", endpoint.state.connections())?;
        writeln!(text, "{of}::hostname::{}", endpoint.instance)?;
        writeln!(text, "{of}::health_flags::healthy")?;
        writeln!(text, "{of}::weight::{}", endpoint.weight)?;
        writeln!(text, "{of}::region::{}", endpoint.locality.region)?;
        writeln!(text, "{of}::zone::{}", endpoint.locality.zone)?;
        writeln!(text, "{of}::sub_zone::{}", endpoint.locality.subzone)?;
    }
    Ok(())
}

fn host_status(endpoint: &Endpoint) -> Value {
    json!({
        "address": {"socket_address": {
            "address": endpoint.address.ip().to_string(),
            "port_value": endpoint.address.port(),
        }},
        "stats": [{
            "type": "GAUGE",
            "name": "cx_active",
            "value": endpoint.state.connections().to_string(),
        }],
        "health_status": {"eds_health_status": "HEALTHY"},
        "weight": endpoint.weight,
        "hostname": &*endpoint.instance,
        "locality": {
            "region": &*endpoint.locality.region,
            "zone": &*endpoint.locality.zone,
            "sub_zone": &*endpoint.locality.subzone,
        },
    })
}
