//! Where in the API each kind is, and which part of it is followed.
//!
//! Must not know: how the API is asked.

use super::Config;
use crate::manifests::{Kind, store::Part};

/// What is followed of these kinds: everything, or what is in the namespaces. Nodes are in none, and
/// are followed all the same where we may. Of ConfigMaps only the mesh's own is asked for.
pub(super) fn scopes(kinds: &[Kind], config: &Config) -> Vec<Part> {
    let mut scopes = Vec::new();
    for kind in kinds.iter().copied() {
        let mut scope = |namespace: Option<&str>, name: Option<&str>| {
            let (namespace, name) = (namespace.map(Into::into), name.map(Into::into));
            scopes.push(Part { kind, namespace, name });
        };
        match kind {
            Kind::ConfigMap => {
                let mesh = config.mesh.iter();
                mesh.for_each(|(namespace, name)| scope(Some(namespace), Some(name)));
            }
            Kind::Node => scope(None, None),
            _ if config.namespaces.is_empty() => scope(None, None),
            Kind::Namespace => config.namespaces.iter().for_each(|name| scope(None, Some(name))),
            _ => config.namespaces.iter().for_each(|name| scope(Some(name), None)),
        }
    }
    scopes
}

/// Where a part is in the API.
impl Part {
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
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.plural()),
            None => format!("{root}/{}", self.plural()),
        }
    }

    /// What the API is to leave out, as a part of the query. A pod that has ended serves nobody.
    pub(super) fn selector(&self) -> String {
        match (self.kind, &self.name) {
            (_, Some(name)) => format!("&fieldSelector=metadata.name%3D{name}"),
            (Kind::Pod, None) => {
                "&fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed".to_owned()
            }
            (_, None) => String::new(),
        }
    }

    /// True for kinds without which every route is right all the same, or nearly: where we may not
    /// read them nothing waits for that.
    pub(super) fn is_dispensable(&self) -> bool {
        use Kind as K;
        matches!(self.kind, K::Node | K::Namespace | K::Endpoints | K::EnvoyFilter | K::ConfigMap)
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
        let scope = Part { kind, namespace: namespace.map(Into::into), name: None };
        assert_eq!(scope.path(api_version), expected);
    }

    #[test]
    fn each_kind_has_its_path() {
        check(Kind::Service, None, "v1", "/api/v1/services");
        check(Kind::Pod, Some("ns2"), "v1", "/api/v1/namespaces/ns2/pods");
        let slices = "/apis/discovery.k8s.io/v1/endpointslices";
        check(Kind::EndpointSlice, None, "discovery.k8s.io/v1", slices);
    }

    #[test]
    fn listed_namespaces_are_followed_one_by_one_and_nodes_as_a_whole() {
        let config = Config {
            namespaces: ["a", "b"].map(Into::into).into(),
            mesh: Some(("m".into(), "istio".into())),
            ..Config::default()
        };
        let kinds = [Kind::Pod, Kind::Node, Kind::Namespace, Kind::ConfigMap];
        let paths: Vec<_> = scopes(&kinds, &config)
            .iter()
            .map(|scope| format!("{}?{}", scope.path("v1"), scope.selector()))
            .collect();
        let ended = "&fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";
        let expected = [
            &format!("/api/v1/namespaces/a/pods?{ended}"),
            &format!("/api/v1/namespaces/b/pods?{ended}"),
            "/api/v1/nodes?",
            "/api/v1/namespaces?&fieldSelector=metadata.name%3Da",
            "/api/v1/namespaces?&fieldSelector=metadata.name%3Db",
            "/api/v1/namespaces/m/configmaps?&fieldSelector=metadata.name%3Distio",
        ];
        assert_eq!(paths, expected);
    }
}
