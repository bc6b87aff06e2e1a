//! Events of watched directories until they are ripe: when to look at a path that changed.
//!
//! Must not know: which paths matter, what is read. A file is looked at when its writer closes it
//! or a rename puts it in place, never while it is written: half a file can be valid and say the
//! wrong thing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};
use tokio::sync::Notify;

/// After a close or a rename: long enough for the other half of a move, and of an editor's save.
const SETTLED: Duration = Duration::from_millis(5);
/// After a creation that nobody writes to: a link.
const CREATED: Duration = Duration::from_millis(50);
/// After a write that nobody closes. Local writers always close; the rare one that keeps its file
/// open is taken to be done when it was quiet for so long.
const QUIET: Duration = Duration::from_secs(2);
/// Paths that wait, beyond which everything is listed anew.
const PATHS_MAX: usize = 10_000;

/// What is ripe.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) paths: BTreeSet<PathBuf>,
    /// Events were lost.
    pub(super) overflowed: bool,
}

/// Events on their way from the watching thread.
#[derive(Debug)]
pub(super) struct Shared {
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Directories in which only these entries matter.
    outside: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

impl Shared {
    pub(super) fn new(outside: BTreeMap<PathBuf, BTreeSet<PathBuf>>) -> Self {
        Self { waiting: Mutex::default(), wake: Notify::new(), outside }
    }

    /// Takes in an event, on the watching thread.
    pub(super) fn note(&self, event: notify::Result<Event>) {
        let now = Instant::now();
        let mut waiting = self.waiting();
        match event {
            Err(_) => waiting.overflow(now),
            Ok(event) if event.need_rescan() => waiting.overflow(now),
            Ok(event) => {
                let Some(wait) = wait(event.kind) else { return };
                for path in event.paths.into_iter().filter(|path| self.matters(path)) {
                    waiting.add(path, wait, now);
                }
            }
        }
        let is_sooner = std::mem::take(&mut waiting.is_sooner);
        drop(waiting);
        if is_sooner {
            self.wake.notify_one();
        }
    }

    /// When something is ripe. Whoever asks is told by [`Self::noted`] of what is due before that.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let mut waiting = self.waiting();
        waiting.told = waiting.next_due();
        waiting.told
    }

    /// Takes what is ripe at `now`.
    pub(super) fn take(&self, now: Instant) -> Pending {
        self.waiting().take(now)
    }

    /// Waits until something is due sooner than [`Self::next_due`] said. A file that is saved makes
    /// half a dozen events, and a waker for each cost more than to read it.
    pub(super) async fn noted(&self) {
        self.wake.notified().await;
    }

    fn matters(&self, path: &PathBuf) -> bool {
        let entries = path.parent().and_then(|parent| self.outside.get(parent));
        entries.is_none_or(|entries| entries.contains(path))
    }

    /// A panic elsewhere leaves the paths whole.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait after an event of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Settled,
    Created,
    Quiet,
}

fn wait(kind: EventKind) -> Option<Wait> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(CreateKind::Folder)
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Remove(_) => Some(Wait::Settled),
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Metadata(_)) => Some(Wait::Created),
        EventKind::Modify(_) => Some(Wait::Quiet),
        EventKind::Access(_) | EventKind::Any | EventKind::Other => None,
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// When each path is due; and, once it was closed, when it may not be put off any longer.
    paths: BTreeMap<PathBuf, (Instant, Option<Instant>)>,
    overflowed: Option<Instant>,
    /// What was last said to be due first.
    told: Option<Instant>,
    /// Something is due before that.
    is_sooner: bool,
}

impl Waiting {
    fn add(&mut self, path: PathBuf, wait: Wait, now: Instant) {
        if self.paths.len() >= PATHS_MAX && !self.paths.contains_key(&path) {
            return self.overflow(now);
        }
        let due = match wait {
            Wait::Settled => now + SETTLED,
            Wait::Created => now + CREATED,
            Wait::Quiet => now + QUIET,
        };
        let (old, latest) = self.paths.entry(path).or_insert((due, None));
        *old = match wait {
            Wait::Settled => due.min(*latest.get_or_insert(now + QUIET)),
            Wait::Created => *old,
            // Who writes and closes without a pause would otherwise never be read.
            Wait::Quiet => latest.map_or(due, |latest| due.min(latest)),
        };
        let due = *old;
        self.note_due(due);
    }

