//! Readiness as guards: ready when the last one drops.
//!
//! Must not know: what is waited for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Whether traffic should come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Send it.
    pub ready: bool,
    /// What stands in the way; when ready, what is worth knowing.
    pub reasons: Vec<String>,
}

/// All that must happen before traffic may come; clones share it.
#[derive(Clone, Debug, Default)]
pub struct ReadinessGuards(Arc<Mutex<Pending>>);

#[derive(Debug, Default)]
struct Pending {
    next: u64,
    reasons: BTreeMap<u64, String>,
}

/// Not ready while this lives.
#[derive(Debug)]
pub struct ReadinessGuard {
    guards: ReadinessGuards,
    id: u64,
}

impl ReadinessGuards {
    /// Ready, until something is waited for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready, for this reason, until the guard drops.
    #[must_use = "dropping the guard means ready"]
    pub fn wait_for(&self, reason: impl Into<String>) -> ReadinessGuard {
        let mut pending = self.pending();
        let id = pending.next;
        pending.next += 1;
        pending.reasons.insert(id, reason.into());
        ReadinessGuard { guards: self.clone(), id }
    }

    /// Ready, or the reasons why not, oldest first.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let reasons: Vec<_> = self.pending().reasons.values().cloned().collect();
        Readiness { ready: reasons.is_empty(), reasons }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadinessGuard {
    /// Says better what is waited for.
    pub fn explain(&self, reason: impl Into<String>) {
        self.guards.pending().reasons.insert(self.id, reason.into());
    }
}

impl Drop for ReadinessGuard {
    fn drop(&mut self) {
        self.guards.pending().reasons.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_guard_drops() {
        let guards = ReadinessGuards::new();
        assert!(guards.readiness().ready);
        let load = guards.wait_for("first load");
        let selected = guards.clone().wait_for("no Gateway selects us");
        let expected = ["first load", "no Gateway selects us"];
        assert_eq!(guards.readiness().reasons, expected);
        selected.explain("label istio differs");
        drop(load);
        let readiness = guards.readiness();
        assert!(!readiness.ready);
        assert_eq!(readiness.reasons, ["label istio differs"]);
        drop(selected);
        assert_eq!(guards.readiness(), Readiness { ready: true, reasons: vec![] });
    }

    #[test]
    fn the_same_reason_twice_is_waited_for_twice() {
        let guards = ReadinessGuards::new();
        let first = guards.wait_for("drain");
        let second = guards.wait_for("drain");
        drop(first);
        assert!(!guards.readiness().ready);
        drop(second);
        assert!(guards.readiness().ready);
    }
}
