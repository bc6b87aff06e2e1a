//! Section `outlier_detection`: when an endpoint that fails is left alone, and for how long.
//!
//! Must not know: how failures are counted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;

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
    /// Rest between two rounds of asking each endpoint; zero means none is asked.
    #[serde(with = "humantime_serde")]
    pub check_interval: Duration,
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
            check_interval: Duration::ZERO,
        }
    }
}
