//! Reads and parses many files, on two threads when it is worth it.
//!
//! Must not know: why they are read.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::manifests::{
    News, Parsed, Update,
    parse::{self, FILE_BYTES_MAX},
};

/// More do not help on the two cores a gateway has, and the workers need theirs.
const THREADS: usize = 2;
/// Files below which starting a thread costs more than it saves.
const FILES_PER_THREAD_MIN: usize = 8;

/// Reads every file; a file that is gone by now is told as gone.
pub(super) fn read_all(files: Vec<Arc<Path>>) -> Update {
    let threads = THREADS.min(files.len() / FILES_PER_THREAD_MIN).max(1);
    let next = AtomicUsize::new(0);
    let take_turns = || {
        let mut update = Update::new();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            update.push(News::File(file.clone(), read(file)));
        }
        update
    };
    thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(take_turns)).collect();
        let mut update = take_turns();
        for helper in helpers {
            match helper.join() {
                Ok(more) => update.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        update
    })
}

fn read(file: &Arc<Path>) -> Option<Parsed> {
    match bytes(file) {
        Ok(bytes) => Some(parse::parse(file, &bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Parsed::unreadable(file, format!("cannot be read: {error}"))),
    }
}

/// At most one byte more than is parsed, however large the file grows.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    if metadata.len() >= limit {
        let len = metadata.len();
        let what =
            format!("it has {len} bytes, more than the {FILE_BYTES_MAX} of a file: split it");
        return Err(io::Error::other(what));
    }
    // One more, so that the read that finds the end needs no more room.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
