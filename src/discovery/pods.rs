//! What a pod, or a WorkloadEntry in its place, says of the endpoints it is behind.
//!
//! Pure. Must not know: services, ports.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use super::{
    facts::{Candidate, Evidence, NETWORK},
    pool::Pools,
    world::World,
};
use crate::{
    manifests::kinds::{
        Labels, Node, Pod,
        meta::{Meta, Owner},
    },
    routing::{Locality, Workload},
};

/// The labels that somebody here reads, found in one pass: a load of 100,000 services reads those
/// of 300,000 pods.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KnownLabels<'a> {
    pub(super) tls_mode: Option<&'a str>,
    pub(super) network: Option<&'a str>,
    locality: Option<&'a str>,
    app: Option<&'a str>,
    version: Option<&'a str>,
    kubernetes_name: Option<&'a str>,
    kubernetes_version: Option<&'a str>,
    canonical_name: Option<&'a str>,
    canonical_revision: Option<&'a str>,
    template_hash: Option<&'a str>,
}

impl<'a> KnownLabels<'a> {
    pub(super) fn new(labels: &'a Labels) -> Self {
        let mut known = Self::default();
        for (key, value) in labels.iter() {
            let label = match key {
                "security.istio.io/tlsMode" => &mut known.tls_mode,
                NETWORK => &mut known.network,
                "istio-locality" => &mut known.locality,
                "app" => &mut known.app,
                "version" => &mut known.version,
                "app.kubernetes.io/name" => &mut known.kubernetes_name,
                "app.kubernetes.io/version" => &mut known.kubernetes_version,
                "service.istio.io/canonical-name" => &mut known.canonical_name,
                "service.istio.io/canonical-revision" => &mut known.canonical_revision,
                "pod-template-hash" => &mut known.template_hash,
                _ => continue,
            };
            *label = Some(value);
        }
        known
    }
}

/// The candidate that an address of this pod is. `None` for an address without a known pod: it
/// has no labels, and nothing says that it speaks mesh TLS.
pub(super) fn candidate<'w>(
    address: SocketAddr,
    pod: Option<(&'w Pod, KnownLabels<'w>)>,
    (namespace, node): (&'w str, Option<&'w str>),
    world: &World,
    pools: &mut Pools,
) -> Candidate<'w> {
    let node = pod.and_then(|(pod, _)| pod.spec.node_name.as_deref()).or(node);
    let locality = locality(pod.and_then(|(_, labels)| labels.locality), node, world);
    let locality = pools.localities.share(locality);
    let of_pod = network(pod.and_then(|(_, labels)| labels.network), world);
    let (node, network) = (node.unwrap_or_default(), pools.strings.share(of_pod));
    let Some((pod, labels)) = pod else {
        return Candidate {
            address,
            weight: 1,
            locality,
            workload: pools.workloads.share(Workload::default()),
            instance: pools.strings.share(""),
            labels: Cow::Owned(Labels::default()),
            namespace,
            node,
            network,
            evidence: Evidence::None,
        };
    };
    Candidate {
        address,
        weight: 1,
        locality,
        workload: workload(&pod.meta, &labels, pools),
        instance: Arc::clone(&pod.meta.name),
        labels: Cow::Borrowed(&pod.meta.labels),
        namespace,
        node,
        network,
        // Pods of Istio 1.1 to 1.4 have no label.
        evidence: Evidence::from_label(labels.tls_mode, || {
            pod.meta.annotations.get("sidecar.istio.io/status").is_some()
                || pod.has_sidecar_container()
        }),
    }
}

/// The network of a pod: its label, else that of the cluster; empty when unknown.
pub(super) fn network<'a>(label: Option<&'a str>, world: &'a World) -> &'a str {
    label.unwrap_or_else(|| world.network())
}

