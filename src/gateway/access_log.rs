//! One line for each connection, in Istio's text or JSON format, written by a thread of its own.
//!
//! The data path never waits for a log: a full queue or disk drops the line and counts it. Bytes from the
//! network are escaped here and nowhere else. Must not know: how a connection was served.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Write},
    net::SocketAddr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, SystemTime},
};

use super::{handshake::HandshakeEnd, outcome::Outcome, report::HelloFacts};
use crate::{
    routing::{Endpoint, Route},
    telemetry::escape,
};

mod brief;
mod json;
mod text;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// No line.
    Off,
    /// Istio's default text format (1.9 and later).
    #[default]
    Text,
    /// Istio's default JSON keys, and ours behind them.
    Json,
    /// A short sentence for people.
    Brief,
}

/// Where lines go.
#[derive(Clone, Debug)]
pub struct AccessLogConfig {
    /// How.
    pub format: Format,
    /// Where to.
    pub to: LogTo,
}

/// Who gets the lines.
#[derive(Clone, Debug)]
pub enum LogTo {
    /// A file that is appended to; `/dev/stdout` works.
    File(PathBuf),
    /// Somebody in this process.
    Lines(tokio::sync::mpsc::UnboundedSender<String>),
}

impl std::fmt::Display for LogTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Lines(_) => f.write_str("of this process"),
        }
    }
}

/// Our own output is not opened by its name: as another user than the one who made the pipe that
/// would be denied, and a socket, which systemd gives, cannot be opened at all.
fn open(path: &Path) -> io::Result<File> {
    let own = match path.to_str() {
        Some("/dev/stdout") => io::stdout().as_fd().try_clone_to_owned()?,
        Some("/dev/stderr") => io::stderr().as_fd().try_clone_to_owned()?,
        _ => return File::options().create(true).append(true).open(path),
    };
    Ok(own.into())
}

/// Lines that may wait for the disk; each is about 300 bytes.
const QUEUE_LINES: usize = 16 * 1024;

/// The handle that workers write to.
#[derive(Clone, Debug)]
pub(super) struct AccessLog {
    format: Format,
    queue: Queue,
    dropped: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
enum Queue {
    None,
    Writer(SyncSender<Entry>),
    Lines(tokio::sync::mpsc::UnboundedSender<String>),
}

/// What the writing thread is given.
#[derive(Debug)]
enum Entry {
    Line(String),
    /// Say when everything before this is written.
    Flush(SyncSender<()>),
}

/// A disk or pipe that takes nothing may hold the end of the process back for so long.
const FLUSH_TIME: Duration = Duration::from_millis(500);

/// All that one line tells.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) started: SystemTime,
    pub(super) duration: Duration,
    pub(super) outcome: Outcome,
    /// How the TLS handshake with the endpoint ended; `None` where there was none.
    pub(super) handshake: Option<HandshakeEnd>,
    pub(super) detail: Option<&'static str>,
    pub(super) last_error: Option<&'a str>,
    pub(super) attempts: u32,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) spliced: bool,
    pub(super) hello: Option<&'a HelloFacts>,
    pub(super) route: Option<&'a Route>,
    pub(super) endpoint: Option<&'a Endpoint>,
    pub(super) upstream_local: Option<SocketAddr>,
    pub(super) downstream_local: Option<SocketAddr>,
    pub(super) downstream_remote: SocketAddr,
}

