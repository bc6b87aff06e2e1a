//! How the gateway is deployed: the Kubernetes objects and the image, against each other and the
//! defaults of the settings.
//!
//! Must not know: a cluster; nothing is applied.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command as Process, Stdio},
    time::Duration,
};

use clap::Parser as _;
use diolkos::{
    app::offline::Loaded,
    cli::{Cli, Command},
    config::{Settings, Sources, types::Listen},
};
use serde_norway::Value;

use crate::{assert_clean, kustomized::resources, root, text, yaml};

/// Every object of the files that `config/kubernetes/kustomization.yaml` names, by kind.
fn objects() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for file in resources("config/kubernetes") {
        for document in text(&file).split("\n---\n") {
            let object = yaml(document);
            found.push((object["kind"].as_str().expect("a kind").to_owned(), object));
        }
    }
    found
}

fn object(kind: &str, name: &str) -> Value {
    let is_it = |(k, o): &(String, Value)| k == kind && o["metadata"]["name"] == name;
    objects().into_iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}")).1
}

fn pod() -> Value {
    object("Deployment", "diolkos")["spec"]["template"].clone()
}

fn container() -> Value {
    pod()["spec"]["containers"][0].clone()
}

/// The settings of the ConfigMap in the pod that the Deployment describes.
fn settings() -> Settings {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("diolkos.yaml");
    let held = object("ConfigMap", "diolkos-settings");
    fs::write(&file, held["data"]["diolkos.yaml"].as_str().expect("a file")).expect("written");
    let environment = vec![("POD_NAMESPACE".to_owned(), "istio-system".to_owned())];
    let sources = Sources { file: Some(file), environment, ..Sources::default() };
    Settings::load(&sources).expect("settings")
}

fn port_of(address: &Listen) -> u64 {
    match address {
        Listen::At(address) => address.port().into(),
        Listen::Off => panic!("off"),
    }
}

#[test]
fn objects_are_named_and_belong_to_no_namespace() {
    let objects = objects();
    for (kind, object) in &objects {
        assert!(object["apiVersion"].is_string() && object["metadata"]["name"].is_string());
        assert!(object["metadata"]["namespace"].is_null(), "{kind} names a namespace");
    }
    for kind in [
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Namespace",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    ] {
        assert!(objects.iter().any(|(k, _)| k == kind), "no {kind}");
    }
}

#[test]
fn every_selector_selects_the_pods() {
    let labels = pod()["metadata"]["labels"].clone();
    let selectors = [
        object("Deployment", "diolkos")["spec"]["selector"]["matchLabels"].clone(),
        object("Service", "diolkos")["spec"]["selector"].clone(),
        object("PodDisruptionBudget", "diolkos")["spec"]["selector"]["matchLabels"].clone(),
        object("NetworkPolicy", "diolkos")["spec"]["podSelector"]["matchLabels"].clone(),
    ];
    for selector in selectors {
        let pairs = selector.as_mapping().expect("labels");
        assert!(!pairs.is_empty());
        for (key, value) in pairs {
            assert_eq!(labels.get(key), Some(value), "{key:?}");
        }
    }
}

