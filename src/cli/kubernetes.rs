//! Flags that name a Kubernetes API. Must not know: which command has them.

use std::path::PathBuf;

use clap::Args;

use super::{flag, text};
use crate::config::{Given, Override};

/// The Kubernetes API, beside directories.
#[derive(Clone, Debug, Default, Args)]
pub struct KubernetesArgs {
    /// Follow the Kubernetes API, by this pod's service account, $KUBECONFIG or ~/.kube/config.
    #[arg(long)]
    pub kubernetes: bool,
    /// Follow the Kubernetes API of this kubeconfig file.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig, if not its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl KubernetesArgs {
    /// The settings they are.
    pub(super) fn overrides(&self) -> [Option<Override>; 3] {
        let Self { kubernetes, kubeconfig, context } = self;
        let named = kubeconfig.as_ref().map(|_| "--kubeconfig");
        let named = named.or(context.as_ref().map(|_| "--context"));
        let flag_given = named.or(kubernetes.then_some("--kubernetes"));
        let enabled = |name| flag(name, "manifests.kubernetes.enabled", Given::Text("true".into()));
        let file = kubeconfig.as_ref().map(|file| file.to_string_lossy());
        [
            flag_given.map(enabled),
            text("--kubeconfig", "manifests.kubernetes.kubeconfig", file.as_ref()),
            text("--context", "manifests.kubernetes.context", context.as_ref()),
        ]
    }
}
