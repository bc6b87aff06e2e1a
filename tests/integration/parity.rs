//! `diolkos check --against`: a real Envoy that was given the same mesh by hand, and the same with
//! one thing wrong at a time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::{Value, json};

use crate::support::{
    envoy::{Envoy, loopback},
    mesh::{Files, Service, gateway},
    process::diolkos,
    tools,
};

const ALPN: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
const NO_LIMIT: u32 = u32::MAX;

fn rule(host: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
         metadata: {{name: {host}, namespace: ns2}}, spec: {{host: {host}, {spec}}}}}\n"
    )
}

/// The mesh as manifests.
fn manifests() -> Files {
    let of = |name: &str, third: u8| {
        let pods: Vec<_> = (1..=3).map(|n| ([10, 0, third, n], 80).into()).collect();
        let mut service = Service::new(name, &pods);
        service.labels += ", version: v1";
        service.yaml() + "---\n"
    };
    let bar = rule(
        "bar",
        "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}], \
         trafficPolicy: {connectionPool: {tcp: {maxConnections: 100, connectTimeout: 3s, \
         idleTimeout: 2h, tcpKeepalive: {time: 60s}}}}",
    );
    let hashed =
        rule("foo", "trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}");
    let warming = rule(
        "baz",
        "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 30s}}, \
         outlierDetection: {consecutive5xxErrors: 7, interval: 5s, maxEjectionPercent: 50}}",
    );
    let entry = "---\n{apiVersion: networking.istio.io/v1, kind: ServiceEntry, \
                 metadata: {name: ext, namespace: ns2}, spec: {hosts: [ext.mesh.local], \
                 location: MESH_INTERNAL, resolution: STATIC, \
                 ports: [{number: 443, name: tls, protocol: TLS}], endpoints: [\
                 {address: 10.0.9.1, weight: 2, serviceAccount: a}, \
                 {address: 10.0.9.2, serviceAccount: a}]}}\n";
    Files::with(&[
        ("gateway.yaml", &gateway(&["*.local", "*.global"])),
        ("mesh.yaml", &[of("bar", 1), of("foo", 2), of("baz", 3), bar, hashed, warming].concat()),
        ("entry.yaml", entry),
    ])
}

/// Address, port and weight of each.
type Endpoints = Vec<(String, u16, u32)>;

/// The mesh as Envoy is told of it.
struct Told {
    clusters: Vec<Value>,
    chains: Vec<Value>,
    /// By cluster.
    endpoints: Vec<(String, Endpoints)>,
}

