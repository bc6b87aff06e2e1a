//! What is applied beside the gateway: the lists of what is applied, DNS, and the way from Istio's
//! gateway to ours and back.
//!
//! Must not know: a cluster; nothing is applied.

use std::{fs, path::PathBuf, process::Command as Process};

use clap::Parser as _;
use diolkos::cli::{Cli, Command};
use serde_norway::Value;

use crate::{assert_clean, load, root, text, yaml};

const BASE: &str = "config/kubernetes";
const DNS: &str = "config/kubernetes/dns";
const EXPORT: &str = "config/kubernetes/export";

/// The files that a kustomization names.
pub(crate) fn resources(directory: &str) -> Vec<String> {
    let list = yaml(&text(&format!("{directory}/kustomization.yaml")))["resources"].clone();
    let files = list.as_sequence().expect("resources").iter();
    files.map(|file| format!("{directory}/{}", file.as_str().expect("a path"))).collect()
}

fn objects(file: &str) -> Vec<Value> {
    text(file).split("\n---\n").map(yaml).collect()
}

/// The one object of this kind in the directory of DNS.
fn dns(kind: &str) -> Value {
    let all = resources(DNS).iter().flat_map(|file| objects(file)).collect::<Vec<_>>();
    all.into_iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn every_file_is_applied_or_said_to_be_for_something_else() {
    for (directory, others) in [
        (BASE, &["kustomization.yaml"][..]),
        (DNS, &["kustomization.yaml", "searches.yaml"]),
        (EXPORT, &["kustomization.yaml"]),
    ] {
        let listed = resources(directory);
        for entry in fs::read_dir(root().join(directory)).expect(directory).flatten() {
            let name = entry.file_name().into_string().expect("a name");
            let is_listed = listed.contains(&format!("{directory}/{name}"));
            let is_other = entry.path().is_dir() || others.contains(&&*name);
            assert!(is_listed != is_other, "{directory}/{name}");
        }
        assert!(listed.iter().all(|file| root().join(file).is_file()), "{listed:?}");
    }
}

/// What kubectl makes of it: all of it in one namespace, and no warning.
#[test]
fn kubectl_takes_the_lists() {
    for (directory, count) in [(BASE, 11), (DNS, 5), (EXPORT, 6)] {
        let run = Process::new("kubectl").arg("kustomize").arg(root().join(directory)).output();
        let Ok(output) = run else {
            let is_known = std::env::var_os("WITHOUT_KUBERNETES").is_some();
            assert!(is_known || std::env::var_os("CI").is_none(), "kubectl is not installed");
            return eprintln!("skipped: kubectl is not installed");
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{directory}: {said}");
        let made = String::from_utf8(output.stdout).expect("a text");
        let made: Vec<_> = made.split("\n---\n").map(yaml).collect();
        for object in &made {
            let kind = object["kind"].as_str().expect("a kind");
            let has_none = ["Namespace", "ClusterRole", "ClusterRoleBinding"].contains(&kind);
            let namespace = (!has_none).then_some("istio-system");
            assert_eq!(object["metadata"]["namespace"].as_str(), namespace, "{kind}");
        }
        assert_eq!(made.len(), count, "{directory}");
    }
}

#[test]
fn dns_is_where_istios_instructions_look_for_it() {
    let service = dns("Service");
    // kubectl get svc -n istio-system istiocoredns -o jsonpath={.spec.clusterIP}
    assert_eq!(service["metadata"]["name"], "istiocoredns");
    assert!(service["spec"]["clusterIP"].is_null(), "it has an address");
    let pod = dns("Deployment")["spec"]["template"].clone();
    for selector in [
        service["spec"]["selector"].clone(),
        dns("Deployment")["spec"]["selector"]["matchLabels"].clone(),
        dns("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].clone(),
    ] {
        let pairs = selector.as_mapping().expect("labels");
        assert!(pairs.iter().all(|(key, value)| pod["metadata"]["labels"].get(key) == Some(value)));
    }
    let container = pod["spec"]["containers"][0].clone();
    let named = |name: &Value| {
        let ports = container["ports"].as_sequence().expect("ports");
        ports.iter().find(|port| port["name"] == *name).cloned().expect("a port")
    };
    for port in service["spec"]["ports"].as_sequence().expect("ports") {
        assert_eq!(port["port"], 53);
        assert_eq!(port["protocol"], named(&port["targetPort"])["protocol"]);
    }
    let arguments = container["args"].as_sequence().expect("arguments").iter();
    let arguments = arguments.map(|argument| argument.as_str().expect("a word"));
    let cli = Cli::try_parse_from(std::iter::once("diolkos").chain(arguments)).expect("valid");
    let Command::Dns(dns) = cli.command else { panic!("another command") };
    let listens = named(&"dns".into())["containerPort"].as_u64();
    assert_eq!(dns.listen[0].port(), u16::try_from(listens.expect("a port")).expect("a port"));
    assert_eq!(container["volumeMounts"][0]["mountPath"].as_str(), dns.manifests[0].to_str());
}

#[test]
fn the_other_pods_are_confined_as_the_gateways_are() {
    let of = |file: &str| {
        let deployment = objects(file).into_iter().find(|object| object["kind"] == "Deployment");
        deployment.expect("a Deployment")["spec"]["template"]["spec"].clone()
    };
    let gateway = of("config/kubernetes/deployment.yaml");
    let (dns, export) = (of(&resources(DNS)[1]), of(&resources(EXPORT)[1]));
    for pod in [&dns, &export] {
        assert_eq!(pod["securityContext"], gateway["securityContext"]);
        let (ours, theirs) = (&pod["containers"][0], &gateway["containers"][0]);
        assert_eq!(ours["securityContext"], theirs["securityContext"]);
        assert_eq!(ours["image"], theirs["image"]);
    }
    assert_eq!(dns["automountServiceAccountToken"], false);
}

/// The exporter of the sample is a command that is one, with the ports and the files that its pod
/// has, and rights for the ConfigMap that it uses.
#[test]
fn the_exporter_does_what_its_pod_and_its_rights_are_for() {
    let all: Vec<_> = resources(EXPORT).iter().flat_map(|file| objects(file)).collect();
    let of = |kind: &str| {
        all.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
    };
    let pod = &of("Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let arguments = container["args"].as_sequence().expect("arguments").iter();
    let arguments = arguments.map(|argument| argument.as_str().expect("a word"));
    let cli = Cli::try_parse_from(std::iter::once("diolkos").chain(arguments)).expect("valid");
    let Command::Export(export) = cli.command else { panic!("another command") };
    assert!(export.apply && export.watch);
    let port = container["ports"][0]["containerPort"].as_u64().expect("a port");
    let status = export.status.expect("--status").to_string();
    assert!(status.ends_with(&format!(":{port}")), "{status}");
    let mounted = container["volumeMounts"][0]["mountPath"].as_str().expect("a path");
    let api = |name: &str| {
        let peer = export.cluster.iter().find(|peer| peer.name == name).expect(name);
        peer.kubernetes.clone().expect("an API").kubeconfig
    };
    assert_eq!(api(&export.importing), None, "by the pod's service account");
    assert!(api("cluster2").expect("a file").starts_with(mounted));
    let map = &of("Role")["rules"][1];
    assert_eq!(
        (&map["resources"][0], &map["resourceNames"][0]),
        (&Value::from("configmaps"), &Value::from("diolkos-addresses"),)
    );
    let account = &pod["serviceAccountName"];
    assert_eq!(of("ServiceAccount")["metadata"]["name"], *account);
    for binding in ["RoleBinding", "ClusterRoleBinding"] {
        assert_eq!(of(binding)["subjects"][0]["name"], *account);
    }
}

#[test]
fn the_names_of_the_sample_are_answered_and_found_by_the_search_list() {
    let held = dns("ConfigMap")["data"]["bar.yaml"].clone();
    let entry = yaml(held.as_str().expect("a file"));
    assert_eq!(entry, yaml(&text("config/istio/service-entry.yaml")));
    let patch = yaml(&text("config/kubernetes/dns/searches.yaml"));
    let searches = patch["spec"]["template"]["spec"]["dnsConfig"]["searches"].clone();
    let namespace = entry["metadata"]["namespace"].as_str().expect("a namespace");
    assert_eq!(searches, Value::from(vec!["global".to_owned(), format!("{namespace}.global")]));
}

/// The steps of the way differ in the endpoints only, and each is what its name says.
#[test]
fn each_step_of_the_canary_has_the_weights_of_its_name() {
    const OURS: &str = "192.0.2.20";
    for (ours, theirs) in [(1, 99), (50, 50), (100, 0), (0, 100)] {
        let step = yaml(&text(&format!("{BASE}/canary/global/{ours}-{theirs}.yaml")));
        let endpoints = step["spec"]["endpoints"].as_sequence().expect("endpoints").clone();
        let mut weights = (0, 0);
        for endpoint in &endpoints {
            // Istio takes 0 for 1, so that an endpoint with nothing is not there at all.
            let weight = endpoint["weight"].as_u64().unwrap_or(100);
            assert!(
                weight > 0 && endpoint["locality"].is_null() && endpoint["ports"]["http"] == 15443
            );
            let side = if endpoint["address"] == OURS { &mut weights.0 } else { &mut weights.1 };
            *side += weight;
        }
        assert_eq!(weights, (ours, theirs));
        let mut rest = step.clone();
        rest["spec"]["endpoints"] =
            yaml(&text("config/istio/service-entry.yaml"))["spec"]["endpoints"].clone();
        assert_eq!(rest, yaml(&text("config/istio/service-entry.yaml")));
    }
}

/// Beside Istio's gateway: selected by the Gateway object that it has, for the names that it serves.
#[test]
fn in_both_worlds_istios_gateway_object_selects_the_canary() {
    for (world, label, host, name) in [
        ("global", "ingressgateway", "*.global", "bar.ns2.global"),
        ("multi-primary", "eastwestgateway", "*.local", "bar.ns2.svc.cluster.local"),
    ] {
        let file = text(&format!("{BASE}/canary/{world}/settings.yaml"));
        let map = yaml(&file);
        let ours = yaml(&text("config/kubernetes/settings.yaml"));
        assert_eq!(map["metadata"], ours["metadata"], "it takes the place of the other");
        let directory = tempfile::tempdir().expect("a directory");
        let gateway = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\n\
             metadata: {{name: theirs, namespace: istio-system}}\n\
             spec:\n  selector: {{istio: {label}}}\n  servers:\n  \
             - port: {{number: 15443, name: tls, protocol: TLS}}\n    \
             tls: {{mode: AUTO_PASSTHROUGH}}\n    hosts: ['{host}']\n"
        );
        fs::write(directory.path().join("gateway.yaml"), gateway).expect("written");
        fs::copy(root().join("config/demo/2-bar.yaml"), directory.path().join("bar.yaml"))
            .expect("copied");
        let held = yaml(map["data"]["diolkos.yaml"].as_str().expect("a file"))["gateway"].clone();
        let mut set = vec!["gateway.listen=127.0.0.1:15443".to_owned()];
        for key in ["labels", "network", "requested_network_view", "network_view"] {
            if !held[key].is_null() {
                let value = serde_json::to_string(&held[key]).expect("a value");
                set.push(format!("gateway.{key}={}", value.trim_matches('"')));
            }
        }
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let manifests: [PathBuf; 1] = [directory.path().to_owned()];
        let (settings, loaded) = load(&manifests, &set);
        assert_clean(&loaded);
        let asked = format!("outbound_.8080_._.{name}");
        let explanation = loaded.explain(&settings, &asked, vec!["istio".into()], None);
        assert_eq!(explanation.refused_at(), None, "{explanation}");
    }
}
