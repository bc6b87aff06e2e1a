//! `diolkos export` as it is typed: what DNS answers from what it wrote, what a gateway serves of
//! it, what it does to files that are not its own.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use diolkos::manifests::{Object, parse};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{
    PATIENCE,
    daemon::Daemon,
    eventually,
    process::diolkos,
    tools::{self, Said},
};

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH},
     hosts: ['*.global']}
";

fn service(name: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: ns2}}\n\
         spec: {{ports: [{{name: http, port: 8080}}]}}\n"
    )
}

/// Directories of three clusters, of which the first imports.
struct World {
    dir: TempDir,
}

impl World {
    fn new(second: &[&str], third: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let world = Self { dir };
        for cluster in ["c1", "c2", "c3"] {
            fs::create_dir(world.at(cluster)).expect("made");
            world.write(&format!("{cluster}/gateway.yaml"), GATEWAY);
        }
        for (cluster, names) in [("c2", second), ("c3", third)] {
            for name in names {
                world.write(&format!("{cluster}/{name}.yaml"), &service(name));
            }
        }
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).expect("written");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// From all three clusters for the first.
    fn command(&self, more: &str) -> Command {
        let mut command = diolkos();
        let line = "export --cluster c1=c1 --cluster c2=c2,gateway=192.0.2.2 \
                    --cluster c3=c3,gateway=192.0.2.3 --for c1 --addresses addresses";
        command.args(line.split_whitespace()).args(more.split_whitespace());
        command.current_dir(self.dir.path());
        command
    }

    fn export(&self, more: &str) -> Said {
        tools::run(&mut self.command(more), b"", PATIENCE)
    }

