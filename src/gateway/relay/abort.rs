//! Passing a reset on without losing the bytes that were taken before it.
//!
//! Must not know: flows, pipes, why a side was lost.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::net;

/// Resets both sockets on their close: the lost one, and the other once its send queue is empty
/// or `linger` has passed. There is no event for an empty send queue, so it is polled at 1, 2,
/// 4 … 64 ms. Where the kernel does not say how much is left, all of `linger` is given.
pub(in crate::gateway) async fn pass_reset(other: &TcpStream, lost: &TcpStream, linger: Duration) {
    net::reset_on_close(lost);
    let deadline = tokio::time::Instant::now() + linger;
    let mut pause = Duration::from_millis(1);
    while net::sys::unacknowledged(other).map_or(true, |bytes| bytes > 0) {
        if tokio::time::Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(64));
    }
    net::reset_on_close(other);
}
