//! The routes as Kubernetes and Istio objects, for diolkos. Must not know: who reads them.

use std::{fmt::Write as _, io, path::Path};

use super::configs::Site;

/// Services in one file.
const SERVICES_PER_FILE: usize = 500;

/// Writes a Gateway, the pods, and for each route a Service with its EndpointSlice.
pub(super) fn write(site: &Site<'_>, dir: &Path) -> io::Result<()> {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: bench, namespace: \
         istio-system}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n  - port: {number: \
         15443, name: tls, protocol: TLS}\n    tls: {mode: AUTO_PASSTHROUGH}\n    hosts: \
         [\"*.global\"]\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: bench}\n",
    );
    for (n, pod) in site.pods.iter().enumerate() {
        let (ip, port) = (pod.ip(), pod.port());
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: pod-{n}\n  namespace: bench\n  \
             labels: {{app: bench, security.istio.io/tlsMode: istio}}\nspec:\n  containers:\n  - \
             name: pod\n    image: example.com/pod:1\n    ports: [{{containerPort: {port}}}]\n\
             status: {{phase: Running, podIP: {ip}}}\n"
        );
    }
    std::fs::write(dir.join("0.yaml"), text)?;
    let routes: Vec<usize> = (0..site.routes).collect();
    for (file, routes) in routes.chunks(SERVICES_PER_FILE).enumerate() {
        let text: String = routes.iter().map(|route| service(*route, site)).collect();
        std::fs::write(dir.join(format!("{}.yaml", file + 1)), text)?;
    }
    Ok(())
}

fn service(route: usize, site: &Site<'_>) -> String {
    let port = site.pods.first().map_or(0, |pod| pod.port());
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: svc-{route}, namespace: bench}}\n\
         spec:\n  selector: {{app: bench}}\n  ports: [{{name: tcp, protocol: TCP, port: 8080, \
         targetPort: {port}}}]\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata:\n  name: svc-{route}-a\n  namespace: bench\n  labels: \
         {{kubernetes.io/service-name: svc-{route}}}\naddressType: IPv4\nports: [{{name: tcp, \
         protocol: TCP, port: {port}}}]\nendpoints:\n"
    );
    for (n, pod) in site.pods.iter().enumerate() {
        let _ = write!(
            text,
            "- addresses: [{}]\n  conditions: {{ready: true}}\n  targetRef: {{kind: Pod, name: \
             pod-{n}, namespace: bench}}\n",
            pod.ip()
        );
    }
    text
}
