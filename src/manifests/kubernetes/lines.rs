//! Cuts the body of an answer into lines: a watch sends one event in each.
//!
//! Must not know: what a line says.

use std::{pin::Pin, time::Duration};

use hyper::body::{Body, Bytes, Incoming};

use super::api::Trouble;

/// The longest line: etcd takes 1.5 MB for an object, and JSON may be larger than what it holds.
const LINE_BYTES_MAX: usize = 16 << 20;

/// The lines of a body.
#[derive(Debug)]
pub(super) struct Lines {
    body: Incoming,
    /// How long to wait for more bytes.
    patience: Duration,
    buffer: Vec<u8>,
    start: usize,
    searched: usize,
}

impl Lines {
    pub(super) fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, buffer: Vec::new(), start: 0, searched: 0 }
    }

    /// The next line; `None` at the end. A line without its end is no line.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, Trouble> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let line = self.start..self.searched + length;
                self.start = line.end + 1;
                self.searched = self.start;
                return Ok(self.buffer.get(line));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                let message = format!("an event has more than {LINE_BYTES_MAX} bytes");
                return Err(Trouble::Other(message));
            }
            match data(&mut self.body, self.patience).await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

/// The next bytes of a body; `None` at its end.
pub(super) async fn data(
    body: &mut Incoming,
    patience: Duration,
) -> Result<Option<Bytes>, Trouble> {
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        match tokio::time::timeout(patience, frame).await {
            Err(_) => return Err(Trouble::Other(format!("silent for {patience:?}"))),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(Trouble::of_error(&error)),
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}
