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
            slices_by_service: BTreeMap<Arc<str>, BTreeMap<Box<str>, Vec<Arc<EndpointSlice>>>>,
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
    /// The EndpointSlices of a Service, by their label, sorted by name.
    #[must_use]
    pub fn slices_of(&self, namespace: &str, service: &str) -> &[Arc<EndpointSlice>] {
        let found = self.slices_by_service.get(namespace).and_then(|names| names.get(service));
        found.map_or(&[], Vec::as_slice)
    }

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
        if reference.kind == Kind::EndpointSlice {
            if let Some(old) = self.slices.get(&reference.namespace, &reference.name).cloned() {
                self.leave_service(&old);
            }
            if let Some(Object::EndpointSlice(new)) = &object {
                self.join_service(new);
            }
        }
        match object {
            Some(object) => self.insert(reference, object),
            None => self.remove(reference),
        }
    }

    fn join_service(&mut self, slice: &Arc<EndpointSlice>) {
        let Some(service) = slice.service() else { return };
        let services = self.slices_by_service.entry(slice.meta.namespace.clone()).or_default();
        let slices = services.entry(service.into()).or_default();
        let place = slices.partition_point(|other| other.meta.name < slice.meta.name);
        slices.insert(place, slice.clone());
    }

    fn leave_service(&mut self, slice: &Arc<EndpointSlice>) {
        let Some(service) = slice.service() else { return };
        let namespace = &slice.meta.namespace;
        let Some(services) = self.slices_by_service.get_mut(namespace) else { return };
        let Some(slices) = services.get_mut(service) else { return };
        slices.retain(|other| other.meta.name != slice.meta.name);
        if slices.is_empty() {
            services.remove(service);
        }
        if services.is_empty() {
            self.slices_by_service.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str, service: &str) -> Object {
        let yaml = format!(
            "{{metadata: {{name: {name}, namespace: ns2, \
             labels: {{kubernetes.io/service-name: {service}}}}}, addressType: IPv4}}"
        );
        serde_norway::from_str::<EndpointSlice>(&yaml).expect("a slice").into()
    }

    fn names(objects: &Objects, service: &str) -> Vec<String> {
        let slices = objects.slices_of("ns2", service);
        slices.iter().map(|slice| slice.meta.name.to_string()).collect()
    }

    #[test]
    fn slices_are_found_by_the_service_they_name_now() {
        let mut objects = Objects::default();
        for object in [slice("b", "bar"), slice("a", "bar"), slice("c", "foo")] {
            objects.set(&object.reference(), Some(object));
        }
        assert_eq!(names(&objects, "bar"), ["a", "b"]);
        let moved = slice("a", "foo");
        objects.set(&moved.reference(), Some(moved.clone()));
        assert_eq!(
            (names(&objects, "bar"), names(&objects, "foo")),
            (vec!["b".into()], vec!["a".into(), "c".into()])
        );
        objects.set(&moved.reference(), None);
        assert_eq!(names(&objects, "foo"), ["c"]);
        assert_eq!((objects.slices.len(), objects.len()), (2, 2));
        assert_eq!(objects.get(&moved.reference()), None);
    }
}
