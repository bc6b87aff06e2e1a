//! What there is to follow: kinds that come late, the namespaces that are listed, rights that are
//! missing; and that the API takes what `config/kubernetes` has.

use std::fs;

use super::*;
use crate::support::{process::diolkos, tools};

#[test]
fn a_kind_that_comes_late_is_followed_when_it_is_there() {
    let _turn = turn();
    let (Some(cluster), Some(ip)) = (Cluster::start(), outer_address()) else { return };
    let bar = pod(ip);
    cluster.apply(&mesh("ns2", "bar", &[&bar]));
    // It accepts connections: nothing waits for kinds that may never come.
    let process = follow(&cluster.kubeconfig(), &[]);
    let absent = || process.sample("diolkos_kubernetes_followed{state=\"absent\"}");
    assert_eq!(absent(), Some(6.0), "Istio's kinds");
    assert_eq!(process.get("health", "/healthz/ready").status, 503);
    cluster.define_istio();
    cluster.apply(&gateway(&["*.global"]));
    until_reached(&process, &key("ns2", "bar"), &bar).end();
    soon("it has every kind", || (absent() == Some(0.0)).then_some(()));
    assert_eq!(process.get("health", "/healthz/ready").status, 200);
}

#[test]
fn only_the_namespaces_that_are_listed_are_followed() {
    let _turn = turn();
    let (Some(cluster), Some(ip)) = (Cluster::with_istio(), outer_address()) else { return };
    let (ours, theirs) = (pod(ip), pod(ip));
    cluster.apply(&gateway(&["*.global"]));
    cluster.apply(&namespace("ns3"));
    cluster.apply(&mesh("ns2", "bar", &[&ours]));
    cluster.apply(&mesh("ns3", "foreign", &[&theirs]));
    // Rights in these namespaces only: none for nodes.
    let rules =
        json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]);
    for namespace in ["istio-system", "ns2"] {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "reader", "namespace": namespace}, "rules": rules});
        let group = "rbac.authorization.k8s.io";
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "reader", "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader",
                "namespace": "istio-system"}]});
        cluster.apply(&role.to_string());
        cluster.apply(&binding.to_string());
    }
    let account = "apiVersion: v1\nkind: ServiceAccount\n\
                   metadata: {name: reader, namespace: istio-system}\n";
    cluster.apply(account);
    let kubeconfig = cluster.kubeconfig_of("reader");
    let process = follow(&kubeconfig, &["manifests.kubernetes.namespaces=[ns2]"]);
    until_reached(&process, &key("ns2", "bar"), &ours).end();
    assert_eq!(read_to_end(&mut process.ask(&key("ns3", "foreign"))).0, UNRECOGNIZED_NAME);
    let ready = process.get("admin", "/ready");
    let why = "Node, Namespace may not be read";
    assert!(ready.status == 200 && ready.body.contains(why), "{}", ready.body);
    assert!(!process.json("/config_dump").to_string().contains("ns3"));
}

#[test]
fn the_api_takes_every_file_for_kubernetes() {
    let _turn = turn();
    let Some(cluster) = Cluster::with_istio() else { return };
    cluster.apply(&namespace("ns1"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = 0;
    for directory in [
        "config/kubernetes",
        "config/kubernetes/dns",
        "config/kubernetes/export",
        "config/kubernetes/canary/global",
        "config/kubernetes/canary/multi-primary",
        "config/istio",
    ] {
        let entries = fs::read_dir(root.join(directory)).expect(directory);
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let is_manifest = |path: &std::path::PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // What kubectl itself reads, and never sends; and half an object.
            let others = ["kustomization.yaml", "searches.yaml"];
            name.ends_with(".yaml") && !others.contains(&name)
        };
        for path in paths.filter(is_manifest) {
            let text = fs::read_to_string(&path).expect("a file");
            let namespace = ["-n", "istio-system"];
            // Objects that say where they belong are taken there.
            let namespace = if text.contains("\n  namespace:") { &[][..] } else { &namespace };
            let dry = ["apply", "--server-side", "--dry-run=server", "--validate=strict"];
            let said = cluster.try_kubectl(&[&dry, namespace].concat(), &text);
            assert!(said.good, "{}: {}", path.display(), said.stderr);
            files += 1;
        }
    }
    assert!(files >= 20, "{files} files");
}

#[test]
fn who_waits_in_vain_is_told_at_once() {
    let _turn = turn();
    let Some(cluster) = Cluster::start() else { return };
    let account = "apiVersion: v1\nkind: ServiceAccount\n\
                   metadata: {name: nobody, namespace: istio-system}\n";
    cluster.apply(account);
    let nobody = cluster.kubeconfig_of("nobody");
    let directory = tempfile::tempdir().expect("a directory");
    let text = fs::read_to_string(cluster.kubeconfig()).expect("a kubeconfig");
    let good: Value = serde_json::from_str(&text).expect("JSON");
    let changed = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut config = good.clone();
        change(&mut config);
        let file = directory.path().join(name);
        fs::write(&file, config.to_string()).expect("written");
        file
    };
    let server = good["clusters"][0]["cluster"]["server"].as_str().expect("a URL");
    let foreign = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate");
    let ca = directory.path().join("foreign.pem");
    fs::write(&ca, foreign.cert.pem()).expect("written");
    let plain = server.replace("https:", "http:");
    let user = |config: &mut Value| config["users"][0]["user"]["token"] = "wrong".into();
    let authority = |config: &mut Value| {
        config["clusters"][0]["cluster"]["certificate-authority"] = json!(ca);
    };
    let scheme = |config: &mut Value| config["clusters"][0]["cluster"]["server"] = json!(plain);
    for (file, server, why) in [
        (changed("user", &user), server, "401: Unauthorized"),
        (changed("authority", &authority), server, "invalid peer certificate: "),
        (changed("scheme", &scheme), &*plain, "400 Bad Request (is this an https port spoken to"),
        (nobody, server, "User \"system:serviceaccount:istio-system:nobody\" cannot list at"),
    ] {
        let place = format!("the Kubernetes API {server}/ (the kubeconfig {}, ", file.display());
        let mut check = diolkos();
        check.arg("check").arg("--kubeconfig").arg(&file);
        let mut export = diolkos();
        let source = format!("c2=kubeconfig:{},gateway=192.0.2.1", file.display());
        export.current_dir(directory.path()).args(["export", "--for", "c1", "--addresses", "a"]);
        export.args(["--cluster", &source]);
        for (mut command, start) in [(check, ""), (export, "--cluster c2: ")] {
            let said = tools::run(&mut command, b"", LONG);
            let last = said.stderr.lines().last().unwrap_or_default();
            let start = format!("diolkos: {start}{place}context it): ");
            assert!(!said.good && last.starts_with(&start), "{start}: {said:?}");
            assert_eq!(last.matches(why).count(), 1, "{why}: {said:?}");
            assert!(!last.contains("has not told everything"), "{said:?}");
        }
    }
}
