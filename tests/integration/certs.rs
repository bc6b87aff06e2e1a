//! `diolkos certs` as it is typed, and what others make of its files: OpenSSL, Envoy.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    PATIENCE,
    envoy::{Envoy, loopback},
    tools::{self, Said},
};

/// Runs `diolkos certs` in `dir`.
fn certs(dir: &Path, line: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diolkos"));
    command.arg("certs").args(line.split_whitespace()).current_dir(dir);
    tools::run(&mut command, b"", PATIENCE)
}

/// A root, two clusters, and a workload in each.
fn mesh() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for line in [
        "root",
        "cluster cluster1",
        "cluster cluster2",
        "workload --cluster cluster1 --namespace ns1 --service-account sleep",
        "workload --cluster cluster2 --namespace ns2 --service-account bar --ttl 1h",
    ] {
        let said = certs(dir.path(), line);
        assert!(said.good && said.stderr.is_empty(), "{line}: {said:?}");
    }
    dir
}

const SLEEP: &str = "certs/cluster1/workloads/ns1.sleep";
const BAR: &str = "certs/cluster2/workloads/ns2.bar";

fn mode(path: &Path) -> u32 {
    path.metadata().expect("metadata").permissions().mode() & 0o777
}

#[test]
fn openssl_verifies_every_file_that_is_made() {
    let dir = mesh();
    let Some(openssl) = tools::find("openssl") else { return };
    let at = |name: &str| dir.path().join("certs").join(name);
    let verify = |purpose: Option<&str>, file: &str, chain: &str| {
        let mut command = Command::new(&openssl);
        command.args(["verify", "-x509_strict"]).arg("-CAfile").arg(at("root/root-cert.pem"));
        purpose.map(|purpose| command.args(["-purpose", purpose]));
        command.arg("-untrusted").arg(at(chain)).arg(at(file));
        let said = tools::run(&mut command, b"", PATIENCE);
        assert!(said.good, "{file}: {said:?}");
    };
    for cluster in ["cluster1", "cluster2"] {
        let chain = format!("{cluster}/cert-chain.pem");
        verify(None, &format!("{cluster}/ca-cert.pem"), &chain);
        let root = fs::read(at("root/root-cert.pem")).expect("the root");
        assert_eq!(fs::read(at(&format!("{cluster}/root-cert.pem"))).expect("the root"), root);
    }
    for purpose in ["sslserver", "sslclient"] {
        let leaf = "cluster1/workloads/ns1.sleep/cert-chain.pem";
        verify(Some(purpose), leaf, leaf);
        // What istiod has is enough to follow what its agents present.
        verify(Some(purpose), leaf, "cluster1/cert-chain.pem");
    }
    let text = |file: &str| {
        let mut command = Command::new(&openssl);
        command.args(["x509", "-noout", "-text", "-in"]).arg(at(file));
        tools::run(&mut command, b"", PATIENCE).stdout
    };
    assert!(text("cluster1/ca-cert.pem").contains("CA:TRUE, pathlen:0"));
    let leaf = text("cluster2/workloads/ns2.bar/cert-chain.pem");
    for wanted in [
        "URI:spiffe://cluster.local/ns/ns2/sa/bar",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "NIST CURVE: P-256",
    ] {
        assert!(leaf.contains(wanted), "{wanted} is not in {leaf}");
    }
}

#[test]
fn keys_are_private_and_only_force_overwrites() {
    let dir = mesh();
    for (line, key) in [
        ("root", "root/root-key.pem"),
        ("cluster cluster1", "cluster1/ca-key.pem"),
        (
            "workload --cluster cluster1 --namespace ns1 --service-account sleep",
            "cluster1/workloads/ns1.sleep/key.pem",
        ),
    ] {
        let path = dir.path().join("certs").join(key);
        let before = fs::read(&path).expect("a key");
        assert_eq!(mode(&path), 0o600, "{key}");
        let said = certs(dir.path(), line);
        assert!(!said.good && said.stderr.contains(key), "{line}: {said:?}");
        assert!(said.stderr.contains("--force"), "{line}: {said:?}");
        assert_eq!(fs::read(&path).expect("a key"), before, "{line}");
        assert!(certs(dir.path(), &format!("{line} --force")).good, "{line}");
        assert_ne!(fs::read(&path).expect("a key"), before, "{line}");
        assert_eq!(mode(&path), 0o600, "{key}");
    }
    assert_eq!(mode(&dir.path().join("certs/cluster1/cacerts-secret.yaml")), 0o600);
}

#[test]
fn a_root_made_anew_names_the_clusters_that_are_not_of_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = certs(dir.path(), "root --force");
    assert!(said.good && said.stderr.is_empty(), "nothing is replaced: {said:?}");
    for name in ["c1", "c2"] {
        assert!(certs(dir.path(), &format!("cluster {name}")).good);
    }
    let said = certs(dir.path(), "root --force");
    assert!(said.good, "{said:?}");
    assert!(said.stderr.starts_with("warning: certs/c1, certs/c2 are of the root"), "{said:?}");
}

#[test]
fn the_secret_holds_the_four_files() {
    let dir = mesh();
    let text = |name| fs::read_to_string(dir.path().join("certs/cluster1").join(name)).expect(name);
    let secret: Value = serde_norway::from_str(&text("cacerts-secret.yaml")).expect("YAML");
    assert_eq!(secret["apiVersion"], "v1");
    assert_eq!(secret["kind"], "Secret");
    assert_eq!(secret["type"], "Opaque");
    assert_eq!(secret["metadata"], json!({"name": "cacerts", "namespace": "istio-system"}));
    let data = secret["stringData"].as_object().expect("data");
    let mut names: Vec<_> = data.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"]);
    names.iter().for_each(|name| assert_eq!(data[*name], text(name), "{name}"));
}

