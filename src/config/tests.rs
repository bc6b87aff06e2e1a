//! Settings through all layers. Must not know: how a layer is applied.

use std::io::Write;

use serde_norway::Value;

use super::{
    keys::{KNOWN, Tombstone},
    layers::{Tree, apply_value},
    types::{Listen, NetworkView, Role},
    *,
};

/// Loads from a file's text, variables and `--set` arguments; the error as one line.
fn load(text: &str, environment: &[(&str, &str)], set: &[&str]) -> Result<Settings, String> {
    let mut file = tempfile::Builder::new().prefix("settings").tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    let assignment = |text: &&str| Override::assignment(text).map_err(|error| error.to_string());
    let sources = Sources {
        file: Some(file.path().to_owned()),
        environment: environment.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
        overrides: set.iter().map(assignment).collect::<Result<_, _>>()?,
    };
    let path = file.path().display().to_string();
    Settings::load(&sources).map_err(|error| error.to_string().replace(&path, "FILE"))
}

fn refused(text: &str, environment: &[(&str, &str)], set: &[&str], expected: &str) {
    let error = load(text, environment, set).expect_err(expected);
    assert_eq!(error, expected);
}

#[test]
fn the_default_file_gives_the_defaults() {
    let read: Settings = serde_norway::from_str(DEFAULTS).expect("the file of defaults");
    assert_eq!(read, Settings::default());
    assert_eq!(load(DEFAULTS, &[], &[]), Ok(Settings::default()));
    assert_eq!(Settings::load(&Sources::default()).expect("no layer"), Settings::default());
}

#[test]
fn the_default_file_holds_every_key() {
    let document: Value = serde_norway::from_str(DEFAULTS).expect("the file of defaults");
    for key in KNOWN.keys() {
        let at = key.split('.').try_fold(&document, |value, name| value.get(name));
        assert!(at.is_some(), "{key} is missing in config/diolkos.yaml");
    }
}

#[test]
fn every_key_of_the_default_file_has_a_comment() {
    let lines: Vec<&str> = DEFAULTS.lines().collect();
    for key in KNOWN.keys().filter(|key| !key.starts_with("relay.keepalive.")) {
        let name = key.rsplit('.').next().expect("a name");
        let start = format!("{name}:");
        let explained = lines.windows(2).any(|pair| {
            pair[0].trim_start().starts_with('#') && pair[1].trim_start().starts_with(&start)
        });
        assert!(explained || name == "listen", "{key} has no comment above it");
    }
}

#[test]
fn the_effective_settings_give_themselves_again() {
    let set = ["gateway.listen=[::1]:0,127.0.0.1:0", "relay.idle_timeout=90m", "admin.listen=off"];
    let settings = load("", &[], &set).expect("valid");
    assert_eq!(load(&settings.to_yaml(), &[], &[]), Ok(settings));
}

#[test]
fn a_stronger_layer_wins() {
    let file = "gateway: {workers: 3, namespace: from-file}";
    let pod = ("POD_NAMESPACE", "from-pod");
    let variable = ("DIOLKOS_GATEWAY_WORKERS", "4");
    let workers = |text, environment: &[_], set: &[_]| {
        let gateway = load(text, environment, set).expect("valid").gateway;
        (gateway.workers, gateway.namespace)
    };
    assert_eq!(workers("", &[pod], &[]), (0, "from-pod".into()));
    assert_eq!(workers(file, &[pod], &[]), (3, "from-file".into()));
    assert_eq!(workers(file, &[pod, variable], &[]), (4, "from-file".into()));
    let set = ["gateway.workers=5", "gateway.workers=6", "gateway.namespace=from-set"];
    assert_eq!(workers(file, &[pod, variable], &set), (6, "from-set".into()));
}

#[test]
fn the_pod_says_who_the_gateway_is() {
    let environment = [
        ("ISTIO_META_NETWORK", "network1"),
        ("ISTIO_META_REQUESTED_NETWORK_VIEW", "network1, network2,"),
        ("NODE_NAME", "node-7"),
        ("POD_NAMESPACE", ""),
        ("ISTIO_METAJSON_LABELS", r#"{"app":"a","istio":"b"}"#),
    ];
    let gateway = load("", &environment, &[]).expect("valid").gateway;
    assert_eq!(gateway.network, "network1");
    assert_eq!(gateway.requested_network_view, ["network1", "network2"]);
    assert_eq!(gateway.node, "node-7");
    assert_eq!(gateway.namespace, "istio-system");
    let labels: Vec<_> = gateway.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("app", "a"), ("istio", "b")]);
    let error = load("", &[("ISTIO_METAJSON_LABELS", "{app")], &[]).expect_err("not JSON");
    assert!(error.starts_with("environment ISTIO_METAJSON_LABELS: gateway.labels:"), "{error}");
}

