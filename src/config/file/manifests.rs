//! Section `manifests`: where objects come from.
//!
//! Must not know: how they are read.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Section `manifests`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifests {
    /// Watched directories.
    pub directories: Vec<PathBuf>,
    /// The API of a cluster.
    pub kubernetes: Kubernetes,
    /// The namespace whose policy holds for the whole mesh.
    pub root_namespace: String,
}

/// The API of a cluster as a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Follow it.
    pub enabled: bool,
    /// A kubeconfig file; empty: the pod's service account, else the usual places.
    pub kubeconfig: PathBuf,
    /// A context of it; empty: its current one.
    pub context: String,
    /// Only these namespaces; empty: all.
    pub namespaces: Vec<String>,
}

impl Default for Manifests {
    fn default() -> Self {
        let kubernetes = Kubernetes::default();
        Self { directories: Vec::new(), kubernetes, root_namespace: "istio-system".into() }
    }
}