fn key(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

fn local(name: &str) -> String {
    format!("{name}.ns2.svc.cluster.local")
}

impl Told {
    fn right() -> Self {
        let mut told = Self { clusters: Vec::new(), chains: Vec::new(), endpoints: Vec::new() };
        let pods = |third: u8| -> Vec<_> {
            (1..=3).map(|n| (format!("10.0.{third}.{n}"), 80, 1)).collect()
        };
        let of_bar = json!({
            "lb_policy": "LEAST_REQUEST",
            "connect_timeout": "3s",
            "circuit_breakers": {"thresholds": [{"max_connections": 100}]},
            "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 60}},
        });
        let idle = json!({"idle_timeout": "7200s"});
        told.add(&key(8080, "", &local("bar")), of_bar.clone(), &idle, pods(1));
        told.add(&key(8080, "v1", &local("bar")), of_bar.clone(), &idle, pods(1));
        told.add(&key(8080, "v2", &local("bar")), of_bar, &idle, Vec::new());
        let by_source = json!({"hash_policy": [{"source_ip": {}}]});
        told.add(
            &key(8080, "", &local("foo")),
            json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024}}),
            &by_source,
            pods(2),
        );
        let slow_start = json!({"slow_start_config": {"slow_start_window": "30s"}});
        let outlier = json!({
            "consecutive_5xx": 7, "interval": "5s", "max_ejection_percent": 50,
            "enforcing_consecutive_5xx": 100, "enforcing_success_rate": 0,
        });
        told.add(
            &key(8080, "", &local("baz")),
            json!({
                "lb_policy": "ROUND_ROBIN",
                "round_robin_lb_config": slow_start,
                "outlier_detection": outlier,
                "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
            }),
            &json!({}),
            pods(3),
        );
        let ext = vec![("10.0.9.1".to_owned(), 443, 2), ("10.0.9.2".to_owned(), 443, 1)];
        told.add(
            &key(443, "", "ext.mesh.local"),
            json!({"lb_policy": "LEAST_REQUEST"}),
            &json!({}),
            ext,
        );
        told
    }

    fn add(&mut self, name: &str, mut cluster: Value, proxy: &Value, endpoints: Endpoints) {
        cluster["name"] = name.into();
        cluster["type"] = "EDS".into();
        if cluster["connect_timeout"].is_null() {
            cluster["connect_timeout"] = "10s".into();
        }
        if cluster["circuit_breakers"].is_null() {
            cluster["circuit_breakers"] =
                json!({"thresholds": [{"max_connections": NO_LIMIT, "track_remaining": true}]});
        }
        let mut proxy = proxy.clone();
        let network = "type.googleapis.com/envoy.extensions.filters.network";
        proxy["@type"] = format!("{network}.tcp_proxy.v3.TcpProxy").into();
        proxy["stat_prefix"] = name.into();
        proxy["cluster"] = name.into();
        self.clusters.push(cluster);
        self.chains.push(json!({
            "filter_chain_match": {"server_names": [name], "application_protocols": ALPN},
            "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}],
        }));
        self.endpoints.push((name.to_owned(), endpoints));
    }

    fn cluster(&mut self, name: &str) -> &mut Value {
        self.clusters.iter_mut().find(|c| c["name"] == name).expect("a cluster")
    }

    fn chain(&mut self, name: &str) -> &mut Value {
        let of = |chain: &&mut Value| chain["filter_chain_match"]["server_names"][0] == name;
        self.chains.iter_mut().find(of).expect("a chain")
    }

    fn endpoints(&mut self, name: &str) -> &mut Endpoints {
        &mut self.endpoints.iter_mut().find(|(n, _)| n == name).expect("a cluster").1
    }

    fn forget(&mut self, name: &str) {
        self.clusters.retain(|cluster| cluster["name"] != name);
        self.chains.retain(|chain| chain["filter_chain_match"]["server_names"][0] != name);
    }

    /// Writes files of xDS and starts an Envoy that reads them; its dump.
    fn dump(mut self, binary: &Path, dir: &Path) -> String {
        let source = |path: &Path| json!({"path_config_source": {"path": path}, "resource_api_version": "V3"});
        let write = |name: &str, resources: Vec<Value>| -> PathBuf {
            let path = dir.join(name);
            let text = json!({"version_info": "1", "resources": resources}).to_string();
            fs::write(&path, text).expect("write");
            path
        };
        let typed = |kind: &str, mut value: Value| {
            value["@type"] = format!("type.googleapis.com/envoy.config.{kind}").into();
            value
        };
        for (at, (name, endpoints)) in self.endpoints.iter().enumerate() {
            let endpoint = |(ip, port, weight): &(String, u16, u32)| {
                let address = json!({"socket_address": {"address": ip, "port_value": port}});
                json!({"endpoint": {"address": address}, "load_balancing_weight": weight})
            };
            let all: Vec<Value> = endpoints.iter().map(endpoint).collect();
            let assignment = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": all}]});
            let kind = "endpoint.v3.ClusterLoadAssignment";
            let path = write(&format!("eds-{at}.json"), vec![typed(kind, assignment)]);
            if let Some(cluster) = self.clusters.iter_mut().find(|c| c["name"] == *name) {
                cluster["eds_cluster_config"] = json!({"eds_config": source(&path)});
            }
        }
        let clusters = self.clusters.into_iter().map(|c| typed("cluster.v3.Cluster", c));
        let inspector =
            "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
        let listener = json!({
            "name": "0.0.0.0_15443",
            "address": loopback(0),
            "listener_filters": [{"name": "envoy.filters.listener.tls_inspector",
                                  "typed_config": {"@type": inspector}}],
            "filter_chains": self.chains,
        });
        let lds = write("lds.json", vec![typed("listener.v3.Listener", listener)]);
        let cds = write("cds.json", clusters.collect());
        let config = json!({
            "node": {"id": "gateway", "cluster": "istio-ingressgateway"},
            "dynamic_resources": {"lds_config": source(&lds), "cds_config": source(&cds)},
        });
        Envoy::boot(binary, dir, "gateway", config).dump()
    }
}

