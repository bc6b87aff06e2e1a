//! Those who issue: the root that all clusters share, and the intermediate of one cluster.
//!
//! Must not know: TLS, who uses the certificates.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, SanType,
};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    CertsError,
    files::{self, CHAIN, Existing, ROOT_CERT},
    secret,
};

/// An issuing certificate, its key, and the way from it to the root.
pub struct Authority {
    name: String,
    issuer: Issuer<'static, KeyPair>,
    /// This certificate first, then its issuers; the root only when this is the root.
    chain: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
    not_after: SystemTime,
}

/// How long a root is valid: ten years, as Istio's tools make it.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(3650 * 86_400);
/// How long an intermediate is valid: two years.
pub const CLUSTER_LIFETIME: Duration = Duration::from_secs(730 * 86_400);
/// How far back a certificate is dated, for clocks that disagree.
pub const CLOCK_SKEW: Duration = Duration::from_secs(120);

pub(super) const CA_CERT: &str = "ca-cert.pem";
pub(super) const CA_KEY: &str = "ca-key.pem";
pub(super) const ROOT_KEY: &str = "root-key.pem";

impl Authority {
    /// Makes a new root: self-signed, ECDSA P-256, valid for [`ROOT_LIFETIME`].
    pub fn root(now: SystemTime) -> Result<Self, CertsError> {
        let not_after = now + ROOT_LIFETIME;
        let params = ca_params("Root CA", None, BasicConstraints::Unconstrained, now, not_after);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self {
            name: "Root CA".to_owned(),
            issuer: Issuer::new(params, key),
            chain: vec![certificate.clone()],
            root: certificate,
            not_after,
        })
    }

    /// Makes the intermediate of `cluster`: may issue workloads, no further authorities.
    pub fn cluster(&self, cluster: &str, now: SystemTime) -> Result<Self, CertsError> {
        if !self.is_root() {
            return Err(CertsError::Issue {
                authority: self.name.clone(),
                asked: format!("an intermediate for {cluster:?}"),
                why: "it is itself an intermediate (pathlen:0); ask the root",
            });
        }
        self.below(cluster, now)
    }

    /// An intermediate below this one, whether or not that is allowed.
    pub(super) fn below(&self, cluster: &str, now: SystemTime) -> Result<Self, CertsError> {
        let not_after = self.not_after.min(now + CLUSTER_LIFETIME);
        let pathlen_0 = BasicConstraints::Constrained(0);
        let mut params = ca_params("Intermediate CA", Some(cluster), pathlen_0, now, not_after);
        params.subject_alt_names = vec![SanType::DnsName("istiod.istio-system.svc".try_into()?)];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(Self {
            name: format!("Intermediate CA of {cluster}"),
            issuer: Issuer::new(params, key),
            chain: vec![certificate],
            root: self.root.clone(),
            not_after,
        })
    }

    /// This authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The root's certificate, to be trusted by everyone.
    #[must_use]
    pub fn root_certificate(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// Until when anything issued here can be valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// What a leaf presents after its own certificate: up to the root, without it.
    pub(super) fn intermediates(&self) -> &[CertificateDer<'static>] {
        if self.is_root() { &[] } else { &self.chain }
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    fn is_root(&self) -> bool {
        self.chain[0] == self.root
    }

    /// Writes this authority into `dir`, which is made when absent. Refuses to overwrite.
    ///
    /// A root becomes `root-cert.pem` and `root-key.pem`; an intermediate becomes the four files
    /// of istiod's secret `cacerts`: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem`,
    /// `cert-chain.pem` (intermediate, then root), and that secret as a manifest,
    /// `cacerts-secret.yaml`.
    pub fn write(&self, dir: &Path) -> Result<(), CertsError> {
        self.write_over(dir, Existing::Keep)
    }

    /// Writes as [`Authority::write`] does, and replaces what is there when told to.
    pub fn write_over(&self, dir: &Path, existing: Existing) -> Result<(), CertsError> {
        let key = self.issuer.key().serialize_pem();
        let root = files::pem_text([&self.root]);
        if self.is_root() {
            return files::write_over(dir, &[(ROOT_KEY, &key), (ROOT_CERT, &root)], existing);
        }
        let own = files::pem_text([self.certificate()]);
        let chain = files::pem_text(self.chain.iter().chain([&self.root]));
        let cacerts = [(CA_KEY, &*key), (CA_CERT, &own), (CHAIN, &chain), (ROOT_CERT, &root)];
        let manifest = secret::manifest(&cacerts);
        files::write_over(dir, &[&cacerts[..], &[(secret::FILE, &manifest)]].concat(), existing)
    }

    /// Reads what [`Authority::write`] wrote, or the same files made by Istio's tools: the
    /// intermediate when `ca-key.pem` is there, else the root.
    pub fn read(dir: &Path) -> Result<Self, CertsError> {
        let root_path = dir.join(ROOT_CERT);
        let root = files::read_one_certificate(&root_path)?;
        let (cert_path, key_path) = if dir.join(CA_KEY).exists() {
            (dir.join(CA_CERT), dir.join(CA_KEY))
        } else {
            (root_path, dir.join(ROOT_KEY))
        };
        let own = files::read_one_certificate(&cert_path)?;
        let wrong = |problem: String| CertsError::Content { path: cert_path.clone(), problem };
        let key_text = files::read_text(&key_path)?;
        let key = KeyPair::from_pem(&key_text).map_err(|e| CertsError::Content {
            path: key_path.clone(),
            problem: format!("not a private key in PEM: {e}"),
        })?;
        let (_, parsed) = X509Certificate::from_der(&own)
            .map_err(|e| wrong(format!("not an X.509 certificate: {e}")))?;
        if !parsed.is_ca() {
            return Err(wrong("not an authority's certificate (no CA:true)".to_owned()));
        }
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(wrong(format!("does not belong to the key in {}", key_path.display())));
        }
        let name = parsed.subject().to_string();
        let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let issuer = Issuer::from_ca_cert_der(&own, key)?;
        let chain = chain_of(own, &root, &dir.join(CHAIN))?;
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(end);
        Ok(Self { name, issuer, chain, root, not_after })
    }
}

