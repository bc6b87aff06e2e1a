//! A program that the demo starts, and ends on every way out.
//!
//! Must not know: what the program is for.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use super::print::shell_word;
use crate::telemetry::escape;

/// A program that is asked to end may take this long; then it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Of a log, which may be of any length, so much is looked at for the last words.
const LAST_BYTES: u64 = 8 << 10;
/// More than [`escape`] takes is escaped piece by piece.
const ESCAPED_BYTES: usize = 255;

/// Names, to a program that the demo starts, the process that it is not to outlive.
const PARENT: &str = "DEMO_PROCESS";

/// Makes this process end with the demo that started it, even when that is killed. Does nothing in
/// a process that no demo started.
pub fn end_with_demo() {
    let Some(demo) = std::env::var(PARENT).ok().and_then(|id| id.parse().ok()) else { return };
    // A child has its parent's death told by the kernel; one that came too late asks.
    let told = set_parent_process_death_signal(Some(Signal::KILL));
    if told.is_ok() && getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(demo) {
        std::process::exit(1);
    }
}

/// One running program. Ends when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts this program itself with other arguments. What it says goes to `logs/NAME.log`, the
    /// command line, as it could be typed, to `logs/commands.txt`.
    ///
    /// # Errors
    /// When there is no such program, or no room for its log.
    pub fn start(logs: &Path, name: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program has no path any more")?;
        Self::spawn(logs, name, (&program, "diolkos"), arguments)
    }

    /// The same with a program of others.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn other(
        logs: &Path,
        name: &str,
        program: &Path,
        arguments: &[String],
    ) -> anyhow::Result<Self> {
        Self::spawn(logs, name, (program, &program.to_string_lossy()), arguments)
    }

    fn spawn(
        logs: &Path,
        name: &str,
        (program, shown): (&Path, &str),
        arguments: &[String],
    ) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let words: Vec<_> = arguments.iter().map(|word| shell_word(word)).collect();
        let commands = logs.join("commands.txt");
        let mut commands = OpenOptions::new().create(true).append(true).open(&commands)?;
        writeln!(commands, "# {name}\n{shown} {}\n", words.join(" "))?;
        let child = Command::new(program)
            .args(arguments)
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits until `is_ready` says so.
    ///
    /// # Errors
    /// When the program has ended, or is not ready in time; with the last words of its log.
    pub async fn ready(
        &mut self,
        patience: Duration,
        mut is_ready: impl AsyncFnMut() -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            // First: what answers where it should be may be somebody else.
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended, {status}:\n{}", self.name, self.last_words());
            }
            if is_ready().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                let seconds = patience.as_secs();
                bail!("{} was not ready in {seconds} s:\n{}", self.name, self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it said last, fit for a terminal.
    #[must_use]
    pub fn last_words(&self) -> String {
        let mut end = Vec::new();
        // Where nothing can be read, nothing was said.
        let _ = File::open(&self.log).and_then(|mut log| {
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
            log.take(LAST_BYTES).read_to_end(&mut end)
        });
        let piece = |bytes: &[u8]| escape(bytes).to_string();
        let line = |line: &[u8]| line.chunks(ESCAPED_BYTES).map(piece).collect::<String>();
        let lines = end.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines: Vec<String> = lines.map(line).collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// The lines of its log that hold this.
    #[must_use]
    pub fn lines_with(&self, part: &str) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to end, and waits for that.
    pub async fn stop(mut self) {
        self.terminate();
        self.ended(END_TIMEOUT).await;
    }

    /// Asks it to end, by SIGTERM.
    pub fn terminate(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it has ended by itself; false when it has not in this time.
    pub async fn ended(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// The bytes of memory that are resident.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.with_context(|| format!("{} has no memory", self.name))? * 1024)
    }

    fn end(&mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
