//! Real ClientHellos to send without speaking TLS afterwards: what a gateway reads, and no
//! cryptography that would drown what the gateway costs.
//!
//! Must not know: sockets.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Context as _;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::ServerName,
};

/// What the sidecars of a mesh offer.
pub const ALPN: &str = "istio";

/// Where the 32 random bytes stand: after a record header, a message header and a version.
const RANDOM_AT: usize = 5 + 4 + 2;

/// A ClientHello for one name.
#[derive(Clone, Debug)]
pub struct Hello {
    wire: Arc<[u8]>,
}

impl Hello {
    /// Makes it with rustls: TLS 1.2 and 1.3, ALPN `istio`, key shares as most sidecars send them
    /// (X25519: about 250 bytes, where a post-quantum one has about 1,500).
    ///
    /// # Errors
    /// When `name` cannot stand in a ClientHello.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
        let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.into()];
        let mut connection = ClientConnection::new(Arc::new(config), server_name(name)?)?;
        let mut wire = Vec::new();
        connection.write_tls(&mut wire)?;
        Ok(Self { wire: wire.into() })
    }

    /// The bytes, with a random of their own: a gateway may take one seen twice for a loop.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        static SENT: AtomicU64 = AtomicU64::new(0);
        let mut wire = self.wire.to_vec();
        let count = SENT.fetch_add(1, Ordering::Relaxed);
        for (byte, new) in wire[RANDOM_AT..].iter_mut().zip(count.to_le_bytes()) {
            *byte ^= new;
        }
        wire
    }
}

/// A name that a client may ask for.
///
/// # Errors
/// When it cannot stand in a ClientHello.
pub fn server_name(name: &str) -> anyhow::Result<ServerName<'static>> {
    ServerName::try_from(name.to_owned())
        .with_context(|| format!("{name:?} cannot be a server name"))
}

#[cfg(test)]
mod tests {
    use rustls::server::Acceptor;

    use super::*;

    #[test]
    fn rustls_reads_back_the_name_and_the_alpn() {
        let name = "outbound_.8080_._.bar.ns2.global";
        let hello = Hello::new(name).unwrap();
        for wire in [hello.bytes(), hello.bytes()] {
            let mut acceptor = Acceptor::default();
            acceptor.read_tls(&mut &wire[..]).unwrap();
            let accepted = acceptor.accept().ok().unwrap().unwrap();
            let read = accepted.client_hello();
            assert_eq!(read.server_name(), Some(name));
            assert_eq!(read.alpn().unwrap().next(), Some(ALPN.as_bytes()));
        }
        assert_ne!(hello.bytes(), hello.bytes());
        assert!(Hello::new("no name").is_err());
    }
}
