//! Section `limits` of the settings file.
//!
//! Must not know: layers, or what a setting is used for.

use serde::{Deserialize, Serialize};

/// Section `limits`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Live connections; 0 means what the descriptor limit allows.
    pub connections_max: usize,
}
