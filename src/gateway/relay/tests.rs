//! What a relay costs while it waits. Must not know: sockets.

use super::*;
use crate::gateway::{registry::Connection, report::Report};

/// An idle connection is mostly these three; 8,000 of them were measured at some 1,900 bytes
/// each, the runtime's share included. More state per connection should be a decision.
#[test]
fn the_state_of_a_connection_is_small() {
    let sizes = [size_of::<Relay>(), size_of::<Connection>(), size_of::<Report>()];
    let within = sizes.iter().zip([208, 344, 232]).all(|(size, bound)| *size <= bound);
    assert!(within, "{sizes:?}");
}
