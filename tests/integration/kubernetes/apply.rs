//! `diolkos export --apply`: what is offered is in the importing cluster, once and as it changes;
//! what others have there stays theirs; addresses are kept whatever happens.
//!
//! It runs with the rights of `config/kubernetes/export`, and no others.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use tempfile::TempDir;

use super::*;
use crate::support::{
    daemon::Daemon,
    process::{diolkos, http},
    tools::{self, Said},
};

/// The importing cluster, and the directory of one that exports.
struct World {
    cluster: Cluster,
    directory: TempDir,
    kubeconfig: PathBuf,
    pod: Pod,
}

impl World {
    fn new(offered: &[&str]) -> Option<Self> {
        let (cluster, ip) = (Cluster::with_istio()?, outer_address()?);
        let rights = include_str!("../../../config/kubernetes/export/rbac.yaml");
        cluster.kubectl(&["apply", "--server-side", "-n", "istio-system"], rights);
        let kubeconfig = cluster.kubeconfig_of("diolkos-export");
        let directory = tempfile::tempdir().expect("a directory");
        let world = Self { cluster, directory, kubeconfig, pod: pod(ip) };
        fs::create_dir(world.file("c2")).expect("made");
        fs::write(world.file("c2/gateway.yaml"), gateway(&["*.global"])).expect("written");
        offered.iter().for_each(|name| world.offer(name));
        Some(world)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The other cluster has this service from now on.
    fn offer(&self, name: &str) {
        let text = mesh("ns2", name, &[&self.pod]);
        fs::write(self.file(&format!("c2/{name}.yaml")), text).expect("written");
    }

    fn take_back(&self, name: &str) {
        fs::remove_file(self.file(&format!("c2/{name}.yaml"))).expect("removed");
    }

    /// The command, with the gateways of the other cluster.
    fn command(&self, source: &str, more: &str) -> Command {
        let mut command = diolkos();
        command.current_dir(self.directory.path()).arg("export");
        command.args(["--for", "c1", "--range", "240.240.0.0/16", "--apply"]);
        command.args(["--cluster", &format!("c1=kubeconfig:{}", self.kubeconfig.display())]);
        command.args(["--cluster", source]).args(more.split_whitespace());
        command
    }

    fn export(&self, more: &str) -> Said {
        let mut command = self.command("c2=c2,gateway=192.0.2.10", more);
        tools::run(&mut command, b"", LONG)
    }

    /// As it is in the cluster.
    fn object(&self, kind: &str, name: &str) -> Option<Value> {
        let arguments = ["get", kind, name, "-n", "istio-system", "-o", "json"];
        let said = self.cluster.try_kubectl(&arguments, "");
        assert!(said.good || said.stderr.contains("NotFound"), "{}", said.stderr);
        said.good.then(|| serde_json::from_str(&said.stdout).expect("JSON"))
    }

    fn entry(&self, name: &str) -> Option<Value> {
        self.object("serviceentry", &format!("{name}.ns2.global"))
    }

    fn address(&self, name: &str) -> String {
        let entry = self.entry(name).unwrap_or_else(|| panic!("no entry of {name}"));
        entry["spec"]["addresses"][0].as_str().expect("an address").to_owned()
    }

    /// The version of everything that an exporter writes.
    fn versions(&self) -> BTreeMap<String, String> {
        let kinds = "serviceentries,destinationrules,configmaps,events";
        let all = self.cluster.kubectl(&["get", kinds, "-n", "istio-system", "-o", "json"], "");
        let all: Value = serde_json::from_str(&all).expect("JSON");
        let items = all["items"].as_array().expect("a list").iter();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let key = |object: &Value| {
            format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
        };
        items.map(|o| (key(o), text(&o["metadata"]["resourceVersion"]))).collect()
    }

    /// What Events say of an object.
    fn events(&self, name: &str) -> Vec<String> {
        let all = self.cluster.kubectl(&["get", "events", "-n", "istio-system", "-o", "json"], "");
        let all: Value = serde_json::from_str(&all).expect("JSON");
        let items = all["items"].as_array().expect("a list").iter();
        let ours = items.filter(|event| event["involvedObject"]["name"] == name);
        ours.map(|event| {
            assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("Conflict")));
            event["message"].as_str().expect("a message").to_owned()
        })
        .collect()
    }
}

