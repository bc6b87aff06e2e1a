//! Why a TLS handshake failed: one cause for the metric, one sentence for the log.
//!
//! Must not know: sockets, whose handshake it was.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, OtherError};

use crate::certs;

/// What ended a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The peer's certificate does not lead to our root.
    UnknownRoot,
    /// It has expired, or is not valid yet.
    Expired,
    /// It is somebody else's.
    Identity,
    /// It is wrong otherwise.
    Certificate,
    /// The peer showed none.
    NoCertificate,
    /// No application protocol in common.
    Alpn,
    /// The peer sent an alert.
    Alert,
    /// The bytes are not TLS as it should be.
    Protocol,
    /// The peer closed or reset.
    Closed,
    /// It took too long.
    Timeout,
    /// Anything else.
    Other,
}

impl Cause {
    /// All of them, in the order of the enum.
    pub(super) const ALL: [Self; 11] = [
        Self::UnknownRoot,
        Self::Expired,
        Self::Identity,
        Self::Certificate,
        Self::NoCertificate,
        Self::Alpn,
        Self::Alert,
        Self::Protocol,
        Self::Closed,
        Self::Timeout,
        Self::Other,
    ];

    /// The label in the metric.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::UnknownRoot => "unknown_root",
            Self::Expired => "expired",
            Self::Identity => "identity",
            Self::Certificate => "certificate",
            Self::NoCertificate => "no_certificate",
            Self::Alpn => "alpn",
            Self::Alert => "alert",
            Self::Protocol => "protocol",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }
}

/// A failed handshake. The text may hold what the peer sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    pub(super) cause: Cause,
    text: String,
}

impl Failure {
    /// Reads the error of a TLS stream.
    pub(super) fn new(error: &io::Error) -> Self {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return Self { cause: cause(tls), text: text(tls) };
        }
        let (cause, text) = match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                (Cause::Closed, "the peer closed inside the handshake".to_owned())
            }
            _ => (Cause::Closed, format!("the connection broke inside the handshake: {error}")),
        };
        Self { cause, text }
    }

    /// The peer was too slow.
    pub(super) fn timeout() -> Self {
        Self { cause: Cause::Timeout, text: "the handshake timed out".to_owned() }
    }

    /// TLS was not even begun.
    pub(super) fn ours(error: &certs::CertsError) -> Self {
        Self { cause: Cause::Other, text: error.to_string() }
    }
}

fn cause(error: &Error) -> Cause {
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => Cause::UnknownRoot,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Cause::Expired,
            CertificateError::Other(OtherError(_)) => Cause::Identity,
            _ => Cause::Certificate,
        },
        Error::NoCertificatesPresented => Cause::NoCertificate,
        Error::NoApplicationProtocol => Cause::Alpn,
        Error::AlertReceived(_) => Cause::Alert,
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerIncompatible(_)
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord
        | Error::DecryptError => Cause::Protocol,
        _ => Cause::Other,
    }
}

/// In words: what an alert of a peer mostly means in a mesh, else what TLS says.
pub(super) fn text(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "the peer showed no certificate".to_owned(),
        Error::NoApplicationProtocol => {
            "the peer offers no application protocol that we take (ALPN)".to_owned()
        }
        Error::InvalidMessage(what) => format!("the peer does not speak TLS here: {what:?}"),
        Error::AlertReceived(alert) => match hint(*alert) {
            Some(hint) => format!("the peer refused with alert {}: {hint}", u8::from(*alert)),
            None => format!("the peer refused with alert {} ({alert:?})", u8::from(*alert)),
        },
        other => certs::explain(other),
    }
}

fn hint(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::UnrecognisedName => {
            "unrecognized_name, it serves no such name, or not to us"
        }
        AlertDescription::NoApplicationProtocol => {
            "no_application_protocol, it takes none of our ALPN"
        }
        AlertDescription::InternalError => "internal_error, it reaches no endpoint",
        AlertDescription::UnknownCA => "unknown_ca, our certificate does not lead to its root",
        AlertDescription::CertificateExpired => {
            "certificate_expired, ours is out of its time for it"
        }
        AlertDescription::CertificateRequired => "certificate_required, it wants one of us",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it does not want our certificate",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: Error, cause: Cause, text: &str) {
        let failure = Failure::new(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(failure.cause, cause);
        assert!(failure.to_string().contains(text), "{failure}");
    }

    #[test]
    fn a_failure_has_its_cause_and_its_words() {
        let certificate = Error::InvalidCertificate;
        check(certificate(CertificateError::UnknownIssuer), Cause::UnknownRoot, "our roots");
        check(certificate(CertificateError::Expired), Cause::Expired, "xpired");
        check(certificate(CertificateError::BadEncoding), Cause::Certificate, "BadEncoding");
        check(Error::NoCertificatesPresented, Cause::NoCertificate, "no certificate");
        check(Error::NoApplicationProtocol, Cause::Alpn, "ALPN");
        let alert = Error::AlertReceived;
        check(alert(AlertDescription::UnrecognisedName), Cause::Alert, "alert 112: unrecognized");
        check(alert(AlertDescription::HandshakeFailure), Cause::Alert, "alert 40 (Handshake");
        let eof = Failure::new(&io::ErrorKind::UnexpectedEof.into());
        assert_eq!(eof.cause, Cause::Closed);
        assert_eq!(Failure::timeout().cause, Cause::Timeout);
    }

    #[test]
    fn every_cause_has_a_label_of_its_own() {
        let labels: std::collections::BTreeSet<_> = Cause::ALL.map(Cause::as_str).into();
        assert_eq!(labels.len(), Cause::ALL.len());
        for (at, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, at);
        }
    }
}
