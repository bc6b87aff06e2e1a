//! An API server out of a script, for what a real one is too slow for here: how much memory a pod
//! takes, so that 100,000 of them fit.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    thread,
};

use super::*;

/// Serves this many pods in pages, nothing of the other core kinds, and no Istio.
fn serve(pods: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            // One that leaves ends its own thread only.
            thread::spawn(move || answer(stream?, pods));
        }
    });
    address
}

fn answer(stream: TcpStream, pods: usize) -> std::io::Result<()> {
    let mut from = BufReader::new(stream.try_clone()?);
    loop {
        let mut first = String::new();
        if from.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while from.read_line(&mut line)? > 2 {
            line.clear();
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        if path.contains("watch=1") {
            write!(&stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            continue;
        }
        let (status, body) = match path {
            path if path.contains(".istio.io/") => ("404 Not Found", "{}".to_owned()),
            path if path.starts_with("/api/v1/pods?") => ("200 OK", page(path, pods)),
            _ => ("200 OK", r#"{"metadata": {"resourceVersion": "1"}, "items": null}"#.to_owned()),
        };
        write!(&stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    }
}

/// A page of 500 pods from where the query says.
fn page(path: &str, pods: usize) -> String {
    let from = path.split_once("continue=").map_or(0, |(_, from)| from.parse().unwrap_or(0));
    let to = pods.min(from + 500);
    let next = if to < pods { to.to_string() } else { String::new() };
    let items: Vec<Value> = (from..to).map(pod_in_full).collect();
    json!({"metadata": {"resourceVersion": "1", "continue": next}, "items": items}).to_string()
}

/// A pod of a mesh as the API gives it, with all that nobody here reads.
fn pod_in_full(n: usize) -> Value {
    let app = format!("app-{}", n / 20);
    let name = format!("{app}-7d9f8b6c5d-{n:05x}");
    let container = |name: &str| {
        json!({"name": name, "image": format!("example.com/{name}:1.2.3"),
            "env": (0..12).map(|e| json!({"name": format!("VARIABLE_{e}"),
                "value": "a value of some length"})).collect::<Vec<_>>(),
            "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
            "volumeMounts": [{"mountPath": "/var/run/secrets/tokens", "name": "istio-token"}]})
    };
    let ip = format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
    json!({
        "metadata": {
            "name": name, "namespace": format!("ns-{}", n % 50),
            "uid": format!("00000000-0000-0000-0000-{n:012x}"), "resourceVersion": n.to_string(),
            "generateName": format!("{app}-7d9f8b6c5d-"),
            "creationTimestamp": "2024-05-06T07:08:09Z",
            "labels": {"app": app, "version": "v1", "pod-template-hash": "7d9f8b6c5d",
                "security.istio.io/tlsMode": "istio",
                "service.istio.io/canonical-name": app,
                "service.istio.io/canonical-revision": "v1"},
            "annotations": {"sidecar.istio.io/status": "{\"version\":\"0123456789abcdef\"}",
                "kubectl.kubernetes.io/restartedAt": "2024-05-06T07:08:09Z",
                "prometheus.io/scrape": "true"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "name": format!("{app}-7d9f8b6c5d"), "uid": "1"}],
            "managedFields": (0..4).map(|m| json!({"manager": format!("manager-{m}"),
                "fieldsV1": {"f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {"f:env": {}}}}}}))
                .collect::<Vec<_>>(),
        },
        "spec": {"containers": [container("app"), container("istio-proxy")],
            "nodeName": format!("node-{}", n % 300), "serviceAccountName": app},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn memory_with(pods: usize) -> f64 {
    let server = json!({"server": format!("http://{}", serve(pods))});
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": server}], "users": [],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": ""}}],
    });
    std::fs::write(&file, config.to_string()).expect("written");
    let process = follow(&file, &[]);
    let known = process.json("/config_dump")["objects"]["Pod"].clone();
    assert_eq!(known, pods, "every page was read");
    process.sample("process_resident_memory_bytes").expect("memory")
}

#[test]
fn a_pod_takes_little_memory() {
    let pods = 10_000;
    let (without, with) = (memory_with(0), memory_with(pods));
    let each = (with - without) / 10_000.0;
    let json = pod_in_full(1).to_string().len();
    println!("{each:.0} bytes for each pod, whose JSON has {json}");
    assert!(each < 3_000.0, "{each} bytes for each pod: 100,000 do not fit");
}

/// A kubeconfig of an API that takes connections and says nothing.
fn mute() -> (TcpListener, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let directory = tempfile::tempdir().expect("a directory");
    let server = json!({"server": format!("http://{}", listener.local_addr().expect("bound"))});
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": server}], "users": [],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": ""}}],
    });
    std::fs::write(directory.path().join("kubeconfig"), config.to_string()).expect("written");
    (listener, directory)
}

#[test]
fn a_gateway_says_what_it_waits_for_and_ends_in_order_while_it_waits() {
    let (_listener, directory) = mute();
    let file = directory.path().join("kubeconfig");
    let file = file.to_str().expect("a path");
    let mut command = gateway_of(&["--kubeconfig", file], &[]);
    let mut waiting = crate::support::daemon::Daemon::start(&mut command);
    let said = waiting.said("still waiting for the first load");
    let why = said["why"].to_string();
    assert!(why.contains("are being listed") && why.contains("http://127.0.0.1:"), "{said}");
    waiting.signal(rustix::process::Signal::TERM);
    let ended = waiting.ended();
    assert_eq!(ended.code(), Some(0), "{ended}");
}

#[test]
fn a_check_says_what_it_waits_for() {
    let (_listener, directory) = mute();
    let mut command = crate::support::process::diolkos();
    command.arg("check").arg("--kubeconfig").arg(directory.path().join("kubeconfig"));
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let first = lines.next().expect("a line").expect("a text");
    child.kill().expect("it waits");
    child.wait().expect("it ends");
    assert!(first.starts_with("waiting: the Kubernetes API http://127.0.0.1:"), "{first}");
    let file = directory.path().join("kubeconfig").display().to_string();
    assert!(first.contains(&format!("/ (the kubeconfig {file}, context it): ")), "{first}");
    assert!(first.contains("Pod") && first.ends_with(" are being listed"), "{first}");
}
