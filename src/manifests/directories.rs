//! Watched directories of manifest files: what is in them, and what changes.
//!
//! Must not know: what the objects mean, or what is in force: it hands [`Update`]s to a
//! [`super::Store`]. A directory is watched before it is listed, so nothing falls between.
//! Hidden entries are skipped, which also keeps the `..2024_05_06` directory of a ConfigMap from
//! being read beside the links into it. A link to a file outside is read, but a change behind it
//! is seen only by [`Directories::rescan`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::{News, Parsed, Update};

mod listing;
mod pending;
mod reading;

use listing::{Listing, Stamp};
use pending::{Pending, Shared};

/// Why directories cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is nothing, or it must not be read.
    #[error("cannot open manifests at {path}: name a directory or a file that exists")]
    Missing {
        /// What was asked for.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The kernel gives no watch.
    #[error("cannot watch {path}: raise fs.inotify.max_user_instances and max_user_watches")]
    Watch {
        /// What was to be watched.
        path: PathBuf,
        /// What the system says.
        source: notify::Error,
    },
}

/// Directories and files that hold manifests.
#[derive(Debug)]
pub struct Directories {
    roots: Vec<PathBuf>,
    /// Every manifest file, as last read.
    known: BTreeMap<Arc<Path>, Stamp>,
    /// Paths that could not be listed, each of which stands as an unreadable file.
    failed: BTreeSet<Arc<Path>>,
    /// Real directories that are watched, and the names under which they were found. The kernel
    /// has one watch for a directory, however it is called.
    watched: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    /// Entries whose change replaces a root: the root itself, and links on the way to it.
    entrances: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    pending: Arc<Shared>,
    watcher: RecommendedWatcher,
}

