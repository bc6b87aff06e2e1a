//! Certificates that load and pods share: one directory with a root, made by whoever is first.
//!
//! Must not know: sockets.

use std::{path::Path, sync::Arc, time::SystemTime};

use rustls::{ClientConfig, ServerConfig};

use super::hello::ALPN;
use crate::certs::{Authority, Peers, SpiffeId, client_config, roots, server_config};

/// The two ends' identities.
const CALLER: &str = "spiffe://cluster.local/ns/ns1/sa/load";
const POD: &str = "spiffe://cluster.local/ns/bench/sa/pod";

/// One root and an authority under it, as a cluster has them.
#[derive(Debug)]
pub struct Material {
    root: Authority,
    cluster: Authority,
}

impl Material {
    /// Reads the root of `dir`; makes one there when there is none.
    ///
    /// # Errors
    /// When the directory cannot be read or written, or holds something else.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let now = SystemTime::now();
        let root = if dir.join("root-key.pem").exists() {
            Authority::read(dir)?
        } else {
            let root = Authority::root(now)?;
            root.write(dir)?;
            root
        };
        Ok(Self { cluster: root.cluster("cluster1", now)?, root })
    }

    /// For a pod: demands a certificate of the same root.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn pod(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let leaf = self.cluster.workload(&SpiffeId::parse(POD)?, SystemTime::now())?;
        let store = roots(&[self.root.certificate()])?;
        let config = server_config(&leaf, store, Some(Peers::Any), &[ALPN])?;
        let mut config = Arc::unwrap_or_clone(config);
        // Every connection is a full handshake, and no ticket is sent that nobody will use.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// For the load: shows a certificate, resumes nothing.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn caller(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let leaf = self.cluster.workload(&SpiffeId::parse(CALLER)?, SystemTime::now())?;
        let store = roots(&[self.root.certificate()])?;
        Ok(client_config(&leaf, store, Peers::Any, &[ALPN])?)
    }
}
