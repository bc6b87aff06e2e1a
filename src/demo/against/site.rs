//! What both gateways are to serve: services of namespace `ns2` with port 8080, as manifests for
//! diolkos and as a configuration for Envoy.
//!
//! Must not know: how a gateway is started, what happens to it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::demo::rival;

/// The port in every name.
const PORT: u16 = 8080;
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// `metadata.name`.
    pub name: String,
    /// Where its pods are; they have sidecars.
    pub pods: Vec<SocketAddr>,
    /// Subsets that its DestinationRule declares; each has all pods.
    pub subsets: Vec<&'static str>,
    /// The `idleTimeout` of that rule.
    pub idle: Option<Duration>,
}

impl Service {
    /// One without a DestinationRule.
    #[must_use]
    pub fn new(name: &str, pods: &[SocketAddr]) -> Self {
        Self { name: name.to_owned(), pods: pods.to_vec(), subsets: Vec::new(), idle: None }
    }

    /// What a client asks for.
    #[must_use]
    pub fn key(&self, subset: &str) -> String {
        let subset = if subset.is_empty() { "_" } else { subset };
        let subset = if subset == "_" { "_".to_owned() } else { format!("{subset}_") };
        format!("outbound_.{PORT}_.{subset}.{}.ns2.global", self.name)
    }

    /// Every name that leads to it.
    fn keys(&self) -> impl Iterator<Item = String> {
        [""].iter().chain(&self.subsets).map(|subset| self.key(subset))
    }
}

/// The services of a scene, and where a gateway's files go.
#[derive(Clone, Debug)]
pub struct Site {
    /// A directory of its own.
    pub dir: PathBuf,
    /// In no order.
    pub services: Vec<Service>,
}

impl Site {
    /// Where [`Self::write_manifests`] writes.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.dir.join("manifests")
    }

    /// Where a gateway writes a line for each connection.
    #[must_use]
    pub fn log(&self, gateway: &str) -> PathBuf {
        self.dir.join(format!("{gateway}.access.json"))
    }

    /// Writes Gateway, Pods, Services, EndpointSlices and DestinationRules: one file, replaced
    /// whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_manifests(&self) -> io::Result<()> {
        let mut objects = vec![gateway()];
        let mut pods: Vec<SocketAddr> =
            self.services.iter().flat_map(|service| service.pods.clone()).collect();
        pods.sort_unstable();
        pods.dedup();
        objects.extend(pods.iter().map(|pod| pod_object(*pod)));
        for service in &self.services {
            objects.extend(service.objects());
        }
        // JSON is YAML.
        let text: String = objects.iter().map(|object| format!("---\n{object}\n")).collect();
        fs::create_dir_all(self.manifests())?;
        replace(&self.manifests(), "mesh.yaml", &text)
    }

    /// Writes Envoy's clusters and its listener, which it watches, and gives the rest of its
    /// configuration.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_envoy(
        &self,
        name: &str,
        listen: SocketAddr,
        admin: SocketAddr,
    ) -> io::Result<Value> {
        let (lds, cds) = (format!("{name}.lds.json"), format!("{name}.cds.json"));
        let log = self.log(name);
        let chain = |service: &Service| {
            let idle = service.idle;
            let log = &log;
            service.keys().map(|key| rival::chain(&key, idle, log)).collect::<Vec<_>>()
        };
        let mut listener = rival::listener(listen, self.services.iter().flat_map(chain).collect());
        listener["@type"] = LISTENER.into();
        // As Istio: of connections that no chain took, for the others have a line already.
        let mut refused = rival::access_log(&log);
        refused["filter"] = json!({"response_flag_filter": {"flags": ["NR"]}});
        listener["access_log"] = json!([refused]);
        let cluster = |service: &Service| {
            let typed = |key: String| {
                let mut cluster = rival::cluster(&key, &service.pods);
                cluster["@type"] = CLUSTER.into();
                cluster
            };
            service.keys().map(typed).collect::<Vec<_>>()
        };
        let clusters: Vec<Value> = self.services.iter().flat_map(cluster).collect();
        // In istiod's order.
        replace(&self.dir, &cds, &json!({"resources": clusters}).to_string())?;
        replace(&self.dir, &lds, &json!({"resources": [listener]}).to_string())?;
        Ok(json!({
            "node": {"id": name, "cluster": "istio-ingressgateway"},
            "admin": {"address": rival::address(admin)},
            "dynamic_resources": {
                "cds_config": watched(&self.dir.join(cds)),
                "lds_config": watched(&self.dir.join(lds)),
            },
        }))
    }
}

/// Replaces a file whole, so that no half of it is ever read.
pub(super) fn replace(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let hidden = dir.join(format!(".{name}"));
    fs::write(&hidden, text)?;
    fs::rename(hidden, dir.join(name))
}

/// A file as a source of configuration for Envoy.
pub(super) fn watched(path: &Path) -> Value {
    json!({"path_config_source": {"path": path}, "resource_api_version": "V3"})
}

fn gateway() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": "cross-network", "namespace": "istio-system"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{
            "port": {"number": 15443, "name": "tls", "protocol": "TLS"},
            "tls": {"mode": "AUTO_PASSTHROUGH"}, "hosts": ["*.global"],
        }]},
    })
}

fn pod_name(at: SocketAddr) -> String {
    format!("pod-{}-{}", at.ip().to_string().replace('.', "-"), at.port())
}

fn pod_object(at: SocketAddr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod_name(at), "namespace": "ns2", "labels": {
            "app": "bar", "version": "v", "security.istio.io/tlsMode": "istio",
        }},
        "spec": {"containers": [{"name": "app"}, {"name": "istio-proxy"}]},
        "status": {"phase": "Running", "podIP": at.ip()},
    })
}

impl Service {
    fn objects(&self) -> Vec<Value> {
        let name = &self.name;
        let mut objects = vec![json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "ns2"},
            "spec": {"selector": {"app": "bar"}, "ports": [{"name": "tcp", "port": PORT}]},
        })];
        objects.extend(self.pods.iter().enumerate().map(|(n, pod)| {
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": format!("{name}-{n}"), "namespace": "ns2",
                    "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"name": "tcp", "port": pod.port()}],
                "endpoints": [{"addresses": [pod.ip()], "conditions": {"ready": true},
                    "targetRef": {"kind": "Pod", "name": pod_name(*pod), "namespace": "ns2"}}],
            })
        }));
        if self.idle.is_some() || !self.subsets.is_empty() {
            let subset = |name: &&str| json!({"name": name, "labels": {"version": "v"}});
            let mut spec = json!({
                "host": format!("{name}.ns2.svc.cluster.local"),
                "subsets": self.subsets.iter().map(subset).collect::<Vec<_>>(),
            });
            if let Some(idle) = self.idle {
                let tcp = json!({"idleTimeout": format!("{}s", idle.as_secs())});
                spec["trafficPolicy"] = json!({"connectionPool": {"tcp": tcp}});
            }
            objects.push(json!({
                "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
                "metadata": {"name": name, "namespace": "ns2"}, "spec": spec,
            }));
        }
        objects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_sidecars_ask_for() {
        let bar = Service { subsets: vec!["v1"], ..Service::new("bar", &[]) };
        let keys: Vec<_> = bar.keys().collect();
        assert_eq!(
            keys,
            ["outbound_.8080_._.bar.ns2.global", "outbound_.8080_.v1_.bar.ns2.global"]
        );
    }
}
