//! From settings to a running sidecar.
//!
//! Must not know: where settings come from, how a sidecar works.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, ensure};

use super::parts;
use crate::{
    certs::NamePattern,
    config::{Settings, file},
    discovery::{Identity, Role},
    metrics::Metrics,
    net,
    routing::Locality,
    sidecar::{self, Config, Running},
};

/// Starts the sidecar that the settings describe.
///
/// # Errors
/// What stops a start: certificates that cannot be used, an inbound address that is taken, a
/// directory that cannot be read.
pub fn start(settings: &Settings, metrics: &mut Metrics) -> anyhow::Result<Running> {
    parts::raise_descriptor_limit();
    let directories = &settings.manifests.directories;
    if directories.is_empty() && settings.sidecar.inbound.is_empty() {
        tracing::warn!("no manifests are given (--manifests DIR): nothing listens for outbound");
    }
    Ok(sidecar::start(config(settings)?, identity(settings), directories, metrics)?)
}

fn config(settings: &Settings) -> anyhow::Result<Config> {
    let of = &settings.sidecar;
    ensure!(
        !of.certs.as_os_str().is_empty(),
        "sidecar.certs is empty: --certs DIR says where cert-chain.pem, key.pem and root-cert.pem \
         are; `diolkos certs workload` makes them"
    );
    let pattern = |text: &String| NamePattern::parse(text).context("sidecar.allow_principals");
    let subset = |text: &String| {
        let (host, subset) = file::Sidecar::subset(text).context("sidecar.subsets")?;
        Ok((host, Arc::from(subset)))
    };
    Ok(Config {
        certs: of.certs.clone(),
        inbound: of
            .inbound
            .iter()
            .map(|text| text.parse().map_err(|error| anyhow!("sidecar.inbound: {error}")))
            .collect::<anyhow::Result<_>>()?,
        allowed: of.allow_principals.iter().map(pattern).collect::<anyhow::Result<_>>()?,
        subsets: of.subsets.iter().map(subset).collect::<anyhow::Result<_>>()?,
        handshake_timeout: of.handshake_timeout,
        try_timeout: of.try_timeout,
        connections_max: of.connections_max,
        listeners_max: listeners_max(parts::descriptor_limit()),
        drain: of.drain,
        resolver: (&settings.resolver).into(),
    })
}

/// Of `limit` descriptors a quarter is kept for connections and the status port, and never less
/// than [`KEPT_MIN`].
fn listeners_max(limit: usize) -> usize {
    limit.saturating_sub((limit / 4).max(KEPT_MIN))
}

/// Descriptors of 20 connections, and of what a sidecar opens besides listeners.
const KEPT_MIN: usize = 64;

/// Who the sidecar is, for translation.
fn identity(settings: &Settings) -> Identity {
    let of = &settings.sidecar;
    Identity {
        role: Role::Sidecar,
        namespace: of.namespace.clone(),
        labels: of.labels.iter().collect(),
        network: (!of.network.is_empty()).then(|| of.network.clone()),
        requested_network_view: of.requested_network_view.clone(),
        network_view: parts::network_view(of.network_view),
        locality: Locality::parse(&of.locality),
        per_pod_names: false,
        root_namespace: settings.manifests.root_namespace.clone(),
        connect_timeout: of.connect_timeout,
        outlier: parts::outlier(&settings.outlier_detection),
        cluster_domain: settings.gateway.cluster_domain.clone(),
        own_addresses: net::own_addresses(),
        ..Identity::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_descriptors_is_kept_for_connections() {
        assert_eq!(listeners_max(512), 384);
        assert_eq!(listeners_max(100), 36);
        assert_eq!(listeners_max(40), 0);
    }
}
