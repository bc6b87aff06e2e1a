//! Host names of services, and the patterns that a Gateway server lists.
//!
//! Must not know: namespaces' contents, DNS. A [`Host`] is compared byte for byte after it was
//! folded to lower case once; it is never a pattern, so `bar.ns2` cannot match `barxns2`.

use std::{borrow::Borrow, fmt, sync::Arc};

/// A service's host name: lower case ASCII letters, digits, `-`, `_` and `.`, 1 to 253 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

impl Host {
    /// Folds `text` to lower case. `None` when it is empty, longer than 253 bytes, has an empty
    /// label or a byte outside the set above (a leading `*.` too: a wildcard is not a host).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_host(text).then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a map keyed by hosts be searched with a name from the network.
impl Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_host(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    (1..=253).contains(&text.len())
        && text.bytes().all(allowed)
        && text.split('.').all(|label| !label.is_empty())
}

/// A pattern from a Gateway's `servers[].hosts`, or the host of a DestinationRule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `*`: every host.
    Any,
    /// `*.global`: every host that ends in `.global`; holds `.global`, with the dot.
    Suffix(Box<str>),
    /// One host.
    Exact(Host),
}

impl HostPattern {
    /// Reads `*`, `*.suffix` or a host. `None` for anything else: Istio refuses partial wildcards
    /// such as `*foo.global` too.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => is_host(suffix)
                .then(|| Self::Suffix(format!(".{}", suffix.to_ascii_lowercase()).into())),
            None => Host::parse(text).map(Self::Exact),
        }
    }

    /// True when `host`, in lower case, is covered.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::Exact(exact) => exact.as_str() == host,
        }
    }

    /// How narrow the pattern is: longer is narrower, and an exact host is narrower than any
    /// wildcard. Istio picks the narrowest DestinationRule.
    #[must_use]
    pub fn specificity(&self) -> usize {
        match self {
            Self::Any => 0,
            Self::Suffix(suffix) => suffix.len(),
            Self::Exact(_) => usize::MAX,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Exact(host) => host.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, host: &str, expected: bool) {
        let parsed = HostPattern::parse(pattern).expect("a pattern");
        assert_eq!(parsed.matches(host), expected, "{pattern} {host}");
        assert_eq!(parsed.to_string(), pattern.to_ascii_lowercase());
    }

    #[test]
    fn a_pattern_covers_what_istio_says_it_covers() {
        check("*", "a", true);
        check("*.global", "bar.ns2.global", true);
        check("*.global", "a.b.c.global", true);
        check("*.GLOBAL", "bar.ns2.global", true);
        check("*.global", "global", false);
        check("*.global", ".global", false);
        check("*.global", "bar.ns2.global.evil.com", false);
        check("*.global", "barxglobal", false);
        check("bar.ns2.global", "bar.ns2.global", true);
        check("bar.ns2.global", "barxns2.global", false);
    }

    #[test]
    fn a_partial_wildcard_is_not_a_pattern() {
        for text in ["", "*foo.global", "a.*.b", "*.", "*.*.a", "a..b", ".a", "a.", "a b"] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }
}