impl AccessLog {
    /// Opens the file and starts the thread that writes to it.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub(super) fn start(config: &AccessLogConfig) -> io::Result<Self> {
        let dropped = Arc::new(AtomicU64::new(0));
        if config.format == Format::Off {
            return Ok(Self { format: Format::Off, queue: Queue::None, dropped });
        }
        let path = match &config.to {
            LogTo::File(path) => path,
            LogTo::Lines(lines) => {
                let queue = Queue::Lines(lines.clone());
                return Ok(Self { format: config.format, queue, dropped });
            }
        };
        let file = open(path)?;
        let (queue, lines) = sync_channel(QUEUE_LINES);
        std::thread::Builder::new().name("access-log".into()).spawn({
            let dropped = Arc::clone(&dropped);
            move || write_all(&lines, io::BufWriter::new(file), &dropped)
        })?;
        Ok(Self { format: config.format, queue: Queue::Writer(queue), dropped })
    }

    pub(super) fn is_on(&self) -> bool {
        self.format != Format::Off
    }

    /// Queues a line, or drops and counts it when the queue is full.
    pub(super) fn write(&self, line: &Line<'_>) {
        let text = match self.format {
            Format::Off => return,
            Format::Text => text::format(line),
            Format::Json => json::format(line),
            Format::Brief => brief::format(line),
        };
        let taken = match &self.queue {
            Queue::None => true,
            Queue::Writer(queue) => queue.try_send(Entry::Line(text)).is_ok(),
            Queue::Lines(lines) => lines.send(text).is_ok(),
        };
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what is queued is written, since the thread does not outlive the process.
    pub(super) fn flush(&self) {
        let Queue::Writer(queue) = &self.queue else { return };
        let (done, when_done) = sync_channel(1);
        if queue.try_send(Entry::Flush(done)).is_ok() {
            let _ = when_done.recv_timeout(FLUSH_TIME);
        }
    }

    /// Lines that were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Writes until every sender is gone; flushes when the queue is empty. A disk that is full loses
/// lines, not connections: they are counted, and it is said once.
fn write_all(entries: &Receiver<Entry>, mut file: impl Write, dropped: &AtomicU64) {
    let mut fails = false;
    while let Ok(first) = entries.recv() {
        let mut flushed = Vec::new();
        for entry in std::iter::once(first).chain(entries.try_iter()) {
            match entry {
                Entry::Line(line) => {
                    if file.write_all(line.as_bytes()).is_err() {
                        dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Entry::Flush(done) => flushed.push(done),
            }
        }
        match file.flush() {
            Ok(()) => fails = false,
            Err(error) if !fails => {
                fails = true;
                tracing::warn!(%error, "access log cannot be written: lines are dropped and counted");
            }
            Err(_) => {}
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}

impl Line<'_> {
    /// What the client asked for, made harmless.
    pub(super) fn server_name(&self) -> Option<String> {
        let name = self.hello?.server_name.as_deref()?;
        // The text format separates fields by spaces.
        Some(escape(name).to_string().replace(' ', "\\x20"))
    }

    /// Our reason, and the rule behind it.
    fn reason(&self) -> String {
        let mut reason = self.outcome.reason().to_owned();
        if let Some(detail) = self.detail {
            let _ = write!(reason, ":{detail}");
        }
        reason
    }

    /// The last try that failed and, in Envoy's place for it, what went wrong with TLS.
    fn transport_failure(&self) -> Option<String> {
        let wrong = self.handshake.filter(|end| *end != HandshakeEnd::Ok);
        let tls = wrong.map(|end| match end.ended_by() {
            "-" => format!("tls: {}", end.class()),
            side => format!("tls: {} by {side}", end.class()),
        });
        let error = self.last_error.map(|error| escape(error.as_bytes()).to_string());
        match (error, tls) {
            (Some(error), Some(tls)) => Some(format!("{error}; {tls}")),
            (error, tls) => error.or(tls),
        }
    }

    /// Envoy's response code details, for those who grep for them.
    fn code_details(&self) -> Option<&'static str> {
        (self.outcome.flags() == "NR").then_some("filter_chain_not_found")
    }
}

/// `2026-11-22T19:28:20.123Z`, as Istio writes it (RFC 3339, UTC, milliseconds).
pub(super) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let milli = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar: counted
/// in years that begin in March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
pub(super) use text::tests::line as sample;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_istio_writes_it() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_767_225_600, "2026-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(timestamp(time), expected);
        }
    }

    #[test]
    fn a_full_queue_drops_lines_and_counts_them() {
        let (queue, _lines) = sync_channel(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let log = AccessLog { format: Format::Text, queue: Queue::Writer(queue), dropped };
        log.write(&text::tests::line());
        assert_eq!(log.dropped(), 1);
    }

    #[test]
    fn a_full_disk_drops_lines_and_counts_them() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        let (queue, lines) = sync_channel(9);
        (0..9).for_each(|_| queue.send(Entry::Line("x".repeat(100))).unwrap());
        drop(queue);
        let dropped = AtomicU64::new(0);
        // Two lines wait in the buffer until there is room.
        write_all(&lines, io::BufWriter::with_capacity(250, Full), &dropped);
        assert_eq!(dropped.into_inner(), 7);
    }
}