#[test]
fn what_is_offered_is_applied_and_nothing_is_written_twice() {
    let _turn = turn();
    let Some(world) = World::new(&["bar", "foo"]) else { return };
    let before = world.versions();

    let dry = world.export("--dry-run");
    assert!(!dry.good, "something would be written: {dry:?}");
    for object in ["ServiceEntry istio-system/bar", "DestinationRule istio-system/foo"] {
        let line = format!("would create {object}.ns2.global\n");
        assert!(dry.stdout.contains(&line), "{line}: {dry:?}");
    }
    assert_eq!(world.versions(), before, "nothing was written");

    let first = world.export("");
    assert!(first.good && first.stdout.contains("2 entries written, 0 removed"), "{first:?}");
    let bar = world.entry("bar").expect("applied");
    assert_eq!(bar["metadata"]["labels"]["app.kubernetes.io/managed-by"], "diolkos-export");
    assert_eq!(bar["metadata"]["labels"]["diolkos/exporter"], "default");
    assert_eq!(bar["spec"]["endpoints"][0]["address"], "192.0.2.10");
    assert_eq!(
        (world.address("bar"), world.address("foo")),
        addresses("240.240.0.2", "240.240.0.3")
    );
    let versions = world.versions();
    assert_eq!(versions.len() - before.len(), 5, "two of each, and the record: {versions:?}");

    let second = world.export("");
    assert!(second.good && second.stdout.contains("0 entries written"), "{second:?}");
    assert!(world.export("--dry-run").good, "nothing would be written");
    assert_eq!(world.versions(), versions);

    // A second gateway, and back: what came with it goes with it.
    let two = "c2=c2,gateway=192.0.2.10,gateway=192.0.2.11";
    let said = tools::run(&mut world.command(two, ""), b"", LONG);
    assert!(said.good, "{said:?}");
    let rule = || world.object("destinationrule", "bar.ns2.global").expect("a rule");
    assert_eq!(world.entry("bar").expect("there")["spec"]["endpoints"][1]["address"], "192.0.2.11");
    assert!(rule()["spec"]["trafficPolicy"]["outlierDetection"].is_object());
    assert!(world.export("").good);
    assert!(rule()["spec"]["trafficPolicy"]["outlierDetection"].is_null(), "{}", rule());

    // Gone, and back with the address that it had.
    world.take_back("bar");
    let said = world.export("");
    assert!(said.good && said.stderr.contains("deleted ServiceEntry istio-system/bar"), "{said:?}");
    assert!(world.entry("bar").is_none() && world.entry("foo").is_some());
    assert!(world.object("destinationrule", "bar.ns2.global").is_none());
    world.offer("aaa");
    world.offer("bar");
    assert!(world.export("").good);
    assert_eq!(
        (world.address("bar"), world.address("aaa")),
        addresses("240.240.0.2", "240.240.0.4")
    );

    nothing_is_emptied_or_begun_anew(&world);
}

fn addresses(first: &str, second: &str) -> (String, String) {
    (first.to_owned(), second.to_owned())
}

fn nothing_is_emptied_or_begun_anew(world: &World) {
    let versions = world.versions();
    let said = world.export("--selector app=typo");
    assert!(!said.good && said.stderr.contains("all 3 entries of ours in it"), "{said:?}");
    assert_eq!(world.versions(), versions);
    let map = ["configmap", "-n", "istio-system", "diolkos-addresses"];
    world.cluster.kubectl(&[&["delete"], &map[..]].concat(), "");
    world.offer("new");
    let said = world.export("");
    let why = "ConfigMap istio-system/diolkos-addresses: there is none, but cluster c1 (";
    assert!(!said.good && said.stderr.contains(why), "{said:?}");
    assert!(world.entry("new").is_none());
}

