//! The values that settings take where a number, a text or a duration is too wide.
//!
//! Must not know: which key holds them.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::gateway::NamePattern;
pub use crate::telemetry::Format as LogFormat;

/// Which services a gateway serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The services of its own cluster.
    Ingress,
    /// Only ServiceEntries.
    Egress,
}

/// Which release's rule reads the requested network view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkView {
    /// Without a view only endpoints without a network; with one only those named.
    #[serde(rename = "istio-1.4")]
    Istio14,
    /// Endpoints without a network always; without a view all.
    #[serde(rename = "istio-1.8")]
    Istio18,
}

/// What becomes of the connections of an endpoint that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnEndpointRemoved {
    /// They go on.
    Keep,
    /// They end at quiet moments, and are reset after the time of a drain.
    Drain,
    /// They are reset at once.
    Reset,
}

/// Whether connections are ended so that their clients come to endpoints with fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rebalance {
    /// Never.
    Off,
    /// At quiet moments.
    Quiet,
}

/// What a rule about sources does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleAction {
    /// Lets through.
    Allow,
    /// Refuses.
    Deny,
}

/// A host, or `*.` and what hosts end in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub NamePattern, String);

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.1)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match NamePattern::parse(&text) {
            Some(pattern) => Ok(Self(pattern, text)),
            None => Err(D::Error::custom(format!(
                "{text:?} is not a host; expected such as bar.ns2.global or *.ns2.global"
            ))),
        }
    }
}

/// The form of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// Istio's default line.
    Text,
    /// Istio's JSON keys.
    Json,
    /// No access log.
    Off,
}

/// An address to listen on, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Closed.
    Off,
    /// Open on this address; port 0 takes any free one.
    At(SocketAddr),
}

impl Listen {
    /// The address, unless off.
    #[must_use]
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => address(text).map(Self::At).map_err(|error| format!("{error}, or off")),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Reads one address; the message says what one looks like, which std's does not.
///
/// # Errors
/// When the text is not `ip:port`.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an address; expected IP:PORT such as 0.0.0.0:15443 or [::]:15443")
    })
}

/// Deserializes a list of addresses.
pub(super) fn addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| address(text).map_err(D::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_address_is_printed_as_it_is_read() {
        for text in ["off", "127.0.0.1:15000", "[::]:15021", "[::1]:0"] {
            assert_eq!(text.parse::<Listen>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_wrong_address_is_answered_with_an_example() {
        for text in ["", "15000", "localhost:15000", "OFF", "::1:15000:", "[::]"] {
            let error = text.parse::<Listen>().expect_err(text);
            assert!(error.contains("IP:PORT") && error.ends_with("or off"), "{error}");
        }
    }
}
