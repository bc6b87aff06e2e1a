//! What a connection costs while it waits. Must not know: sockets.

use std::future::Future;

use super::*;
use crate::gateway::{connection, registry::Connection, report::Report, sniff::sniff};

/// An idle connection is mostly its relay and the next two, and what the runtime keeps of its task
/// and of its sockets. A client that has not said its hello has, in place of the relay, the sniff.
/// The task itself holds the box of whatever runs: with the runtime's part it is 128 bytes, as long
/// as it does not outgrow 24. More state per connection should be a decision.
#[test]
fn the_state_of_a_connection_is_small() {
    let sizes = [
        size_of::<Relay>(),
        size_of::<Connection>(),
        size_of::<Report>(),
        size_with(sniff),
        size_of_task(connection::run),
    ];
    let within = sizes.iter().zip([216, 240, 120, 152, 24]).all(|(size, bound)| *size <= bound);
    assert!(within, "{sizes:?}");
}

fn size_with<'a, F: Future>(_: impl Fn(&'a mut Report) -> F) -> usize {
    size_of::<F>()
}

fn size_of_task<F: Future>(_: impl Fn(Box<Report>) -> F) -> usize {
    size_of::<F>()
}
