//! Waits until this process is told to end: by Ctrl-C, by SIGTERM, or by its terminal, which is
//! closed.
//!
//! Must not know: what ends with it.

use std::{fs, future, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from when it is made.
#[derive(Debug)]
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// `None` under `nohup`: what that starts is to outlive its terminal.
    hangup: Option<Signal>,
}

impl Stop {
    /// Only inside a runtime.
    ///
    /// # Errors
    /// When the kernel takes no handler.
    pub fn listen() -> io::Result<Self> {
        let hangup = SignalKind::hangup();
        let status = fs::read_to_string("/proc/self/status")?;
        let ignored = is_ignored(&status, hangup.as_raw_value());
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: (!ignored).then(|| signal(hangup)).transpose()?,
        })
    }

    /// Waits for the first of them, and names it.
    pub async fn told(&mut self) -> &'static str {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = hung_up => "SIGHUP",
        }
    }
}

/// Whether a process with this `/proc/PID/status` leaves the signal alone: proc(5), a bit for each
/// number from 1.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_a_bit_for_each_signal() {
        let status = "Name:\tsh\nSigIgn:\t0000000000001001\nSigCgt:\tffffffffffffffff\n";
        let ignored: Vec<_> = (1..=64).filter(|signal| is_ignored(status, *signal)).collect();
        assert_eq!(ignored, [1, 13]);
        assert!(!is_ignored("", 1));
    }
}
