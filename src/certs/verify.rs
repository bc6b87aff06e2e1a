//! Who is at the other end: the chain up to a root, and the workload identity instead of a name.
//!
//! A sidecar's peer is known by the SPIFFE identity in its certificate; the server name says which
//! *service* was asked for and stands in no certificate, so it is not compared. Must not know:
//! how certificates are made.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{CertsError, SpiffeId};

/// Which peers are welcome, among those whose certificate leads to one of our roots.
#[derive(Clone, Debug)]
pub enum Peers {
    /// All of them, whatever their name.
    Any,
    /// Only these workloads.
    Only(Vec<SpiffeId>),
    /// Only those with a name that one of these fits: the one URI of a workload, or a DNS name.
    Named(Vec<NamePattern>),
}

/// A name in a certificate's SAN, or all names that begin alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// This very name.
    Exact(Box<str>),
    /// `spiffe://cluster.local/ns/ns2/*`: every name that begins so; without the star.
    Prefix(Box<str>),
}

impl NamePattern {
    /// Reads a name, or a beginning with `*` after it. `None` when it is empty, or has a star
    /// elsewhere.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, pattern): (_, fn(_) -> _) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, Self::Prefix),
            None => (text, Self::Exact),
        };
        let is_plain = !text.is_empty() && !name.contains('*');
        is_plain.then(|| pattern(name.into()))
    }

    /// True when the pattern fits `name`.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *name,
            Self::Prefix(prefix) => name.starts_with(&**prefix) && is_plain(name),
        }
    }
}

/// False for a SPIFFE ID whose path climbs: SPIFFE allows no segment that is empty, `.` or `..`.
fn is_plain(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("spiffe://") else { return true };
    rest.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Who the peer of one handshake says that it is: known also when it is refused, and then not
/// proven. A copy is given to the handshake, the other is asked afterwards.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<OnceLock<Vec<String>>>);

impl Seen {
    /// The URIs of the certificate, with commas between; `None` before there was one.
    #[must_use]
    pub fn identity(&self) -> Option<String> {
        self.0.get().map(|uris| uris.join(","))
    }

    fn note(&self, end_entity: &CertificateDer<'_>) {
        let _ = self.0.set(identities(end_entity));
    }
}

impl Peers {
    fn check(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        let presented = match self {
            Self::Any => return Ok(()),
            Self::Only(_) => identities(end_entity),
            Self::Named(_) => names(end_entity),
        };
        // SPIFFE allows exactly one URI.
        let one = presented.iter().filter(|name| is_uri(name)).count() <= 1;
        if one && presented.iter().any(|name| self.welcomes(name)) {
            return Ok(());
        }
        let refused = UnwelcomePeer { presented, allowed: self.listed() };
        let other = CertificateError::Other(OtherError(Arc::new(refused)));
        Err(Error::InvalidCertificate(other))
    }

    fn welcomes(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ids) => ids.iter().any(|id| id.as_str() == name),
            Self::Named(patterns) => patterns.iter().any(|pattern| pattern.fits(name)),
        }
    }

    fn listed(&self) -> Vec<String> {
        match self {
            Self::Any => Vec::new(),
            Self::Only(ids) => ids.iter().map(ToString::to_string).collect(),
            Self::Named(patterns) => patterns.iter().map(ToString::to_string).collect(),
        }
    }
}

fn is_uri(name: &str) -> bool {
    name.contains("://")
}

/// The URIs in a certificate's SAN; none when it cannot be read.
#[must_use]
pub fn identities(certificate: &CertificateDer<'_>) -> Vec<String> {
    let mut names = names(certificate);
    names.retain(|name| is_uri(name));
    names
}

/// The URIs and DNS names in a certificate's SAN; none when it cannot be read.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(san)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::URI(name) if is_uri(name) => Some((*name).to_owned()),
        GeneralName::DNSName(name) if !is_uri(name) => Some((*name).to_owned()),
        _ => None,
    };
    san.value.general_names.iter().filter_map(name).collect()
}

/// Says in words why TLS failed; rustls is terse about the usual cause of trouble, the root.
#[must_use]
pub fn explain(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the peer's certificate does not lead to one of our roots (unknown issuer)".to_owned()
        }
        Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            format!("the peer's certificate is refused: {inner}")
        }
        other => other.to_string(),
    }
}

/// Meshes give their roots the same name, so a chain to another root mostly shows as a signature
/// that our root did not make. It means the same as an unknown issuer, and is told to the peer as
/// the same alert, `unknown_ca`.
fn not_our_root(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            Error::InvalidCertificate(CertificateError::UnknownIssuer)
        }
        other => other,
    }
}

/// The chain holds, but the peer is somebody else.
struct UnwelcomePeer {
    presented: Vec<String>,
    allowed: Vec<String>,
}

impl fmt::Display for UnwelcomePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.presented[..] {
            [] => f.write_str("it names no workload (no URI in its SAN)")?,
            [one] => write!(f, "it is {one}")?,
            more if more.iter().filter(|name| is_uri(name)).count() > 1 => {
                write!(f, "it names {} workloads, where one is allowed", more.len())?;
            }
            more => write!(f, "it is {}", more.join(" or "))?,
        }
        write!(f, "; expected {}", self.allowed.join(" or "))
    }
}

impl fmt::Debug for UnwelcomePeer {
    /// As displayed: rustls shows this one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for UnwelcomePeer {}

/// A client's view of servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    roots: Arc<RootCertStore>,
    peers: Peers,
    seen: Seen,
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        peers: Peers,
        seen: Seen,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { roots, peers, seen, provider }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.seen.note(end_entity);
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )
        .map_err(not_our_root)?;
        self.peers.check(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A server's view of clients: rustls's own verifier, which compares no names, and [`Peers`].
#[derive(Debug)]
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    peers: Peers,
    seen: Seen,
}

impl ClientVerifier {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, peers: Peers, seen: Seen) -> Self {
        Self { chain, peers, seen }
    }
}

/// What all views of clients have in common: the chain up to a root.
pub(super) fn client_chain(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, CertsError> {
    let chain = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|e| Error::General(format!("no root to verify clients with: {e}")))?;
    Ok(chain)
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.seen.note(end_entity);
        let verified =
            self.chain.verify_client_cert(end_entity, intermediates, now).map_err(not_our_root)?;
        self.peers.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_name_or_its_beginning() {
        let fits = |pattern: &str, name: &str| {
            let parsed = NamePattern::parse(pattern).expect("a pattern");
            assert_eq!(parsed.to_string(), pattern);
            parsed.fits(name)
        };
        let bar = "spiffe://cluster.local/ns/ns2/sa/bar";
        assert!(fits(bar, bar) && fits("spiffe://cluster.local/ns/ns2/*", bar) && fits("*", bar));
        assert!(!fits(bar, "spiffe://cluster.local/ns/ns2/sa/bar2"));
        assert!(!fits("spiffe://cluster.local/ns/ns1/*", bar));
        for text in ["", "a*b", "**", "*a"] {
            assert_eq!(NamePattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_beginning_fits_no_name_that_climbs_out_of_it() {
        let pattern = NamePattern::parse("spiffe://a/ns/ns1/*").expect("a pattern");
        assert!(pattern.fits("spiffe://a/ns/ns1/sa/b"));
        for path in ["../ns2/sa/b", "./sa/b", "/sa/b", "sa/.."] {
            assert!(!pattern.fits(&format!("spiffe://a/ns/ns1/{path}")), "{path}");
        }
    }
}
