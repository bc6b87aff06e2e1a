//! The workload's certificates in use, read again when their files change.
//!
//! The files are looked at each second: three calls of stat(2), which see a replaced file, a
//! replaced link and a replaced directory alike. What cannot be used changes nothing. Must not
//! know: connections, what is in a certificate.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;

use crate::certs::{CertsError, Credentials, credentials};

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Istio's agents renew at half of the lifetime: with a quarter left, somebody forgot to.
const SOON: u32 = 4;

/// The certificates, and what is known of their files.
#[derive(Debug)]
pub(super) struct Keyring {
    dir: PathBuf,
    current: ArcSwap<Credentials>,
    watched: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    stamps: Stamps,
    told: Age,
    /// Why what is in the files now is not in use, if so.
    refused: Option<String>,
}

/// Device, inode, size and time of each file; `None` for one that is absent.
type Stamps = [Option<(u64, u64, u64, i64, i64)>; credentials::FILES.len()];

/// How old a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Early,
    Good,
    Late,
    Over,
}

impl Keyring {
    /// Reads the files.
    ///
    /// # Errors
    /// Which of them cannot be used, and why.
    pub(super) fn open(dir: &Path) -> Result<Self, CertsError> {
        let stamps = stamps(dir);
        let current = Arc::new(Credentials::read(dir)?);
        tell(&current, "certificate read");
        let watched = Mutex::new(Watched { stamps, told: Age::Good, refused: None });
        Ok(Self { dir: dir.to_owned(), current: current.into(), watched })
    }

    /// The certificates of this moment.
    pub(super) fn current(&self) -> Arc<Credentials> {
        self.current.load_full()
    }

    /// Why peers refuse us, if the certificate is out of its time.
    pub(super) fn expired(&self) -> Option<String> {
        let current = self.current();
        match age(&current, SystemTime::now()) {
            Age::Good | Age::Late => None,
            Age::Over => Some(format!("the certificate of {} has expired", current.id())),
            Age::Early => Some(format!("the certificate of {} is not valid yet", current.id())),
        }
    }

    /// Why what is in the files now is not in use, if so.
    pub(super) fn refused(&self) -> Option<String> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).refused.clone()
    }

    /// Looks at the files each second, for ever.
    pub(super) async fn watch(&self) {
        loop {
            self.look();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads the files, changed or not.
    pub(super) fn look_again(&self) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).stamps = Stamps::default();
        self.look();
    }

    /// Reads the files if one of them changed, and warns of the end.
    fn look(&self) {
        let now = SystemTime::now();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.dir);
        // What was refused may become the better one: when ours expires, or its time begins.
        if stamps != watched.stamps || watched.refused.is_some() {
            watched.stamps = stamps;
            let read = Credentials::read(&self.dir).map_err(|error| with_source(&error));
            let read = read.and_then(|read| match worse(&read, &self.current(), now) {
                None => Ok(read),
                Some(why) => Err(why),
            });
            let refused = match read {
                Ok(read) => {
                    tell(&read, "certificate read again");
                    self.current.store(Arc::new(read));
                    None
                }
                Err(error) => Some(error),
            };
            if let Some(error) = refused.as_ref().filter(|_| refused != watched.refused) {
                tracing::warn!(%error, "certificate not taken: the old one stays in use");
            }
            watched.refused = refused;
        }
        let current = self.current();
        let age = age(&current, now);
        if age != watched.told {
            watched.told = age;
            let identity = current.id();
            match age {
                Age::Good => {}
                Age::Early => tracing::error!(%identity, "the certificate is not valid yet"),
                Age::Late => tracing::warn!(
                    %identity,
                    seconds_left = seconds_left(&current),
                    "the certificate ends soon and was not replaced"
                ),
                Age::Over => tracing::error!(
                    %identity,
                    "the certificate has expired: peers refuse it; write a new one"
                ),
            }
        }
    }
}

/// Why peers would take `new` less than `current`, if so. A directory that is replaced file by file
/// is between two states for a moment, and a file may be the wrong one.
fn worse(new: &Credentials, current: &Credentials, now: SystemTime) -> Option<String> {
    let is_over = |age| matches!(age, Age::Early | Age::Over);
    if is_over(age(new, now)) && !is_over(age(current, now)) {
        return Some(format!("the certificate of {} is out of its time", new.id()));
    }
    // One that never led to our root, which serves peers of another, is renewed as it is.
    let doubt = new.doubt().filter(|_| current.doubt().is_none())?;
    Some(format!("the certificate {doubt}"))
}

