//! Whether the gateway is short of anything. Must not know: what is done about it.

use std::sync::atomic::{AtomicBool, Ordering};

/// Connections in use, in percent of their maximum, from which on the gateway is under pressure.
const CROWDED_PERCENT: usize = 80;

/// What others say of the process's means.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    memory: AtomicBool,
}

impl Pressure {
    /// Said by whoever watches the memory.
    pub(super) fn memory(&self, is_short: bool) {
        self.memory.store(is_short, Ordering::Relaxed);
    }

    pub(super) fn memory_is_short(&self) -> bool {
        self.memory.load(Ordering::Relaxed)
    }
}

/// True when `live` connections leave little room.
pub(super) fn is_crowded(live: usize, max: usize) -> bool {
    live.saturating_mul(100) >= max.saturating_mul(CROWDED_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_are_a_crowd() {
        assert!(!is_crowded(79, 100) && is_crowded(80, 100) && is_crowded(1, 1));
        assert!(!is_crowded(0, usize::MAX));
    }
}
