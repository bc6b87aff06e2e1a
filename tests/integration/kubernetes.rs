//! A gateway that follows a real API server: what becomes a route and when, and that an API that is
//! away, comes back or has forgotten costs no connection.
//!
//! Only one control plane runs at a time: two of them leave nothing of a small machine to others.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    Pod,
    cluster::{Cluster, LONG, namespace, outer_address},
    hello::Hello,
    mesh::gateway,
    process::{Process, gateway_of},
    read_to_end,
};

// Kinds that come late, namespaces that are listed, files that are applied.
mod access;
// What an exporter writes to the importing cluster.
mod apply;
// Endpoints that come and go under load.
mod churn;
// What a pod may do is enough.
mod confined;
// What a live cluster offers to others.
mod export;
// An API server out of a script: what is too large for a real one here.
mod scripted;

const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

static ONE: Mutex<()> = Mutex::new(());

/// The turn of one control plane. A test that failed does not stop the others.
fn turn() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As `eventually`, for what waits for an API server.
#[track_caller]
fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A gateway that follows the API by this kubeconfig.
fn follow(kubeconfig: &Path, settings: &[&str]) -> Process {
    let kubeconfig = kubeconfig.to_str().expect("a path");
    Process::spawn_within(gateway_of(&["--kubeconfig", kubeconfig], settings), LONG)
}

/// A pod at an address that the API takes for an endpoint.
fn pod(ip: IpAddr) -> Pod {
    Pod::at(SocketAddr::new(ip, 0))
}

/// A Service of this namespace with port 8080.
fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"name": "tcp", "port": 8080}]},
    })
}

/// A pod of a service, whose sidecar its label tells of.
fn pod_object(namespace: &str, service: &str, name: &str) -> Value {
    let labels = json!({"app": service, "security.istio.io/tlsMode": "istio"});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "app", "image": "example.com/app:1"}]},
    })
}

/// A slice that says where a pod of a service is. Each has one: their ports differ.
fn slice(namespace: &str, service: &str, name: &str, at: SocketAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "tcp", "port": at.port()}],
        "endpoints": [{"addresses": [at.ip().to_string()], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": name, "namespace": namespace}}],
    })
}

/// A service with these pods.
fn mesh(namespace: &str, name: &str, pods: &[&Pod]) -> String {
    let mut objects = vec![service(namespace, name)];
    for (index, pod) in pods.iter().enumerate() {
        let pod_name = format!("{name}-{index}");
        objects.push(pod_object(namespace, name, &pod_name));
        objects.push(slice(namespace, name, &pod_name, pod.address));
    }
    objects.iter().map(|object| format!("---\n{object}\n")).collect()
}

fn key(namespace: &str, name: &str) -> String {
    format!("outbound_.8080_._.{name}.{namespace}.global")
}

/// Asks for the name until this pod is the one that is asked, which then answers.
fn until_reached(process: &Process, key: &str, pod: &Pod) -> Talk {
    soon("the pod is asked", || {
        // Those of clients that have left: one of them would be taken for this one's.
        while pod.waiting().is_some() {}
        let mut client = process.ask(key);
        client.set_read_timeout(Some(Duration::from_secs(1))).expect("timeout");
        let mut server = pod.waiting().or_else(|| {
            let _ = client.read(&mut [0; 8]);
            pod.waiting()
        })?;
        server.set_nonblocking(false).expect("blocking");
        server.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        // It may have come from a client before this one, which has left.
        let mut got = vec![0; Hello::new(key).wire().len()];
        server.read_exact(&mut got).ok()?;
        server.write_all(&[7]).ok()?;
        client.read_exact(&mut got[..1]).ok()?;
        server.set_read_timeout(Some(LONG)).expect("timeout");
        client.set_read_timeout(Some(LONG)).expect("timeout");
        let mut talk = Talk { client, server };
        talk.round(1);
        Some(talk)
    })
}

/// Asks for the name until it is refused: before that a pod may be asked, which does not answer.
fn until_refused(process: &Process, key: &str) {
    soon("the name is refused", || {
        let mut client = process.ask(key);
        client.set_read_timeout(Some(Duration::from_secs(1))).expect("timeout");
        let mut got = Vec::new();
        client.read_to_end(&mut got).ok()?;
        (got == UNRECOGNIZED_NAME).then_some(())
    });
}

/// A connection through the gateway.
struct Talk {
    client: TcpStream,
    server: TcpStream,
}

impl Talk {
    /// One byte each way.
    fn round(&mut self, byte: u8) {
        let mut got = [0];
        self.server.write_all(&[!byte]).expect("down");
        self.client.read_exact(&mut got).expect("down");
        assert_eq!(got, [!byte]);
        self.client.write_all(&[byte]).expect("up");
        self.server.read_exact(&mut got).expect("up");
        assert_eq!(got, [byte]);
    }

    fn end(mut self) {
        drop(self.client);
        assert_eq!(read_to_end(&mut self.server), (vec![], true), "it ends as its client ends it");
    }
}

fn is_shown(process: &Process, pod: &Pod) -> bool {
    process.get("admin", "/clusters").body.contains(&pod.address.to_string())
}

