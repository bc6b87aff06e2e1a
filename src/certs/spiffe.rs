//! Workload identities: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
//!
//! Must not know: certificates, keys.

use std::fmt;

use super::CertsError;

/// A workload identity as Istio writes it into certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(String);

impl SpiffeId {
    /// Builds an identity. Each part is one non-empty path segment.
    pub fn new(
        trust_domain: &str,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, CertsError> {
        Self::parse(&format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"))
    }

    /// Reads an identity.
    pub fn parse(text: &str) -> Result<Self, CertsError> {
        match problem(text) {
            None => Ok(Self(text.to_owned())),
            Some(problem) => Err(CertsError::Identity { text: text.to_owned(), problem }),
        }
    }

    /// `cluster.local`.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.0.split('/').nth(2).unwrap_or_default()
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        // spiffe: "" trust-domain ns NAMESPACE sa ACCOUNT
        self.0.split('/').nth(4).unwrap_or_default()
    }

    /// The URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SPIFFE's own rules for the characters, and Istio's for the shape.
fn problem(text: &str) -> Option<&'static str> {
    let Some(rest) = text.strip_prefix("spiffe://") else {
        return Some("it must start with spiffe://");
    };
    if text.len() > 2048 {
        return Some("it is longer than 2048 bytes");
    }
    let parts: Vec<&str> = rest.split('/').collect();
    let [trust_domain, "ns", namespace, "sa", service_account] = parts[..] else {
        return Some("it must be spiffe://<trust domain>/ns/<namespace>/sa/<service account>");
    };
    let in_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    let in_path = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    if trust_domain.is_empty() || !trust_domain.bytes().all(in_domain) {
        return Some("a trust domain is lower-case letters, digits, '.', '-' and '_'");
    }
    let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(in_path);
    if !segment(namespace) || !segment(service_account) {
        return Some("namespace and service account are letters, digits, '.', '-' and '_'");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: bool) {
        assert_eq!(SpiffeId::parse(text).is_ok(), expected, "{text}");
    }

    #[test]
    fn only_istios_form_is_an_identity() {
        check("spiffe://cluster.local/ns/ns2/sa/bar", true);
        check("spiffe://td_1/ns/a/sa/B.c-d", true);
        check("spiffe://cluster.local/ns/ns2/sa/", false);
        check("spiffe://cluster.local/ns/ns2/sa/bar/", false);
        check("spiffe://cluster.local/ns/ns2", false);
        check("spiffe:///ns/ns2/sa/bar", false);
        check("spiffe://Cluster.local/ns/ns2/sa/bar", false);
        check("spiffe://cluster.local/ns/../sa/bar", false);
        check("spiffe://cluster.local/ns/ns2/sa/b%20r", false);
        check("https://cluster.local/ns/ns2/sa/bar", false);
    }

    #[test]
    fn a_built_identity_cannot_smuggle_a_segment() {
        assert!(SpiffeId::new("cluster.local", "ns2/sa/admin", "x").is_err());
        let id = SpiffeId::new("cluster.local", "ns2", "bar").unwrap();
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/ns2/sa/bar");
        assert_eq!(id.namespace(), "ns2");
    }
}
