//! A workload's key and certificates as they are read from files, ready for both ends of TLS.
//!
//! Must not know: when files change, sockets, who is called.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{
    CertsError, Peers, SpiffeId,
    chain::{self, Certificates},
    files::{self, CHAIN, ROOT_CERT},
    tls::{self, protocols, provider},
    verify::{ClientVerifier, Seen, ServerVerifier, client_chain, identities},
    workload::KEY,
};

/// The files of a workload, by name: `cert-chain.pem` (its own certificate first), `key.pem` and
/// `root-cert.pem` (one root or several).
pub const FILES: [&str; 3] = [CHAIN, KEY, ROOT_CERT];

/// What a workload shows and whom it trusts.
pub struct Credentials {
    key: Arc<SingleCertAndKey>,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
    id: SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
    doubt: Option<String>,
}

impl Credentials {
    /// Reads the [`FILES`] of `dir`. The certificate must name one workload, and the key must
    /// belong to it. Whether it has expired is not asked.
    ///
    /// # Errors
    /// The file that is absent, or holds something else.
    pub fn read(dir: &Path) -> Result<Self, CertsError> {
        let [chain_file, key_file, root_file] = FILES.map(|name| dir.join(name));
        let chain = files::read_certificates(&chain_file)?;
        let root_list = files::read_certificates(&root_file)?;
        let wrong = |path: &Path, problem| CertsError::Content { path: path.to_owned(), problem };
        let key = PrivateKeyDer::from_pem_slice(files::read_text(&key_file)?.as_bytes())
            .map_err(|e| wrong(&key_file, format!("holds no private key in PEM: {e}")))?;
        let own = &chain[0];
        let id = match &identities(own)[..] {
            [one] => SpiffeId::parse(one)?,
            [] => return Err(wrong(&chain_file, NO_WORKLOAD.to_owned())),
            more => {
                let problem = format!("names {} workloads, where one is allowed", more.len());
                return Err(wrong(&chain_file, problem));
            }
        };
        let parsed = chain::parse(own).map_err(|problem| wrong(&chain_file, problem))?;
        let validity = parsed.validity().clone();
        let doubt = chain::follow(
            Certificates { file: &chain_file, list: &chain[..1] },
            Certificates { file: &chain_file, list: &chain },
            Certificates { file: &root_file, list: &root_list },
        )
        .err();
        let (not_before, not_after) =
            (instant(validity.not_before.timestamp()), instant(validity.not_after.timestamp()));
        let provider = provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|e| {
            let problem = format!("is not the key of {}: {e}", chain_file.display());
            wrong(&key_file, problem)
        })?;
        let roots = tls::roots(&root_list.iter().collect::<Vec<_>>())?;
        Ok(Self {
            key: Arc::new(key.into()),
            clients: client_chain(Arc::clone(&roots), Arc::clone(&provider))?,
            roots,
            provider,
            id,
            not_before,
            not_after,
            doubt,
        })
    }

    /// Whose they are.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When the certificate begins to hold.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When it ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Why those who trust our own root will not take the certificate, if so.
    #[must_use]
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// For one connection as a client: shows the certificate, offers `alpn`, accepts one of
    /// `servers`, and notes in `seen` who answered. The server name is sent and never compared.
    ///
    /// # Errors
    /// When the TLS library refuses.
    pub fn client(
        &self,
        servers: Peers,
        seen: Seen,
        alpn: &[&str],
    ) -> Result<Arc<ClientConfig>, CertsError> {
        let (roots, provider) = (Arc::clone(&self.roots), Arc::clone(&self.provider));
        let verifier = ServerVerifier::new(roots, servers, seen, Arc::clone(&provider));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::clone(&self.key) as _);
        config.alpn_protocols = protocols(alpn);
        // A resumed session shows no certificate again: every connection is to be judged.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// For one connection as a server: shows the certificate, demands one of `clients`, and notes
    /// in `seen` who came. Of `alpn` the first that the client offers too is chosen; a client that
    /// offers none of them is refused, one that offers no ALPN is not.
    ///
    /// # Errors
    /// When the TLS library refuses.
    pub fn server(
        &self,
        clients: Peers,
        seen: Seen,
        alpn: &[&str],
    ) -> Result<Arc<ServerConfig>, CertsError> {
        let verifier = ClientVerifier::new(Arc::clone(&self.clients), clients, seen);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::clone(&self.key) as _);
        config.alpn_protocols = protocols(alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

const NO_WORKLOAD: &str = "names no workload: its SAN has no spiffe:// URI, which `diolkos certs \
                           workload` and Istio put there";

/// Before 1970 and after the year 9999 are no times that anybody issues for.
fn instant(seconds: i64) -> SystemTime {
    let seconds = u64::try_from(seconds).unwrap_or(0).min(253_402_300_799);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

impl std::fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::certs::Authority;

    fn written(dir: &Path, account: &str, now: SystemTime) -> Authority {
        let root = Authority::root(now).unwrap();
        let id = SpiffeId::new("cluster.local", "ns1", account).unwrap();
        let cluster = root.cluster("cluster1", now).unwrap();
        cluster.workload(&id, now).and_then(|leaf| leaf.write(dir)).unwrap();
        root
    }

    #[test]
    fn the_files_of_a_workload_are_read() {
        let (dir, now) = (tempfile::tempdir().unwrap(), SystemTime::now());
        written(dir.path(), "sleep", now);
        let read = Credentials::read(dir.path()).unwrap();
        assert_eq!(read.id().as_str(), "spiffe://cluster.local/ns/ns1/sa/sleep");
        assert_eq!(read.doubt(), None);
        let left = read.not_after().duration_since(now).unwrap();
        assert!((86_398..=86_400).contains(&left.as_secs()), "{left:?}");
        assert!(read.not_before() < now);
    }

    #[test]
    fn a_key_of_another_certificate_is_named() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&one, &other] {
            written(dir.path(), "sleep", SystemTime::now());
        }
        fs::copy(other.path().join(KEY), one.path().join(KEY)).unwrap();
        let said = Credentials::read(one.path()).unwrap_err().to_string();
        assert!(said.contains("key.pem: is not the key of"), "{said}");
    }

    #[test]
    fn a_root_that_is_not_ours_is_a_doubt_and_no_error() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&one, &other] {
            written(dir.path(), "sleep", SystemTime::now());
        }
        fs::copy(other.path().join(ROOT_CERT), one.path().join(ROOT_CERT)).unwrap();
        let read = Credentials::read(one.path()).unwrap();
        assert!(read.doubt().expect("a doubt").contains("does not lead to the root"), "{read:?}");
    }

    #[test]
    fn a_certificate_without_a_workload_and_a_file_that_is_absent_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = written(dir.path(), "sleep", SystemTime::now());
        fs::write(dir.path().join(CHAIN), files::pem_text([root.certificate()])).unwrap();
        let said = Credentials::read(dir.path()).unwrap_err().to_string();
        assert!(said.contains("cert-chain.pem: names no workload"), "{said}");
        fs::remove_file(dir.path().join(ROOT_CERT)).unwrap();
        let said = Credentials::read(dir.path()).unwrap_err().to_string();
        assert!(said.contains("root-cert.pem: reading"), "{said}");
    }
}
