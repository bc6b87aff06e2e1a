//! What the relay shows to the watch over the handshake, for as long as there is one.
//!
//! Must not know: TLS, how bytes are moved.

use super::{Flow, Relay};
use crate::gateway::handshake::PATIENCE;

impl Relay {
    /// Shows bytes to the watch, and lets it go when it has seen enough.
    pub(super) fn watch_bytes(&mut self, flow: Flow, bytes: &[u8]) {
        let now = self.worker.now();
        let Some(watch) = &mut self.watch else { return };
        watch.look(flow.source(), bytes, now);
        if watch.is_over() {
            self.settle_watch();
        }
    }

    /// Writes down how the handshake ended, or what it looks like if this is the end.
    pub(super) fn settle_watch(&mut self) {
        if let Some(watch) = self.watch.take() {
            let patience = self.worker.config().server_hello_timeout;
            let end = watch.verdict(self.worker.now(), patience.unwrap_or(PATIENCE));
            self.connection.handshake.set(Some(end));
        }
    }
}