#[test]
fn texts_need_no_quotes_and_lists_and_maps_no_brackets() {
    let set = [
        "gateway.listen=[::]:1,0.0.0.0:2",
        "gateway.alpn=[]",
        "gateway.labels=istio=x, app=y",
        "gateway.network=1.30",
        "gateway.requested_network_view=[a, b]",
        "health.listen=[::1]:0",
        "metrics.listen=off",
        "relay.keepalive.time=1m",
        "relay.splice=false",
        "gateway.role=egress",
        "gateway.network_view=istio-1.8",
        "gateway.rewrite_suffix=",
    ];
    let settings = load("", &[], &set).expect("valid");
    let gateway = &settings.gateway;
    assert_eq!(gateway.listen, ["[::]:1", "0.0.0.0:2"].map(|a| a.parse().expect("address")));
    assert!(gateway.alpn.is_empty() && gateway.rewrite_suffix.is_empty());
    assert_eq!(gateway.labels["istio"], "x");
    assert_eq!((gateway.labels["app"].as_str(), gateway.labels.len()), ("y", 2));
    assert_eq!(gateway.network, "1.30");
    assert_eq!(gateway.requested_network_view, ["a", "b"]);
    assert_eq!((gateway.role, gateway.network_view), (Role::Egress, NetworkView::Istio18));
    assert_eq!(settings.health.listen.address(), Some("[::1]:0".parse().expect("address")));
    assert_eq!(settings.metrics.listen, Listen::Off);
    assert_eq!(settings.relay.keepalive.time, Duration::from_secs(60));
    assert!(!settings.relay.splice);
    let map = load("", &[("DIOLKOS_GATEWAY_LABELS", "{a: b}")], &[]).expect("valid");
    assert_eq!(map.gateway.labels["a"], "b");
    let bracketed = load("", &[], &["gateway.listen=['[::]:1', '0.0.0.0:2']"]).expect("valid");
    assert_eq!(bracketed.gateway.listen, gateway.listen);
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest() {
    let nearest = |key, nearest| format!("there is no setting {key}; the nearest is {nearest}");
    let workers = nearest("gateway.worker", "gateway.workers");
    refused("gateway: {worker: 2}", &[], &[], &format!("FILE: {workers}"));
    refused("", &[], &["gateway.worker=2"], &format!("--set: {workers}"));
    let section = nearest("gatway", "gateway");
    refused("gatway: {workers: 2}", &[], &[], &format!("FILE: {section}"));
    let deep = nearest("relay.keepalive.tim", "relay.keepalive.time");
    refused("relay: {keepalive: {tim: 2s}}", &[], &[], &format!("FILE: {deep}"));
    let variable = nearest("DIOLKOS_GATEWAY_WORKER", "DIOLKOS_GATEWAY_WORKERS");
    let origin = "environment DIOLKOS_GATEWAY_WORKER";
    refused("", &[("DIOLKOS_GATEWAY_WORKER", "2")], &[], &format!("{origin}: {variable}"));
    let label = nearest("gateway.labels.app", "gateway.labels");
    refused("", &[], &["gateway.labels.app=x"], &format!("--set: {label}"));
}

#[test]
fn a_wrong_value_is_named_with_what_is_expected() {
    refused(
        "gateway: {workers: two}",
        &[],
        &[],
        "FILE: gateway.workers: \"two\" cannot be taken: invalid type: string \"two\", \
         expected a whole number; the default is 0",
    );
    for (set, key, expected) in [
        ("gateway.workers=-1", "gateway.workers", "expected a whole number"),
        ("gateway.workers=2000", "gateway.workers", "expected 0 to 1024"),
        ("gateway.role=both", "gateway.role", "expected `ingress` or `egress`"),
        ("gateway.listen=15443", "gateway.listen", "expected IP:PORT"),
        ("gateway.listen=", "gateway.listen", "expected at least one address"),
        ("gateway.listen=[::]:1,[::]:1", "gateway.listen", "stands there twice"),
        ("gateway.namespace=", "gateway.namespace", "expected lower-case letters"),
        ("gateway.rewrite_suffix=.global", "gateway.rewrite_suffix", "expected lower-case"),
        ("gateway.cluster_domain=Cluster.local", "gateway.cluster_domain", "expected lower-case"),
        ("gateway.alpn=['']", "gateway.alpn", "1 to 255 bytes"),
        ("gateway.labels=app", "gateway.labels", "expected a map"),
        ("sniff.timeout=5", "sniff.timeout", "expected a duration"),
        ("sniff.timeout=0s", "sniff.timeout", "expected 1ms to 1h"),
        ("sniff.bytes_max=1", "sniff.bytes_max", "expected 64 to 16777216"),
        ("relay.keepalive.time=1500ms", "relay.keepalive.time", "whole seconds"),
        ("relay.keepalive.probes=0", "relay.keepalive.probes", "expected 1 to 127"),
        ("relay.splice=maybe", "relay.splice", "expected a boolean"),
        ("admin.listen=no", "admin.listen", "or off"),
        ("access_log.path=", "access_log.path", "expected a file"),
        ("log.level=loud", "log.level", "error, warn, info, debug or trace"),
        ("relay=1", "relay", "must hold keys with values, such as relay.abort_linger"),
        ("relay.keepalive=1", "relay.keepalive", "such as relay.keepalive.interval"),
    ] {
        let error = load("", &[], &[set]).expect_err(set);
        assert!(error.starts_with(&format!("--set: {key}")), "{set}: {error}");
        assert!(error.contains(expected), "{set}: {error}");
    }
}

#[test]
fn a_file_that_is_no_map_of_sections_is_refused() {
    let example = "must hold keys with values, such as";
    refused("7", &[], &[], &format!("FILE: the file {example} access_log.format"));
    refused("gateway: [a]", &[], &[], &format!("FILE: gateway {example} gateway.alpn"));
    assert!(load("a: [", &[], &[]).expect_err("open").starts_with("FILE: is not YAML:"));
    let twice = "gateway: {workers: 1}\ngateway: {workers: 2}";
    assert!(load(twice, &[], &[]).expect_err("twice").contains("duplicate"));
    assert_eq!(load("gateway:\nrelay:\n  keepalive:\n", &[], &[]), Ok(Settings::default()));
    let sources = Sources { file: Some("/nowhere/x.yaml".into()), ..Sources::default() };
    let error = anyhow::Error::from(Settings::load(&sources).expect_err("absent"));
    let told = format!("{error:#}");
    assert!(told.starts_with("/nowhere/x.yaml: cannot be read: No such file"), "{told}");
}

#[test]
fn an_assignment_needs_a_key() {
    for text in ["gateway.workers", "=2", ""] {
        let error = Override::assignment(text).expect_err(text).to_string();
        assert_eq!(error, format!("--set {text}: expected KEY=VALUE, such as gateway.workers=2"));
    }
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_are_not_settings() {
    let links = [
        ("DIOLKOS_SERVICE_HOST", "10.0.0.1"),
        ("DIOLKOS_SERVICE_PORT", "15443"),
        ("DIOLKOS_PORT", "tcp://10.0.0.1:15443"),
        ("DIOLKOS_PORT_15443_TCP", "tcp://10.0.0.1:15443"),
        ("DIOLKOS_GATEWAY_SERVICE_PORT_TLS", "15443"),
        ("DIOLKOS_GATEWAY_PORT_15443_TCP_ADDR", "10.0.0.1"),
    ];
    assert_eq!(load("", &links, &[]), Ok(Settings::default()));
}

#[test]
fn a_renamed_key_names_its_new_name() {
    let tombstones = [Tombstone { was: "gateway.threads", now: "gateway.workers" }];
    let document = serde_norway::from_str("gateway: {threads: 2}").expect("YAML");
    let origin = Origin::File("diolkos.yaml".into());
    let error = apply_value(&mut Tree::default(), document, &origin, &tombstones);
    assert_eq!(
        error.expect_err("renamed").to_string(),
        "diolkos.yaml: the setting gateway.threads is now called gateway.workers; rename it"
    );
    assert!(super::keys::TOMBSTONES.iter().all(|t| KNOWN.contains_key(t.now)));
}

#[test]
fn zero_is_off() {
    assert_eq!(off_when_zero(Duration::ZERO), None);
    assert_eq!(off_when_zero(Duration::from_secs(1)), Some(Duration::from_secs(1)));
}
