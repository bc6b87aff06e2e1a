//! What DestinationRules and Services say of the choice of an endpoint, over real sockets: who a
//! source belongs to, what a new pod gets, and pods with names of their own.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
};

use serde_json::{Value, json};

use crate::support::{
    PATIENCE, Pod,
    envoy::{self, Envoy},
    eventually,
    hello::Hello,
    mesh::{Files, Service, gateway},
    process::{Process, diolkos},
    tools,
};

fn rule(host: &str, balancer: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
         metadata: {{name: {host}, namespace: ns2}}, \
         spec: {{host: {host}, trafficPolicy: {{loadBalancer: {{{balancer}}}}}}}}}\n"
    )
}

fn addresses(pods: &[Pod]) -> Vec<SocketAddr> {
    pods.iter().map(|pod| pod.address).collect()
}

/// Dials from this address and sends this; the pod that gets it.
fn served_by(to: SocketAddr, from: [u8; 4], bytes: &[u8], pods: &[Pod]) -> usize {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("bind");
    socket.connect(&to.into()).expect("connect");
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).expect("timeout");
    client.write_all(bytes).expect("write");
    let waiting = || pods.iter().enumerate().find_map(|(i, pod)| Some((i, pod.waiting()?)));
    let (index, mut pod) = eventually("a pod gets it", waiting);
    pod.set_nonblocking(false).expect("blocking");
    pod.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("served");
    index
}

#[test]
fn a_source_comes_back_to_its_pod_also_behind_a_proxy() {
    let pods = [Pod::new(), Pod::new(), Pod::new()];
    let service = Service::new("bar", &addresses(&pods));
    for hash in ["maglev: {}", "minimumRingSize: 512"] {
        let files = Files::with(&[
            ("gateway.yaml", &gateway(&["*.global"])),
            ("bar.yaml", &service.yaml()),
            ("rule.yaml", &rule("bar", &format!("consistentHash: {{useSourceIp: true, {hash}}}"))),
        ]);
        let hello = Hello::new(&service.key()).wire();
        let plain = Process::start(files.path(), &[]);
        let of = |n: u8| served_by(plain.address, [127, 0, 7, n], &hello, &pods);
        let first: Vec<usize> = (1..=24).map(of).collect();
        let again: Vec<usize> = (1..=24).map(of).collect();
        assert_eq!(first, again, "{hash}");
        assert!((0..3).all(|i| first.contains(&i)), "{hash}: {first:?}");
        let trusting =
            Process::start(files.path(), &["gateway.proxy_protocol.trusted=[127.0.0.9/32]"]);
        let named = |n: u8| {
            let header = format!("PROXY TCP4 127.0.7.{n} 192.0.2.1 1{n:03} 15443\r\n");
            let bytes = [header.as_bytes(), &hello].concat();
            served_by(trusting.address, [127, 0, 0, 9], &bytes, &pods)
        };
        assert_eq!(first, (1..=24).map(named).collect::<Vec<_>>(), "{hash}: whom the header names");
        let path = format!("/explain?sni={}&source=127.0.7.1", service.key());
        let explained = plain.get("admin", &path).body;
        let belongs = format!("it belongs to {}", pods[first[0]].address);
        assert!(explained.contains(&belongs), "{belongs}: {explained}");
    }
}

#[test]
fn a_source_goes_where_envoy_sends_it() {
    let Some(binary) = tools::find("envoy") else { return };
    let pods = [Pod::new(), Pod::new(), Pod::new(), Pod::new()];
    let service = Service::new("bar", &addresses(&pods));
    for (hash, cluster) in [
        ("ringHash: {}", json!({"lb_policy": "RING_HASH"})),
        ("minimumRingSize: 300", {
            let ring = json!({"minimum_ring_size": 300});
            json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": ring})
        }),
        ("maglev: {tableSize: 65537}", json!({"lb_policy": "MAGLEV"})),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let envoy = Envoy::start(&binary, dir.path(), "hashing", resources(&pods, cluster));
        let files = Files::with(&[
            ("gateway.yaml", &gateway(&["*.global"])),
            ("bar.yaml", &service.yaml()),
            ("rule.yaml", &rule("bar", &format!("consistentHash: {{useSourceIp: true, {hash}}}"))),
        ]);
        let ours = Process::start(files.path(), &[]);
        let hello = Hello::new(&service.key()).wire();
        let of = |to: SocketAddr| -> Vec<usize> {
            (1..=40).map(|n| served_by(to, [127, 0, 7, n], &hello, &pods)).collect()
        };
        assert_eq!(of(ours.address), of(envoy.listener("by-source")), "{hash}");
    }
}

/// An Envoy that proxies TCP to these pods by source address.
fn resources(pods: &[Pod], mut cluster: Value) -> Value {
    let endpoint =
        |pod: &Pod| json!({"endpoint": {"address": envoy::loopback(pod.address.port())}});
    let endpoints: Vec<Value> = pods.iter().map(endpoint).collect();
    cluster["name"] = "bar".into();
    cluster["type"] = "STATIC".into();
    cluster["load_assignment"] =
        json!({"cluster_name": "bar", "endpoints": [{"lb_endpoints": endpoints}]});
    let proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "bar", "cluster": "bar", "hash_policy": [{"source_ip": {}}],
    });
    let filter = json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy});
    let listener = json!({
        "name": "by-source",
        "address": envoy::loopback(0),
        "filter_chains": [{"filters": [filter]}],
    });
    json!({"clusters": [cluster], "listeners": [listener]})
}

