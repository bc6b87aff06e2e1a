//! How much one document may hold, and how many elements it may still make: the guards against
//! depth, and against aliases that multiply.
//!
//! Must not know: what the elements are. A document of n bytes writes at most n list elements and
//! map entries; only aliases make more of them, and nested ones make exponentially more. Every
//! collection of the kinds spends one unit for each element it takes.

use std::cell::Cell;

use serde::de::Error;

thread_local!(static LEFT: Cell<usize> = const { Cell::new(usize::MAX) });

/// Starts a document of so many bytes on this thread.
pub fn start(bytes: usize) {
    LEFT.set(bytes);
}

/// Flow collections inside each other. Real objects have 10.
const DEPTH_MAX: usize = 200;
/// Characters that can start an event; each line of block style has two.
const EVENTS_MAX: usize = 1_000_000;

/// What would take the YAML parser too much time or memory, which has no limits of its own.
#[must_use]
pub fn too_much(text: &str) -> Option<String> {
    let (mut depth, mut deepest, mut events) = (0_usize, 0, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
                events += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b':' | b'-' | b'?' | b'\n' => events += 1,
            _ => {}
        }
    }
    if deepest > DEPTH_MAX {
        return Some(format!("it is nested {deepest} deep, more than {DEPTH_MAX}"));
    }
    (events > EVENTS_MAX).then(|| format!("it has more than {EVENTS_MAX} values"))
}

/// Takes one element.
pub(super) fn spend<E: Error>() -> Result<(), E> {
    match LEFT.get().checked_sub(1) {
        Some(left) => {
            LEFT.set(left);
            Ok(())
        }
        None => Err(E::custom("its aliases make it larger than it is: write the values out")),
    }
}
