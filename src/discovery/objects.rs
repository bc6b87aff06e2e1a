//! Objects of one kind by namespace and name.
//!
//! Must not know: which kinds there are.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;

use crate::manifests::kinds::Meta;

/// All objects of one kind.
#[derive(Debug)]
pub(super) struct Objects<T>(ByName<ByName<Arc<T>>>);

/// A map by namespace, or by name within one.
pub(super) type ByName<T> = HashMap<Arc<str>, T, RandomState>;

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T> Objects<T> {
    /// Puts an object in, and gives the one that it replaces.
    pub(super) fn put(&mut self, meta: &Meta, object: Arc<T>) -> Option<Arc<T>> {
        let namespace = self.0.entry(Arc::clone(&meta.namespace)).or_default();
        namespace.insert(Arc::clone(&meta.name), object)
    }

    /// Takes an object out.
    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let objects = self.0.get_mut(namespace)?;
        let removed = objects.remove(name);
        if objects.is_empty() {
            self.0.remove(namespace);
        }
        removed
    }

    /// The object of this name.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.0.get(namespace)?.get(name)
    }

    /// Those of one namespace, in no order.
    pub(super) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        self.0.get(namespace).into_iter().flat_map(HashMap::values)
    }

    /// All, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values().flat_map(HashMap::values)
    }

    /// All, oldest first; those without an age before all others, by namespace and name.
    pub(super) fn oldest_first(&self, meta: impl Fn(&T) -> &Meta) -> Vec<&Arc<T>> {
        let mut all: Vec<&Arc<T>> = self.iter().collect();
        all.sort_by(|a, b| age(meta(a)).cmp(&age(meta(b))));
        all
    }
}

/// Sorts objects by age, and those of one age by name.
pub(super) fn age(meta: &Meta) -> impl Ord + use<'_> {
    (meta.created, &meta.namespace, &meta.name)
}
