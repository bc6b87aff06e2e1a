//! Whether certificates on disk are what a mesh of several clusters needs: every failure by file
//! and reason.
//!
//! Reads directories as [`super::Authority::write`] and [`super::Leaf::write`] leave them, or
//! Istio's own tools. Must not know: who asks, how it is shown.

use std::{
    collections::BTreeSet,
    fmt,
    fs::Metadata,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::X509Certificate;

use super::{
    SpiffeId,
    authority::{CA_CERT, CA_KEY, ROOT_KEY},
    chain::{self, Certificates},
    files::{self, CHAIN, ROOT_CERT},
    verify,
    workload::KEY,
};

/// An authority that ends sooner than this is remarked: replacing it in every cluster takes days.
pub const ENDS_SOON: Duration = Duration::from_secs(30 * 86_400);
/// How deep directories are looked into.
const DEPTH_MAX: usize = 4;

/// How bad a remark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, and needs attention.
    Warning,
    /// It does not work.
    Failed,
}

/// One remark on one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The file, or the directory.
    pub path: PathBuf,
    /// How bad it is.
    pub verdict: Verdict,
    /// What it is, or what is wrong with it.
    pub text: String,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Audit {
    /// In the order in which files were looked at.
    pub remarks: Vec<Remark>,
    /// Each workload's certificate, and who it is for.
    pub workloads: Vec<(PathBuf, SpiffeId)>,
    /// Each file of roots, and what it holds.
    roots: Vec<(PathBuf, BTreeSet<Vec<u8>>)>,
}

impl Audit {
    /// True when nothing failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.remarks.iter().all(|remark| remark.verdict != Verdict::Failed)
    }

    fn say(&mut self, path: &Path, verdict: Verdict, text: impl Into<String>) {
        self.remarks.push(Remark { path: path.to_owned(), verdict, text: text.into() });
    }

    fn fail(&mut self, path: &Path, text: impl Into<String>) {
        self.say(path, Verdict::Failed, text);
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "good",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
        };
        write!(f, "{}: {verdict}: {}", self.path.display(), self.text)
    }
}

/// Looks at each directory and those below it.
#[must_use]
pub fn audit<P: AsRef<Path>>(directories: &[P], now: SystemTime) -> Audit {
    let mut audit = Audit::default();
    for directory in directories.iter().map(AsRef::as_ref) {
        let mut found = Vec::new();
        collect(directory, DEPTH_MAX, &mut found);
        if found.is_empty() {
            let wanted = [CA_CERT, CA_KEY, ROOT_CERT, CHAIN].join(", ");
            audit.fail(directory, format!("holds no certificates ({wanted}), or cannot be read"));
        }
        for at in found {
            Looking { at: &at, now, audit: &mut audit }.look();
        }
    }
    same_root(&mut audit);
    audit
}

/// Directories that hold something of ours, in order.
fn collect(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let holds = |name: &&str| directory.join(name).symlink_metadata().is_ok();
    if [ROOT_CERT, ROOT_KEY, CA_CERT, CA_KEY, CHAIN, KEY].iter().any(holds) {
        found.push(directory.to_owned());
    }
    let Some(depth) = depth.checked_sub(1) else { return };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    // Hidden ones hold the same files again, in a volume of Kubernetes.
    let visible = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let mut below: Vec<_> = visible.map(|e| e.path()).filter(|path| path.is_dir()).collect();
    below.sort();
    below.iter().for_each(|path| collect(path, depth, found));
}

fn same_root(audit: &mut Audit) {
    let mut roots = std::mem::take(&mut audit.roots).into_iter();
    let Some((first, expected)) = roots.next() else { return };
    for (path, found) in roots {
        if found != expected {
            let first = first.display();
            audit.fail(
                &path,
                format!(
                    "is another root than {first}: workloads of the two do not trust each other"
                ),
            );
        }
    }
}

/// One directory under the eye.
struct Looking<'a> {
    at: &'a Path,
    now: SystemTime,
    audit: &'a mut Audit,
}