#[test]
fn what_others_have_is_left_alone_and_told() {
    let _turn = turn();
    let Some(world) = World::new(&["bar", "foo", "baz"]) else { return };
    let theirs = |name: &str, label: &str| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": {"name": name, "namespace": "istio-system", "labels": {"a": label}},
            "spec": {"hosts": ["other.example"], "resolution": "STATIC"}})
    };
    world.cluster.apply(&theirs("foo.ns2.global", "b").to_string());
    let foo = world.entry("foo").expect("theirs");
    assert!(!world.export("--dry-run").good);
    assert_eq!(world.events("foo.ns2.global"), [""; 0], "a dry run tells nobody");
    for _ in 0..2 {
        let said = world.export("");
        let why = "foo.ns2.global: ServiceEntry istio-system/foo.ns2.global is somebody else's";
        assert!(!said.good && said.stderr.contains(why), "{said:?}");
        assert_eq!(world.entry("foo").expect("theirs"), foo, "not touched");
    }
    let [told] = &world.events("foo.ns2.global")[..] else { panic!("one Event") };
    assert!(told.contains("is left alone"), "{told}");
    assert!(world.entry("bar").is_some() && world.entry("baz").is_some());

    // Another exporter leaves ours alone, and its own name is free.
    world.cluster.kubectl(&["delete", "serviceentry", "-n", "istio-system", "foo.ns2.global"], "");
    let said = world.export("--exporter other");
    assert!(!said.good && said.stderr.contains("bar.ns2.global is somebody else's"), "{said:?}");
    assert_eq!(
        world.entry("foo").expect("there")["metadata"]["labels"]["diolkos/exporter"],
        "other"
    );
    assert_eq!(world.address("foo"), "240.240.0.4", "one record for both");

    // Somebody takes a field of ours over.
    world.take_back("foo");
    let arguments = ["apply", "--server-side", "--field-manager=someone", "--force-conflicts"];
    let taken = json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"name": "bar.ns2.global", "namespace": "istio-system"},
        "spec": {"location": "MESH_EXTERNAL"}});
    world.cluster.kubectl(&arguments, &taken.to_string());
    let said = world.export("");
    let why = "ServiceEntry istio-system/bar.ns2.global is left alone: ";
    assert!(!said.good && said.stderr.contains(why), "{said:?}");
    assert!(said.stderr.contains("someone"), "{said:?}");
    assert_eq!(world.entry("bar").expect("there")["spec"]["location"], "MESH_EXTERNAL");
    assert!(world.events("bar.ns2.global").iter().any(|told| told.contains("someone")));
    assert!(world.entry("foo").is_some(), "the other exporter's is not collected");
}

#[test]
fn an_entry_that_somebody_took_over_is_told_and_keeps_its_rule() {
    let _turn = turn();
    let Some(world) = World::new(&["bar"]) else { return };
    assert!(world.export("").good);
    let entry = ["serviceentry", "bar.ns2.global", "-n", "istio-system", "diolkos/exporter-"];
    world.cluster.kubectl(&[&["label"], &entry[..]].concat(), "");
    let (entry, rule) = (world.entry("bar"), world.object("destinationrule", "bar.ns2.global"));
    assert!(entry.is_some() && rule.is_some());
    for more in ["--dry-run", "", "--allow-empty"] {
        let said = world.export(more);
        let why = "bar.ns2.global: ServiceEntry istio-system/bar.ns2.global is somebody else's";
        assert!(!said.good && said.stderr.contains(why), "{said:?}");
        assert!(!said.stderr.contains("--allow-empty"), "{said:?}");
        assert!(said.stderr.contains("our DestinationRule stays"), "{said:?}");
        assert_eq!(world.entry("bar"), entry);
        assert_eq!(world.object("destinationrule", "bar.ns2.global"), rule);
    }
    // What is not offered any more is another matter.
    world.take_back("bar");
    let said = world.export("");
    assert!(!said.good && said.stderr.contains("all 1 entries of ours in it"), "{said:?}");
    assert!(world.export("--allow-empty").good);
    assert!(world.object("destinationrule", "bar.ns2.global").is_none());
    assert_eq!(world.entry("bar"), entry);
}

#[test]
fn a_namespace_and_a_kind_that_are_not_there_are_told_apart() {
    let _turn = turn();
    let Some(mut world) = World::new(&["bar"]) else { return };
    world.kubeconfig = world.cluster.kubeconfig();
    let said = world.export("--namespace nowhere");
    let why = "writing: there is no such namespace: create it first";
    assert!(!said.good && said.stderr.contains("ConfigMap nowhere/"), "{said:?}");
    assert!(said.stderr.contains(why), "{said:?}");
    let crd = ["delete", "crd", "serviceentries.networking.istio.io"];
    world.cluster.kubectl(&crd, "");
    let said = soon("the kind is gone", || {
        let said = world.export("");
        said.stderr.contains("listing: ").then_some(said)
    });
    assert!(
        said.stderr.contains("ServiceEntry of istio-system: listing: the API has no such kind")
    );
    assert!(!said.good, "{said:?}");
}

#[test]
fn exporters_at_once_give_no_address_twice() {
    let _turn = turn();
    let Some(world) = World::new(&[]) else { return };
    let runs: Vec<_> = (0..4)
        .map(|run| {
            let source = format!("own{run}");
            fs::create_dir(world.file(&source)).expect("made");
            let names: Vec<_> = (0..5).map(|n| format!("s{run}-{n}")).collect();
            let offered = names.iter().map(|name| mesh("ns2", name, &[&world.pod]));
            let text = offered.fold(gateway(&["*.global"]), |all, more| all + &more);
            fs::write(world.file(&format!("{source}/all.yaml")), text).expect("written");
            let source = format!("own={source},gateway=192.0.2.10");
            let mut command = world.command(&source, &format!("--exporter e{run}"));
            command.stdout(std::process::Stdio::null()).spawn().expect("it starts")
        })
        .collect();
    for mut run in runs {
        assert!(run.wait().expect("it ends").success());
    }
    let entries =
        world.cluster.kubectl(&["get", "serviceentry", "-n", "istio-system", "-o", "json"], "");
    let entries: Value = serde_json::from_str(&entries).expect("JSON");
    let entries = entries["items"].as_array().expect("a list").iter();
    let mut given: Vec<_> = entries.map(|e| e["spec"]["addresses"][0].to_string()).collect();
    given.sort();
    assert_eq!(given.len(), 20);
    given.dedup();
    assert_eq!(given.len(), 20, "{given:?}");
}