    fn files(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// The objects of a text, which must hold nothing that is worth a remark.
fn objects(text: &str) -> Vec<Object> {
    let parsed = parse(&Path::new("stdout").into(), text.as_bytes());
    assert!(parsed.problems.is_empty() && parsed.skipped.is_empty(), "{:?}", parsed.problems);
    parsed.items.into_iter().map(|item| item.object.expect("a good object")).collect()
}

fn addresses_in(book: &str) -> Vec<&str> {
    let records = book.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    records.filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn the_same_input_gives_the_same_bytes_and_kubectl_could_read_them() {
    let world = World::new(&["bar", "foo"], &["bar"]);
    let first = world.export("--form labelled");
    assert!(first.good, "{first:?}");
    let found = objects(&first.stdout);
    let names: Vec<String> = found.iter().map(|object| object.reference().to_string()).collect();
    let expected = ["ServiceEntry", "DestinationRule"]
        .map(|kind| ["bar", "foo"].map(|name| format!("{kind} istio-system/{name}.ns2.global")));
    assert_eq!(BTreeSet::from_iter(names), BTreeSet::from_iter(expected.into_iter().flatten()));
    let Object::ServiceEntry(bar) = &found[0] else { panic!("{:?}", found[0]) };
    assert_eq!(bar.spec.endpoints.len(), 2, "a gateway of each cluster");
    let book = world.read("addresses");
    let second = world.export("--form labelled");
    assert_eq!((second.stdout, world.read("addresses")), (first.stdout, book));
}

#[test]
fn names_that_were_exported_are_answered_by_dns() {
    let world = World::new(&["bar"], &["bar", "foo"]);
    let said = world.export("--range 240.240.0.0/16 --to-dir c1/imported");
    assert!(said.good && said.stderr.is_empty(), "{said:?}");
    assert_eq!(
        said.stdout,
        "c1: 2 names, 2 of them with a new address; 2 files written, 0 removed, 0 as they were in \
         c1/imported\n"
    );
    let mut command = diolkos();
    command.args(["dns", "--listen", "127.0.0.1:0", "--manifests"]).arg(world.at("c1/imported"));
    let dns = Daemon::start(&mut command);
    let listening = dns.said("listening for DNS");
    let (_, port) = listening["address"].as_str().and_then(|a| a.rsplit_once(':')).expect("a port");
    dns.said("ready");
    let Some(dig) = tools::find("dig") else { return };
    for (name, address) in [("bar", "240.240.0.2\n"), ("foo", "240.240.0.3\n"), ("new", "")] {
        let mut command = Command::new(&dig);
        command.args(["@127.0.0.1", "-p", port, "+short", &format!("{name}.ns2.global")]);
        assert_eq!(tools::run(&mut command, b"", PATIENCE).stdout, address, "{name}");
    }
}

#[test]
fn what_is_exported_is_what_the_gateway_serves() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().expect("a directory");
    let demo = repository.join("config/demo");
    let mut command = diolkos();
    let cluster = format!("c2={},gateway=192.0.2.2", demo.display());
    command.args(["export", "--cluster", &cluster, "--for", "c1", "--form", "labelled"]);
    command.args(["--set", "gateway.listen=127.0.0.1:15443", "--addresses"]);
    command.arg(dir.path().join("addresses"));
    let said = tools::run(&mut command, b"", PATIENCE);
    assert!(said.good, "{said:?}");
    for (name, why) in [("plain", "no mesh TLS known"), ("secret", "is not visible to")] {
        let line = said.stderr.lines().find(|line| line.contains(&format!("Service ns2/{name} ")));
        assert!(line.is_some_and(|line| line.contains(why)), "{name}: {}", said.stderr);
    }
    let (mut ports, mut subsets) = (Vec::new(), vec![String::new()]);
    for object in objects(&said.stdout) {
        match object {
            Object::ServiceEntry(entry) => {
                assert_eq!(entry.spec.hosts[0].0.to_string(), "bar.ns2.global");
                ports.extend(entry.spec.ports.iter().map(|port| port.number));
            }
            Object::DestinationRule(rule) => {
                subsets.extend(rule.spec.subsets.iter().map(|subset| subset.name.to_string()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((&ports[..], subsets.len()), (&[8080][..], 3));
    for subset in subsets {
        let mut command = diolkos();
        let asked = format!("outbound_.8080_.{subset}_.bar.ns2.global");
        command.args(["explain", &asked, "--set", "gateway.listen=127.0.0.1:15443"]);
        command.arg("--manifests").arg(&demo);
        let said = tools::run(&mut command, b"", PATIENCE);
        assert!(said.good, "{said:?}");
    }
}

#[test]
fn the_egress_form_leads_callers_to_the_egress_gateway_and_that_one_on() {
    let world = World::new(&["bar"], &["bar"]);
    let said = world.export("--form egress --egress 10.0.0.1 --to-dir c1/imported");
    assert!(said.good, "{said:?}");
    for (view, gateways) in
        [("", &["10.0.0.1:15443"][..]), ("external", &["192.0.2.2:15443", "192.0.2.3:15443"])]
    {
        let mut command = diolkos();
        command.args(["explain", "outbound_.8080_._.bar.ns2.global", "--manifests", "c1"]);
        // Whatever addresses this host has, none of them is that of the gateway asked.
        command.args(["--set", "gateway.listen=127.0.0.1:15443"]);
        command.args(["--set", "gateway.role=egress", "--set"]);
        command.arg(format!("gateway.requested_network_view=[{view}]"));
        let said = tools::run(command.current_dir(world.dir.path()), b"", PATIENCE);
        assert!(said.good, "{said:?}");
        let seen = said.stdout.lines().filter_map(|line| line.trim_start().strip_prefix("in "));
        let seen: Vec<_> = seen.filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(seen, gateways, "view {view:?}: {}", said.stdout);
    }
}

#[test]
fn the_example_of_the_readme_does_what_it_says() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(repository.join("README.md")).expect("a README");
    let (_, section) = readme.split_once("### Services of other clusters\n").expect("the section");
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let commands = block.expect("a block").replace("\\\n", " ");
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("config")).expect("made");
    let demo = dir.path().join("config/demo");
    std::os::unix::fs::symlink(repository.join("config/demo"), demo).expect("a link");
    let mut ran = 0;
    for line in commands.lines().filter(|line| !line.trim().is_empty()) {
        let words = line.split_whitespace().skip_while(|word| *word == "diolkos");
        let mut command = diolkos();
        command.args(words).current_dir(dir.path());
        let said = tools::run(&mut command, b"", PATIENCE);
        assert!(said.good, "{line}: {said:?}");
        ran += 1;
    }
    assert!(ran >= 2, "{commands}");
    let written = dir.path().join("imported/bar.ns2.global.yaml");
    let shown = fs::read_to_string(written).expect("what the README shows");
    assert!(
        section.contains(&format!("```yaml\n{shown}```")),
        "the README shows another:\n{shown}"
    );
}

#[test]
fn broken_manifests_are_named_and_the_rest_is_written() {
    let world = World::new(&["bar", "foo"], &["baz"]);
    assert!(world.export("--to-dir out").good);
    let broken = service("foo").replace("8080", "0");
    world.write("c2/foo.yaml", &broken);
    world.write("c2/new.yaml", &service("new"));
    fs::remove_file(world.at("c3/baz.yaml")).expect("removed");
    let before = world.read("out/foo.ns2.global.yaml");
    let said = world.export("--to-dir out");
    assert!(!said.good, "{said:?}");
    let problem = "c2: c2/foo.yaml:5: error: Service ns2/foo: spec.ports[0].port: ";
    assert!(said.stderr.contains(problem), "{}", said.stderr);
    assert!(said.stderr.contains("warning: foo.ns2.global: its file stays as it is"), "{said:?}");
    assert_eq!(
        world.files("out"),
        ["bar.ns2.global.yaml", "foo.ns2.global.yaml", "new.ns2.global.yaml"]
    );
    assert_eq!(world.read("out/foo.ns2.global.yaml"), before);
}

#[test]
fn every_removed_file_is_named_and_the_last_ones_need_a_flag() {
    let world = World::new(&["bar", "foo"], &["bar"]);
    assert!(world.export("--to-dir out").good);
    let said = world.export("--to-dir out --selector app=typo");
    assert!(!said.good && said.stdout.is_empty(), "{said:?}");
    assert!(said.stderr.contains("all 2 files of ours"), "{said:?}");
    assert!(said.stderr.contains("--allow-empty"), "{said:?}");
    assert_eq!(world.files("out").len(), 2);
    fs::remove_file(world.at("c2/foo.yaml")).expect("removed");
    let said = world.export("--to-dir out");
    assert!(said.good, "{said:?}");
    let removed = "removed out/foo.ns2.global.yaml: foo.ns2.global is not exported any more\n";
    assert_eq!(
        said.stderr.lines().last().map(|line| format!("{line}\n")).as_deref(),
        Some(removed)
    );
    let said = world.export("--to-dir out --selector app=typo --allow-empty");
    assert!(said.good && said.stderr.contains("removed out/bar.ns2.global.yaml: "), "{said:?}");
    assert_eq!(world.files("out"), [""; 0]);
}

#[test]
fn what_manifests_say_moves_no_cursor() {
    let world = World::new(&["bar"], &[]);
    let odd = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: esc, namespace: ns1}
spec: {hosts: [\"a\\e[2J\\nb.global\"], resolution: STATIC}
";
    world.write("c2/odd.yaml", odd);
    let mut alone = diolkos();
    alone.args(["check", "--manifests", "c2"]).current_dir(world.dir.path());
    let mut explain = diolkos();
    explain.args(["explain", "outbound_.8080_._.bar.ns2.global", "--manifests", "c2"]);
    explain.current_dir(world.dir.path());
    let said = [check(&world, ""), world.export("")]
        .into_iter()
        .chain([&mut alone, &mut explain].map(|command| tools::run(command, b"", PATIENCE)));
    for said in said {
        let all = format!("{}{}", said.stdout, said.stderr);
        assert!(all.contains("\\u{1b}[2J"), "{all:?}");
        assert!(!all.contains(|c: char| c.is_control() && c != '\n'), "{all:?}");
        assert!(!all.lines().any(|line| line.starts_with("b.global")), "{all:?}");
    }
}

#[test]
fn a_file_of_addresses_that_is_none_is_never_overwritten() {
    let world = World::new(&["bar"], &[]);
    let cut = "diolkos-addresses 1\n127.255.0.2 bar.ns2.global\n";
    for (text, why) in [
        ("", "addresses:1: `diolkos-addresses 1` is missing"),
        (GATEWAY, "addresses:2: `diolkos-addresses 1` is missing before this"),
        (cut, "addresses:2: `end` is missing"),
        (
            "diolkos-addresses 1\n127.255.0.2 a.b\n127.255.0.2 c.d\nend\n",
            "addresses:3: 127.255.0.2",
        ),
    ] {
        world.write("addresses", text);
        for more in ["", "--to-dir out", "--check --to-dir out"] {
            let said = world.export(more);
            assert!(!said.good && said.stdout.is_empty(), "{more}: {said:?}");
            assert!(said.stderr.contains(why), "{why}: {}", said.stderr);
        }
        assert_eq!(world.read("addresses"), text);
        assert_eq!(world.files("out"), [""; 0]);
    }
}

#[test]
fn what_cannot_be_read_or_written_is_an_error_that_names_it() {
    let world = World::new(&["bar"], &[]);
    world.write("file", "x");
    for (more, why) in [
        ("--to-dir file", "file: reading: "),
        ("--to-dir file/out", "file/out"),
        ("--cluster c4=absent,gateway=192.0.2.4", "--cluster c4: cannot open manifests at absent"),
        ("--range 10.0.0.0/29 --config absent", "absent"),
    ] {
        let said = world.export(more);
        assert!(!said.good && said.stderr.contains(why), "{more}: {said:?}");
    }
    assert_eq!(world.read("file"), "x");
    let ended = world.command("--cluster c2=c2,gateway=192.0.2.2").output().expect("it runs");
    assert_eq!(ended.status.code(), Some(2), "wrong usage");
}

#[test]
fn files_of_others_stay_and_their_hosts_are_theirs() {
    let world = World::new(&["bar", "foo", "baz"], &[]);
    let mine = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mine, namespace: x}
spec: {hosts: [bar.ns2.global], resolution: STATIC, addresses: [127.255.0.2]}
";
    world.write("c1/mine.yaml", mine);
    fs::create_dir(world.at("out")).expect("made");
    world.write("out/mine.yaml", &mine.replace("bar.", "foo."));
    let said = world.export("--to-dir out");
    assert!(said.good, "{said:?}");
    assert_eq!(world.files("out"), ["baz.ns2.global.yaml", "mine.yaml"]);
    for (host, whose) in [("bar", "c1/mine.yaml:2"), ("foo", "out/mine.yaml:2")] {
        let left = format!("note: {host}.ns2.global: ServiceEntry x/mine ({whose}) has this host");
        assert!(said.stderr.contains(&left), "{left}: {}", said.stderr);
    }
    assert!(world.read("out/baz.ns2.global.yaml").contains("- 127.255.0.3\n"));
}

#[test]
fn runs_at_once_give_no_address_twice() {
    let world = World::new(&[], &[]);
    let names: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    let runs: Vec<_> = (0..4)
        .map(|run| {
            let own = format!("own{run}");
            fs::create_dir(world.at(&own)).expect("made");
            world.write(&format!("{own}/gateway.yaml"), GATEWAY);
            let services: String = names.iter().map(|n| service(&format!("{n}-{run}"))).collect();
            world.write(&format!("{own}/services.yaml"), &services);
            let mut command = diolkos();
            command.args(["export", "--for", "c1", "--addresses", "addresses", "--cluster"]);
            command.arg(format!("own{run}={own},gateway=192.0.2.9"));
            command.current_dir(world.dir.path()).stdout(std::process::Stdio::null());
            command.stderr(std::process::Stdio::null()).spawn().expect("it starts")
        })
        .collect();
    for mut run in runs {
        assert!(run.wait().expect("it ends").success());
    }
    let book = world.read("addresses");
    let addresses = addresses_in(&book);
    assert_eq!(addresses.len(), 160);
    assert_eq!(BTreeSet::from_iter(&addresses).len(), 160, "{book}");
}

#[test]
fn a_watched_cluster_is_followed_until_the_end() {
    let world = World::new(&["bar"], &["bar"]);
    let mut command = world.command("--to-dir out --watch");
    let mut watch = Daemon::start(&mut command);
    let has = |what: &str, expected: &[&str]| {
        let expected: Vec<String> =
            expected.iter().map(|name| format!("{name}.ns2.global.yaml")).collect();
        eventually(what, || (world.files("out") == expected).then_some(()));
    };
    has("the first run", &["bar"]);
    let bar = world.read("out/bar.ns2.global.yaml");
    world.write("c2/foo.yaml", &service("foo"));
    has("a new service", &["bar", "foo"]);
    assert!(world.read("out/foo.ns2.global.yaml").contains("- 127.255.0.3\n"), "its own address");
    // Broken: its last good version stays, and the file with it.
    world.write("c2/foo.yaml", &service("foo").replace("8080", "0"));
    watch.said("Service ns2/foo: spec.ports[0].port");
    world.write("c3/new.yaml", &service("new"));
    has("what is good is written", &["bar", "foo", "new"]);
    fs::remove_file(world.at("c2/foo.yaml")).expect("removed");
    has("a service that is gone", &["bar", "new"]);
    // Somebody takes the host over in the importing cluster.
    let mine = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mine, namespace: x}
spec: {hosts: [new.ns2.global], resolution: STATIC}
";
    world.write("c1/mine.yaml", mine);
    has("a host of somebody else", &["bar"]);
    watch.said("new.ns2.global: ServiceEntry x/mine");
    fs::remove_file(world.at("c1/mine.yaml")).expect("removed");
    has("it is ours again", &["bar", "new"]);
    assert!(world.read("out/new.ns2.global.yaml").contains("- 127.255.0.4\n"), "its old address");
    // A run that fails is told and made good.
    let book = world.read("addresses");
    world.write("addresses", "x");
    world.write("c2/late.yaml", &service("late"));
    watch.said("not exported: ");
    world.write("addresses", &book);
    has("tried again", &["bar", "late", "new"]);
    assert_eq!(world.read("out/bar.ns2.global.yaml"), bar, "never touched");
    fs::remove_file(world.at("out/bar.ns2.global.yaml")).expect("removed");
    watch.signal(Signal::HUP);
    has("written anew", &["bar", "late", "new"]);
    watch.signal(Signal::TERM);
    assert!(watch.ended().success());
}

fn check(world: &World, more: &str) -> Said {
    let mut command = diolkos();
    command.args("check --cluster c1=c1 --cluster c2=c2 --cluster c3=c3".split_whitespace());
    command.args(more.split_whitespace()).current_dir(world.dir.path());
    tools::run(&mut command, b"", PATIENCE)
}

#[test]
fn clusters_agree_with_what_was_exported_until_one_of_them_changes() {
    let world = World::new(&["bar", "foo"], &["bar"]);
    assert!(world.export("--to-dir c1/imported").good);
    let said = check(&world, "");
    assert!(said.good && said.stderr.is_empty(), "{said:?}");
    assert_eq!(
        said.stdout,
        "c1: 5 objects, 0 services offered to others, 2 ServiceEntries for those of others\n\
         c2: 3 objects, 2 services offered to others, 0 ServiceEntries for those of others\n\
         c3: 2 objects, 1 services offered to others, 0 ServiceEntries for those of others\n\
         0 mismatches\n0 problems\n"
    );
    world.write("c2/foo.yaml", &service("foo").replace("8080", "8081"));
    world.write("c3/bar.yaml", &service("other"));
    let said = check(&world, "");
    assert!(!said.good);
    for mismatch in [
        "c1: c1/imported/bar.ns2.global.yaml:1: ServiceEntry istio-system/bar.ns2.global: \
         spec.hosts[0]: bar.ns2.global: c3 has no Service ns2/bar",
        "c1: c1/imported/foo.ns2.global.yaml:1: ServiceEntry istio-system/foo.ns2.global: \
         spec.ports[0].number: 8080: Service ns2/foo of c2 (c2/foo.yaml:2) has no such TCP port; \
         it has 8081",
    ] {
        assert!(said.stdout.contains(&format!("  {mismatch}\n")), "{mismatch}\n{}", said.stdout);
    }
    assert!(said.stdout.contains("\n2 mismatches\n"), "{}", said.stdout);
}

#[test]
fn roots_and_trust_domains_are_compared() {
    let world = World::new(&["bar"], &[]);
    let certs = |line: &str| {
        let mut command = diolkos();
        command.arg("certs").args(line.split_whitespace()).current_dir(world.dir.path());
        let said = tools::run(&mut command, b"", PATIENCE);
        assert!(said.good, "{line}: {said:?}");
    };
    for dir in ["a", "b"] {
        certs(&format!("root --dir {dir}"));
        certs(&format!("cluster c1 --dir {dir}"));
        certs(&format!("cluster c2 --dir {dir}"));
        let workload = "workload --cluster c2 --namespace ns2 --service-account bar --dir";
        certs(&format!("{workload} {dir}"));
    }
    let said = check(&world, "--certs c1=a/c1 --certs c2=a/c2");
    assert!(said.good, "{said:?}");
    let said = check(&world, "--certs c1=a/c1 --certs c2=b/c2");
    assert!(!said.good, "{said:?}");
    let root = "  b/c2/root-cert.pem: is another root than a/c1/root-cert.pem";
    assert!(said.stdout.contains(root), "{}", said.stdout);
    world.write(
        "c1/entry.yaml",
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bar, namespace: ns1}
spec:
  hosts: [bar.ns2.global]
  resolution: STATIC
  ports: [{number: 8080, name: http, protocol: HTTP}]
  subjectAltNames: ['spiffe://td2/ns/ns2/sa/bar']
",
    );
    let said = check(&world, "--certs c2=a/c2");
    let domain = "  c1: c1/entry.yaml:2: ServiceEntry ns1/bar: spec.subjectAltNames: the trust \
                  domain is td2 here and cluster.local in a/c2/workloads/ns2.bar/cert-chain.pem";
    assert!(!said.good && said.stdout.contains(domain), "{}", said.stdout);
    for (more, why) in [
        ("--certs c9=a/c1", "no --cluster of this name"),
        ("--cluster c2=c2", "two of this name"),
        ("--manifests c1", "cannot be used with"),
    ] {
        let said = check(&world, more);
        assert!(!said.good && said.stderr.contains(why), "{more}: {said:?}");
    }
}
