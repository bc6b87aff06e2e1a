//! The objects in force, found by kind, namespace and name.
//!
//! Must not know: files, broken objects, what an object means.

use std::{collections::BTreeMap, sync::Arc};

use super::kinds::{
    ConfigMap, DestinationRule, EndpointSlice, Endpoints, EnvoyFilter, Gateway, Kind, Namespace,
    Node, Object, ObjectRef, PeerAuthentication, Pod, Service, ServiceEntry, WorkloadEntry,
};

/// Objects of one kind, by namespace and name, in that order. Node and Namespace have the empty
/// namespace.
#[derive(Clone, Debug)]
pub struct Index<T> {
    namespaces: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<T>>>,
    len: usize,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { namespaces: BTreeMap::new(), len: 0 }
    }
}

impl<T> Index<T> {
    /// One object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.namespaces.get(namespace)?.get(name)
    }

    /// Those of one namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        self.namespaces.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// All of them, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.namespaces.values().flat_map(BTreeMap::values)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn insert(&mut self, reference: &ObjectRef, object: Arc<T>) {
        let names = self.namespaces.entry(reference.namespace.clone()).or_default();
        self.len += usize::from(names.insert(reference.name.clone(), object).is_none());
    }

    fn remove(&mut self, reference: &ObjectRef) {
        let Some(names) = self.namespaces.get_mut(&reference.namespace) else { return };
        self.len -= usize::from(names.remove(&reference.name).is_some());
        if names.is_empty() {
            self.namespaces.remove(&reference.namespace);
        }
    }
}

macro_rules! objects {
    ($($field:ident: $kind:ident,)*) => {
        /// All objects in force.
        #[derive(Clone, Debug, Default)]
        pub struct Objects {
            $(#[doc = concat!("Every ", stringify!($kind), ".")] pub $field: Index<$kind>,)*
        }

        impl Objects {
            /// One object of any kind.
            #[must_use]
            pub fn get(&self, reference: &ObjectRef) -> Option<Object> {
                let (namespace, name) = (&*reference.namespace, &*reference.name);
                match reference.kind {
                    $(Kind::$kind => {
                        self.$field.get(namespace, name).cloned().map(Object::$kind)
                    })*
                }
            }

            /// How many objects of `kind` there are.
            #[must_use]
            pub fn count(&self, kind: Kind) -> usize {
                match kind {
                    $(Kind::$kind => self.$field.len(),)*
                }
            }

            fn insert(&mut self, reference: &ObjectRef, object: Object) {
                match object {
                    $(Object::$kind(object) => self.$field.insert(reference, object),)*
                }
            }

            fn remove(&mut self, reference: &ObjectRef) {
                match reference.kind {
                    $(Kind::$kind => self.$field.remove(reference),)*
                }
            }
        }
    };
}

objects!(
    services: Service,
    slices: EndpointSlice,
    endpoints: Endpoints,
    pods: Pod,
    nodes: Node,
    namespaces: Namespace,
    gateways: Gateway,
    service_entries: ServiceEntry,
    destination_rules: DestinationRule,
    workload_entries: WorkloadEntry,
    peer_authentications: PeerAuthentication,
    envoy_filters: EnvoyFilter,
    config_maps: ConfigMap,
);

impl Objects {
    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        Kind::ALL.iter().map(|kind| self.count(*kind)).sum()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `object` in force, or takes what has this reference out of force.
    pub(super) fn set(&mut self, reference: &ObjectRef, object: Option<Object>) {
        match object {
            Some(object) => self.insert(reference, object),
            None => self.remove(reference),
        }
    }
}
