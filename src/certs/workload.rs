//! The certificate of one workload, as an agent would receive it from istiod.
//!
//! Must not know: TLS, who trusts it.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{
    Authority, CertsError, SpiffeId,
    authority::CLOCK_SKEW,
    files::{self, CHAIN, Existing, ROOT_CERT},
};

/// How long a workload's certificate is valid when nothing else is asked: a day.
pub const WORKLOAD_LIFETIME: Duration = Duration::from_secs(86_400);

pub(super) const KEY: &str = "key.pem";

/// A workload's certificate, its key, and what it presents with it.
pub struct Leaf {
    id: SpiffeId,
    key: KeyPair,
    /// The leaf first, then its issuers without the root: what a TLS end sends.
    chain: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
}

impl Authority {
    /// Issues a certificate for `id`, valid from two minutes ago for [`WORKLOAD_LIFETIME`].
    pub fn workload(&self, id: &SpiffeId, now: SystemTime) -> Result<Leaf, CertsError> {
        self.workload_for(id, now, WORKLOAD_LIFETIME)
    }

    /// Issues a certificate for `id` that ends `lifetime` after `now`, or with its issuer.
    pub fn workload_for(
        &self,
        id: &SpiffeId,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Leaf, CertsError> {
        if now >= self.not_after() {
            return Err(CertsError::Issue {
                authority: format!("{self:?}"),
                asked: id.to_string(),
                why: "its own certificate has expired; make a new one",
            });
        }
        let mut params = CertificateParams::default();
        // An empty subject: the SAN is then the only name, and critical.
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = self.not_after().min(now + lifetime).into();
        let key = KeyPair::generate()?;
        let mut chain = vec![params.signed_by(&key, self.issuer())?.der().clone()];
        chain.extend_from_slice(self.intermediates());
        Ok(Leaf { id: id.clone(), key, chain, root: self.root_certificate().clone() })
    }
}

impl Leaf {
    /// Whose certificate it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The leaf, then its issuers without the root.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// A copy of the private key.
    #[must_use]
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// Writes `key.pem`, `cert-chain.pem` (leaf, then issuers) and `root-cert.pem` into `dir`,
    /// which is made when absent. Refuses to overwrite.
    pub fn write(&self, dir: &Path) -> Result<(), CertsError> {
        self.write_over(dir, Existing::Keep)
    }

    /// Writes as [`Leaf::write`] does, and replaces what is there when told to.
    pub fn write_over(&self, dir: &Path, existing: Existing) -> Result<(), CertsError> {
        let key = self.key.serialize_pem();
        let (chain, root) = (files::pem_text(&self.chain), files::pem_text([&self.root]));
        files::write_over(dir, &[(KEY, &key), (CHAIN, &chain), (ROOT_CERT, &root)], existing)
    }
}

impl std::fmt::Debug for Leaf {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("id", &self.id).finish_non_exhaustive()
    }
}
