//! The key that a sidecar writes into the SNI: `outbound_.<port>_.<subset>_.<host>`.
//!
//! Total and free of allocation. Must not know: which keys exist. The grammar is Istio's
//! (`BuildDNSSrvSubsetKey`), read as strictly as Envoy compares: Istio's own parser accepts
//! `+8080` and `08080`, but Envoy's string comparison never matched them.

use std::fmt;

/// Port, subset and host of one endpoint set, borrowed from the server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubsetKey<'a> {
    /// The *service* port (Service `spec.ports[].port`), never the target port; 1 to 65535.
    pub port: u16,
    /// The DestinationRule subset; empty means all endpoints.
    pub subset: &'a str,
    /// The service's host, never empty; lower case when the server name was.
    pub host: &'a str,
}

impl<'a> SubsetKey<'a> {
    /// Reads a server name that is already lower case. `None` when it is not of the
    /// `outbound_.` form: another direction, fewer than four parts, or a port that is not plain
    /// decimal in 1..=65535 without sign or leading zero.
    ///
    /// The first three `_.` cut; a host may itself hold `_.`.
    #[must_use]
    pub fn parse(server_name: &'a str) -> Option<Self> {
        let rest = server_name.strip_prefix("outbound_.")?;
        let (port, rest) = rest.split_once("_.")?;
        let (subset, host) = rest.split_once("_.")?;
        if host.is_empty() {
            return None;
        }
        Some(Self { port: parse_port(port)?, subset, host })
    }
}

impl fmt::Display for SubsetKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outbound_.{}_.{}_.{}", self.port, self.subset, self.host)
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<(u16, &str, &str)>) {
        let parsed = SubsetKey::parse(name).map(|k| (k.port, k.subset, k.host));
        assert_eq!(parsed, expected, "{name}");
        if let Some(key) = SubsetKey::parse(name) {
            assert_eq!(key.to_string(), name);
        }
    }

    #[test]
    fn reads_the_outbound_form() {
        check("outbound_.8080_._.bar.ns2.global", Some((8080, "", "bar.ns2.global")));
        check("outbound_.8080_.v1_.bar.ns2.global", Some((8080, "v1", "bar.ns2.global")));
        check("outbound_.8080_.v1.2_.bar.ns2.global", Some((8080, "v1.2", "bar.ns2.global")));
        check("outbound_.1_._.a_.b", Some((1, "", "a_.b")));
        check("outbound_.65535_._.a", Some((65535, "", "a")));
    }

    #[test]
    fn refuses_everything_else() {
        for name in [
            "",
            "outbound_.",
            "outbound_.08080_._.bar.ns2.global",
            "outbound_.+8080_._.bar.ns2.global",
            "outbound_.-1_._.bar.ns2.global",
            "outbound_.0_._.bar.ns2.global",
            "outbound_.65536_._.bar.ns2.global",
            "outbound_.99999999999999999999_._.bar.ns2.global",
            "outbound_._._.bar.ns2.global",
            "outbound_.8080_.bar.ns2.global",
            "outbound_.8080_._.",
            "inbound_.8080_._.bar.ns2.global",
            "outbound|8080||bar.ns2.global",
            "bar.ns2.global",
        ] {
            check(name, None);
        }
    }
}
