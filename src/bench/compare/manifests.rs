//! The routes as Kubernetes and Istio objects, for diolkos. Must not know: who reads them.

use std::{fmt::Write as _, io, path::PathBuf};

use super::{churn::replace, configs::Site};

/// Where all of it goes, below the site's directory.
pub(in crate::bench) const MANIFESTS: &str = "manifests";
/// Services in one file.
const SERVICES_PER_FILE: usize = 500;

/// Writes a Gateway, the pods, and for each route a Service with its EndpointSlice.
pub(in crate::bench) fn write(site: &Site<'_>) -> io::Result<PathBuf> {
    let dir = site.dir.join(MANIFESTS);
    std::fs::create_dir(&dir)?;
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
    // One that will change has a file of its own.
    let first = usize::from(site.changing);
    (0..first).try_for_each(|route| write_route(site, route))?;
    let routes: Vec<usize> = (first..site.routes).collect();
    for (file, routes) in routes.chunks(SERVICES_PER_FILE).enumerate() {
        let text: String = routes.iter().map(|route| service(*route, site)).collect();
        std::fs::write(dir.join(format!("{}.yaml", file + 1)), text)?;
    }
    Ok(dir)
}

/// Writes one route to a file of its own, or replaces it there.
pub(in crate::bench) fn write_route(site: &Site<'_>, route: usize) -> io::Result<()> {
    replace(&site.dir.join(MANIFESTS), &file_of(route), service(route, site))
}

/// Takes that file away.
pub(in crate::bench) fn remove_route(site: &Site<'_>, route: usize) -> io::Result<()> {
    match std::fs::remove_file(site.dir.join(MANIFESTS).join(file_of(route))) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn file_of(route: usize) -> String {
    format!("route-{route}.yaml")
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
    for (n, pod) in site.pods_of(route) {
        let _ = write!(
            text,
            "- addresses: [{}]\n  conditions: {{ready: true}}\n  targetRef: {{kind: Pod, name: \
             pod-{n}, namespace: bench}}\n",
            pod.ip()
        );
    }
    text
}
