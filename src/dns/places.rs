//! So many connections and no more: the one that was silent for longest makes room.
//!
//! Must not know: what a connection is for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// A fixed number of places.
#[derive(Debug)]
pub(super) struct Places {
    inner: Arc<Mutex<Inner>>,
    max: usize,
}

/// Places by when each was last used; the number stands for the instant.
#[derive(Debug, Default)]
struct Inner {
    next: u64,
    taken: BTreeMap<u64, Arc<Notify>>,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    inner: Arc<Mutex<Inner>>,
    used: Mutex<u64>,
    lost: Arc<Notify>,
}

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { inner: Arc::default(), max }
    }

    /// Takes a place, if need be that of the one silent for longest.
    pub(super) fn take(&self) -> Place {
        let lost = Arc::new(Notify::new());
        let mut inner = lock(&self.inner);
        while inner.taken.len() >= self.max
            && let Some((_, oldest)) = inner.taken.pop_first()
        {
            oldest.notify_one();
        }
        let used = inner.enter(&lost);
        Place { inner: Arc::clone(&self.inner), used: Mutex::new(used), lost }
    }
}

impl Place {
    /// Not silent now.
    pub(super) fn used(&self) {
        let mut used = lock(&self.used);
        let mut inner = lock(&self.inner);
        // A place that was lost stays lost.
        if inner.taken.remove(&used).is_some() {
            *used = inner.enter(&self.lost);
        }
    }

    /// Waits until somebody else got it.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Inner {
    fn enter(&mut self, lost: &Arc<Notify>) -> u64 {
        let now = self.next;
        self.next += 1;
        self.taken.insert(now, Arc::clone(lost));
        now
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let used = *lock(&self.used);
        lock(&self.inner).taken.remove(&used);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_lost(place: &Place) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = place.lost() => true,
                () = std::future::ready(()) => false,
            }
        })
    }

    #[test]
    fn the_one_silent_for_longest_makes_room() {
        let places = Places::new(2);
        let (a, b) = (places.take(), places.take());
        a.used();
        let c = places.take();
        assert!(is_lost(&b) && !is_lost(&a) && !is_lost(&c));
        b.used();
        drop(b);
        let d = places.take();
        assert!(is_lost(&a) && !is_lost(&c) && !is_lost(&d));
    }

    #[test]
    fn a_place_given_back_is_free() {
        let places = Places::new(1);
        drop(places.take());
        let a = places.take();
        assert!(!is_lost(&a));
        assert_eq!(lock(&places.inner).taken.len(), 1);
    }
}
