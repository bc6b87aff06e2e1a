//! ClientHellos that wait with us for their answer, so that one that comes back to us is known.
//!
//! Where endpoints are gateways, two of them may send a connection to each other for ever. The
//! hello is passed on unchanged, so its random tells: 32 bytes that no other hello has (RFC 8446
//! §4.1.2). Must not know: which services lead to gateways.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ahash::RandomState;

type Random = [u8; 32];

/// The hellos that wait, over all workers.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<HashSet<Random, RandomState>>);

impl Waiting {
    /// Notes a hello until the guard is dropped; `None` when it is here already.
    pub(super) fn enter(self: &Arc<Self>, random: Random) -> Option<Wait> {
        let is_new = self.lock().insert(random);
        is_new.then(|| Wait { waiting: Arc::clone(self), random })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Random, RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One hello that waits.
#[derive(Debug)]
pub(super) struct Wait {
    waiting: Arc<Waiting>,
    random: Random,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.random);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_known_for_as_long_as_it_waits() {
        let waiting = Arc::new(Waiting::default());
        let first = waiting.enter([1; 32]);
        assert!(first.is_some() && waiting.enter([1; 32]).is_none());
        assert!(waiting.enter([2; 32]).is_some(), "another hello is no loop");
        drop(first);
        assert!(waiting.enter([1; 32]).is_some());
        assert!(waiting.lock().is_empty(), "nothing is left behind");
    }
}
