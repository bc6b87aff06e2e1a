//! How many elements one document may still make: the guard against aliases that multiply.
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
