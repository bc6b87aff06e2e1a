//! The file of addresses on disk: one writer at a time, replaced whole or not at all.
//!
//! Must not know: what a record means.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use super::{
    super::{ExportError, atomic},
    held::{At, Held},
};

/// 65,000 names of 250 bytes are a quarter of it.
const BYTES_MAX: u64 = 64 << 20;
/// How long another run may take: 5,000 files on a slow disk.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Where the file is.
#[derive(Clone, Debug)]
pub struct AddressFile {
    path: PathBuf,
}

impl AddressFile {
    /// The file at this path, which need not exist.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Waits for other runs to end and reads it. The lock is a hidden file beside it, since the
    /// file itself is replaced.
    ///
    /// # Errors
    /// When it cannot be read, is not what was written there, or is held by another run.
    pub fn hold(&self) -> Result<Held, ExportError> {
        let path = self.real();
        let lock = beside(&path, ".lock");
        let failed = |source| ExportError::File { path: lock.clone(), doing: "locking", source };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o644);
        // A link or a device in its place is nothing that we made.
        options.custom_flags(nofollow());
        let file = options.open(&lock).map_err(failed)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    thread::sleep(LOCK_PAUSE);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(ExportError::Locked { path }),
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        held(path, Some(file))
    }

    /// Reads it without a lock and without making one, for a run that writes nothing.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written there.
    pub fn look(&self) -> Result<Held, ExportError> {
        held(self.real(), None)
    }

    /// Behind a link, the file that it leads to: the link is kept.
    fn real(&self) -> PathBuf {
        self.path.canonicalize().unwrap_or_else(|_| self.path.clone())
    }
}

/// What is there, held for as long as `lock` is open.
fn held(path: PathBuf, lock: Option<File>) -> Result<Held, ExportError> {
    let failed = |source| ExportError::File { path: path.clone(), doing: "reading", source };
    let before = read(&path).map_err(failed)?;
    Held::new(path.display().to_string(), before, At::File(path, lock))
}

/// Writes it in place of what is there, whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> Result<(), ExportError> {
    atomic::replace(path, text.as_bytes()).map_err(|source| ExportError::File {
        path: path.to_owned(),
        doing: "writing",
        source,
    })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{suffix}"))
}

fn nofollow() -> i32 {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    i32::try_from(flags.bits()).unwrap_or_default()
}

/// The whole of a regular file. Opened without waiting: a pipe in its place has no writer.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut options = OpenOptions::new();
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = match options.read(true).custom_flags(nonblocking).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Replaced by a file, it would lead nowhere for ever, and the addresses with it.
            return match path.symlink_metadata() {
                Ok(_) => Err(io::Error::other("it is a link to a file that is not there")),
                Err(_) => Ok(None),
            };
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.len() > BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {BYTES_MAX} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, sync::mpsc};

    use super::{super::Book, *};

    fn wait<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(work)
    }

    fn names(held: &mut Held, hosts: &[&str]) {
        let range = "127.255.0.0/16".parse().expect("a range");
        assert!(held.book.assign(hosts.iter().copied(), range, |_| false).without.is_empty());
    }

    #[test]
    fn a_file_is_made_kept_and_not_touched_without_need() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("addresses");
        let file = AddressFile::new(&path);
        let mut held = file.hold().expect("held");
        names(&mut held, &["a.global"]);
        wait(held.save()).expect("saved");
        drop(held);
        // A comment of somebody stays while nothing changes.
        let text = format!("# mine\n{}", fs::read_to_string(&path).expect("read"));
        fs::write(&path, &text).expect("written");
        let mut held = file.hold().expect("held");
        names(&mut held, &["a.global"]);
        wait(held.save()).expect("saved");
        assert_eq!(fs::read_to_string(&path).expect("read"), text);
        let left: Vec<_> = fs::read_dir(dir.path()).expect("a directory").flatten().collect();
        assert_eq!(left.len(), 2, "the file and its lock: {left:?}");
    }

    #[test]
    fn two_writers_come_one_after_the_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = AddressFile::new(&dir.path().join("addresses"));
        let mut first = file.hold().expect("held");
        let (done, second) = mpsc::channel();
        let other = file.clone();
        let thread = thread::spawn(move || {
            let mut held = other.hold().expect("held");
            names(&mut held, &["b.global"]);
            wait(held.save()).expect("saved");
            done.send(held.book.len()).expect("a listener");
        });
        assert!(second.try_recv().is_err(), "the second waits");
        names(&mut first, &["a.global"]);
        wait(first.save()).expect("saved");
        drop(first);
        assert_eq!(second.recv().expect("an end"), 2, "it saw what the first had written");
        thread.join().expect("no panic");
    }

    #[test]
    fn what_is_no_such_file_is_an_error_and_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("empty"), "").expect("written");
        fs::write(at("binary"), b"diolkos-addresses 1\n\xff\xfe\0").expect("written");
        symlink("absent", at("dangling")).expect("a link");
        fs::write(at("cut"), "diolkos-addresses 1\n10.0.0.2 a.glo").expect("written");
        fs::create_dir(at("dir")).expect("made");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .expect("a pipe");
        for (name, why) in [
            ("empty", "`diolkos-addresses 1` is missing"),
            (
                "binary",
                "binary:2: there are bytes that are no text: this is no file of addresses; \
                        it is left as it is: mend it",
            ),
            ("dangling", "it is a link to a file that is not there"),
            ("cut", "`end` is missing"),
            ("dir", "no regular file"),
            ("pipe", "no regular file"),
        ] {
            let bytes = || if name == "pipe" { None } else { fs::read(at(name)).ok() };
            let before = bytes();
            let error = AddressFile::new(&at(name)).hold().expect_err(name);
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let error = format!("{error}: {}", source.unwrap_or_default());
            assert!(error.contains(why) && error.contains(name), "{name}: {error}");
            assert_eq!(before, bytes(), "{name}");
        }
    }

    #[test]
    fn a_link_to_the_file_stays_a_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&path, Book::default().text()).expect("written");
        symlink(&path, &link).expect("a link");
        let mut held = AddressFile::new(&link).hold().expect("held");
        names(&mut held, &["a.global"]);
        wait(held.save()).expect("saved");
        assert!(link.symlink_metadata().expect("there").is_symlink());
        assert!(fs::read_to_string(&path).expect("read").contains("a.global"));
    }
}