#[test]
fn verify_names_what_fails_and_ends_with_1() {
    let dir = mesh();
    let said = certs(dir.path(), "verify certs");
    assert!(said.good, "{said:?}");
    assert!(!said.stdout.contains("FAILED") && !said.stdout.contains("warning"), "{said:?}");
    let files = ["root/root-key", "cluster1/ca-cert", "cluster2/workloads/ns2.bar/cert-chain"];
    for file in files {
        assert!(said.stdout.contains(&format!("certs/{file}.pem: good: ")), "{}", said.stdout);
    }
    // Another mesh's cluster in the place of the second.
    let other = mesh();
    let theirs = other.path().join("certs/cluster2");
    let said = certs(dir.path(), &format!("verify certs/cluster1 {}", theirs.display()));
    let expected = format!("{}/root-cert.pem: FAILED: is another root than ", theirs.display());
    assert!(!said.good && said.stdout.contains(&expected), "{said:?}");
    fs::copy(theirs.join("ca-key.pem"), dir.path().join("certs/cluster1/ca-key.pem"))
        .expect("copy");
    let said = certs(dir.path(), "verify certs");
    let expected = "certs/cluster1/ca-key.pem: FAILED: is not the key of the certificate";
    assert!(!said.good && said.stdout.contains(expected), "{said:?}");
}

#[test]
fn what_is_missing_or_ambiguous_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let refused = |line: &str, expected: &str| {
        let said = certs(dir.path(), line);
        assert!(!said.good && said.stderr.contains(expected), "{line}: {said:?}");
    };
    let workload = "workload --namespace ns1 --service-account sleep";
    refused("cluster cluster1", "make one with `diolkos certs root`");
    refused(workload, "make one with `diolkos certs cluster`");
    assert!(certs(dir.path(), "root").good);
    assert!(certs(dir.path(), "cluster cluster1").good);
    assert!(certs(dir.path(), workload).good, "there is only one cluster");
    assert!(certs(dir.path(), "cluster cluster2").good);
    refused(workload, "name one of its clusters with --cluster: cluster1, cluster2");
    refused("cluster ../x", "expected up to 63 letters");
    refused("workload --namespace a/b --service-account x --cluster cluster1", "identity");
    refused("cluster nested --root certs/cluster1", "pathlen:0");
    refused("verify", "required");
}

/// Envoy demands a client certificate of the mesh, and answers through TLS.
fn demanding(dir: &Path) -> Value {
    let typed = |kind: &str, mut content: Value| {
        content["@type"] = format!("type.googleapis.com/envoy.extensions.{kind}").into();
        content
    };
    let at = |name: &str| json!({"filename": dir.join(name)});
    let context = json!({
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificates": [{
                "certificate_chain": at(&format!("{BAR}/cert-chain.pem")),
                "private_key": at(&format!("{BAR}/key.pem")),
            }],
            "validation_context": {
                "trusted_ca": at(&format!("{BAR}/root-cert.pem")),
                "match_typed_subject_alt_names": [{
                    "san_type": "URI",
                    "matcher": {"exact": "spiffe://cluster.local/ns/ns1/sa/sleep"},
                }],
            },
        },
    });
    let router = typed("filters.http.router.v3.Router", json!({}));
    let welcome = json!({"status": 200, "body": {"inline_string": "welcome to bar\n"}});
    let manager = json!({
        "stat_prefix": "bar",
        "http_filters": [{"name": "router", "typed_config": router}],
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": welcome}],
        }]},
    });
    let kind = "filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!({"listeners": [{
        "name": "bar",
        "address": loopback(0),
        "filter_chains": [{
            "transport_socket": {
                "name": "tls",
                "typed_config": typed("transport_sockets.tls.v3.DownstreamTlsContext", context),
            },
            "filters": [{"name": "http", "typed_config": typed(kind, manager)}],
        }],
    }]})
}

#[test]
fn envoy_takes_the_files_and_each_end_knows_the_other() {
    let (Some(envoy), Some(openssl)) = (tools::find("envoy"), tools::find("openssl")) else {
        return;
    };
    let dir = mesh();
    let resources = demanding(dir.path());
    let config = dir.path().join("validate.json");
    fs::write(&config, json!({"static_resources": resources}).to_string()).expect("write");
    let mut validate = Command::new(&envoy);
    validate.args(["--mode", "validate", "-c"]).arg(&config);
    let said = tools::run(&mut validate, b"", Duration::from_secs(60));
    assert!(said.good, "{said:?}");

    let server = Envoy::start(&envoy, dir.path(), "bar", resources);
    let call = |own: &Path| {
        let mut client = Command::new(&openssl);
        client.args(["s_client", "-connect", &server.listener("bar").to_string(), "-ign_eof"]);
        client.args(["-verify_return_error", "-CAfile"]).arg(own.join("root-cert.pem"));
        client.arg("-cert").arg(own.join("cert-chain.pem")).arg("-key").arg(own.join("key.pem"));
        // s_client sends of this file what leads on from the first.
        client.arg("-cert_chain").arg(own.join("cert-chain.pem"));
        let request = b"GET / HTTP/1.1\r\nhost: bar\r\nconnection: close\r\n\r\n";
        tools::run(&mut client, request, PATIENCE)
    };
    let said = call(&dir.path().join(SLEEP));
    assert!(said.stdout.contains("welcome to bar"), "{said:?}");
    assert!(said.stdout.contains("Verify return code: 0 (ok)"), "{said:?}");
    let stranger = call(&dir.path().join(BAR));
    assert!(!stranger.stdout.contains("welcome to bar"), "{stranger:?}");
}
