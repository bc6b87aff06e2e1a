//! The kinds that are read, as slim structures that hold only the fields somebody uses.
//!
//! A value of these types is already valid in itself: ports are 1 to 65535, durations are
//! durations, enums are known. Must not know: files, other objects, what an object means for a
//! route. 100,000 Services with their slices and pods stay in memory, hence boxed slices, packed
//! labels and shared strings instead of maps.

use std::{fmt, sync::Arc};

pub mod budget;
pub mod config_map;
pub mod destination_rule;
pub mod endpoints;
pub mod envoy_filter;
pub mod gateway;
pub mod host;
pub mod labels;
pub mod list;
pub mod meta;
pub mod peer_authentication;
pub mod pod;
pub mod scalar;
pub mod service;
pub mod service_entry;
pub mod tree;

pub use config_map::ConfigMap;
pub use destination_rule::DestinationRule;
pub use endpoints::{EndpointSlice, Endpoints};
pub use envoy_filter::EnvoyFilter;
pub use gateway::Gateway;
pub use host::{ExportTo, HostName};
pub use labels::Labels;
pub use list::List;
pub use meta::Meta;
pub use peer_authentication::PeerAuthentication;
pub use pod::{Namespace, Node, Pod};
pub use service::Service;
pub use service_entry::{ServiceEntry, WorkloadEntry};

macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// The kinds that are read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $(#[doc = concat!("`", stringify!($kind), "`")] $kind,)*
        }

        impl Kind {
            /// Every kind, in the order of the enum.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The name as manifests write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)*
                }
            }
        }

        /// One object; cheap to clone.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $(#[doc = concat!("A `", stringify!($kind), "`.")] $kind(Arc<$kind>),)*
        }

        impl Object {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Its name, namespace, labels and so on.
            #[must_use]
            pub fn meta(&self) -> &Meta {
                match self {
                    $(Self::$kind(object) => &object.meta,)*
                }
            }
        }

        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Self::$kind(Arc::new(object))
            }
        })*
    };
}

kinds!(
    Service,
    EndpointSlice,
    Endpoints,
    Pod,
    Node,
    Namespace,
    Gateway,
    ServiceEntry,
    DestinationRule,
    WorkloadEntry,
    PeerAuthentication,
    EnvoyFilter,
    ConfigMap,
);

impl Kind {
    /// The kind of a manifest with this `apiVersion` and `kind`. `None` when it is not read here,
    /// or not in this version: a Gateway of the Gateway API is not an Istio Gateway.
    #[must_use]
    pub fn parse(api_version: &str, kind: &str) -> Option<Self> {
        let found = *Self::ALL.iter().find(|known| known.as_str() == kind)?;
        found.api_versions().contains(&api_version).then_some(found)
    }

    /// The values of `apiVersion` under which the kind is read.
    #[must_use]
    pub fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Service
            | Self::Endpoints
            | Self::Pod
            | Self::Node
            | Self::Namespace
            | Self::ConfigMap => &["v1"],
            Self::EndpointSlice => &["discovery.k8s.io/v1"],
            Self::Gateway
            | Self::ServiceEntry
            | Self::DestinationRule
            | Self::WorkloadEntry
            | Self::EnvoyFilter => &[
                "networking.istio.io/v1",
                "networking.istio.io/v1beta1",
                "networking.istio.io/v1alpha3",
            ],
            Self::PeerAuthentication => &["security.istio.io/v1", "security.istio.io/v1beta1"],
        }
    }

    /// True for the kinds that live in a namespace.
    #[must_use]
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::Node | Self::Namespace)
    }

    /// True for Istio's kinds, all of whose fields are known here, at least by name.
    #[must_use]
    pub fn is_istio(self) -> bool {
        self.api_versions()[0].contains(".istio.io/")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Object {
    /// What identifies it.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        let Meta { namespace, name, .. } = self.meta();
        ObjectRef { kind: self.kind(), namespace: namespace.clone(), name: name.clone() }
    }
}

/// Names one object. Shown as `Service ns2/bar`, or `Node n1` for what has no namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for Node and Namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_its_version_and_name() {
        for (api_version, kind, expected) in [
            ("v1", "Service", Some(Kind::Service)),
            ("discovery.k8s.io/v1", "EndpointSlice", Some(Kind::EndpointSlice)),
            ("discovery.k8s.io/v1beta1", "EndpointSlice", None),
            ("networking.istio.io/v1alpha3", "Gateway", Some(Kind::Gateway)),
            ("networking.istio.io/v1", "ServiceEntry", Some(Kind::ServiceEntry)),
            ("gateway.networking.k8s.io/v1", "Gateway", None),
            ("security.istio.io/v1beta1", "PeerAuthentication", Some(Kind::PeerAuthentication)),
            ("v1", "ConfigMap", Some(Kind::ConfigMap)),
            ("v1", "Secret", None),
            ("", "", None),
        ] {
            assert_eq!(Kind::parse(api_version, kind), expected, "{api_version} {kind}");
        }
    }

    #[test]
    fn a_reference_reads_as_people_write_it() {
        let reference = |kind, namespace: &str, name: &str| {
            ObjectRef { kind, namespace: namespace.into(), name: name.into() }.to_string()
        };
        assert_eq!(reference(Kind::Service, "ns2", "bar"), "Service ns2/bar");
        assert_eq!(reference(Kind::Node, "", "n1"), "Node n1");
    }
}