impl std::fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `own` and the issuers between it and `root`, from the chain file, which may hold both too.
fn chain_of(
    own: CertificateDer<'static>,
    root: &CertificateDer<'static>,
    chain_file: &Path,
) -> Result<Vec<CertificateDer<'static>>, CertsError> {
    let mut chain = vec![own];
    if chain[0] == *root || !chain_file.exists() {
        return Ok(chain);
    }
    for certificate in files::read_certificates(chain_file)? {
        if certificate != *root && !chain.contains(&certificate) {
            chain.push(certificate);
        }
    }
    Ok(chain)
}

fn ca_params(
    common_name: &str,
    cluster: Option<&str>,
    constraints: BasicConstraints,
    now: SystemTime,
    not_after: SystemTime,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Istio");
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(cluster) = cluster {
        params.distinguished_name.push(DnType::LocalityName, cluster);
    }
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = not_after.into();
    params
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::certs::SpiffeId;

    #[test]
    fn openssl_accepts_the_chain_for_both_ends() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let cluster = Authority::root(now).unwrap().cluster("cluster1", now).unwrap();
        let id = SpiffeId::new("cluster.local", "ns2", "bar").unwrap();
        cluster.workload(&id, now).unwrap().write(dir.path()).unwrap();
        let chain = dir.path().join(CHAIN);
        for purpose in ["sslserver", "sslclient"] {
            let mut verify = Command::new("openssl");
            verify.args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"]);
            verify.arg(dir.path().join(ROOT_CERT)).arg("-untrusted").arg(&chain).arg(&chain);
            let Some(said) = run(&mut verify) else {
                return;
            };
            assert!(said.contains(": OK"), "{purpose}: {said}");
        }
    }

    #[test]
    fn openssl_reads_what_istio_would_have_written() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let cluster = Authority::root(now).unwrap().cluster("cluster1", now).unwrap();
        cluster.write(dir.path()).unwrap();
        let Some(said) = run(&mut text_of(&dir.path().join(CA_CERT))) else {
            return;
        };
        for wanted in [
            "Issuer: O = Istio, CN = Root CA",
            "Subject: O = Istio, CN = Intermediate CA, L = cluster1",
            "CA:TRUE, pathlen:0",
            "DNS:istiod.istio-system.svc",
            "X509v3 Key Usage: critical",
            "Digital Signature, Certificate Sign, CRL Sign",
            "X509v3 Subject Key Identifier",
            "X509v3 Authority Key Identifier",
        ] {
            assert!(said.contains(wanted), "{wanted} missing in {said}");
        }
        let id = SpiffeId::new("cluster.local", "ns2", "bar").unwrap();
        let leaf_dir = dir.path().join("leaf");
        cluster.workload(&id, now).unwrap().write(&leaf_dir).unwrap();
        let said = run(&mut text_of(&leaf_dir.join(CHAIN))).unwrap();
        for wanted in [
            "X509v3 Subject Alternative Name: critical",
            "URI:spiffe://cluster.local/ns/ns2/sa/bar",
            "Digital Signature, Key Encipherment",
            "TLS Web Server Authentication, TLS Web Client Authentication",
            "NIST CURVE: P-256",
        ] {
            assert!(said.contains(wanted), "{wanted} missing in {said}");
        }
    }

    #[test]
    fn what_was_written_is_read_and_issues_on() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        Authority::root(now).unwrap().write(&dir.path().join("root")).unwrap();
        let root = Authority::read(&dir.path().join("root")).unwrap();
        root.cluster("cluster1", now).unwrap().write(&dir.path().join("cluster1")).unwrap();
        let cluster = Authority::read(&dir.path().join("cluster1")).unwrap();
        assert!(cluster.cluster("nested", now).is_err(), "pathlen:0 is kept");
        let id = SpiffeId::new("cluster.local", "ns2", "bar").unwrap();
        let leaf = cluster.workload(&id, now).unwrap();
        assert_eq!(leaf.chain().len(), 2, "the leaf and the intermediate, without the root");
        leaf.write(&dir.path().join("leaf")).unwrap();
        let chain = dir.path().join("leaf").join(CHAIN);
        let mut verify = Command::new("openssl");
        verify.arg("verify").arg("-CAfile").arg(dir.path().join("root").join(ROOT_CERT));
        verify.arg("-untrusted").arg(&chain).arg(&chain);
        if let Some(said) = run(&mut verify) {
            assert!(said.contains(": OK"), "{said}");
        }
    }

    #[test]
    fn a_key_is_private_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        Authority::root(now).unwrap().write(dir.path()).unwrap();
        let key = dir.path().join(ROOT_KEY);
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let before = std::fs::read(&key).unwrap();
        let error = Authority::root(now).unwrap().write(dir.path()).unwrap_err();
        assert!(matches!(error, CertsError::Exists { .. }), "{error}");
        assert_eq!(std::fs::read(&key).unwrap(), before);
    }

    #[test]
    fn a_key_of_another_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        Authority::root(now).unwrap().write(&a).unwrap();
        Authority::root(now).unwrap().write(&b).unwrap();
        std::fs::copy(a.join(ROOT_KEY), b.join(ROOT_KEY)).unwrap();
        let error = Authority::read(&b).unwrap_err().to_string();
        assert!(error.contains("does not belong to the key"), "{error}");
        std::fs::write(b.join(ROOT_KEY), "nonsense").unwrap();
        let error = Authority::read(&b).unwrap_err().to_string();
        assert!(error.contains("root-key.pem: not a private key"), "{error}");
    }

    #[test]
    fn nothing_outlives_its_issuer() {
        let now = SystemTime::now();
        let root = Authority::root(now).unwrap();
        let late = now + ROOT_LIFETIME - Duration::from_secs(3600);
        let cluster = root.cluster("cluster1", late).unwrap();
        assert_eq!(cluster.not_after(), root.not_after());
        let id = SpiffeId::new("cluster.local", "ns2", "bar").unwrap();
        let error = cluster.workload(&id, now + ROOT_LIFETIME).unwrap_err().to_string();
        assert!(error.contains("has expired"), "{error}");
    }

    fn text_of(path: &Path) -> Command {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-text", "-nameopt", "oneline", "-in"]).arg(path);
        command
    }

    /// What a program printed; `None`, said aloud, when it is not installed. In CI it must be.
    fn run(command: &mut Command) -> Option<String> {
        match command.output() {
            Ok(output) => {
                let said = [output.stdout, output.stderr].concat();
                Some(String::from_utf8_lossy(&said).into_owned())
            }
            Err(error) if std::env::var_os("CI").is_none() => {
                println!("skipped: cannot run {command:?}: {error}");
                None
            }
            Err(error) => panic!("CI is set and {command:?} cannot run: {error}"),
        }
    }
}
