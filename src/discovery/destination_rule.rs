//! Which DestinationRule holds for a service.
//!
//! Pure: Istio's order of namespaces, narrowest host and merging of rules for one host. Must not
//! know: what a rule's policy means.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;

use super::{Finding, Identity, Role, Visibility, finding::full_name, mesh::Mesh, policy};
use crate::{
    manifests::{
        Kind,
        kinds::{
            DestinationRule, Labels,
            destination_rule::{ClientTls, ClientTlsMode, Subset as WrittenSubset, TrafficPolicy},
        },
    },
    routing::{Host, HostPattern},
};

/// One rule, or several for one host merged.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// `namespace/name` of the oldest.
    pub(super) name: Arc<str>,
    pub(super) hosts: HostPattern,
    pub(super) policy: Option<Box<TrafficPolicy>>,
    pub(super) subsets: Vec<Subset>,
    visibility: Visibility,
    selector: Option<Labels>,
}

/// One subset of a rule.
#[derive(Clone, Debug)]
pub(super) struct Subset {
    /// Lower case, as it is compared.
    pub(super) name: Arc<str>,
    pub(super) labels: Labels,
    pub(super) policy: Option<Box<TrafficPolicy>>,
}

/// All rules that this gateway can see.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Of the gateway's own namespace; in the root namespace, only those private to it.
    own: Level,
    /// Exported to us, by their namespace.
    exported: HashMap<Box<str>, Level, RandomState>,
    root_namespace: Box<str>,
    built_in: Option<Rule>,
    pub(super) findings: Vec<Finding>,
}

/// The rules of one namespace.
#[derive(Debug, Default)]
struct Level {
    exact: HashMap<Host, Vec<Rule>, RandomState>,
    /// Narrowest first.
    wildcards: Vec<(HostPattern, Vec<Rule>)>,
}

impl Rules {
    /// Reads all rules, oldest first.
    pub(super) fn new<'a>(
        oldest_first: impl Iterator<Item = &'a DestinationRule>,
        identity: &Identity,
        mesh: &Mesh,
    ) -> Self {
        let mut rules = Self {
            root_namespace: mesh.root_namespace.clone(),
            built_in: built_in(identity),
            ..Self::default()
        };
        let own_is_root = *identity.namespace == *mesh.root_namespace;
        for written in oldest_first {
            policy::remarks(written, &mut rules.findings);
            let rule = Rule::new(written, (&identity.cluster_domain, mesh), &mut rules.findings);
            let namespace = &*written.meta.namespace;
            let for_us = rule.selector.as_ref().is_none_or(|s| identity.labels.matches(s));
            let private = rule.selector.is_some() || rule.visibility.private_to(namespace);
            if namespace == identity.namespace && for_us && (!own_is_root || private) {
                rules.own.add(rule.clone(), &mut rules.findings, written);
            }
            if !private && rule.visibility.visible_to(&identity.namespace) {
                let level = rules.exported.entry(namespace.into()).or_default();
                level.add(rule, &mut rules.findings, written);
            }
        }
        rules.own.sort();
        rules.exported.values_mut().for_each(Level::sort);
        // A rule may be on two levels.
        rules.findings.sort_unstable();
        rules.findings.dedup();
        rules
    }

    /// The rule for a service: the first namespace that has any; there, the narrowest host.
    pub(super) fn find(&self, host: &str, namespace: &str) -> Option<&Rule> {
        let exported = |namespace: &str| self.exported.get(namespace)?.find(host);
        self.own
            .find(host)
            .or_else(|| exported(namespace))
            .or_else(|| exported(&self.root_namespace))
            .or_else(|| self.built_in.as_ref().filter(|rule| rule.hosts.matches(host)))
    }
}

impl Rule {
    fn new(
        written: &DestinationRule,
        (domain, mesh): (&str, &Mesh),
        findings: &mut Vec<Finding>,
    ) -> Self {
        let DestinationRule { meta, spec } = written;
        let mut rule = Self {
            name: full_name(meta).into(),
            hosts: Self::hosts_of(written, domain),
            policy: spec.traffic_policy.clone(),
            subsets: Vec::new(),
            visibility: mesh.rule_visibility(&spec.export_to, &meta.namespace),
            selector: spec.workload_selector.as_ref().map(|s| s.match_labels.clone()),
        };
        for subset in &spec.subsets {
            if !rule.add_subset(subset.into()) {
                let message = format!("subset {} is there twice: the first is used", subset.name);
                findings.push(Finding::new(Kind::DestinationRule, meta, "subsets", message));
            }
        }
        rule
    }

    /// The hosts that a rule is about.
    pub(super) fn hosts_of(written: &DestinationRule, domain: &str) -> HostPattern {
        expand(&written.spec.host.0, &written.meta.namespace, domain)
    }

