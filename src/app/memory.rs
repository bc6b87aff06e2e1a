//! Watches the memory of this process's cgroup, and says when it runs short.
//!
//! What counts is what the kernel cannot take back at once: usage less the page cache that nobody
//! uses, as the kubelet reckons it. Sockets' buffers are in it. Must not know: what is done about
//! a shortage.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{config::file::Limits, gateway::Handle};

/// Between two looks: at 2 GB/s of fresh socket buffers, 100 MB.
const EVERY: Duration = Duration::from_millis(50);
/// The shortage is over this much below the percentage at which it began.
const RELIEF_PERCENT: u64 = 5;

/// The files of one cgroup.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cgroup {
    usage: PathBuf,
    limit: PathBuf,
    stat: PathBuf,
    /// What `stat` calls the page cache that nobody uses.
    cache: &'static str,
}

/// Watches until dropped. Says nothing where there is no limit, or no cgroup to read.
pub(super) async fn watch(limits: Limits, gateway: Handle) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(cgroup) = find(&limits.cgroup, &own).filter(|_| limits.memory_percent > 0) else {
        return;
    };
    let Some(limit) = cgroup.limit() else { return };
    tracing::info!(limit, percent = limits.memory_percent, cgroup = %cgroup.limit.display(),
        "memory is watched");
    let mut look = tokio::time::interval(EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut short = false;
    loop {
        look.tick().await;
        // The limit can be changed while we run.
        let (Some(used), Some(limit)) = (cgroup.used(), cgroup.limit()) else { continue };
        let now = is_short(short, used, limit, limits.memory_percent.into());
        if now != short {
            short = now;
            gateway.memory_is_short(short);
            if short {
                tracing::warn!(used, limit, "memory is short: new connections are reset");
            } else {
                tracing::info!(used, limit, "memory is not short any more");
            }
        }
    }
}

/// Whether memory is short now, after whether it was.
fn is_short(was: bool, used: u64, limit: u64, percent: u64) -> bool {
    let percent = if was { percent.saturating_sub(RELIEF_PERCENT) } else { percent };
    u128::from(used) * 100 >= u128::from(limit) * u128::from(percent)
}

/// The cgroup of a process whose `/proc/self/cgroup` reads `own`, below `root`: version 2, or the
/// memory controller of version 1. In a container its own cgroup is the root that it sees.
fn find(root: &Path, own: &str) -> Option<Cgroup> {
    let path_of = |controller: &str| {
        own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let is_it = parts.next()?.split(',').any(|c| c == controller);
            parts.next().filter(|_| is_it)
        })
    };
    let v2 = |dir: PathBuf| Cgroup {
        usage: dir.join("memory.current"),
        limit: dir.join("memory.max"),
        stat: dir.join("memory.stat"),
        cache: "inactive_file",
    };
    let v1 = |dir: PathBuf| Cgroup {
        usage: dir.join("memory.usage_in_bytes"),
        limit: dir.join("memory.limit_in_bytes"),
        stat: dir.join("memory.stat"),
        cache: "total_inactive_file",
    };
    let below =
        |dir: &Path, path: Option<&str>| path.map(|path| dir.join(path.trim_start_matches('/')));
    let memory = root.join("memory");
    let candidates = [
        below(root, path_of("")).map(v2),
        below(&memory, path_of("memory")).map(v1),
        Some(v2(root.to_owned())),
        Some(v1(memory)),
    ];
    candidates.into_iter().flatten().find(|cgroup| cgroup.usage.is_file() && cgroup.limit.is_file())
}

impl Cgroup {
    /// `None` when there is none: `max`, or version 1's largest number.
    fn limit(&self) -> Option<u64> {
        // Version 1 writes "none" as the largest multiple of a page.
        number(&self.limit).filter(|limit| *limit < i64::MAX as u64 / 2)
    }

    fn used(&self) -> Option<u64> {
        let stat = fs::read_to_string(&self.stat).unwrap_or_default();
        let cache = stat.lines().find_map(|line| {
            let (name, value) = line.split_once(' ')?;
            (name == self.cache).then(|| value.trim().parse::<u64>().ok())?
        });
        Some(number(&self.usage)?.saturating_sub(cache.unwrap_or(0)))
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        root
    }

    fn check(files: &[(&str, &str)], own: &str, expected: Option<(Option<u64>, Option<u64>)>) {
        let root = tree(files);
        let found = find(root.path(), own).map(|cgroup| (cgroup.used(), cgroup.limit()));
        assert_eq!(found, expected, "{own}");
    }

    #[test]
    fn a_cgroup_of_either_version_is_found() {
        let v2 = [
            ("memory.current", "900\n"),
            ("memory.max", "1000\n"),
            ("memory.stat", "anon 5\ninactive_file 100\nactive_file 7\n"),
        ];
        check(&v2, "0::/\n", Some((Some(800), Some(1000))));
        check(&v2, "0::/kubepods/pod7\n", Some((Some(800), Some(1000))));
        check(&v2, "", Some((Some(800), Some(1000))));
        let nested = [
            ("kubepods/pod7/memory.current", "90\n"),
            ("kubepods/pod7/memory.max", "max\n"),
            ("memory.current", "900\n"),
            ("memory.max", "1000\n"),
        ];
        check(&nested, "0::/kubepods/pod7\n", Some((Some(90), None)));
        let v1 = [
            ("memory/memory.usage_in_bytes", "900\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 200\n"),
            ("memory/pod/memory.usage_in_bytes", "90\n"),
            ("memory/pod/memory.limit_in_bytes", "100\n"),
        ];
        check(&v1, "3:cpu:/x\n2:memory:/other\n", Some((Some(700), None)));
        check(&v1, "3:cpu:/x\n2:cpuset,memory:/pod\n", Some((Some(90), Some(100))));
        check(&[], "0::/\n", None);
    }

    #[test]
    fn a_shortage_ends_well_below_where_it_began() {
        assert!(!is_short(false, 899, 1000, 90) && is_short(false, 900, 1000, 90));
        assert!(is_short(true, 850, 1000, 90) && !is_short(true, 849, 1000, 90));
        assert!(is_short(false, u64::MAX, u64::MAX, 90), "no overflow");
    }
}
