//! Section `relay` of the settings file.
//!
//! Must not know: layers, or what a setting is used for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;
use crate::config::types::{OnEndpointRemoved, Rebalance};

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
    /// The connections of an endpoint that was removed.
    pub on_endpoint_removed: OnEndpointRemoved,
    /// The connections of an endpoint that has more than its share.
    pub rebalance: Rebalance,
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
            on_endpoint_removed: OnEndpointRemoved::Keep,
            rebalance: Rebalance::Off,
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