fn locality(label: Option<&str>, node: Option<&str>, world: &World) -> Locality {
    if let Some(label) = label.filter(|label| !label.is_empty()) {
        // A label value cannot hold a slash, so Istio writes dots.
        let slashed = if label.contains('/') { label.into() } else { label.replace('.', "/") };
        return Locality::parse(&slashed);
    }
    let node = node.and_then(|node| world.nodes.get("", node));
    node.map(|node| node_locality(node)).unwrap_or_default()
}

/// Where a node is.
pub(super) fn node_locality(node: &Node) -> Locality {
    let label = |key: &str, old: &str| {
        let labels = &node.meta.labels;
        labels.get(key).or_else(|| labels.get(old)).unwrap_or_default().into()
    };
    Locality {
        region: label("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
        subzone: label("topology.istio.io/subzone", ""),
    }
}

/// The workload that an object with these labels is an instance of.
pub(super) fn workload(meta: &Meta, labels: &KnownLabels<'_>, pools: &mut Pools) -> Arc<Workload> {
    let name = match &meta.owner {
        Some(owner) => deployed_name(owner, labels.template_hash),
        None => &meta.name,
    };
    let canonical_name = labels.canonical_name.or(labels.kubernetes_name).or(labels.app);
    let canonical_revision =
        labels.canonical_revision.or(labels.kubernetes_version).or(labels.version);
    let mut share = |text: &str| pools.strings.share(text);
    let workload = Workload {
        name: share(name),
        namespace: share(&meta.namespace),
        app: share(labels.app.unwrap_or_default()),
        version: share(labels.version.unwrap_or_default()),
        canonical_name: share(canonical_name.unwrap_or(name)),
        canonical_revision: share(canonical_revision.unwrap_or("latest")),
    };
    pools.workloads.share(workload)
}

/// The name that people deployed: of a Deployment, where the owner is the ReplicaSet that it made.
fn deployed_name<'a>(owner: &'a Owner, template_hash: Option<&str>) -> &'a str {
    let name = &*owner.name;
    if &*owner.kind != "ReplicaSet" {
        return name;
    }
    let Some((stem, last)) = name.rsplit_once('-') else { return name };
    // Without the label: the letters and digits that Kubernetes makes hashes of.
    let is_hash = || {
        (6..=10).contains(&last.len())
            && last.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b))
    };
    let made = template_hash.map_or_else(is_hash, |hash| hash == last);
    if made { stem } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(owner: &str, labels: &str, expected: (&str, &str, &str)) {
        let yaml = format!(
            "metadata: {{name: web-5d4f8c7b6d-x2x4z, namespace: a, labels: {labels}, \
             ownerReferences: {owner}}}"
        );
        let pod: Pod = serde_norway::from_str(&yaml).expect("a pod");
        let mut pools = Pools::default();
        let found = workload(&pod.meta, &KnownLabels::new(&pod.meta.labels), &mut pools);
        let names = (&*found.name, &*found.canonical_name, &*found.canonical_revision);
        assert_eq!(names, expected, "{owner} {labels}");
    }

    #[test]
    fn a_workload_has_the_name_that_people_deployed() {
        let replica_set = "[{kind: ReplicaSet, name: web-5d4f8c7b6d, controller: true}]";
        check("[]", "{}", ("web-5d4f8c7b6d-x2x4z", "web-5d4f8c7b6d-x2x4z", "latest"));
        check(replica_set, "{}", ("web", "web", "latest"));
        check(replica_set, "{pod-template-hash: 5d4f8c7b6d}", ("web", "web", "latest"));
        check(
            replica_set,
            "{pod-template-hash: x}",
            ("web-5d4f8c7b6d", "web-5d4f8c7b6d", "latest"),
        );
        check("[{kind: ReplicaSet, name: web-blue}]", "{}", ("web-blue", "web-blue", "latest"));
        check(
            "[{kind: StatefulSet, name: db-5d4f8c7b6d}]",
            "{app: db}",
            ("db-5d4f8c7b6d", "db", "latest"),
        );
        check(
            replica_set,
            "{service.istio.io/canonical-name: shop, app: web, version: v2}",
            ("web", "shop", "v2"),
        );
    }
}
