//! Whole runs: the same again, 5,000 names, what others own, broken clusters.

use std::{fs, path::Path};

use super::*;
use crate::{
    export::{
        AddressFile, Folder, Form, OWNER,
        offer::{Offer, Port},
    },
    manifests::{Kind, News, ObjectRef, Severity, Store, parse},
};

struct Place {
    dir: tempfile::TempDir,
    export: Export,
}

impl Place {
    fn new(clusters: usize, folder: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let peer = |n| format!("c{n}=d,gateway=192.0.2.{n}").parse().expect("a cluster");
        let export = Export {
            peers: (1..=clusters).map(peer).collect(),
            shape: Shape { form: Form::Direct, namespace: "ns1".into(), ..Shape::default() },
            range: "127.255.0.0/16".parse().expect("a range"),
            record: Record::File(AddressFile::new(&dir.path().join("addresses"))),
            destination: if folder {
                Destination::Folder(Folder::new(&dir.path().join("out")))
            } else {
                Destination::Shown
            },
            forget: Vec::new(),
            allow_empty: false,
        };
        Self { dir, export }
    }

    fn run(&self, views: &[View]) -> Done {
        self.try_run(views, &Taken::default(), true).expect("a run")
    }

    fn try_run(&self, views: &[View], taken: &Taken, write: bool) -> Result<Done, ExportError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(self.export.run(views, taken, write))
    }

    fn addresses(&self) -> String {
        fs::read_to_string(self.dir.path().join("addresses")).expect("a file of addresses")
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("out")).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn view(names: &[&str]) -> View {
    let offer = |name: &&str| {
        let service =
            ObjectRef { kind: Kind::Service, namespace: "ns2".into(), name: (*name).into() };
        let port = Port { number: 80, name: "http".into(), protocol: "HTTP" };
        let offer = Offer { service, ports: vec![port], subsets: Vec::new() };
        (format!("{name}.ns2.global"), offer)
    };
    View { offers: names.iter().map(offer).collect(), ..View::default() }
}

fn said(done: &Done) -> Vec<String> {
    done.remarks.iter().map(ToString::to_string).collect()
}

#[test]
fn five_thousand_names_of_twenty_clusters_keep_an_address_each() {
    const NAMES: usize = 5_000;
    let place = Place::new(20, false);
    let names: Vec<String> = (0..NAMES).map(|n| format!("s{n}")).collect();
    // Name n is served by clusters n, n + 1, n + 2 and n + 3 of 20.
    let views_without = |missing: Option<usize>| -> Vec<View> {
        let of = |cluster: usize| {
            let ours = (0..NAMES).filter(|n| (cluster + 20 - n % 20) % 20 < 4);
            let ours = ours.filter(|n| Some(*n) != missing);
            view(&ours.map(|n| &*names[n]).collect::<Vec<_>>())
        };
        (0..20).map(of).collect()
    };
    let all = views_without(None);
    let first = place.run(&all);
    let recorded = place.addresses();
    assert_eq!((first.objects.len(), first.named, first.recorded), (NAMES, NAMES, NAMES));
    let mut addresses: Vec<&str> = first
        .objects
        .values()
        .filter_map(|text| text.split("addresses:\n  - ").nth(1)?.lines().next())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), NAMES, "no address twice");
    assert!(first.objects.values().all(|text| text.matches("address: ").count() == 4));

    let second = place.run(&all);
    assert_eq!(second.objects, first.objects);
    assert_eq!((second.named, second.recorded_anew), (0, false));
    assert_eq!(place.addresses(), recorded);

    let without = place.run(&views_without(Some(1234)));
    assert_eq!(without.objects.len(), NAMES - 1);
    assert_eq!(place.addresses(), recorded, "its record stays");
    let again = place.run(&all);
    assert_eq!(again.objects, first.objects);
    assert_eq!(place.addresses(), recorded);
}

#[test]
fn a_directory_is_brought_up_to_date_and_left_alone_when_it_is() {
    let place = Place::new(2, true);
    let done = place.run(&[view(&["bar", "foo"]), view(&["bar"])]);
    assert_eq!((done.written.len(), done.unchanged), (2, 0));
    assert_eq!(place.files(), ["bar.ns2.global.yaml", "foo.ns2.global.yaml"]);
    let path = place.dir.path().join("out/bar.ns2.global.yaml");
    let before = path.metadata().expect("there");

    let done = place.run(&[view(&["bar"]), view(&["bar", "new"])]);
    assert_eq!(done.written, ["new.ns2.global"]);
    assert_eq!((done.removed, done.unchanged), (vec!["foo.ns2.global".to_owned()], 1));
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(path.metadata().expect("there").ino(), before.ino(), "not even touched");
    assert!(place.addresses().contains(" foo.ns2.global\n"), "its record stays");

    let views = [view(&["bar"]), view(&["bar", "new", "newer"])];
    let done = place.try_run(&views, &Taken::default(), false).expect("a look");
    assert_eq!((done.written, done.named), (vec!["newer.ns2.global".to_owned()], 1));
    assert!(!place.addresses().contains("newer") && place.files().len() == 2, "nothing written");
}