impl Directories {
    /// Checks that every path exists and prepares to watch. Each is a directory, read with all
    /// directories below it, or a file.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self, OpenError> {
        let mut roots: Vec<PathBuf> = Vec::new();
        let mut real_roots = BTreeSet::new();
        for path in paths.iter().map(AsRef::as_ref) {
            let missing = |source| OpenError::Missing { path: path.to_owned(), source };
            if real_roots.insert(fs::canonicalize(path).map_err(missing)?) {
                fs::File::open(path).map_err(missing)?;
                roots.push(path.to_owned());
            }
        }
        let mut entrances: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for root in &roots {
            for entrance in listing::entrances(root) {
                entrances.entry(entrance).or_default().insert(root.clone());
            }
        }
        let shared = Arc::new(Shared::new(outside(&entrances, &real_roots)));
        let handler = shared.clone();
        let watcher = notify::recommended_watcher(move |event| handler.note(event));
        let no_watch = |path: &Path, source| OpenError::Watch { path: path.to_owned(), source };
        let watcher = watcher
            .map_err(|source| no_watch(roots.first().map_or(Path::new(""), |r| r), source))?;
        let mut opened = Self {
            roots,
            known: BTreeMap::new(),
            failed: BTreeSet::new(),
            watched: BTreeMap::new(),
            entrances,
            pending: shared,
            watcher,
        };
        for parent in opened.entrances.keys().filter_map(|entrance| entrance.parent()) {
            // Where the parent must not be read, only a replaced root goes unnoticed.
            if let Err(error) = opened.watcher.watch(parent, RecursiveMode::NonRecursive) {
                tracing::debug!(path = %parent.display(), %error, "parent is not watched");
            }
        }
        for root in real_roots.iter().filter(|root| root.is_dir()) {
            opened
                .watcher
                .watch(root, RecursiveMode::NonRecursive)
                .map_err(|source| no_watch(root, source))?;
        }
        Ok(opened)
    }

    /// Reads every file. Called once, before [`Self::changed`].
    pub fn load(&mut self) -> Update {
        self.rescan()
    }

    /// Lists all directories anew and reads each file whose inode, size or time is another.
    pub fn rescan(&mut self) -> Update {
        let roots = self.roots.clone();
        self.update(BTreeSet::new(), roots.into_iter().collect())
    }

    /// Waits until something has changed, and reads it. Cancelling loses nothing.
    pub async fn changed(&mut self) -> Update {
        loop {
            match self.pending.next_due() {
                None => self.pending.noted().await,
                Some(due) if due > Instant::now() => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = self.pending.noted() => {}
                    }
                }
                Some(_) => {
                    let update = self.take(self.pending.take(Instant::now()));
                    if !update.is_empty() {
                        return update;
                    }
                }
            }
        }
    }

    /// Sorts events into files to read and directories to list.
    fn take(&mut self, pending: Pending) -> Update {
        let mut files = BTreeSet::new();
        let mut rescans = BTreeSet::new();
        if pending.overflowed {
            tracing::warn!("events of watched directories were lost: listing them anew");
            rescans.extend(self.roots.iter().cloned());
        }
        for path in pending.paths {
            rescans.extend(self.entrances.get(&path).into_iter().flatten().cloned());
            // The directory itself is gone.
            rescans.extend(self.watched.get(&path).into_iter().flatten().cloned());
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            for parent in self.watched.get(parent).into_iter().flatten() {
                let path = parent.join(name);
                if name == "..data" {
                    rescans.insert(parent.clone());
                } else if listing::is_hidden(name) {
                    continue;
                } else if path.is_dir() || self.below(&path).any(|file| **file != *path) {
                    rescans.insert(path);
                } else if listing::is_manifest(name) {
                    files.insert(path);
                }
            }
        }
        self.update(files, rescans)
    }

    /// Reads `files` whatever their stamps say, and below `rescans` what has another stamp.
    fn update(&mut self, files: BTreeSet<PathBuf>, rescans: BTreeSet<PathBuf>) -> Update {
        let mut update = Update::new();
        let mut read: BTreeMap<Arc<Path>, Stamp> = BTreeMap::new();
        for path in files {
            let path: Arc<Path> = path.into();
            match Stamp::of(&path) {
                Ok(stamp) => {
                    read.insert(path, stamp);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if self.known.remove(&path).is_some() {
                        update.push(News::File(path, None));
                    }
                }
                Err(error) => self.fail(path, &error, &mut update),
            }
        }
        for path in rescans {
            let listing = self.list(&path);
            self.compare(&path, listing, &mut read, &mut update);
        }
        self.known.extend(read.iter().map(|(path, stamp)| (path.clone(), *stamp)));
        update.extend(reading::read_all(read.into_keys().collect()));
        update
    }

    /// Lists what is below `path`, watching each directory first.
    fn list(&mut self, path: &Path) -> Listing {
        let mut listing = Listing::default();
        let watcher = &mut self.watcher;
        listing.list(path, &mut |directory| {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                let path = directory.display();
                tracing::warn!(%path, %error, "changes of this directory will not be seen");
            }
        });
        for names in self.watched.values_mut() {
            names.retain(|name| !name.starts_with(path));
        }
        for (real, name) in &listing.directories {
            self.watched.entry(real.clone()).or_default().insert(name.clone());
        }
        let parents: BTreeSet<_> = self.entrances.keys().filter_map(|path| path.parent()).collect();
        self.watched.retain(|real, names| {
            if names.is_empty() && !parents.contains(real.as_path()) {
                // It fails when the directory is gone, and the watch with it.
                let _ = watcher.unwatch(real);
            }
            !names.is_empty()
        });
        listing
    }

    /// Compares a listing with what is known.
    fn compare(
        &mut self,
        path: &Path,
        listing: Listing,
        read: &mut BTreeMap<Arc<Path>, Stamp>,
        update: &mut Update,
    ) {
        let mut failures = listing.failures;
        // A directory that is gone is gone; a root that is gone is a fault.
        failures.retain(|(at, error)| {
            self.roots.contains(at) || error.kind() != io::ErrorKind::NotFound
        });
        let is_failed = |file: &Path| failures.iter().any(|(at, _)| file.starts_with(at));
        let gone: Vec<_> = self
            .below(path)
            .filter(|file| !listing.files.contains_key(*file) && !is_failed(file))
            .cloned()
            .collect();
        for file in gone {
            self.known.remove(&file);
            update.push(News::File(file, None));
        }
        let failed = self.failed.iter().filter(|at| at.starts_with(path) && !is_failed(at));
        for healed in failed.cloned().collect::<Vec<_>>() {
            self.failed.remove(&healed);
            update.push(News::File(healed, None));
        }
        for (file, stamp) in listing.files {
            if self.known.get(&file) != Some(&stamp) {
                read.insert(file, stamp);
            }
        }
        for (at, error) in failures {
            self.fail(at.into(), &error, update);
        }
    }

    /// Lets `path` stand as an unreadable file: what was read from it or below it stays in use.
    fn fail(&mut self, path: Arc<Path>, error: &io::Error, update: &mut Update) {
        let parsed = Parsed::unreadable(&path, format!("cannot be read: {error}"));
        if !self.known.contains_key(&path) {
            self.failed.insert(path.clone());
        }
        update.push(News::File(path, Some(parsed)));
    }

    /// The known files below `path`, or `path` itself.
    fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Arc<Path>> {
        let from = (Bound::Included(path), Bound::Unbounded);
        let files = self.known.range::<Path, _>(from).map(|(file, _)| file);
        files.take_while(move |file| file.starts_with(path))
    }
}

/// For each directory that is watched only for an entrance in it: the names that matter there.
fn outside(
    entrances: &BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    real_roots: &BTreeSet<PathBuf>,
) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let mut outside: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for entrance in entrances.keys() {
        let Some(parent) = entrance.parent() else { continue };
        if !real_roots.iter().any(|root| parent.starts_with(root)) {
            outside.entry(parent.to_owned()).or_default().insert(entrance.clone());
        }
    }
    outside
}

#[cfg(test)]
mod tests;