/// More than the API gives in one answer.
#[test]
fn many_names_are_all_found_again() {
    const NAMES: usize = 520;
    let _turn = turn();
    let Some(world) = World::new(&[]) else { return };
    for n in 0..NAMES {
        world.offer(&format!("s{n}"));
    }
    let timed = |expected: &str| {
        let begun = Instant::now();
        let said = world.export("");
        assert!(said.good && said.stdout.contains(expected), "{expected}: {said:?}");
        begun.elapsed()
    };
    let first = timed("520 entries written, 0 removed, 0 as they were");
    let second = timed("0 entries written, 0 removed, 520 as they were");
    println!("{NAMES} names: {first:?} to create them, {second:?} to find them as they were");
}

#[test]
fn an_exporter_that_stays_outlasts_both_apis() {
    let _turn = turn();
    let Some(mut world) = World::new(&[]) else { return };
    let Some(mut source) = Cluster::with_istio() else { return };
    source.apply(&gateway(&["*.global"]));
    source.apply(&mesh("ns2", "bar", &[&world.pod]));
    let c2 = format!("c2=kubeconfig:{},gateway=192.0.2.10", source.kubeconfig().display());
    let mut command = world.command(&c2, "--watch --status 127.0.0.1:0");
    let mut watch = Daemon::start(&mut command);
    let status = soon("it listens", || {
        let log = watch.log();
        let line = log.iter().find(|line| line["message"] == "listening for readiness and scrapes");
        line?["address"].as_str()?.parse::<SocketAddr>().ok()
    });
    let get = |path: &str| http(status, "GET", path);
    let sample = |name: &str| {
        let text = get("/stats/prometheus").body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("a metric");
        value.trim().parse::<f64>().expect("a number")
    };
    let failed = || sample("diolkos_export_runs_total{result=\"failed\"} ");
    soon("the first run", || world.entry("bar").is_some().then_some(()));
    soon("ready", || (get("/healthz/ready").status == 200).then_some(()));

    // What somebody deletes is written again.
    world.cluster.kubectl(&["delete", "serviceentry", "-n", "istio-system", "bar.ns2.global"], "");
    soon("it is back", || world.entry("bar").is_some().then_some(()));
    assert_eq!(world.address("bar"), "240.240.0.2");

    // Without the source nothing goes, whatever makes it run.
    source.stop_api();
    soon("it knows", || (sample("diolkos_kubernetes_age_seconds ") > 0.0).then_some(()));
    watch.signal(rustix::process::Signal::HUP);
    soon("it has run", || {
        watch.log().iter().any(|l| l["message"] == "manifests were read again").then_some(())
    });
    world.cluster.kubectl(&["delete", "serviceentry", "-n", "istio-system", "bar.ns2.global"], "");
    soon("it has run again", || world.entry("bar").is_some().then_some(()));
    source.start_api();

    // Without the target it goes on trying.
    world.cluster.stop_api();
    source.apply(&mesh("ns2", "baz", &[&world.pod]));
    soon("runs fail", || (failed() > 0.0).then_some(()));
    watch.said("not exported: ConfigMap istio-system/diolkos-addresses at https://127.0.0.1:");
    world.cluster.start_api();
    soon("the new one is there", || world.entry("baz").is_some().then_some(()));
    assert_eq!(world.address("bar"), "240.240.0.2");
    source.kubectl(&["delete", "service", "-n", "ns2", "bar"], "");
    soon("the old one is not", || world.entry("bar").is_none().then_some(()));
    watch.signal(rustix::process::Signal::TERM);
    assert!(watch.ended().success());

    // Where the kind that says what is offered is not there, nothing is taken for gone.
    source.kubectl(&["delete", "crd", "gateways.networking.istio.io"], "");
    let said = tools::run(&mut world.command(&c2, ""), b"", LONG);
    assert!(said.stderr.contains("c2: its API has no kind Gateway"), "{said:?}");
    assert!(world.entry("baz").is_some());
}
