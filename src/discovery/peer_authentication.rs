//! Which endpoints a PeerAuthentication takes mutual TLS from.
//!
//! Pure. Istio's levels: the workload's policy for the target port, the workload's, the
//! namespace's, the mesh's; the first that is set decides, and of several on one level the oldest.
//! Must not know: pods, services.

use std::{collections::HashMap, sync::Arc};

use super::finding::full_name;
use crate::manifests::kinds::{
    Labels, PeerAuthentication,
    peer_authentication::{MtlsMode, PortModes},
};

/// All PeerAuthentications, by level.
#[derive(Debug, Default)]
pub(super) struct PeerRules {
    mesh: Option<PeerRule>,
    namespaces: HashMap<Box<str>, PeerRule>,
    /// Oldest first.
    workloads: HashMap<Box<str>, Vec<(Labels, PeerRule)>>,
}

#[derive(Debug)]
struct PeerRule {
    name: Arc<str>,
    mode: MtlsMode,
    ports: PortModes,
}

impl PeerRules {
    /// Reads the policies, oldest first.
    pub(super) fn new<'a>(
        oldest_first: impl Iterator<Item = &'a PeerAuthentication>,
        root_namespace: &str,
    ) -> Self {
        let mut rules = Self::default();
        for policy in oldest_first {
            let namespace = &*policy.meta.namespace;
            let rule = PeerRule {
                name: full_name(&policy.meta).into(),
                mode: policy.spec.mtls.map(|mtls| mtls.mode).unwrap_or_default(),
                ports: policy.spec.port_level_mtls.clone(),
            };
            let in_root = namespace == root_namespace;
            let selector = policy.spec.selector.as_ref().map(|selector| &selector.match_labels);
            match selector.filter(|labels| !labels.is_empty()) {
                None if in_root => _ = rules.mesh.get_or_insert(rule),
                None => _ = rules.namespaces.entry(namespace.into()).or_insert(rule),
                // As in Istio: a selector in the root namespace selects nothing.
                Some(_) if in_root => {}
                Some(selector) => {
                    let workloads = rules.workloads.entry(namespace.into()).or_default();
                    workloads.push((selector.clone(), rule));
                }
            }
        }
        rules
    }

    /// The policy that takes mutual TLS from a workload's port.
    pub(super) fn disabled_by(
        &self,
        namespace: &str,
        labels: &Labels,
        port: u16,
    ) -> Option<Arc<str>> {
        let selecting = |rules: &'_ &Vec<(Labels, PeerRule)>| {
            rules.iter().position(|(selector, _)| labels.matches(selector))
        };
        let rules = self.workloads.get(namespace);
        let workload = rules.and_then(|rules| Some(&rules[selecting(&rules)?].1));
        let set = |mode: MtlsMode| mode != MtlsMode::Unset;
        let on_port = workload.and_then(|rule| {
            let mode = rule.ports.get(port).filter(|mode| set(*mode))?;
            Some((rule, mode))
        });
        let levels = [workload, self.namespaces.get(namespace), self.mesh.as_ref()];
        let whole = || levels.into_iter().flatten().find(|rule| set(rule.mode));
        let (rule, mode) = on_port.or_else(|| whole().map(|rule| (rule, rule.mode)))?;
        (mode == MtlsMode::Disable).then(|| Arc::clone(&rule.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICIES: &[&str] = &[
        "{metadata: {name: mesh, namespace: root}, spec: {mtls: {mode: DISABLE}}}",
        "{metadata: {name: late, namespace: root}, spec: {mtls: {mode: STRICT}}}",
        "{metadata: {name: strict, namespace: a}, spec: {mtls: {mode: STRICT}}}",
        "{metadata: {name: unset, namespace: b}, spec: {mtls: {mode: UNSET}}}",
        "{metadata: {name: off, namespace: c}, spec: {mtls: {mode: DISABLE}}}",
        "{metadata: {name: web, namespace: a}, spec: {selector: {matchLabels: {app: web}}, \
         portLevelMtls: {9090: {mode: DISABLE}, '80': {mode: UNSET}}}}",
        "{metadata: {name: web, namespace: c}, spec: {selector: {matchLabels: {app: web}}, \
         mtls: {mode: PERMISSIVE}, portLevelMtls: {9090: {mode: DISABLE}}}}",
        "{metadata: {name: nobody, namespace: root}, spec: {selector: {matchLabels: {app: x}}, \
         mtls: {mode: DISABLE}}}",
    ];

    fn check(namespace: &str, app: &str, port: u16, expected: Option<&str>) {
        let read = |yaml: &&str| serde_norway::from_str(yaml).expect("a policy");
        let policies: Vec<PeerAuthentication> = POLICIES.iter().map(read).collect();
        let rules = PeerRules::new(policies.iter(), "root");
        let labels = [("app", app)].into_iter().collect();
        let found = rules.disabled_by(namespace, &labels, port);
        assert_eq!(found.as_deref(), expected, "{namespace} {app} {port}");
    }

    #[test]
    fn the_narrowest_level_that_is_set_decides() {
        check("elsewhere", "web", 80, Some("root/mesh"));
        check("a", "other", 80, None);
        check("b", "other", 80, Some("root/mesh"));
        check("c", "other", 80, Some("c/off"));
        check("c", "web", 80, None);
        check("a", "x", 80, None);
    }

    #[test]
    fn a_port_of_a_workload_goes_before_everything_and_is_the_target_port() {
        check("a", "web", 9090, Some("a/web"));
        check("a", "web", 80, None);
        check("c", "web", 9090, Some("c/web"));
        check("a", "other", 9090, None);
    }
}