impl Looking<'_> {
    fn look(&mut self) {
        let roots = self.read(ROOT_CERT).unwrap_or_default();
        if !roots.is_empty() {
            let set = roots.iter().map(|der| der.to_vec()).collect();
            self.audit.roots.push((self.at.join(ROOT_CERT), set));
        }
        self.roots(&roots);
        let holds = |name: &str| self.at.join(name).symlink_metadata().is_ok();
        let (authority, root, workload) =
            (holds(CA_CERT) || holds(CA_KEY), holds(ROOT_KEY), holds(KEY) || holds(CHAIN));
        if root && let Some(first) = roots.first() {
            self.key(ROOT_KEY, ROOT_CERT, first);
        }
        if authority {
            self.authority(&roots);
        } else if workload {
            self.workload(&roots);
        }
    }

    fn roots(&mut self, roots: &[CertificateDer<'static>]) {
        let path = self.at.join(ROOT_CERT);
        for der in roots {
            let checked = chain::parse(der).and_then(|root| {
                is_authority(&root)?;
                if root.subject() != root.issuer() || root.verify_signature(None).is_err() {
                    return Err("is not signed by itself: it is no root".to_owned());
                }
                Ok(root)
            });
            self.judge(&path, checked, None);
        }
    }

    /// A cluster's authority, the four files of `cacerts`.
    fn authority(&mut self, roots: &[CertificateDer<'static>]) {
        let path = self.at.join(CA_CERT);
        let (Some(own), chain) = (self.read(CA_CERT), self.read(CHAIN).unwrap_or_default()) else {
            return;
        };
        let Some(first) = own.first() else { return };
        self.key(CA_KEY, CA_CERT, first);
        if !chain.is_empty() && chain.first() != Some(first) {
            let text = format!("does not begin with the certificate of {CA_CERT}");
            self.audit.fail(&self.at.join(CHAIN), text);
        }
        let checked = chain::parse(first).and_then(|certificate| {
            is_authority(&certificate)?;
            self.follow(&path, &own, &chain, roots)?;
            Ok(certificate)
        });
        if let Ok(certificate) = &checked
            && chain::path_length(certificate).is_none()
            && !roots.contains(first)
        {
            let text = "has no pathlen: it could make further authorities";
            self.audit.say(&path, Verdict::Warning, text);
        }
        self.judge(&path, checked, None);
    }

    fn workload(&mut self, roots: &[CertificateDer<'static>]) {
        let path = self.at.join(CHAIN);
        let Some(chain) = self.read(CHAIN) else { return };
        let Some(leaf) = chain.first() else { return };
        self.key(KEY, CHAIN, leaf);
        let identities = verify::identities(leaf);
        let known = identities.iter().filter_map(|text| SpiffeId::parse(text).ok());
        self.audit.workloads.extend(known.map(|id| (path.clone(), id)));
        let checked = chain::parse(leaf).and_then(|certificate| {
            is_workload(&certificate, leaf)?;
            self.follow(&path, &chain, &chain, roots)?;
            Ok(certificate)
        });
        self.judge(&path, checked, Some(&identities.join(" ")));
        for der in chain.iter().skip(1).filter(|der| !roots.contains(der)) {
            let checked = chain::parse(der).and_then(|issuer| {
                is_authority(&issuer)?;
                Ok(issuer)
            });
            self.judge(&path, checked, None);
        }
    }

    fn follow(
        &self,
        path: &Path,
        own: &[CertificateDer<'static>],
        between: &[CertificateDer<'static>],
        roots: &[CertificateDer<'static>],
    ) -> Result<(), String> {
        chain::follow(
            Certificates { file: path, list: own },
            Certificates { file: &self.at.join(CHAIN), list: between },
            Certificates { file: &self.at.join(ROOT_CERT), list: roots },
        )
    }

    /// The certificates of a file; what cannot be read is remarked.
    fn read(&mut self, name: &str) -> Option<Vec<CertificateDer<'static>>> {
        let path = self.at.join(name);
        match files::read_certificates(&path) {
            Ok(certificates) => Some(certificates),
            Err(error) => {
                let source = std::error::Error::source(&error);
                let why = source.map_or_else(|| error.to_string(), ToString::to_string);
                let prefix = format!("{}: ", path.display());
                self.audit.fail(&path, why.strip_prefix(&prefix).unwrap_or(&why));
                None
            }
        }
    }

    fn key(&mut self, name: &str, of: &str, certificate: &CertificateDer<'static>) {
        let path = self.at.join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return self.audit.fail(&path, format!("cannot be read: {error}")),
        };
        let key = match KeyPair::from_pem(&text) {
            Ok(key) => key,
            Err(error) => {
                return self.audit.fail(&path, format!("is no private key in PEM: {error}"));
            }
        };
        let matches = chain::parse(certificate)
            .is_ok_and(|certificate| certificate.public_key().raw == key.subject_public_key_info());
        if !matches {
            return self.audit.fail(&path, format!("is not the key of the certificate in {of}"));
        }
        self.audit.say(&path, Verdict::Good, format!("the key of {of}"));
        if path.metadata().is_ok_and(|metadata| others_read(&metadata)) {
            let text = "others than its owner can read it: chmod 600";
            self.audit.say(&path, Verdict::Warning, text);
        }
    }

    /// Remarks on what was checked, and on its time. `workload` is the identity in a workload's
    /// certificate, `None` for an authority's.
    fn judge(
        &mut self,
        path: &Path,
        checked: Result<X509Certificate<'_>, String>,
        workload: Option<&str>,
    ) {
        let certificate = match checked {
            Ok(certificate) => certificate,
            Err(why) => return self.audit.fail(path, why),
        };
        let seconds = |at: SystemTime| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        };
        let validity = certificate.validity();
        let (from, to) = (validity.not_before, validity.not_after);
        if seconds(self.now) < from.timestamp() {
            return self.audit.fail(path, format!("is not valid before {from}"));
        }
        if seconds(self.now) >= to.timestamp() {
            return self.audit.fail(path, format!("has expired on {to}"));
        }
        if workload.is_none() && seconds(self.now + ENDS_SOON) >= to.timestamp() {
            let text = format!("ends soon, on {to}: replace it in every cluster");
            return self.audit.say(path, Verdict::Warning, text);
        }
        let what = match (workload, chain::path_length(&certificate)) {
            (Some(identity), _) => identity.to_owned(),
            (None, Some(length)) => format!("{}, pathlen:{length}", certificate.subject()),
            (None, None) => certificate.subject().to_string(),
        };
        self.audit.say(path, Verdict::Good, format!("{what}, until {to}"));
    }
}

fn is_authority(certificate: &X509Certificate<'_>) -> Result<(), String> {
    if !certificate.is_ca() {
        return Err("is no authority's certificate (no CA:TRUE)".to_owned());
    }
    let usage = certificate.key_usage().ok().flatten();
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err("may not sign certificates (key usage)".to_owned());
    }
    Ok(())
}

fn is_workload(
    certificate: &X509Certificate<'_>,
    der: &CertificateDer<'static>,
) -> Result<(), String> {
    if certificate.is_ca() {
        return Err("begins with an authority's certificate, not a workload's".to_owned());
    }
    let usage = certificate.extended_key_usage().ok().flatten();
    if usage.is_some_and(|usage| !usage.value.server_auth || !usage.value.client_auth) {
        return Err("may not be both TLS server and TLS client (extended key usage)".to_owned());
    }
    match &verify::identities(der)[..] {
        [one] => SpiffeId::parse(one).map(drop).map_err(|error| error.to_string()),
        names => Err(format!("names {} workloads (URIs in its SAN), not one", names.len())),
    }
}

fn others_read(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(test)]
mod tests;