#[test]
fn a_pod_that_joins_gets_its_share_slowly() {
    let pods = [Pod::new(), Pod::new()];
    let service = |n: usize| Service::new("bar", &addresses(&pods)[..n]);
    let warming = |duration: &str| {
        rule("bar", &format!("simple: ROUND_ROBIN, warmup: {{duration: {duration}}}"))
    };
    let files = Files::with(&[
        ("gateway.yaml", &gateway(&["*.global"])),
        ("bar.yaml", &service(1).yaml()),
        ("rule.yaml", &warming("1h")),
    ]);
    let process = Process::start(files.path(), &[]);
    let hello = Hello::new(&service(1).key()).wire();
    let share = || {
        let hits = (0..110).map(|_| served_by(process.address, [127, 0, 0, 1], &hello, &pods));
        hits.filter(|index| *index == 1).count()
    };
    assert_eq!(share(), 0);
    files.write("bar.yaml", &service(2).yaml());
    let explained = |text: &str| {
        let path = format!("/explain?sni={}", service(1).key());
        eventually(text, || process.get("admin", &path).body.contains(text).then_some(()));
    };
    explained("warming up for");
    let new = share();
    assert!((5..=20).contains(&new), "{new} of 110 for one that has 10 %");
    files.write("rule.yaml", &warming("1ms"));
    explained("warm-up 1ms");
    let warm = share();
    assert!((50..=60).contains(&warm), "{warm} of 110");
}

/// Headless Service ns2/kafka whose pods are `pod-0` and so on.
fn kafka(pods: &[SocketAddr]) -> String {
    let mut text = Service::new("kafka", pods).yaml();
    text = text.replace("spec: {selector", "spec: {clusterIP: None, selector");
    for (i, pod) in pods.iter().enumerate() {
        let (ip, target) = (pod.ip(), format!("targetRef: {{kind: Pod, name: kafka-{i},"));
        assert!(text.contains(&target), "{ip}: {text}");
        text = text.replace(&target, &format!("hostname: pod-{i}\n  {target}"));
    }
    text
}

#[test]
fn a_pod_of_a_headless_service_has_a_name_of_its_own() {
    let pods = [Pod::new(), Pod::new(), Pod::new()];
    let files = Files::with(&[
        ("gateway.yaml", &gateway(&["*.global"])),
        ("kafka.yaml", &kafka(&addresses(&pods))),
    ]);
    let process = Process::start(files.path(), &["gateway.per_pod_names=true"]);
    for n in [0, 1, 2, 1, 0] {
        let hello = Hello::new(&format!("outbound_.8080_._.pod-{n}.kafka.ns2.global")).wire();
        assert_eq!(served_by(process.address, [127, 0, 0, 1], &hello, &pods), n);
    }
    let key = |n: usize| format!("outbound_.8080_._.pod-{n}.kafka.ns2.global");
    process.explains(&key(3), false);
    // Without its pod the name is gone; the others stay.
    files.write("kafka.yaml", &kafka(&addresses(&pods)[..2]));
    process.explains(&key(2), false);
    process.explains(&key(1), true);
    let plain = Process::start(files.path(), &[]);
    plain.explains(&key(1), false);
    plain.explains("outbound_.8080_._.kafka.ns2.global", true);
}

#[test]
fn pods_with_names_are_exported_where_that_is_asked_for() {
    let nobody: Vec<SocketAddr> =
        (1..=2).map(|n| (IpAddr::from([10, 0, 0, n]), 9092).into()).collect();
    let files =
        Files::with(&[("gateway.yaml", &gateway(&["*.global"])), ("kafka.yaml", &kafka(&nobody))]);
    let book = tempfile::tempdir().expect("a directory");
    let hosts = |more: &[&str]| {
        let cluster = format!("c2={},gateway=192.0.2.10", files.path().display());
        let mut command = diolkos();
        command.args(["export", "--cluster", &cluster, "--for", "c1", "--addresses"]);
        let said = command.arg(book.path().join("addresses")).args(more).output().expect("runs");
        let text = String::from_utf8(said.stdout).expect("UTF-8");
        let is_host = |line: &&str| line.starts_with("  - ") && line.ends_with(".global");
        let hosts: Vec<String> =
            text.lines().filter(is_host).map(|line| line[4..].to_owned()).collect();
        assert!(said.status.success(), "{text} {}", String::from_utf8_lossy(&said.stderr));
        hosts
    };
    assert_eq!(hosts(&[]), ["kafka.ns2.global"]);
    let all = ["kafka.ns2.global", "pod-0.kafka.ns2.global", "pod-1.kafka.ns2.global"];
    assert_eq!(hosts(&["--per-pod"]), all);
}
