//! One copy of each value that many routes repeat.
//!
//! 100,000 services share a handful of namespaces, policies and localities; without this each
//! would hold its own. Must not know: what the values mean.

use std::{borrow::Borrow, collections::HashSet, hash::Hash, sync::Arc};

use ahash::RandomState;

use crate::routing::{Locality, Policy, Workload};

/// The shared values of a catalog.
#[derive(Debug, Default)]
pub(super) struct Pools {
    pub(super) strings: Pool<str>,
    pub(super) localities: Pool<Locality>,
    pub(super) workloads: Pool<Workload>,
    pub(super) policies: Pool<Policy>,
}

impl Pools {
    /// Forgets what nobody else holds any more.
    pub(super) fn prune(&mut self) {
        self.workloads.prune();
        self.localities.prune();
        self.policies.prune();
        self.strings.prune();
    }
}

/// Shared values of one type.
#[derive(Debug)]
pub(super) struct Pool<T: ?Sized>(HashSet<Arc<T>, RandomState>);

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self(HashSet::default())
    }
}

impl<T: ?Sized + Hash + Eq> Pool<T> {
    /// The shared copy of `value`.
    pub(super) fn share<V: Borrow<T> + Into<Arc<T>>>(&mut self, value: V) -> Arc<T> {
        if let Some(shared) = self.0.get(value.borrow()) {
            return Arc::clone(shared);
        }
        let shared: Arc<T> = value.into();
        self.0.insert(Arc::clone(&shared));
        shared
    }

    fn prune(&mut self) {
        self.0.retain(|value| Arc::strong_count(value) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_are_forgotten() {
        let mut pool = Pool::<Locality>::default();
        let first = pool.share(Locality::parse("a/b/c"));
        let again = pool.share(Locality::parse("a/b/c"));
        drop(pool.share(Locality::parse("a/b/d")));
        assert!(Arc::ptr_eq(&first, &again));
        pool.prune();
        assert_eq!(pool.0.len(), 1);
    }
}
