//! Where in the API each kind is, and which part of it is followed.
//!
//! Must not know: how the API is asked.

use std::sync::Arc;

use super::Config;
use crate::manifests::Kind;

/// A kind, in one namespace or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) kind: Kind,
    /// For a Namespace: the only one that is followed.
    pub(super) namespace: Option<Arc<str>>,
}

/// What is followed of these kinds: everything, or what is in the namespaces. Nodes are in none, and
/// are followed all the same where we may. Of ConfigMaps only the mesh's own is asked for.
pub(super) fn scopes(kinds: &[Kind], config: &Config) -> Vec<Scope> {
    let mut scopes = Vec::new();
    for kind in kinds.iter().copied() {
        let namespaces = match kind {
            Kind::ConfigMap => &config.mesh_namespaces,
            _ => &config.namespaces,
        };
        if kind != Kind::ConfigMap && namespaces.is_empty() || kind == Kind::Node {
            scopes.push(Scope { kind, namespace: None });
            continue;
        }
        let each = namespaces.iter().map(|name| Scope { kind, namespace: Some((**name).into()) });
        scopes.extend(each);
    }
    scopes
}

impl Scope {
    /// The last part of the path: the kind in the plural.
    pub(super) fn plural(&self) -> &'static str {
        match self.kind {
            Kind::Service => "services",
            Kind::EndpointSlice => "endpointslices",
            Kind::Endpoints => "endpoints",
            Kind::Pod => "pods",
            Kind::Node => "nodes",
            Kind::Namespace => "namespaces",
            Kind::Gateway => "gateways",
            Kind::ServiceEntry => "serviceentries",
            Kind::DestinationRule => "destinationrules",
            Kind::WorkloadEntry => "workloadentries",
            Kind::PeerAuthentication => "peerauthentications",
            Kind::EnvoyFilter => "envoyfilters",
            Kind::ConfigMap => "configmaps",
        }
    }

    /// Its path in this version of the API, such as `/apis/discovery.k8s.io/v1/endpointslices`.
    pub(super) fn path(&self, api_version: &str) -> String {
        let root = group_path(api_version);
        match &self.namespace {
            Some(namespace) if self.kind.is_namespaced() => {
                format!("{root}/namespaces/{namespace}/{}", self.plural())
            }
            _ => format!("{root}/{}", self.plural()),
        }
    }

    /// What the API is to leave out, as a part of the query. A pod that has ended serves nobody.
    pub(super) fn selector(&self) -> String {
        match (self.kind, &self.namespace) {
            (Kind::Pod, _) => {
                "&fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed".to_owned()
            }
            (Kind::ConfigMap, _) => "&fieldSelector=metadata.name%3Distio".to_owned(),
            (Kind::Namespace, Some(name)) => format!("&fieldSelector=metadata.name%3D{name}"),
            _ => String::new(),
        }
    }

    /// The namespace that the objects have; a Namespace has none itself.
    pub(super) fn of_objects(&self) -> Option<Arc<str>> {
        self.namespace.clone().filter(|_| self.kind.is_namespaced())
    }

    /// True for kinds without which every route is right all the same, or nearly: where we may not
    /// read them nothing waits for that.
    pub(super) fn is_dispensable(&self) -> bool {
        use Kind as K;
        matches!(
            self.kind,
            K::Node | K::Namespace | K::Endpoints | K::EnvoyFilter | K::ConfigMap
        )
    }
}

/// `/api/v1`, or `/apis/networking.istio.io/v1`.
pub(super) fn group_path(api_version: &str) -> String {
    let root = if api_version.contains('/') { "/apis" } else { "/api" };
    format!("{root}/{api_version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, namespace: Option<&str>, api_version: &str, expected: &str) {
        let scope = Scope { kind, namespace: namespace.map(Into::into) };
        assert_eq!(scope.path(api_version), expected);
    }

    #[test]
    fn each_kind_has_its_path() {
        check(Kind::Service, None, "v1", "/api/v1/services");
        check(Kind::Pod, Some("ns2"), "v1", "/api/v1/namespaces/ns2/pods");
        let slices = "/apis/discovery.k8s.io/v1/endpointslices";
        check(Kind::EndpointSlice, None, "discovery.k8s.io/v1", slices);
        check(Kind::Namespace, Some("ns2"), "v1", "/api/v1/namespaces");
    }

    #[test]
    fn listed_namespaces_are_followed_one_by_one_and_nodes_as_a_whole() {
        let config = Config {
            namespaces: ["a", "b"].map(Into::into).into(),
            mesh_namespaces: ["m"].map(Into::into).into(),
            ..Config::default()
        };
        let scopes = scopes(&[Kind::Pod, Kind::Node, Kind::ConfigMap], &config);
        let of =
            |kind, namespace: Option<&str>| Scope { kind, namespace: namespace.map(Into::into) };
        let mesh = of(Kind::ConfigMap, Some("m"));
        let pods = [of(Kind::Pod, Some("a")), of(Kind::Pod, Some("b"))];
        let expected = pods.into_iter().chain([of(Kind::Node, None), mesh]).collect::<Vec<_>>();
        assert_eq!(scopes, expected);
    }
}
