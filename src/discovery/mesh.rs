//! What the mesh's own ConfigMap says, where it says something: defaults that hold for all objects.
//!
//! Pure. It is the ConfigMap `istio` of the root namespace that we are told of, or that of our
//! revision. Must not know: what is made of the defaults.

use std::{sync::Arc, time::Duration};

use super::{Identity, Visibility, finding::full_name, objects::Objects};
use crate::{
    manifests::kinds::{
        ConfigMap, ExportTo, ServiceEntry,
        destination_rule::{LocalitySetting, TcpKeepalive},
    },
    routing::HostPattern,
};

/// The label of a workload that says which control plane is its own.
const REVISION: &str = "istio.io/rev";

/// The defaults of the mesh: those of its ConfigMap, else those of our own settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mesh {
    /// `namespace/name` of the ConfigMap; `None`: there is none.
    pub(super) name: Option<Arc<str>>,
    pub(super) root_namespace: Box<str>,
    pub(super) connect_timeout: Duration,
    pub(super) keepalive: Option<TcpKeepalive>,
    pub(super) locality: Option<LocalitySetting>,
    /// Who sees Services and ServiceEntries that do not say; empty: everybody.
    services_to: Box<[ExportTo]>,
    /// The same of DestinationRules.
    rules_to: Box<[ExportTo]>,
    /// Hosts that other clusters do not call, and exceptions from them.
    cluster_local: Vec<(HostPattern, bool)>,
}

impl Mesh {
    /// Finds the mesh's ConfigMap, and fills in what it does not say.
    pub(super) fn new(maps: &Objects<ConfigMap>, identity: &Identity) -> Self {
        let settings = Self {
            root_namespace: identity.root_namespace.as_str().into(),
            connect_timeout: identity.connect_timeout,
            ..Self::default()
        };
        let Some(map) = find(maps, identity) else { return settings };
        let Some(mesh) = &map.mesh else { return settings };
        let local = mesh.service_settings.iter().flat_map(|setting| {
            let local = setting.settings.cluster_local;
            setting.hosts.iter().map(move |host| (host.0.clone(), local))
        });
        Self {
            name: Some(full_name(&map.meta).into()),
            root_namespace: mesh.root_namespace.clone().unwrap_or(settings.root_namespace),
            connect_timeout: mesh
                .connect_timeout
                .filter(|timeout| !timeout.is_zero())
                .unwrap_or(settings.connect_timeout),
            keepalive: mesh.tcp_keepalive,
            locality: mesh.locality_lb_setting.clone(),
            services_to: mesh.default_service_export_to.to_vec().into(),
            rules_to: mesh.default_destination_rule_export_to.to_vec().into(),
            cluster_local: local.collect(),
        }
    }

    /// Who sees a ServiceEntry.
    pub(super) fn entry_visibility(&self, entry: &ServiceEntry) -> Visibility {
        Visibility::or(&entry.spec.export_to, &self.services_to, &entry.meta.namespace)
    }

    /// Who sees a Service that does not say.
    pub(super) fn services_to(&self) -> &[ExportTo] {
        &self.services_to
    }

    /// Who sees a DestinationRule of a namespace that has this list.
    pub(super) fn rule_visibility(&self, list: &[ExportTo], namespace: &str) -> Visibility {
        Visibility::or(list, &self.rules_to, namespace)
    }

    /// True for a service that clusters call only in themselves; the narrowest entry decides.
    pub(super) fn is_cluster_local(&self, host: &str) -> bool {
        let fitting = self.cluster_local.iter().filter(|(hosts, _)| hosts.matches(host));
        fitting.max_by_key(|(hosts, _)| hosts.specificity()).is_some_and(|(_, local)| *local)
    }
}

fn find<'a>(maps: &'a Objects<ConfigMap>, identity: &Identity) -> Option<&'a Arc<ConfigMap>> {
    let at = |name: &str| maps.get(&identity.root_namespace, name);
    // That of the revision `default` has no ending.
    let revision = identity.labels.get(REVISION).filter(|revision| *revision != "default");
    revision.and_then(|revision| at(&format!("istio-{revision}"))).or_else(|| at("istio"))
}
