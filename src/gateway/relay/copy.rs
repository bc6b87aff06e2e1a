//! Portable: socket to the worker's scratch buffer to socket. Also the reference for splice.
//!
//! What the sink does not take at once is kept in a buffer of exactly that size, which is freed
//! when it is empty: an idle connection holds nothing. Must not know: flows, pipes, what an error
//! means for the relay.

use std::{
    io,
    task::{Context, Poll},
};

use tokio::net::TcpStream;

use crate::net::poll_send;

/// Bytes that the sink would not take yet.
#[derive(Debug, Default)]
pub(super) struct Leftover {
    bytes: Vec<u8>,
    start: usize,
}

impl Leftover {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes some of it by `send`; the memory is freed with the last byte.
    pub(super) fn poll_flush(
        &mut self,
        send: impl FnOnce(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let pending = self.bytes.get(self.start..).unwrap_or_default();
        let result = send(pending);
        if let Poll::Ready(Ok(n)) = result {
            self.start += n;
            if self.is_empty() {
                *self = Self::default();
            }
        }
        result
    }
}

/// Writes as much of `bytes` as the sink takes. Gives what was written, and the rest.
///
/// # Errors
/// What `send(2)` says; what was written before the error counts as delivered to nobody.
pub(super) fn pass(
    sink: &TcpStream,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> io::Result<(usize, Leftover)> {
    let mut written = 0;
    loop {
        let rest = bytes.get(written..).unwrap_or_default();
        if rest.is_empty() {
            return Ok((written, Leftover::default()));
        }
        match poll_send(sink, context, rest) {
            Poll::Ready(Ok(n)) => written += n,
            Poll::Ready(Err(e)) => return Err(e),
            // The waker is registered: the relay is polled again when there is room.
            Poll::Pending => return Ok((written, Leftover::new(rest.to_vec()))),
        }
    }
}
