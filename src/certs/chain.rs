//! Whether a certificate leads to a root, link by link, and which link does not hold.
//!
//! A TLS library says yes or no to a leaf; here the question is also asked of an authority, and
//! the answer names the file that holds the bad link. Must not know: files' contents beyond
//! certificates, keys, time.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Certificates of one file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Certificates<'f> {
    pub(super) file: &'f Path,
    pub(super) list: &'f [CertificateDer<'static>],
}

/// Longer chains than this are loops or nonsense.
const LINKS_MAX: usize = 10;

/// Follows `own` through `between` to one of `roots`. The error names the link that does not hold.
pub(super) fn follow(
    own: Certificates<'_>,
    between: Certificates<'_>,
    roots: Certificates<'_>,
) -> Result<(), String> {
    let (Some(first), file) = (own.list.first(), own.file) else {
        return Err("holds no certificate".to_owned());
    };
    let (mut at, mut at_file) = (first, file);
    let mut authorities_below = 0;
    for _ in 0..LINKS_MAX {
        let this = parse(at)?;
        authorities_below += u32::from(this.is_ca());
        if let Some(root) = issuer_of(&this, roots)? {
            return may_issue(&root, roots.file, authorities_below);
        }
        if at_file == between.file && this.subject() == this.issuer() {
            break;
        }
        let Some((issuer, der)) = issuer_with_bytes(&this, between)? else { break };
        may_issue(&issuer, between.file, authorities_below)?;
        (at, at_file) = (der, between.file);
    }
    let last = parse(at)?;
    let same_name = roots.list.iter().filter_map(|der| parse(der).ok());
    let same_name = same_name.filter(|root| root.subject() == last.issuer()).count() > 0;
    Err(match same_name {
        true => format!(
            "does not lead to the root in {}: that has the right name, {}, and another key",
            shown(roots.file),
            last.issuer()
        ),
        false => format!(
            "does not lead to the root in {}: its issuer, {}, is neither there nor in {}",
            shown(roots.file),
            last.issuer(),
            shown(between.file)
        ),
    })
}

/// Reads a certificate.
pub(super) fn parse<'c>(der: &'c CertificateDer<'static>) -> Result<X509Certificate<'c>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("holds bytes after a certificate".to_owned()),
        Err(error) => Err(format!("holds something that is no X.509 certificate: {error}")),
    }
}

/// The limit on authorities below one; `None`: no limit.
pub(super) fn path_length(certificate: &X509Certificate<'_>) -> Option<u32> {
    let constraints = certificate.basic_constraints().ok().flatten()?;
    constraints.value.path_len_constraint
}

fn issuer_of<'c>(
    certificate: &X509Certificate<'_>,
    among: Certificates<'c>,
) -> Result<Option<X509Certificate<'c>>, String> {
    Ok(issuer_with_bytes(certificate, among)?.map(|(issuer, _)| issuer))
}

fn issuer_with_bytes<'c>(
    certificate: &X509Certificate<'_>,
    among: Certificates<'c>,
) -> Result<Option<(X509Certificate<'c>, &'c CertificateDer<'static>)>, String> {
    for der in among.list {
        let issuer = parse(der)?;
        if issuer.subject() == certificate.issuer()
            && certificate.verify_signature(Some(issuer.public_key())).is_ok()
        {
            return Ok(Some((issuer, der)));
        }
    }
    Ok(None)
}

fn may_issue(
    issuer: &X509Certificate<'_>,
    file: &Path,
    authorities_below: u32,
) -> Result<(), String> {
    if !issuer.is_ca() {
        return Err(format!("its issuer in {} is no authority (no CA:TRUE)", shown(file)));
    }
    let signs = issuer.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
    if !signs {
        return Err(format!("its issuer in {} may not sign certificates", shown(file)));
    }
    match path_length(issuer) {
        Some(allowed) if allowed < authorities_below => Err(format!(
            "its issuer in {} allows {allowed} authorities below it (pathlen), and there are \
             {authorities_below}",
            shown(file)
        )),
        _ => Ok(()),
    }
}

fn shown(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}