    fn overflow(&mut self, now: Instant) {
        self.paths.clear();
        let due = *self.overflowed.get_or_insert(now + SETTLED);
        self.note_due(due);
    }

    fn note_due(&mut self, due: Instant) {
        if self.told.is_none_or(|told| due < told) {
            self.told = Some(due);
            self.is_sooner = true;
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.paths.values().map(|(due, _)| *due).chain(self.overflowed).min()
    }

    fn take(&mut self, now: Instant) -> Pending {
        let overflowed = self.overflowed.take_if(|due| *due <= now).is_some();
        let mut paths = BTreeSet::new();
        self.paths.retain(|path, (due, _)| {
            let waits = *due > now;
            if !waits {
                paths.insert(path.clone());
            }
            waits
        });
        Pending { paths, overflowed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events of `a`, at milliseconds, and when it is due then.
    fn check(events: &[(Wait, u64)], expected: u64) {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut waiting = Waiting::default();
        for (wait, millis) in events {
            waiting.add("a".into(), *wait, at(*millis));
        }
        assert_eq!(waiting.next_due(), Some(at(expected)), "{events:?}");
        assert_eq!(waiting.take(at(expected - 1)), Pending::default());
        assert_eq!(waiting.take(at(expected)).paths, [PathBuf::from("a")].into());
        assert_eq!(waiting.next_due(), None);
    }

    #[test]
    fn a_file_is_ripe_when_it_is_closed_and_late_when_it_is_not() {
        use Wait::{Created, Quiet, Settled};
        check(&[(Settled, 100)], 105);
        check(&[(Created, 0)], 50);
        check(&[(Created, 0), (Quiet, 1)], 2_001);
        check(&[(Created, 0), (Quiet, 1), (Settled, 10)], 15);
        check(&[(Quiet, 0), (Quiet, 1_900)], 3_900);
        check(&[(Settled, 0), (Quiet, 1)], 2_000);
        check(&[(Settled, 0), (Quiet, 1), (Settled, 2)], 7);
        check(&[(Settled, 0), (Quiet, 1_998), (Settled, 1_999)], 2_000);
        check(&[(Settled, 0), (Created, 1)], 5);
    }

    #[test]
    fn whoever_waits_is_woken_only_for_what_is_due_sooner() {
        let start = Instant::now();
        let mut waiting = Waiting::default();
        let mut is_sooner = |path: &str, wait, millis| {
            waiting.add(path.into(), wait, start + Duration::from_millis(millis));
            std::mem::take(&mut waiting.is_sooner)
        };
        assert!(is_sooner("a", Wait::Created, 0), "the first");
        assert!(!is_sooner("a", Wait::Quiet, 1), "it was put off");
        assert!(!is_sooner("b", Wait::Created, 2), "after what is waited for");
        assert!(is_sooner("a", Wait::Settled, 3), "at 8 instead of 50");
        assert!(!is_sooner("b", Wait::Settled, 4), "at 9");
    }

    #[test]
    fn too_many_paths_are_an_overflow() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        for index in 0..=PATHS_MAX {
            waiting.add(index.to_string().into(), Wait::Settled, now);
        }
        let pending = waiting.take(now + SETTLED);
        assert_eq!(pending, Pending { paths: BTreeSet::new(), overflowed: true });
        assert_eq!(waiting.take(now + SETTLED), Pending::default());
    }

    #[test]
    fn only_what_could_be_a_change_is_noted() {
        let only = PathBuf::from("/out/root");
        let shared = Shared::new([("/out".into(), [only.clone()].into())].into());
        let note = |kind, path: &str| shared.note(Ok(Event::new(kind).add_path(path.into())));
        note(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/in/a");
        note(EventKind::Access(AccessKind::Close(AccessMode::Read)), "/in/a");
        note(EventKind::Create(CreateKind::File), "/out/other");
        assert_eq!(shared.next_due(), None);
        note(EventKind::Create(CreateKind::File), "/out/root");
        note(EventKind::Create(CreateKind::Folder), "/in/a");
        let pending = shared.take(Instant::now() + QUIET);
        assert_eq!(pending.paths, [only, "/in/a".into()].into());
    }
}
