//! What the demo makes before it starts: certificates of two clusters, and manifests on disk.
//!
//! Must not know: sockets, what is called.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context as _;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::pods;
use crate::certs::{Authority, Leaf, Peers, SpiffeId, client_config, files, roots, server_config};

/// The manifests, as they stand in the repository under `config/demo`.
pub const MANIFESTS: [(&str, &str); 3] = [
    ("1-gateway.yaml", include_str!("../../../config/demo/1-gateway.yaml")),
    ("2-bar.yaml", include_str!("../../../config/demo/2-bar.yaml")),
    ("3-refused.yaml", include_str!("../../../config/demo/3-refused.yaml")),
];

/// Who calls: a workload of the other cluster.
pub const CALLER: &str = "spiffe://cluster.local/ns/ns1/sa/sleep";
/// Who is called.
pub const BAR: &str = "spiffe://cluster.local/ns/ns2/sa/bar";
const SECRET: &str = "spiffe://cluster.local/ns/ns2/sa/secret";

/// Two clusters with one root, and a third party with a root of its own.
#[derive(Debug)]
pub struct Material {
    root: Authority,
    /// The caller's cluster.
    cluster1: Authority,
    /// The cluster of the pods and the gateway.
    cluster2: Authority,
    caller: Leaf,
    bar: Leaf,
    secret: Leaf,
    /// Names itself like the caller, but under another root.
    stranger: Leaf,
}

impl Material {
    /// Makes everything, valid from now on.
    pub fn make(now: SystemTime) -> anyhow::Result<Self> {
        let root = Authority::root(now)?;
        let (cluster1, cluster2) = (root.cluster("cluster1", now)?, root.cluster("cluster2", now)?);
        let elsewhere = Authority::root(now)?.cluster("cluster1", now)?;
        let caller = SpiffeId::parse(CALLER)?;
        Ok(Self {
            caller: cluster1.workload(&caller, now)?,
            bar: cluster2.workload(&SpiffeId::parse(BAR)?, now)?,
            secret: cluster2.workload(&SpiffeId::parse(SECRET)?, now)?,
            stranger: elsewhere.workload(&caller, now)?,
            root,
            cluster1,
            cluster2,
        })
    }

    /// TLS of the pods of `bar`: the caller must show a certificate of the shared root.
    pub fn bar_tls(&self) -> anyhow::Result<Arc<ServerConfig>> {
        self.pod_tls(&self.bar)
    }

    /// TLS of the pod of `secret`.
    pub fn secret_tls(&self) -> anyhow::Result<Arc<ServerConfig>> {
        self.pod_tls(&self.secret)
    }

    /// TLS of the caller: speaks to pods of `bar` and to nobody else.
    pub fn caller_tls(&self, alpn: &str) -> anyhow::Result<Arc<ClientConfig>> {
        self.client_tls(&self.caller, alpn)
    }

    /// TLS of one who has the caller's name and another root.
    pub fn stranger_tls(&self, alpn: &str) -> anyhow::Result<Arc<ClientConfig>> {
        self.client_tls(&self.stranger, alpn)
    }

    fn pod_tls(&self, leaf: &Leaf) -> anyhow::Result<Arc<ServerConfig>> {
        let alpn = ["istio", "h2", "http/1.1"];
        Ok(server_config(leaf, self.roots()?, Some(Peers::Any), &alpn)?)
    }

    fn client_tls(&self, leaf: &Leaf, alpn: &str) -> anyhow::Result<Arc<ClientConfig>> {
        let bar = Peers::Only(vec![SpiffeId::parse(BAR)?]);
        Ok(client_config(leaf, self.roots()?, bar, &[alpn])?)
    }

    fn roots(&self) -> anyhow::Result<Arc<RootCertStore>> {
        Ok(roots(&[self.root.certificate()])?)
    }

    /// Writes all certificates below `dir`.
    pub fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let certs = dir.join("certs");
        self.root.write(&certs.join("root"))?;
        self.cluster1.write(&certs.join("cluster1"))?;
        self.cluster2.write(&certs.join("cluster2"))?;
        let client = dir.join("client");
        self.caller.write(&client)?;
        // `openssl s_client -cert` sends one certificate, and finds the rest of its chain among
        // what it trusts: hence the caller's intermediate beside the root.
        let trust = files::pem_text([self.root.certificate(), self.cluster1.certificate()]);
        files::write_all(&client, &[("trust.pem", &trust)])?;
        Ok(())
    }
}

/// Writes the manifests to `dir/manifests`, with `port` as the pods' port, and returns that
/// directory.
pub fn write_manifests(dir: &Path, port: u16) -> anyhow::Result<PathBuf> {
    let manifests = dir.join("manifests");
    fs::create_dir_all(&manifests)
        .with_context(|| format!("cannot make {}", manifests.display()))?;
    for (name, text) in MANIFESTS {
        let path = manifests.join(name);
        let text = text.replace(&pods::PORT.to_string(), &port.to_string());
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_name_every_pod_where_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = write_manifests(dir.path(), 4711).unwrap();
        let all: String = MANIFESTS
            .iter()
            .map(|(name, _)| fs::read_to_string(manifests.join(name)).unwrap())
            .collect();
        for pod in pods::BAR.iter().chain([&pods::SECRET, &pods::PLAIN]) {
            assert!(all.contains(&format!("name: {}\n", pod.name)), "{}", pod.name);
            assert!(all.contains(&format!("podIP: {}\n", pod.ip)), "{}", pod.ip);
            assert!(all.contains(&format!("addresses: [{}]\n", pod.ip)), "{}", pod.ip);
        }
        assert_eq!(all.matches("4711").count(), 12, "3 slices, 3 services, 5 pods, one comment");
        assert!(!all.contains("28080"));
    }
}
