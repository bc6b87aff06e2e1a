//! rustls configurations for both ends of a mesh's mutual TLS, versions 1.2 and 1.3.
//!
//! Must not know: sockets, how certificates are made.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::CertificateDer,
};

use super::{
    CertsError, Leaf, Peers,
    verify::{ClientVerifier, Seen, ServerVerifier, client_chain},
};

/// A store of roots to trust.
pub fn roots(certificates: &[&CertificateDer<'static>]) -> Result<Arc<RootCertStore>, CertsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store.add((*certificate).clone())?;
    }
    Ok(Arc::new(store))
}

/// A server that presents `leaf`. With `clients`, a client must show a certificate that leads to
/// one of `roots` and is one of [`Peers`]; with `None`, no certificate is asked for.
///
/// Of `alpn` the first that the client offers too is chosen; a client that offers none of them is
/// refused, a client that offers no ALPN at all is not. Empty: ALPN is ignored.
pub fn server_config(
    leaf: &Leaf,
    roots: Arc<RootCertStore>,
    clients: Option<Peers>,
    alpn: &[&str],
) -> Result<Arc<ServerConfig>, CertsError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match clients {
        Some(peers) => {
            let chain = client_chain(roots, provider)?;
            let verifier = ClientVerifier::new(chain, peers, Seen::default());
            builder.with_client_cert_verifier(Arc::new(verifier))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(leaf.chain().to_vec(), leaf.private_key())?;
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// A client that presents `leaf`, offers `alpn`, and accepts a server whose certificate leads to
/// one of `roots` and is one of `servers`. The server name is sent and never compared: SNI such as
/// `outbound_.8080_._.bar.ns2.global` names a service.
pub fn client_config(
    leaf: &Leaf,
    roots: Arc<RootCertStore>,
    servers: Peers,
    alpn: &[&str],
) -> Result<Arc<ClientConfig>, CertsError> {
    let provider = provider();
    let verifier = ServerVerifier::new(roots, servers, Seen::default(), provider.clone());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(leaf.chain().to_vec(), leaf.private_key())?;
    config.alpn_protocols = protocols(alpn);
    // A resumed session shows no certificate again: every connection of ours is to be judged.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub(super) fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|p| p.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rustls::{ClientConnection, ServerConnection, pki_types::ServerName, version};

    use super::*;
    use crate::certs::{Authority, SpiffeId, explain};

    const SNI: &str = "outbound_.8080_.v1_.bar.ns2.global";

    struct Mesh {
        root: Authority,
        cluster: Authority,
    }

    impl Mesh {
        fn new() -> Self {
            let now = SystemTime::now();
            let root = Authority::root(now).unwrap();
            let cluster = root.cluster("cluster1", now).unwrap();
            Self { root, cluster }
        }

        fn leaf(&self, account: &str) -> Leaf {
            self.cluster.workload(&id(account), SystemTime::now()).unwrap()
        }

        fn roots(&self) -> Arc<RootCertStore> {
            roots(&[self.root.certificate()]).unwrap()
        }
    }

    fn id(account: &str) -> SpiffeId {
        SpiffeId::new("cluster.local", "ns2", account).unwrap()
    }

    /// Runs a handshake in memory; the first end that fails says why.
    fn handshake(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
    ) -> Result<(ClientConnection, ServerConnection), String> {
        let name = ServerName::try_from(SNI).expect("underscores may stand in a server name");
        let mut client = ClientConnection::new(client, name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        // A handshake takes two round trips at most.
        for _ in 0..4 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            while !wire.is_empty() {
                let taken = server.read_tls(&mut &wire[..]).unwrap();
                wire.drain(..taken);
                server.process_new_packets().map_err(|e| format!("server: {}", explain(&e)))?;
            }
            server.write_tls(&mut wire).unwrap();
            while !wire.is_empty() {
                let taken = client.read_tls(&mut &wire[..]).unwrap();
                wire.drain(..taken);
                client.process_new_packets().map_err(|e| format!("client: {}", explain(&e)))?;
            }
        }
        assert!(!client.is_handshaking() && !server.is_handshaking(), "more than four flights");
        Ok((client, server))
    }

    fn error(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> String {
        handshake(client, server).map(|_| ()).unwrap_err()
    }

    #[test]
    fn both_ends_know_each_other_in_both_versions() {
        let mesh = Mesh::new();
        let only = |account| Peers::Only(vec![id("other"), id(account)]);
        let server = mesh.leaf("bar");
        let server = server_config(&server, mesh.roots(), Some(only("sleep")), &["istio"]).unwrap();
        let client = mesh.leaf("sleep");
        let client =
            client_config(&client, mesh.roots(), only("bar"), &["other", "istio"]).unwrap();
        for version in [&version::TLS12, &version::TLS13] {
            let mut pinned = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_client_cert_verifier(Arc::new(ClientVerifier::new(
                    client_chain(mesh.roots(), provider()).unwrap(),
                    only("sleep"),
                    Seen::default(),
                )))
                .with_cert_resolver(server.cert_resolver.clone());
            pinned.alpn_protocols = server.alpn_protocols.clone();
            let (client, server) = handshake(client.clone(), Arc::new(pinned)).unwrap();
            assert_eq!(server.protocol_version(), Some(version.version));
            assert_eq!(server.server_name(), Some(SNI), "sent as it is, underscores and all");
            assert_eq!(client.alpn_protocol(), Some(&b"istio"[..]));
            assert_eq!(server.peer_certificates().unwrap().len(), 2);
        }
    }

    #[test]
    fn another_root_is_refused_by_either_end() {
        let (ours, theirs) = (Mesh::new(), Mesh::new());
        let server = server_config(&ours.leaf("bar"), ours.roots(), Some(Peers::Any), &[]).unwrap();
        let foreign = client_config(&theirs.leaf("sleep"), ours.roots(), Peers::Any, &[]).unwrap();
        let said = error(foreign, server.clone());
        assert!(said.starts_with("server:") && said.contains("one of our roots"), "{said}");
        let client = client_config(&ours.leaf("sleep"), theirs.roots(), Peers::Any, &[]).unwrap();
        let said = error(client, server);
        assert!(said.starts_with("client:") && said.contains("one of our roots"), "{said}");
    }

    #[test]
    fn an_expired_certificate_is_refused_by_either_end() {
        let mesh = Mesh::new();
        let past = SystemTime::now() - Duration::from_secs(3600);
        let minute = Duration::from_secs(60);
        let stale = |account| mesh.cluster.workload_for(&id(account), past, minute).unwrap();
        let fresh = server_config(&mesh.leaf("bar"), mesh.roots(), Some(Peers::Any), &[]).unwrap();
        let client = client_config(&stale("sleep"), mesh.roots(), Peers::Any, &[]).unwrap();
        let said = error(client, fresh);
        assert!(said.starts_with("server:") && said.contains("expired"), "{said}");
        let server = server_config(&stale("bar"), mesh.roots(), None, &[]).unwrap();
        let client = client_config(&mesh.leaf("sleep"), mesh.roots(), Peers::Any, &[]).unwrap();
        let said = error(client, server);
        assert!(said.starts_with("client:") && said.contains("expired"), "{said}");
    }

    #[test]
    fn somebody_else_is_refused_by_name() {
        let mesh = Mesh::new();
        let only = |account| Peers::Only(vec![id(account)]);
        let server =
            server_config(&mesh.leaf("bar"), mesh.roots(), Some(only("curl")), &[]).unwrap();
        let client = client_config(&mesh.leaf("sleep"), mesh.roots(), Peers::Any, &[]).unwrap();
        let said = error(client, server.clone());
        assert!(said.starts_with("server:"), "{said}");
        assert!(said.contains("it is spiffe://cluster.local/ns/ns2/sa/sleep"), "{said}");
        assert!(said.contains("expected spiffe://cluster.local/ns/ns2/sa/curl"), "{said}");
        let client = client_config(&mesh.leaf("curl"), mesh.roots(), only("qux"), &[]).unwrap();
        let said = error(client, server);
        assert!(said.starts_with("client:") && said.contains("sa/bar; expected"), "{said}");
    }

    #[test]
    fn a_client_without_a_certificate_is_refused() {
        let mesh = Mesh::new();
        let server = server_config(&mesh.leaf("bar"), mesh.roots(), Some(Peers::Any), &[]).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(
                mesh.roots(),
                Peers::Any,
                Seen::default(),
                provider(),
            )))
            .with_no_client_auth();
        let said = error(Arc::new(client), server);
        assert!(said.contains("no certificates"), "{said}");
    }
}
