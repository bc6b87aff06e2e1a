//! What a gateway's access log says of the calls that went through it: a witness from outside.
//!
//! Must not know: what should have happened.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

/// A gateway writes its line when the connection has ended, which is just after the call did.
const PATIENCE: Duration = Duration::from_secs(3);

/// An access log in JSON, read from where it was read last.
#[derive(Debug)]
pub struct Witness {
    log: PathBuf,
    read: usize,
}

impl Witness {
    /// Reads this log from its beginning.
    #[must_use]
    pub fn new(log: PathBuf) -> Self {
        Self { log, read: 0 }
    }

    /// The lines since the last look, without waiting.
    pub fn look(&mut self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        // What has no newline yet is still being written.
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        let news = text.get(self.read..end).unwrap_or_default();
        self.read = end.max(self.read);
        news.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// At least so many lines, or as many as came in time.
    pub async fn wait(&mut self, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.look();
        while lines.len() < count && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
            lines.extend(self.look());
        }
        lines
    }
}

/// A field of a line as text; empty when it is not there.
#[must_use]
pub fn text<'v>(line: &'v Value, key: &str) -> &'v str {
    line[key].as_str().unwrap_or_default()
}
