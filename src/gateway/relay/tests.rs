//! What a connection costs while it waits. Must not know: sockets.

use std::future::Future;

use super::*;
use crate::gateway::{connection, registry::Connection, report::Report, sniff::sniff};

/// An idle connection is mostly its task, which has the relay in it, and these two; 8,000 of them
/// were measured at some 1,900 bytes each, the runtime's share included. A client that has not
/// said its hello has, in place of the relay, the sniff in a box. More state per connection
/// should be a decision.
#[test]
fn the_state_of_a_connection_is_small() {
    let sizes = [
        size_of::<Relay>(),
        size_of::<Connection>(),
        size_of::<Report>(),
        size_with(sniff),
        size_of_task(connection::run),
    ];
    let within = sizes.iter().zip([208, 288, 200, 264, 248]).all(|(size, bound)| *size <= bound);
    assert!(within, "{sizes:?}");
}

fn size_with<'a, F: Future>(_: impl Fn(&'a Worker, &'a mut Report) -> F) -> usize {
    size_of::<F>()
}

fn size_of_task<F: Future>(_: impl Fn(Rc<Worker>, Box<Report>) -> F) -> usize {
    size_of::<F>()
}