/// Without a number in the Deployment, which each `apply` would set back.
#[test]
fn how_many_pods_there_are_is_said_in_one_place() {
    let deployment = object("Deployment", "diolkos");
    let scaler = object("HorizontalPodAutoscaler", "diolkos")["spec"].clone();
    assert!(deployment["spec"]["replicas"].is_null());
    for key in ["apiVersion", "kind"] {
        assert_eq!(scaler["scaleTargetRef"][key], deployment[key]);
    }
    assert_eq!(scaler["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    assert!(scaler["minReplicas"].as_u64() >= Some(2), "one may leave");
    assert!(container()["resources"]["requests"]["cpu"].is_string(), "a share of what?");
}

#[test]
fn the_pod_is_confined() {
    let (pod, container) = (pod()["spec"].clone(), container()["securityContext"].clone());
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let follows = settings().manifests.kubernetes.enabled;
    assert_eq!(pod["automountServiceAccountToken"], follows, "the token is for the API only");
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"]["drop"][0], "ALL");
    let user = pod["securityContext"]["runAsUser"].as_u64().expect("a user");
    let image = text("Dockerfile");
    assert!(image.contains(&format!("\nUSER {user}:{user}\n")), "the image has another user");
    assert!(image.contains("\nFROM scratch\n"), "the image holds more than the program");
}

#[test]
fn the_pod_is_given_the_time_that_leaving_takes() {
    let drain = settings().drain;
    let grace = pod()["spec"]["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    // Closing the listeners takes up to a second, cutting what is left another.
    assert!(Duration::from_secs(grace) > drain.pause + drain.deadline + Duration::from_secs(2));
}

#[test]
fn ports_are_those_of_the_settings() {
    let settings = settings();
    let named = |name: &str| {
        let ports = container()["ports"].as_sequence().expect("ports").clone();
        let found = ports.iter().find(|port| port["name"] == name).expect("a port");
        found["containerPort"].as_u64().expect("a number")
    };
    let listen = u64::from(settings.gateway.listen[0].port());
    let (health, metrics) = (port_of(&settings.health.listen), port_of(&settings.metrics.listen));
    let agent = port_of(&settings.agent.listen);
    assert_eq!((named("tls"), named("health"), named("metrics")), (listen, health, metrics));
    let exposed = format!("\nEXPOSE {listen} {health} {agent} {metrics}\n");
    assert!(text("Dockerfile").contains(&exposed), "the image exposes other ports");
    for (probe, port, path) in [
        ("readinessProbe", "health", "/healthz/ready"),
        ("livenessProbe", "metrics", "/stats/prometheus"),
    ] {
        assert_eq!(container()[probe]["httpGet"]["port"], port);
        assert_eq!(container()[probe]["httpGet"]["path"], path);
    }
    let service = object("Service", "diolkos")["spec"]["ports"].clone();
    let ports = service.as_sequence().expect("ports").iter();
    let ports: Vec<_> = ports.map(|p| (p["port"].as_u64(), p["targetPort"].as_str())).collect();
    assert_eq!(ports, [(Some(listen), Some("tls")), (Some(health), Some("health"))]);
}

#[test]
fn the_command_can_be_typed_and_finds_what_is_mounted() {
    let arguments = container()["args"].as_sequence().expect("arguments").clone();
    let arguments = arguments.iter().map(|argument| argument.as_str().expect("a word"));
    let cli = Cli::try_parse_from(std::iter::once("diolkos").chain(arguments)).expect("valid");
    let Command::Gateway(gateway) = cli.command else { panic!("another command") };
    let mounts = container()["volumeMounts"].as_sequence().expect("mounts").clone();
    let mounted = |path: &std::path::Path| {
        let at = path.to_str().expect("a path");
        let mount = mounts.iter().find(|mount| mount["mountPath"] == at).expect("a mount");
        assert!(mount["subPath"].is_null(), "a subPath is never updated");
        let volumes = pod()["spec"]["volumes"].as_sequence().expect("volumes").clone();
        let volume = volumes.iter().find(|v| v["name"] == mount["name"]).expect("a volume");
        object("ConfigMap", volume["configMap"]["name"].as_str().expect("a name"))
    };
    let config = gateway.config.expect("a settings file");
    let file = config.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(mounted(config.parent().expect("a directory"))["data"][file].is_string());
    assert!(mounted(&gateway.manifests[0])["data"].is_mapping());
}

#[test]
fn with_nothing_added_the_gateway_is_selected_and_ready() {
    let directory = tempfile::tempdir().expect("a directory");
    let held = object("ConfigMap", "diolkos-manifests")["data"].clone();
    for (name, manifest) in held.as_mapping().expect("files") {
        let path = directory.path().join(name.as_str().expect("a name"));
        fs::write(path, manifest.as_str().expect("a text")).expect("written");
    }
    let mut settings = settings();
    settings.manifests.directories = vec![directory.path().to_owned()];
    settings.manifests.kubernetes.enabled = false;
    assert_clean(&Loaded::read(&settings).expect("manifests"));
    let sample = yaml(&text("config/istio/gateway.yaml"));
    assert_eq!(yaml(held["gateway.yaml"].as_str().expect("a text")), sample);
}

/// As systemd starts it, and container runtimes that own the pipe themselves: the name
/// `/dev/stdout`, which is the default path of the access log, cannot be opened there.
#[test]
fn the_access_log_is_written_to_an_output_that_cannot_be_opened_by_name() {
    let (ours, theirs) = UnixStream::pair().expect("a socket");
    ours.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut process = Process::new(env!("CARGO_BIN_EXE_diolkos"))
        .args([
            "gateway",
            "--manifests",
            "config/demo",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "off",
        ])
        .args(["--health", "off", "--metrics", "off", "--set", "agent.listen=off"])
        .args(["--set", "log.format=json"])
        .current_dir(root())
        .env_clear()
        .stdout(OwnedFd::from(theirs))
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let log = BufReader::new(process.stderr.take().expect("its log"));
    let address = log.lines().map_while(Result::ok).find_map(listening_on);
    if let Some(address) = &address {
        let mut client = TcpStream::connect(address).expect("a connection");
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    }
    let mut line = String::new();
    let read = BufReader::new(ours).read_line(&mut line);
    process.kill().expect("it runs");
    process.wait().expect("it ends");
    assert!(address.is_some(), "it did not come to accept connections");
    read.expect("a line of the access log");
    assert!(line.contains(" NR ") && line.contains(" not_tls "), "{line}");
}

/// The address in the line that says that connections are accepted.
fn listening_on(line: String) -> Option<String> {
    let (_, rest) =
        line.split_once("127.0.0.1:").filter(|_| line.contains("accepts connections"))?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("127.0.0.1:{port}"))
}