/// Compares the mesh with a dump.
fn check(dump: &Path, more: &[&str]) -> Said {
    let manifests = manifests();
    let mut command = diolkos();
    command.arg("check").arg("--manifests").arg(manifests.path());
    command.arg("--against").arg(dump).args(more);
    Said::of(&command.output().expect("runs"))
}

/// What a command said, and its exit code.
#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        Self { out, err, code: output.status.code() }
    }
}

/// Compares the mesh with what an Envoy says that was told of it after `change`.
fn compare(binary: &Path, change: impl FnOnce(&mut Told), more: &[&str]) -> Said {
    let dir = tempfile::tempdir().expect("a directory");
    let mut told = Told::right();
    change(&mut told);
    let path = dir.path().join("dump.json");
    fs::write(&path, told.dump(binary, dir.path())).expect("write");
    check(&path, more)
}

#[test]
fn the_same_mesh_is_equal_and_its_report_can_be_read_by_programs() {
    let Some(binary) = tools::find("envoy") else { return };
    let said = compare(&binary, |_| {}, &[]);
    assert!(said.out.starts_with("6 names: 6 equal, 0 differ"), "{said:?}");
    assert_eq!((said.code, &*said.err), (Some(0), ""));
    // Every name but that of the ServiceEntry is served under the suffix too.
    assert!(said.out.contains("remark: 5 names are served here"), "{said:?}");
    let said = compare(
        &binary,
        |told| told.forget(&key(443, "", "ext.mesh.local")),
        &["--output", "json"],
    );
    assert_eq!(said.code, Some(1));
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(report["sums"], json!({"equal": 5, "differ": 0, "here_only": 1, "there_only": 0}));
    let names = report["names"].as_array().expect("names");
    let missing = names.iter().find(|name| name["verdict"] == "here_only").expect("one");
    assert_eq!(missing["name"], key(443, "", "ext.mesh.local"));
    assert_eq!(missing["objects"], json!(["ServiceEntry ns2/ext"]));
}

