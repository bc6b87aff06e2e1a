//! Endpoint sets in the two forms that Envoy's `/clusters` has, for the scripts that read them.
//!
//! Must not know: where the sets come from. What we do not count is left out, not shown as zero.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Views;
use crate::routing::{Endpoint, EndpointSet, Place};

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
        let endpoints = set.endpoints().iter().enumerate();
        let hosts: Vec<_> = endpoints.map(|(i, e)| host_status(e, set.place(i))).collect();
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
    for (index, endpoint) in set.endpoints().iter().enumerate() {
        let place = set.place(index);
        let ejected = endpoint.state.ejection().is_some();
        let health = if ejected { "/failed_outlier_check" } else { "healthy" };
        let of = format!("{name}::{}", endpoint.address);
        writeln!(text, "{of}::cx_active::{}", endpoint.state.connections())?;
        writeln!(text, "{of}::hostname::{}", endpoint.instance)?;
        writeln!(text, "{of}::health_flags::{health}")?;
        writeln!(text, "{of}::weight::{}", place.weight)?;
        writeln!(text, "{of}::region::{}", endpoint.locality.region)?;
        writeln!(text, "{of}::zone::{}", endpoint.locality.zone)?;
        writeln!(text, "{of}::sub_zone::{}", endpoint.locality.subzone)?;
        writeln!(text, "{of}::priority::{}", place.tier)?;
    }
    Ok(())
}

fn host_status(endpoint: &Endpoint, place: Place) -> Value {
    let mut health = json!({"eds_health_status": "HEALTHY"});
    if endpoint.state.ejection().is_some() {
        // As in protobuf's JSON, what is false is not there.
        health["failed_outlier_check"] = Value::Bool(true);
    }
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
        "health_status": health,
        "weight": place.weight,
        "priority": place.tier,
        "hostname": &*endpoint.instance,
        "locality": {
            "region": &*endpoint.locality.region,
            "zone": &*endpoint.locality.zone,
            "sub_zone": &*endpoint.locality.subzone,
        },
    })
}