#[test]
fn objects_of_the_api_become_routes_and_a_broken_one_costs_only_itself() {
    let _turn = turn();
    let (Some(cluster), Some(ip)) = (Cluster::with_istio(), outer_address()) else { return };
    let account = "apiVersion: v1\nkind: ServiceAccount\n\
                   metadata: {name: diolkos, namespace: istio-system}\n";
    cluster.apply(account);
    cluster.apply(include_str!("../../config/kubernetes/rbac.yaml"));
    let process = follow(&cluster.kubeconfig_of("diolkos"), &[]);
    let followed =
        |state: &str| process.sample(&format!("diolkos_kubernetes_followed{{state=\"{state}\"}}"));
    // The rights of config/kubernetes are enough for every kind.
    soon("every kind is watched", || (followed("live") == Some(13.0)).then_some(()));
    assert_eq!(followed("forbidden"), Some(0.0));
    assert_eq!(process.get("health", "/healthz/ready").status, 503, "no Gateway selects it");

    let (first, second) = (pod(ip), pod(ip));
    cluster.apply(&gateway(&["*.global"]));
    cluster.apply(&mesh("ns2", "bar", &[&first]));
    let mut talk = until_reached(&process, &key("ns2", "bar"), &first);
    assert_eq!(process.get("health", "/healthz/ready").status, 200);

    cluster.apply(&mesh("ns2", "bar", &[&first, &second]));
    until_reached(&process, &key("ns2", "bar"), &second).end();
    cluster.kubectl(&["delete", "endpointslice", "-n", "ns2", "bar-0"], "");
    soon("the endpoint is gone", || (!is_shown(&process, &first)).then_some(()));
    talk.round(2);

    // What a loose schema lets through costs one object, which stays as it was.
    let rule = |mode: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: bar, namespace: ns2}}\n\
             spec: {{host: bar.ns2.svc.cluster.local, subsets: [{{name: v1, labels: {mode}}}]}}\n"
        )
    };
    cluster.apply(&rule("{app: bar}"));
    let subset = key("ns2", "bar").replace("_._", "_.v1_");
    until_reached(&process, &subset, &second).end();
    cluster.apply(&rule("[app]"));
    let problems = soon("the broken rule is named", || {
        let problems = process.json("/config_dump")["problems"].to_string();
        problems.contains("DestinationRule ns2/bar").then_some(problems)
    });
    assert!(problems.contains("spec.subsets") && problems.contains("last good"), "{problems}");
    until_reached(&process, &subset, &second).end();
    cluster.apply(&rule("{app: other}"));
    process.explains(&key("ns2", "bar"), true);
    soon("the problem is gone", || {
        (process.json("/config_dump")["problems"] == json!([])).then_some(())
    });

    cluster.kubectl(&["delete", "service", "-n", "ns2", "bar"], "");
    until_refused(&process, &key("ns2", "bar"));
    talk.round(3);
    talk.end();
}

#[test]
fn an_outage_keeps_what_was_known_and_what_was_missed_is_found_out() {
    let _turn = turn();
    let (Some(mut cluster), Some(ip)) = (Cluster::with_istio(), outer_address()) else { return };
    let (stays, goes, comes) = (pod(ip), pod(ip), pod(ip));
    cluster.apply(&gateway(&["*.global"]));
    cluster.apply(&mesh("ns2", "bar", &[&stays, &goes]));
    cluster.apply(&mesh("ns2", "baz", &[&stays]));
    let process = follow(&cluster.kubeconfig(), &[]);
    let mut talk = until_reached(&process, &key("ns2", "bar"), &goes);
    let age = || process.sample("diolkos_kubernetes_age_seconds").expect("an age");
    let lists = || process.sample("diolkos_kubernetes_lists_total").expect("lists");
    let lists_before = lists();
    soon("all is watched", || (age() == 0.0).then_some(()));

    cluster.stop_api();
    soon("the outage has an age", || (age() > 0.5).then_some(()));
    let ready = process.get("admin", "/ready");
    assert!(ready.status == 200 && ready.body.contains("no contact for"), "{}", ready.body);
    assert_eq!(process.json("/config_dump")["kubernetes"]["followed"][0]["state"], "lost");
    until_reached(&process, &key("ns2", "bar"), &stays).end();
    talk.round(2);

    // While nobody looks an endpoint goes, one comes and a service ends; and then the past is
    // forgotten, so that no watch can go on from where it was.
    cluster.unseen(|cluster| {
        cluster.kubectl(&["delete", "endpointslice", "-n", "ns2", "bar-1"], "");
        cluster.apply(&mesh("ns2", "bar", &[&stays]));
        cluster.apply(&slice("ns2", "bar", "bar-2", comes.address).to_string());
        cluster.apply(&pod_object("ns2", "bar", "bar-2").to_string());
        cluster.kubectl(&["delete", "service", "-n", "ns2", "baz"], "");
        cluster.compact();
    });
    assert!(age() > 0.0);
    process.explains(&key("ns2", "baz"), true);
    cluster.start_api();
    soon("all is watched again", || (age() == 0.0).then_some(()));
    until_refused(&process, &key("ns2", "baz"));
    soon("the missed removal is known", || (!is_shown(&process, &goes)).then_some(()));
    until_reached(&process, &key("ns2", "bar"), &comes).end();
    assert!(lists() > lists_before, "it was listed anew");
    talk.round(3);
    talk.end();
}