#[test]
fn the_last_files_are_removed_only_when_that_is_allowed() {
    let mut place = Place::new(2, true);
    place.run(&[view(&["bar", "foo"]), view(&["bar"])]);
    let none = [view(&[]), view(&[])];
    for write in [false, true] {
        let run = place.try_run(&none, &Taken::default(), write);
        let error = run.expect_err("all would go").to_string();
        assert!(error.contains("all 2 files of ours in it would be removed"), "{error}");
        assert!(error.contains("bar.ns2.global first") && error.contains("--allow-empty"));
        assert_eq!(place.files().len(), 2);
    }
    place.export.allow_empty = true;
    assert_eq!(place.run(&none).removed, ["bar.ns2.global", "foo.ns2.global"]);
    assert_eq!(place.files(), [""; 0]);
    // Nothing is left to lose.
    place.export.allow_empty = false;
    assert!(place.run(&none).is_nothing());
}

#[test]
fn a_file_that_somebody_changed_is_theirs_until_they_remove_it() {
    let place = Place::new(1, true);
    let views = [view(&["bar"])];
    place.run(&views);
    let path = place.dir.path().join("out/bar.ns2.global.yaml");
    let ours = fs::read_to_string(&path).expect("written");
    // Our label, other contents: written anew.
    fs::write(&path, ours.replace("STATIC", "DNS")).expect("written");
    assert_eq!(place.run(&views).written, ["bar.ns2.global"]);
    // No label of ours: theirs, the host too.
    let theirs = ours.replace(OWNER, "me");
    fs::write(&path, &theirs).expect("written");
    let done = place.run(&views);
    assert!(done.is_nothing());
    assert!(said(&done)[0].contains("ServiceEntry ns1/bar.ns2.global ("), "{:?}", said(&done));
    // Nothing that can be read: left alone, and the run fails.
    fs::write(&path, "{ broken").expect("written");
    let done = place.run(&views);
    assert!(done.is_nothing());
    assert!(done.remarks.iter().any(|r| r.severity == Severity::Error), "{:?}", said(&done));
    assert_eq!(fs::read_to_string(&path).expect("there"), "{ broken");
    fs::remove_file(&path).expect("removed");
    assert_eq!(place.run(&views).written, ["bar.ns2.global"]);
    assert_eq!(fs::read_to_string(&path).expect("written"), ours);
}

fn taken(yaml: &str) -> Taken {
    let file: std::sync::Arc<Path> = Path::new("c0.yaml").into();
    let mut store = Store::new();
    store.apply(vec![News::File(file.clone(), Some(parse(&file, yaml.as_bytes())))]);
    Taken::of_store(&store, None)
}

#[test]
fn what_others_own_in_the_importing_cluster_is_left_alone() {
    let place = Place::new(1, false);
    let taken = taken(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mine, namespace: x}
spec: {hosts: [bar.ns2.global], addresses: [127.255.0.2], resolution: STATIC}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: mine, namespace: x}
spec: {host: foo.ns2.global}
",
    );
    let done = place.try_run(&[view(&["bar", "foo"])], &taken, true).expect("a run");
    assert_eq!(done.objects.keys().collect::<Vec<_>>(), ["foo.ns2.global"]);
    let foo = &done.objects["foo.ns2.global"];
    assert!(foo.contains("- 127.255.0.3\n"), "the address of theirs is not given: {foo}");
    assert!(!foo.contains("DestinationRule"), "{foo}");
    assert_eq!(
        said(&done),
        [
            "note: bar.ns2.global: ServiceEntry x/mine (c0.yaml:2) has this host: it is left alone",
            "note: foo.ns2.global: DestinationRule x/mine (c0.yaml:7) is its rule: none is written \
             beside it",
        ]
    );
    assert!(!place.addresses().contains("bar"), "no address for what is not exported");
}

#[test]
fn a_name_whose_address_somebody_else_took_is_not_written() {
    let place = Place::new(2, true);
    place.run(&[view(&["bar"]), view(&[])]);
    let path = place.dir.path().join("out/bar.ns2.global.yaml");
    let before = fs::read_to_string(&path).expect("written");
    let taken = taken(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: late, namespace: x}
spec: {hosts: [late.example], addresses: [127.255.0.2], resolution: STATIC}
",
    );
    let views = [view(&["bar", "foo"]), view(&["bar"])];
    let done = place.try_run(&views, &taken, true).expect("a run");
    assert_eq!((&*done.written, done.unchanged), (&["foo.ns2.global".to_owned()][..], 1));
    assert_eq!(fs::read_to_string(&path).expect("there"), before, "neither changed nor removed");
    let why = "error: bar.ns2.global: its address 127.255.0.2 is also that of ServiceEntry x/late \
               (c0.yaml:2): it is not written";
    assert!(said(&done)[0].starts_with(why), "{:?}", said(&done));
    fs::remove_file(&path).expect("removed");
    assert!(place.try_run(&views, &taken, true).expect("a run").is_nothing());
    assert!(place.addresses().contains("127.255.0.2 bar.ns2.global"), "its record stays");
    assert!(place.run(&views).written.contains(&"bar.ns2.global".to_owned()), "theirs is gone");
}

