//! Whether a sidecar is ready, and what operators should know of it.
//!
//! Must not know: who asks, how connections go.

use std::sync::Arc;

use super::{keyring::Keyring, listeners::Listeners};

/// What operators see of a sidecar.
#[derive(Clone, Debug)]
pub struct State {
    listeners: Listeners,
    keyring: Arc<Keyring>,
}

impl State {
    pub(super) fn new(listeners: Listeners, keyring: Arc<Keyring>) -> Self {
        Self { listeners, keyring }
    }

    /// Why traffic should not come, if so.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        let loading =
            (!self.listeners.planned()).then(|| "the manifests are not loaded yet".into());
        let all = loading.into_iter().chain(self.listeners.obstacles());
        all.chain(self.keyring.expired()).collect()
    }

    /// How many addresses are listened on, of how many that should be; ways in are among them.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let (bound, failed) = self.listeners.counts();
        let (open, ended) = self.listeners.ways_in();
        (bound + open, bound + failed + open + ended)
    }

    /// Addresses of ServiceEntries that are not served, each with its reason; and new certificates
    /// that are not taken.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let refused = self.keyring.refused();
        let refused = refused.map(|why| format!("new certificate files are not in use: {why}"));
        self.listeners.failures().into_iter().chain(refused).collect()
    }
}
