//! Changes made while there is load, at a rate, on a thread of their own.
//!
//! Must not know: what is changed, or what the load is.

use std::{
    collections::BTreeMap,
    io,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::Serialize;

/// In the environment of a command that makes a change: how many there were before it.
pub const TURN: &str = "CHURN_TURN";

/// What became of the changes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Changes {
    /// How many were made.
    pub made: u64,
    /// How many could not be made, by cause.
    pub failed: BTreeMap<String, u64>,
}

/// Changes that go on until they are stopped.
#[derive(Debug)]
pub struct Churn {
    stop: Sender<()>,
    thread: JoinHandle<Changes>,
    running: Running,
}

/// The command that makes a change, as long as it runs.
#[derive(Clone, Debug, Default)]
struct Running(Arc<Mutex<Option<Pid>>>);

impl Churn {
    /// Makes `rate` changes each second, one after the other; `change` is told how many there were
    /// before. One that takes long delays the next.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        rate: f64,
        change: impl FnMut(u64) -> anyhow::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        Self::begin(rate, change, Running::default())
    }

    /// As [`Churn::start`]: each change is this line for the shell. What it prints is dropped, what
    /// it complains of is not.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn shell(rate: f64, line: String) -> io::Result<Self> {
        let running = Running::default();
        let change = {
            let running = running.clone();
            move |turn| running.run(&line, turn)
        };
        Self::begin(rate, change, running)
    }

    fn begin(
        rate: f64,
        mut change: impl FnMut(u64) -> anyhow::Result<()> + Send + 'static,
        running: Running,
    ) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let gap = Duration::from_secs_f64(1.0 / rate);
        let work = move || {
            let (mut changes, mut due) = (Changes::default(), Instant::now() + gap);
            for turn in 0.. {
                let left = due.saturating_duration_since(Instant::now());
                if !matches!(stopped.recv_timeout(left), Err(RecvTimeoutError::Timeout)) {
                    break;
                }
                due = Instant::now().max(due + gap);
                match change(turn) {
                    Ok(()) => changes.made += 1,
                    // It was not let finish.
                    Err(_) if stopped.try_recv().is_ok() => break,
                    Err(e) => *changes.failed.entry(format!("{e:#}")).or_default() += 1,
                }
            }
            changes
        };
        Ok(Self { stop, thread: Builder::new().name("churn".into()).spawn(work)?, running })
    }

    /// Makes no more, ends a command that still runs, and says what became of them.
    #[must_use]
    pub fn stop(self) -> Changes {
        // It has ended by itself only when it panicked.
        let _ = self.stop.send(());
        if let Some(pid) = *self.running.lock() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        self.thread.join().unwrap_or_default()
    }
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, line: &str, turn: u64) -> anyhow::Result<()> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).env(TURN, turn.to_string());
        // Whatever it starts ends with it.
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let mut child = command.spawn().context("cannot start sh")?;
        let pid = Pid::from_child(&child);
        *self.lock() = Some(pid);
        // Its number is its own until it is waited for.
        let over = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        *self.lock() = None;
        over?;
        let status = child.wait()?;
        ensure!(status.success(), "the command has failed: {status}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_in_turn_until_they_are_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let seen = dir.path().join("seen");
        let line = format!("echo ${TURN} >> {}; [ ${TURN} != 1 ]", seen.display());
        let churn = Churn::shell(200.0, line).unwrap();
        let lines = || std::fs::read_to_string(&seen).unwrap_or_default().lines().count();
        let deadline = Instant::now() + Duration::from_secs(20);
        while lines() < 3 {
            assert!(Instant::now() < deadline, "it goes on");
        }
        let changes = churn.stop();
        let failed: Vec<_> = changes.failed.into_iter().collect();
        assert_eq!(failed, [("the command has failed: exit status: 1".to_owned(), 1)]);
        assert!(changes.made >= 2);
        let text = std::fs::read_to_string(&seen).unwrap();
        assert!(text.starts_with("0\n1\n2\n"), "{text}");
        assert_eq!(lines() as u64, changes.made + 1);
    }

    #[test]
    fn a_command_that_takes_its_time_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let seen = dir.path().join("seen");
        let line = format!("touch {}; sleep 1000", seen.display());
        let churn = Churn::shell(200.0, line).unwrap();
        let begun = Instant::now();
        while !seen.exists() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it begins");
        }
        let changes = churn.stop();
        assert!(begun.elapsed() < Duration::from_secs(100));
        assert_eq!((changes.made, changes.failed), (0, BTreeMap::new()));
    }
}
