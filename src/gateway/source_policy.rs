//! Who may ask for which name, by source address: rules of the operator, in order.
//!
//! The first rule that fits decides; where none fits, the connection goes on. A rule for trying is
//! counted and decides nothing. The address is the socket's or, from a trusted proxy, the one that
//! its header names; behind a NAT it is the NAT's. Pure. Must not know: certificates, which say
//! more and are not seen here.

use std::net::IpAddr;

use crate::net::cidr::Cidr;

/// One rule.
#[derive(Clone, Debug)]
pub struct SourceRule {
    /// Whether what fits is refused or let through.
    pub action: SourceAction,
    /// Fits a connection from any of these; from anywhere when empty.
    pub sources: Vec<Cidr>,
    /// Fits any of these; every name when empty.
    pub names: Vec<NamePattern>,
    /// Only counted.
    pub dry_run: bool,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceAction {
    /// Lets through.
    Allow,
    /// Refuses.
    Deny,
}

/// A host, or `*.` and a suffix that is not the whole host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// This host.
    Exact(Box<str>),
    /// Every host that ends so; with its leading dot.
    Under(Box<str>),
}

impl NamePattern {
    /// Reads a pattern; `None` when it is neither a host nor `*.` and a host.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let host = text.strip_prefix("*.").unwrap_or(&text);
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        if !host.split('.').all(label) {
            return None;
        }
        Some(match text.strip_prefix('*') {
            Some(suffix) => Self::Under(suffix.into()),
            None => Self::Exact(host.into()),
        })
    }

    fn fits(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Under(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// It is refused.
    pub denied: bool,
    /// A rule for trying would have denied it.
    pub dry_denied: bool,
    /// The index of the rule that decided; `None`: none fits.
    pub rule: Option<usize>,
}

/// Asks the rules. `hosts` are the names of one service, as asked and as found: a rule that knows
/// it by either fits, so that no other spelling goes round it.
#[must_use]
pub fn judge(rules: &[SourceRule], source: IpAddr, hosts: [&str; 2]) -> Judgement {
    let fits = |(_, rule): &(usize, &SourceRule)| {
        let source = rule.sources.is_empty() || rule.sources.iter().any(|r| r.contains(source));
        let named = |pattern: &NamePattern| hosts.iter().any(|host| pattern.fits(host));
        source && (rule.names.is_empty() || rule.names.iter().any(named))
    };
    let mut dry_denied = false;
    for (index, rule) in rules.iter().enumerate().filter(fits) {
        match (rule.action, rule.dry_run) {
            (SourceAction::Deny, true) => dry_denied = true,
            (SourceAction::Allow, true) => {}
            (action, false) => {
                let denied = action == SourceAction::Deny;
                return Judgement { denied, dry_denied, rule: Some(index) };
            }
        }
    }
    Judgement { denied: false, dry_denied, rule: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAR: [&str; 2] = ["bar.ns2.global", "bar.ns2.svc.cluster.local"];

    fn rule(action: SourceAction, sources: &[&str], names: &[&str], dry_run: bool) -> SourceRule {
        SourceRule {
            action,
            sources: sources.iter().map(|s| s.parse().expect("a range")).collect(),
            names: names.iter().map(|n| NamePattern::parse(n).expect("a pattern")).collect(),
            dry_run,
        }
    }

    fn check(rules: &[SourceRule], source: &str, expected: (bool, bool)) {
        let judged = judge(rules, source.parse().expect("an address"), BAR);
        assert_eq!((judged.denied, judged.dry_denied), expected, "{source} under {rules:?}");
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        use SourceAction::{Allow, Deny};
        let rules = [
            rule(Allow, &["10.1.0.0/16"], &["*.ns2.global"], false),
            rule(Deny, &[], &["bar.ns2.global"], false),
        ];
        check(&rules, "10.1.2.3", (false, false));
        check(&rules, "::ffff:10.1.2.3", (false, false));
        check(&rules, "10.2.2.3", (true, false));
        check(&[], "10.2.2.3", (false, false));
        check(&rules[..1], "10.2.2.3", (false, false));
    }

    #[test]
    fn a_service_is_known_by_each_of_its_names() {
        for name in ["bar.ns2.global", "BAR.ns2.svc.cluster.local", "*.svc.cluster.local"] {
            check(&[rule(SourceAction::Deny, &[], &[name], false)], "10.1.1.1", (true, false));
        }
        for name in ["ns2.global", "*.bar.ns2.global", "*.ns3.global", "xbar.ns2.global"] {
            check(&[rule(SourceAction::Deny, &[], &[name], false)], "10.1.1.1", (false, false));
        }
    }

    #[test]
    fn a_rule_for_trying_is_counted_and_decides_nothing() {
        use SourceAction::{Allow, Deny};
        let tried = rule(Deny, &[], &[], true);
        check(std::slice::from_ref(&tried), "10.1.1.1", (false, true));
        check(&[tried.clone(), rule(Deny, &[], &[], false)], "10.1.1.1", (true, true));
        check(&[rule(Allow, &[], &[], true), tried], "10.1.1.1", (false, true));
    }

    #[test]
    fn a_pattern_is_a_host_or_a_suffix() {
        for text in ["", "*", "*.", "a..b", ".a", "a.*", "*a.b", "a b"] {
            assert_eq!(NamePattern::parse(text), None, "{text}");
        }
    }
}
