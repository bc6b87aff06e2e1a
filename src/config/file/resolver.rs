//! Section `resolver`: how host names of endpoints are looked up.
//!
//! Must not know: which names there are.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::resolver;

/// Section `resolver`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resolver {
    /// Whom to ask; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// An answer is used at least this long.
    #[serde(with = "humantime_serde")]
    pub ttl_min: Duration,
    /// And at most this long.
    #[serde(with = "humantime_serde")]
    pub ttl_max: Duration,
    /// Patience with one server for one question.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long a start waits for the first answers.
    #[serde(with = "humantime_serde")]
    pub start_wait: Duration,
}

impl From<&Resolver> for resolver::Config {
    fn from(settings: &Resolver) -> Self {
        let Resolver { servers, ttl_min, ttl_max, timeout, start_wait: _ } = settings.clone();
        Self { servers, ttl_min, ttl_max, timeout }
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            ttl_min: Duration::from_secs(5),
            ttl_max: Duration::from_secs(300),
            timeout: Duration::from_secs(2),
            start_wait: Duration::from_secs(5),
        }
    }
}