/// What is wrong, how it is made wrong, and what is said of it.
type Planted = (&'static str, fn(&mut Told), &'static [&'static str]);

const PLANTED: &[Planted] = &[
    (
        "a chain is missing",
        |told| {
            told.chains.retain(|c| {
                c["filter_chain_match"]["server_names"][0] != key(8080, "", &local("bar"))
            })
        },
        &[
            "here only  outbound_.8080_._.bar",
            "Service ns2/bar, DestinationRule ns2/bar",
            "no filter chain leads to it",
        ],
    ),
    (
        "there is a chain too many",
        |told| {
            told.add(
                &key(9090, "", &local("bar")),
                json!({"lb_policy": "RANDOM"}),
                &json!({}),
                Vec::new(),
            )
        },
        &["there only outbound_.9090_._.bar", "refused here at port: the service has no port 9090"],
    ),
    (
        "a weight is wrong",
        |told| told.endpoints(&key(443, "", "ext.mesh.local"))[0].2 = 3,
        &["differs    outbound_.443_._.ext.mesh.local", "weight of 10.0.9.1:443: here 2, there 3"],
    ),
    (
        "an endpoint is missing",
        |told| _ = told.endpoints(&key(8080, "", &local("foo"))).pop(),
        &["endpoint 10.0.2.3:80: here served, there is not there"],
    ),
    (
        "there is an endpoint too many",
        |told| told.endpoints(&key(8080, "", &local("foo"))).push(("10.0.2.4".into(), 80, 1)),
        &["endpoint 10.0.2.4:80: here is not there, there served"],
    ),
    (
        "an ALPN is missing",
        |told| {
            let chain = told.chain(&key(8080, "v1", &local("bar")));
            chain["filter_chain_match"]["application_protocols"] = json!(["istio", "h2"]);
        },
        &[
            "ALPN: here istio, istio-h2, istio-http/1.0, istio-http/1.1, istio-peer-exchange, there h2, istio",
        ],
    ),
    (
        "another algorithm",
        |told| told.cluster(&key(8080, "", &local("baz")))["lb_policy"] = "LEAST_REQUEST".into(),
        &["load balancing: here ROUND_ROBIN, there LEAST_REQUEST", "warm-up: here 30s"],
    ),
    (
        "a source decides nothing",
        |told| {
            _ = told.chain(&key(8080, "", &local("foo")))["filters"][0]["typed_config"]
                .as_object_mut()
                .map(|p| p.remove("hash_policy"))
        },
        &["load balancing: here RING_HASH, 1024 points, there RANDOM"],
    ),
    (
        "another connect timeout",
        |told| told.cluster(&key(8080, "", &local("bar")))["connect_timeout"] = "0.250s".into(),
        &["connect timeout: here 3s, there 250ms"],
    ),
    (
        "another limit of connections",
        |told| told.cluster(&key(8080, "", &local("bar")))["circuit_breakers"] = json!({}),
        &["most connections: here 100, there 1024"],
    ),
    (
        "a subset's cluster is missing",
        |told| told.clusters.retain(|c| c["name"] != key(8080, "v2", &local("bar"))),
        &["outbound_.8080_.v2_.bar", "cluster: here is there, there is missing"],
    ),
    (
        "other outlier detection",
        |told| {
            told.cluster(&key(8080, "", &local("baz")))["outlier_detection"]["interval"] =
                "9s".into()
        },
        &[
            "outlier detection: here 7 in a row, looked at each 5s",
            "there 7 in a row, looked at each 9s",
        ],
    ),
    (
        "another idle timeout",
        |told| {
            told.chain(&key(8080, "", &local("bar")))["filters"][0]["typed_config"]["idle_timeout"] =
                "1s".into()
        },
        &["idle timeout: here 7200s, there 1s"],
    ),
];

#[test]
fn each_planted_difference_is_found_and_nothing_else() {
    let Some(binary) = tools::find("envoy") else { return };
    for (what, plant, expected) in PLANTED {
        let said = compare(&binary, plant, &[]);
        assert_eq!(said.code, Some(1), "{what}: {said:?}");
        for text in *expected {
            assert!(said.out.contains(text), "{what}: {text:?} is not in {}", said.out);
        }
        let verdicts = ["differs ", "here only ", "there only "];
        let told = said.out.lines().filter(|line| verdicts.iter().any(|v| line.starts_with(v)));
        assert_eq!(told.count(), 1, "{what}: {}", said.out);
    }
}

#[test]
fn what_is_no_dump_is_told_and_what_is_misused_is_usage() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("dump.json");
    let section = |kind: &str, more: &str| {
        format!("{{\"@type\": \"type.googleapis.com/envoy.admin.v3.{kind}\"{more}}}")
    };
    let whole = |of: &str| section(&format!("{of}ConfigDump"), "");
    let sections = |list: &[String]| format!("{{\"configs\": [{}]}}", list.join(", "));
    let deep = format!(
        ", \"static_listeners\": [{{\"listener\": {{\"filter_chains\": [{{\"filters\": \
         [{{\"typed_config\": {}{{}}{}}}]}}]}}}}]",
        "{\"value\": ".repeat(100_000),
        "}".repeat(100_000)
    );
    let ignored = format!(", \"other\": {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nameless = ", \"static_clusters\": [{\"cluster\": {\"name\": -1}}]";
    for (text, expected) in [
        (String::new(), "EOF while parsing"),
        ("no JSON".to_owned(), "not a config dump of Envoy"),
        ("{\"configs\": [".to_owned(), "EOF while parsing"),
        ("{}".to_owned(), "missing field `configs`"),
        (sections(&[section("ListenersConfigDump", &deep)]), "recursion limit exceeded"),
        (sections(&[section("SecretsConfigDump", &ignored)]), "it has no clusters"),
        (sections(&[]), "it has no clusters (ClustersConfigDump)"),
        (sections(&[section("ClustersConfigDump", "")]), "it has no listeners"),
        (sections(&[section("ClustersConfigDump", nameless)]), "a cluster of it cannot be read"),
        (
            sections(&[section("ClustersConfigDump", ""), section("ListenersConfigDump", "")]),
            "it has no endpoints (EndpointsConfigDump)",
        ),
    ] {
        fs::write(&path, &text).expect("write");
        let said = check(&path, &[]);
        let start: String = text.chars().take(80).collect();
        assert_eq!(said.code, Some(2), "{start}: {said:?}");
        assert!(said.err.contains(expected), "{start}: {}", said.err);
        let start = "diolkos: nothing was compared: --against ";
        assert!(said.err.starts_with(start), "{}", said.err);
    }
    let run = |line: &str| {
        let output = diolkos().args(line.split_whitespace()).output().expect("runs");
        Said::of(&output)
    };
    for line in [
        "check --manifests . --output json",
        "check --against x --cluster a=b --cluster c=d",
        "check --against x --print-defaults",
        "check --against x",
        "check --manifests . --against x --output yaml",
    ] {
        assert_eq!(run(line).code, Some(2), "{line}");
    }
    let said = run("check --manifests . --against /nowhere/dump.json");
    assert!(said.code == Some(2) && said.err.contains("/nowhere/dump.json"), "{said:?}");
    fs::write(&path, sections(&["Clusters", "Listeners", "Endpoints"].map(whole))).expect("write");
    let said = run(&format!("check --manifests /nowhere --against {}", path.display()));
    let why = "diolkos: nothing was compared: ";
    assert!(said.code == Some(2) && said.err.starts_with(why), "{said:?}");
}

#[test]
fn names_in_a_dump_move_no_cursor() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("dump.json");
    let chain = json!({
        "filter_chain_match": {"server_names": ["outbound_.1_._.\u{1b}[2J\nequal"]},
        "filters": [{"name": "envoy.filters.network.tcp_proxy",
                     "typed_config": {"cluster": "\u{1b}]0;x\u{7}"}}],
    });
    let kind = |kind: &str| format!("type.googleapis.com/envoy.admin.v3.{kind}");
    let listener = json!({"listener": {"name": "a", "filter_chains": [chain]}});
    let dump = json!({"configs": [
        {"@type": kind("ClustersConfigDump")},
        {"@type": kind("EndpointsConfigDump")},
        {"@type": kind("ListenersConfigDump"), "static_listeners": [listener]},
    ]});
    fs::write(&path, dump.to_string()).expect("write");
    let said = check(&path, &[]);
    assert_eq!(said.code, Some(1));
    assert!(!said.out.contains(['\u{1b}', '\u{7}']), "{:?}", said.out);
    assert!(said.out.contains("\\u{1b}[2j\\nequal"), "{}", said.out);
}