    /// Adds a subset of a new name; false for one that is there already.
    fn add_subset(&mut self, subset: Subset) -> bool {
        let new = self.subsets.iter().all(|known| known.name != subset.name);
        if new {
            self.subsets.push(subset);
        }
        new
    }

    /// The mode of [`Self::tls`].
    pub(super) fn tls_mode(&self, subset: Option<&Subset>, port: u16) -> Option<ClientTlsMode> {
        self.tls(subset, port).map(|tls| tls.mode)
    }

    /// What it says of TLS towards a port of a subset (`None`: the whole port).
    pub(super) fn tls(&self, subset: Option<&Subset>, port: u16) -> Option<&ClientTls> {
        let of_subset = subset.and_then(|subset| self.subset(&subset.name)?.policy.as_deref());
        let levels = of_subset.into_iter().chain(self.policy.as_deref());
        levels.into_iter().find_map(|policy| policy::tls(policy, port))
    }

    /// The subset of this name, in lower case.
    pub(super) fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| *subset.name == *name)
    }
}

impl From<&WrittenSubset> for Subset {
    fn from(written: &WrittenSubset) -> Self {
        Self {
            name: written.name.to_ascii_lowercase().into(),
            labels: written.labels.clone(),
            policy: written.traffic_policy.clone(),
        }
    }
}

impl Level {
    /// Adds a rule younger than those that are here: to one for the same host, visibility and
    /// workloads it adds its new subsets, and its policy if there is none.
    fn add(&mut self, rule: Rule, findings: &mut Vec<Finding>, written: &DestinationRule) {
        let same_host = match &rule.hosts {
            HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
            wildcard => {
                let known = self.wildcards.iter().position(|(hosts, _)| hosts == wildcard);
                let at = known.unwrap_or_else(|| {
                    self.wildcards.push((wildcard.clone(), Vec::new()));
                    self.wildcards.len() - 1
                });
                &mut self.wildcards[at].1
            }
        };
        let alike =
            |old: &&mut Rule| old.visibility == rule.visibility && old.selector == rule.selector;
        let Some(old) = same_host.iter_mut().find(alike) else {
            same_host.push(rule);
            return;
        };
        let mut note = |field, message| {
            findings.push(Finding::new(Kind::DestinationRule, &written.meta, field, message));
        };
        for subset in rule.subsets {
            let name = Arc::clone(&subset.name);
            if !old.add_subset(subset) {
                note("subsets", format!("subset {name}: that of {}, older, is used", old.name));
            }
        }
        match (&old.policy, rule.policy) {
            (None, policy) => old.policy = policy,
            (Some(_), Some(_)) => {
                note("trafficPolicy", format!("that of {}, older, is used", old.name));
            }
            (Some(_), None) => {}
        }
    }

    fn sort(&mut self) {
        self.wildcards.sort_by_key(|(hosts, _)| std::cmp::Reverse(hosts.specificity()));
    }

    fn find(&self, host: &str) -> Option<&Rule> {
        let wildcard = || self.wildcards.iter().find(|(hosts, _)| hosts.matches(host));
        let rules = self.exact.get(host).or_else(|| wildcard().map(|(_, rules)| rules))?;
        // A rule for selected workloads, which we are, goes before one for all.
        rules.iter().find(|rule| rule.selector.is_some()).or_else(|| rules.first())
    }
}

/// A short name is in the namespace of its rule; a name with a dot is a full one.
fn expand(hosts: &HostPattern, namespace: &str, domain: &str) -> HostPattern {
    match hosts {
        HostPattern::Exact(host) if !host.as_str().contains('.') => {
            Host::parse(&format!("{host}.{namespace}.svc.{domain}"))
                .map_or_else(|| hosts.clone(), HostPattern::Exact)
        }
        _ => hosts.clone(),
    }
}

/// What the seed's chart installs beside an egress gateway: clients speak mesh mutual TLS to
/// every host under the suffix. Any rule for a host replaces it.
fn built_in(identity: &Identity) -> Option<Rule> {
    let is_client = identity.role != Role::Ingress;
    let suffix = identity.rewrite_suffix.as_deref().filter(|_| is_client)?;
    let tls = ClientTls { mode: ClientTlsMode::IstioMutual, ..ClientTls::default() };
    Some(Rule {
        name: "built in".into(),
        hosts: HostPattern::parse(&format!("*.{suffix}"))?,
        policy: Some(TrafficPolicy { tls: Some(tls.into()), ..TrafficPolicy::default() }.into()),
        subsets: Vec::new(),
        visibility: Visibility::new(&[], ""),
        selector: None,
    })
}
