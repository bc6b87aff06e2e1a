//! Manifests of a small mesh, as text, and a directory that a gateway watches. Must not know: what
//! a gateway makes of them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// A Gateway object for us that exposes these hosts.
pub fn gateway(hosts: &[&str]) -> String {
    gateway_for("istio: ingressgateway", hosts)
}

/// A Gateway object in our namespace for pods with this label.
pub fn gateway_for(selector: &str, hosts: &[&str]) -> String {
    let hosts = hosts.join("\", \"");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\n\
         metadata: {{name: cross-network, namespace: istio-system}}\n\
         spec:\n  selector: {{{selector}}}\n  servers:\n  \
         - port: {{number: 15443, name: tls, protocol: TLS}}\n    \
         tls: {{mode: AUTO_PASSTHROUGH}}\n    hosts: [\"{hosts}\"]\n"
    )
}

/// A service of namespace `ns2` with port 8080 and pods at these addresses.
#[derive(Clone)]
pub struct Service {
    pub name: String,
    pub pods: Vec<SocketAddr>,
    /// Its annotations, as a YAML map.
    pub annotations: String,
    /// Labels of its pods, as the inside of a YAML map.
    pub labels: String,
    /// Annotations of its pods, as a YAML map.
    pub pod_annotations: String,
}

impl Service {
    /// One whose pods have sidecars.
    pub fn new(name: &str, pods: &[SocketAddr]) -> Self {
        Self {
            name: name.to_owned(),
            pods: pods.to_vec(),
            annotations: "{}".into(),
            labels: "security.istio.io/tlsMode: istio".into(),
            pod_annotations: "{}".into(),
        }
    }

    /// Service, EndpointSlices and Pods.
    pub fn yaml(&self) -> String {
        let Self { name, annotations, labels, pod_annotations, .. } = self;
        let mut text = format!(
            "apiVersion: v1\nkind: Service\n\
             metadata: {{name: {name}, namespace: ns2, annotations: {annotations}}}\n\
             spec: {{selector: {{app: {name}}}, ports: [{{name: tcp, port: 8080}}]}}\n"
        );
        let comma = if labels.is_empty() { "" } else { ", " };
        for (i, pod) in self.pods.iter().enumerate() {
            let (ip, port) = (pod.ip(), pod.port());
            text += &format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata:\n  name: {name}-{i}\n  namespace: ns2\n  \
                 labels: {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\n\
                 ports: [{{name: tcp, port: {port}}}]\nendpoints:\n\
                 - addresses: [\"{ip}\"]\n  conditions: {{ready: true}}\n  \
                 targetRef: {{kind: Pod, name: {name}-{i}, namespace: ns2}}\n\
                 ---\napiVersion: v1\nkind: Pod\n\
                 metadata:\n  name: {name}-{i}\n  namespace: ns2\n  \
                 labels: {{app: {name}{comma}{labels}}}\n  annotations: {pod_annotations}\n\
                 spec: {{serviceAccountName: {name}}}\n\
                 status: {{phase: Running, podIP: \"{ip}\"}}\n"
            );
        }
        text
    }

    /// What a client asks for.
    pub fn key(&self) -> String {
        format!("outbound_.8080_._.{}.ns2.global", self.name)
    }
}

/// A watched directory.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    /// With these files to begin with.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let dir = Self::new();
        for (name, text) in files {
            dir.write(name, text);
        }
        dir
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Replaces a file whole, by a rename.
    pub fn write(&self, name: &str, text: &str) {
        let hidden = self.at(&format!(".{name}"));
        fs::write(&hidden, text).expect("write");
        fs::rename(hidden, self.at(name)).expect("rename");
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.at(name)).expect("remove");
    }
}
