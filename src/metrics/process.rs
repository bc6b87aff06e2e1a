//! What the kernel says of this process, under the names that every Prometheus client uses.
//!
//! Must not know: what the process does. Off Linux, and where /proc is not mounted, the numbers
//! are absent.

use std::fs;

use super::{Metrics, names};

/// Registers the process metrics; each scrape reads /proc again.
pub(super) fn register(metrics: &mut Metrics) {
    let ticks = rustix::param::clock_ticks_per_second();
    let page = rustix::param::page_size();
    #[allow(clippy::cast_precision_loss)] // seconds are exact for the next 2 million years
    let seconds = move |ticks_passed: u64| ticks_passed as f64 / ticks as f64;

    metrics.collect(&names::PROCESS_CPU_SECONDS, move |samples| {
        if let Some(stat) = Stat::read() {
            samples.put(&[], seconds(stat.cpu_ticks));
        }
    });
    metrics.collect(&names::PROCESS_RESIDENT_MEMORY_BYTES, move |samples| {
        if let Some(stat) = Stat::read() {
            samples.put(&[], stat.resident_pages.saturating_mul(page as u64));
        }
    });
    metrics.collect(&names::PROCESS_THREADS, |samples| {
        if let Some(stat) = Stat::read() {
            samples.put(&[], stat.threads);
        }
    });
    // Neither the boot nor the start of this process changes.
    let started = Stat::read().zip(boot_seconds());
    metrics.collect(&names::PROCESS_START_TIME_SECONDS, move |samples| {
        if let Some((stat, boot)) = &started {
            samples.put(&[], boot + seconds(stat.start_ticks));
        }
    });
    metrics.collect(&names::PROCESS_OPEN_FDS, |samples| {
        if let Some(open) = open_fds() {
            samples.put(&[], open);
        }
    });
    metrics.collect(&names::PROCESS_MAX_FDS, |samples| {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        samples.put(&[], limit.current.unwrap_or(u64::MAX));
    });
}

/// Fields of `/proc/self/stat`, see proc(5).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    resident_pages: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// The second field is the program's name in brackets and may itself hold brackets and
    /// spaces: the fields are counted from its last closing bracket.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Numbers as in proc(5), where the state, first in `rest`, is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            resident_pages: field(24)?,
        })
    }
}

fn boot_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Linux 6.2 and later tell the number as the directory's size; before, the entries are counted,
/// less the one that counting takes.
fn open_fds() -> Option<u64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.len() {
        0 => u64::try_from(fs::read_dir(directory).ok()?.count().saturating_sub(1)).ok(),
        open => Some(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let text = "7 (a) (b c) S 1 7 7 0 -1 4194560 900 0 1 0 250 50 3 4 20 0 5 0 8888 1000000 \
                    77 18446744073709551615 1 1 0 0 0";
        let expected = Stat { cpu_ticks: 300, threads: 5, start_ticks: 8888, resident_pages: 77 };
        assert_eq!(Stat::parse(text), Some(expected));
        for cut in ["", "7", "7 (a", "7 (a) S 1 2", "7 (a) S x x x x x x x x x x x x x x x"] {
            assert_eq!(Stat::parse(cut), None, "{cut}");
        }
    }

    #[test]
    fn an_open_file_is_counted() {
        // Other tests open and close files meanwhile, so only a wide margin can be claimed.
        let before = open_fds().expect("/proc");
        let files: Vec<_> =
            (0..500).map(|_| fs::File::open("/dev/null").expect("a file")).collect();
        let with = open_fds().expect("/proc");
        assert!(with > before + 250, "{before} {with}");
        drop(files);
    }
}