#[test]
fn what_a_broken_cluster_seems_to_lack_stays() {
    let place = Place::new(2, true);
    place.run(&[view(&["bar", "foo"]), view(&["bar", "baz"])]);
    let broken = View { broken: true, ..view(&["new"]) };
    let done = place.run(&[broken.clone(), view(&["bar"])]);
    // foo is of the broken cluster alone, bar of both; baz is of the other.
    assert_eq!(done.written, ["new.ns2.global"]);
    assert_eq!(done.removed, ["baz.ns2.global"]);
    let kept: Vec<_> = said(&done).into_iter().filter(|s| s.contains("stays as it is")).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let done = place.run(&[view(&["new"]), view(&["bar"])]);
    assert_eq!(
        (done.written, done.removed),
        (vec!["bar.ns2.global".to_owned()], vec!["foo.ns2.global".to_owned()])
    );
}

#[test]
fn a_forgotten_name_frees_its_address() {
    let mut place = Place::new(1, false);
    place.run(&[view(&["a", "b"])]);
    place.export.forget = vec!["a.ns2.global".to_owned(), "never.ns2.global".to_owned()];
    let done = place.run(&[view(&["b"])]);
    assert_eq!(
        said(&done),
        [
            "error: --forget never.ns2.global: it has no address",
            "note: a.ns2.global: 127.255.0.2 is freed"
        ]
    );
    assert!(!place.addresses().contains("a.ns2.global"));
    assert!(place.addresses().contains("127.255.0.3 b.ns2.global"));
    // Whoever calls it still has the old one.
    place.export.forget = vec!["b.ns2.global".to_owned()];
    for (write, told) in [
        (false, "would be freed; it is still exported and would have 127.255.0.2 now"),
        (true, "is freed; it is still exported and has 127.255.0.2 now"),
    ] {
        let done = place.try_run(&[view(&["b"])], &Taken::default(), write).expect("a run");
        assert_eq!(said(&done), [format!("warning: b.ns2.global: 127.255.0.3 {told}")]);
    }
}

#[test]
fn another_range_is_for_new_names_and_the_others_are_told_of() {
    let mut place = Place::new(1, false);
    place.run(&[view(&["a", "b"])]);
    place.export.range = "240.240.0.0/16".parse().expect("a range");
    let done = place.run(&[view(&["a", "b", "c"])]);
    let told = "warning: 2 recorded addresses are outside of range 240.240.0.0/16, such as \
                127.255.0.2 of a.ns2.global: they stay; the range is for new names only";
    assert_eq!(said(&done), [told]);
    assert!(place.addresses().contains("240.240.0.2 c.ns2.global"));
}

#[test]
fn a_file_of_addresses_that_was_lost_is_not_begun_anew() {
    let place = Place::new(1, true);
    place.run(&[view(&["a", "b"])]);
    fs::remove_file(place.dir.path().join("addresses")).expect("removed");
    let run = place.try_run(&[view(&["b"])], &Taken::default(), true);
    let error = run.expect_err("b would get the address of a").to_string();
    assert!(error.contains("out holds 2 files of ours with addresses"), "{error}");
    assert_eq!(place.files().len(), 2);
    fs::remove_dir_all(place.dir.path().join("out")).expect("removed");
    assert_eq!(place.run(&[view(&["b"])]).written, ["b.ns2.global"]);
}

#[test]
fn of_an_exhausted_range_whoever_has_an_address_is_written() {
    let mut place = Place::new(1, true);
    place.export.range = "10.0.0.0/29".parse().expect("a range");
    place.run(&[view(&["g"])]);
    let done = place.run(&[view(&["a", "b", "c", "d", "e", "f", "g"])]);
    assert_eq!((done.named, done.unchanged, place.files().len()), (5, 1, 6));
    let [remark] = &said(&done)[..] else { panic!("{:?}", done.remarks) };
    let why = "error: f.ns2.global: has no address and is not written: of the 6 addresses of range \
               10.0.0.0/29 none is left";
    assert!(remark.starts_with(why), "{remark}");
    assert!(place.addresses().contains("10.0.0.7 e.ns2.global\n"));
    assert!(!place.addresses().contains(" f.ns2.global"));
}
