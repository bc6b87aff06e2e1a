//! Certificates that load and pods share: one directory with a root, made by whoever is first.
//!
//! Must not know: sockets.

use std::{path::Path, sync::Arc, time::SystemTime};

use anyhow::ensure;
use rustls::{ClientConfig, ServerConfig};

use super::hello::ALPN;
use crate::certs::{Authority, Peers, SpiffeId, client_config, roots, server_config};

/// The two ends' identities.
const CALLER: &str = "spiffe://cluster.local/ns/ns1/sa/load";
const POD: &str = "spiffe://cluster.local/ns/bench/sa/pod";

/// What [`Authority`] writes of a root.
const ROOT_CERT: &str = "root-cert.pem";
const ROOT_KEY: &str = "root-key.pem";

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
        if dir.join(ROOT_KEY).exists() {
            return Self::read(dir);
        }
        let root = Authority::root(SystemTime::now())?;
        root.write(dir)?;
        Self::under(root)
    }

    /// Reads the root of `dir`, which somebody else has made: one of our own would be trusted by
    /// nobody.
    ///
    /// # Errors
    /// When there is none, or the directory holds something else.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        for name in [ROOT_CERT, ROOT_KEY] {
            ensure!(
                dir.join(name).exists(),
                "no {name} in {}: give the directory that `bench serve --certs` was given, or make \
                 one for both with `diolkos certs root --out DIR`",
                dir.display()
            );
        }
        Self::under(Authority::read(dir)?)
    }

    fn under(root: Authority) -> anyhow::Result<Self> {
        Ok(Self { cluster: root.cluster("cluster1", SystemTime::now())?, root })
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