/// The error and what is behind it.
fn with_source(error: &CertsError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn tell(read: &Credentials, what: &'static str) {
    let (identity, seconds_left) = (read.id(), seconds_left(read));
    tracing::info!(%identity, seconds_left, "{what}");
    if let Some(doubt) = read.doubt() {
        tracing::warn!(%identity, "the certificate {doubt}: peers with that root refuse it");
    }
}

fn seconds_left(read: &Credentials) -> u64 {
    read.not_after().duration_since(SystemTime::now()).unwrap_or_default().as_secs()
}

fn age(read: &Credentials, now: SystemTime) -> Age {
    let lifetime = read.not_after().duration_since(read.not_before()).unwrap_or_default();
    match read.not_after().duration_since(now) {
        _ if now < read.not_before() => Age::Early,
        Err(_) | Ok(Duration::ZERO) => Age::Over,
        Ok(left) if left < lifetime / SOON => Age::Late,
        Ok(_) => Age::Good,
    }
}

fn stamps(dir: &Path) -> Stamps {
    credentials::FILES.map(|name| {
        let of = fs::metadata(dir.join(name)).ok()?;
        Some((of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::{Authority, Existing, SpiffeId};

    fn issue(dir: &Path, account: &str, now: SystemTime) {
        let id = SpiffeId::new("cluster.local", "ns1", account).expect("an identity");
        let root = Authority::root(now).expect("a root");
        let leaf = root.cluster("c", now).and_then(|c| c.workload(&id, now)).expect("a leaf");
        leaf.write_over(dir, Existing::Replace).expect("written");
    }

    fn account(keyring: &Keyring) -> String {
        keyring.current().id().to_string().rsplit('/').next().expect("an account").to_owned()
    }

    #[test]
    fn a_changed_pair_is_taken_and_half_of_one_is_not() {
        let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        issue(dir.path(), "old", SystemTime::now());
        issue(other.path(), "new", SystemTime::now());
        let keyring = Keyring::open(dir.path()).expect("good files");
        let replace = |name| {
            let beside = dir.path().join("beside");
            fs::copy(other.path().join(name), &beside).expect("copy");
            fs::rename(beside, dir.path().join(name)).expect("rename");
            keyring.look();
        };
        replace("key.pem");
        assert_eq!(account(&keyring), "old", "its key is gone, what was read stays");
        replace("root-cert.pem");
        assert_eq!(account(&keyring), "old");
        replace("cert-chain.pem");
        assert_eq!(account(&keyring), "new");
        fs::remove_file(dir.path().join("key.pem")).expect("remove");
        keyring.look();
        assert_eq!(account(&keyring), "new");
    }

    #[test]
    fn what_peers_would_refuse_does_not_replace_a_good_one() {
        let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let (now, days) = (SystemTime::now(), Duration::from_secs(3 * 86_400));
        issue(dir.path(), "good", now);
        let keyring = Keyring::open(dir.path()).expect("good files");
        issue(dir.path(), "stale", now - days);
        keyring.look();
        assert_eq!(account(&keyring), "good");
        assert!(keyring.refused().expect("a reason").contains("out of its time"));
        issue(dir.path(), "renewed", now);
        keyring.look();
        assert_eq!((account(&keyring), keyring.refused()), ("renewed".into(), None));
        issue(other.path(), "other", now);
        let root = "root-cert.pem";
        fs::copy(other.path().join(root), dir.path().join(root)).expect("copy");
        keyring.look();
        assert!(keyring.refused().expect("a reason").contains("does not lead to the root"));
        assert_eq!(keyring.current().doubt(), None, "what was read first stays");
        issue(dir.path(), "last", now);
        keyring.look();
        assert_eq!((account(&keyring), keyring.refused()), ("last".into(), None));
    }

    #[test]
    fn where_ours_has_expired_an_expired_one_is_no_worse() {
        let dir = tempfile::tempdir().expect("dir");
        let long_ago = SystemTime::now() - Duration::from_secs(3 * 86_400);
        issue(dir.path(), "old", long_ago);
        let keyring = Keyring::open(dir.path()).expect("good files");
        issue(dir.path(), "new", long_ago);
        keyring.look();
        assert_eq!(account(&keyring), "new");
    }

    #[test]
    fn a_certificate_is_early_good_late_and_over() {
        let dir = tempfile::tempdir().expect("dir");
        let now = SystemTime::now();
        issue(dir.path(), "a", now);
        let read = Credentials::read(dir.path()).expect("good files");
        let hours = |n: u64| Duration::from_secs(n * 3600);
        assert_eq!(age(&read, now - hours(1)), Age::Early);
        assert_eq!(age(&read, now), Age::Good);
        assert_eq!(age(&read, now + hours(17)), Age::Good);
        assert_eq!(age(&read, now + hours(19)), Age::Late);
        assert_eq!(age(&read, now + hours(25)), Age::Over);
    }
}
