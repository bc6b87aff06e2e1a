//! Who is at the other end: the chain up to a root, and the workload identity instead of a name.
//!
//! A sidecar's peer is known by the SPIFFE identity in its certificate; the server name says which
//! *service* was asked for and stands in no certificate, so it is not compared. Must not know:
//! how certificates are made.

use std::{fmt, sync::Arc};

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
}

impl Peers {
    fn check(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        let Self::Only(allowed) = self else {
            return Ok(());
        };
        let presented = identities(end_entity);
        match &presented[..] {
            [one] if allowed.iter().any(|id| id.as_str() == one) => Ok(()),
            _ => {
                let refused = UnwelcomePeer { presented, allowed: allowed.clone() };
                let other = CertificateError::Other(OtherError(Arc::new(refused)));
                Err(Error::InvalidCertificate(other))
            }
        }
    }
}

/// The URIs in a certificate's SAN; none when it cannot be read.
#[must_use]
pub fn identities(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(san)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    san.value.general_names.iter().filter_map(uri).collect()
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

/// The chain holds, but the peer is somebody else. SPIFFE allows exactly one URI.
struct UnwelcomePeer {
    presented: Vec<String>,
    allowed: Vec<SpiffeId>,
}

impl fmt::Display for UnwelcomePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.presented[..] {
            [] => f.write_str("it names no workload (no URI in its SAN)")?,
            [one] => write!(f, "it is {one}")?,
            more => write!(f, "it names {} workloads, where one is allowed", more.len())?,
        }
        let allowed: Vec<_> = self.allowed.iter().map(SpiffeId::as_str).collect();
        write!(f, "; expected {}", allowed.join(" or "))
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
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        peers: Peers,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self { roots, peers, provider }
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
}

impl ClientVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        peers: Peers,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, CertsError> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|e| Error::General(format!("no root to verify clients with: {e}")))?;
        Ok(Self { chain, peers })
    }
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
