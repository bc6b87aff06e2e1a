//! Keys and certificates as PEM files: keys readable by their owner only, nothing overwritten
//! unless that is asked for.
//!
//! Must not know: what the certificates are for.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::CertsError;

/// The shared root.
pub(super) const ROOT_CERT: &str = "root-cert.pem";
/// A certificate and its issuers.
pub(super) const CHAIN: &str = "cert-chain.pem";

/// A file of keys and certificates is a few kilobytes; more is some other file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Certificates as PEM, in the order given.
pub fn pem_text<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    let blocks: Vec<_> =
        certificates.into_iter().map(|c| Pem::new("CERTIFICATE", c.to_vec())).collect();
    pem::encode_many_config(&blocks, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing at all is written.
    Keep,
    /// It is replaced whole.
    Replace,
}

/// Writes files into `dir` as [`write_over`] does, and replaces none.
pub fn write_all(dir: &Path, contents: &[(&str, &str)]) -> Result<(), CertsError> {
    write_over(dir, contents, Existing::Keep)
}

/// Writes files into `dir`, made with mode 0700 when absent. Names that end in `key.pem` or
/// `secret.yaml` get mode 0600.
pub fn write_over(
    dir: &Path,
    contents: &[(&str, &str)],
    existing: Existing,
) -> Result<(), CertsError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| {
        CertsError::File { path: dir.to_owned(), doing: "making the directory", source }
    })?;
    for (name, _) in contents {
        let path = dir.join(name);
        if existing == Existing::Keep && path.symlink_metadata().is_ok() {
            return Err(CertsError::Exists { path });
        }
    }
    for (name, text) in contents {
        let is_secret = name.ends_with("key.pem") || name.ends_with("secret.yaml");
        let mode = if is_secret { 0o600 } else { 0o644 };
        match existing {
            Existing::Keep => write_new(&dir.join(name), text, mode)?,
            Existing::Replace => replace(dir, name, text, mode)?,
        }
    }
    Ok(())
}

/// The whole of a text file, up to 1 MiB.
pub(super) fn read_text(path: &Path) -> Result<String, CertsError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|source| CertsError::File { path: path.to_owned(), doing: "reading", source })?;
    Ok(text)
}

/// All certificates of a file, at least one.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertsError> {
    let text = read_text(path)?;
    let wrong = |problem| CertsError::Content { path: path.to_owned(), problem };
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| wrong(format!("not PEM: {e}")))?;
    if certificates.is_empty() {
        return Err(wrong("holds no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}

/// The first certificate of a file.
pub(super) fn read_one_certificate(path: &Path) -> Result<CertificateDer<'static>, CertsError> {
    let mut certificates = read_certificates(path)?;
    Ok(certificates.swap_remove(0))
}

/// Writes beside the old file and then takes its name: at no time is there half a key.
fn replace(dir: &Path, name: &str, text: &str, mode: u32) -> Result<(), CertsError> {
    let (path, beside) = (dir.join(name), dir.join(format!(".{name}.new")));
    // Of a run that was cut short.
    let _ = fs::remove_file(&beside);
    write_new(&beside, text, mode)?;
    fs::rename(&beside, &path).map_err(|source| CertsError::File {
        path,
        doing: "replacing",
        source,
    })
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CertsError::Exists { path: path.to_owned() },
        _ => CertsError::File { path: path.to_owned(), doing: "writing", source },
    })
}
