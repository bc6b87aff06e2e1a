//! Section `limits` of the settings file.
//!
//! Must not know: layers, or what a setting is used for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::net::cidr::Cidr;

/// Section `limits`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Live connections; 0 means what the descriptor limit allows.
    pub connections_max: usize,
    /// Connections without a whole ClientHello; 0 means three quarters of all.
    pub hellos_max: usize,
    /// Live connections of one source, under pressure; 0 means no limit.
    pub source_max: u32,
    /// Sources without that limit.
    pub trusted_sources: Vec<Cidr>,
    /// Of the cgroup's memory, from which on it is short; 0 means it is not watched.
    pub memory_percent: u8,
    /// Where cgroups are mounted.
    pub cgroup: PathBuf,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 0,
            hellos_max: 0,
            source_max: 0,
            trusted_sources: Vec::new(),
            memory_percent: 90,
            cgroup: "/sys/fs/cgroup".into(),
        }
    }
}
