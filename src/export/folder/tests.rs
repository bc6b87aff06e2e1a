//! Whose files stay and whose are replaced.

use std::os::unix::fs::symlink;

use super::*;

const OURS: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: bar.ns2.global
  namespace: ns1
  labels: {app.kubernetes.io/managed-by: diolkos-export}
spec:
  hosts: [bar.ns2.global]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1, labels: {cluster: c2}}]
";

struct Place {
    dir: tempfile::TempDir,
    folder: Folder,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("written");
        }
        let folder = Folder::new(dir.path());
        Self { dir, folder }
    }

    fn look(&self) -> Found {
        self.folder.look().expect("a directory that can be read")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).expect("a directory").flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_file_is_ours_when_it_says_so_and_has_our_name() {
    let theirs = OURS.replace("diolkos-export", "somebody");
    let two = format!("{OURS}---\n{theirs}").replace("name: bar", "name: foo");
    let place = Place::new(&[
        ("bar.ns2.global.yaml", OURS),
        ("other-name.yaml", OURS),
        ("bar.ns2.global.json", OURS),
        ("theirs.yaml", &theirs),
        ("two.yaml", &two),
        ("foo.ns2.global.yaml", "{"),
        ("baz.ns2.global.yaml", ""),
        ("readme.txt", "x"),
        (".hidden.yaml", OURS),
    ]);
    let found = place.look();
    assert_eq!(found.ours.keys().collect::<Vec<_>>(), ["bar.ns2.global"]);
    let ours = &found.ours["bar.ns2.global"];
    assert!(ours.is(OURS) && !ours.is("") && ours.clusters.len() == 1);
    assert!(ours.clusters.contains("c2"));
    let whose = found.taken.owner_of("bar.ns2.global", "ns1").expect("theirs.yaml or two.yaml");
    assert!(whose.starts_with("ServiceEntry ns1/"), "{whose}");
    for (host, free) in [
        ("bar.ns2.global", true),
        ("new.ns2.global", true),
        ("foo.ns2.global", false),
        ("baz.ns2.global", false),
    ] {
        assert_eq!(place.folder.other_at(host, &found).is_none(), free, "{host}");
    }
    let said: Vec<_> = found.remarks.iter().map(ToString::to_string).collect();
    let left = said.iter().filter(|said| said.contains("is left alone; remove it")).count();
    assert_eq!(left, 3, "other-name.yaml, bar.ns2.global.json, two.yaml: {said:#?}");
}

#[test]
fn links_pipes_and_directories_are_nobodys() {
    let place = Place::new(&[]);
    let at = |name: &str| place.dir.path().join(name);
    let elsewhere = tempfile::tempdir().expect("a directory");
    fs::write(elsewhere.path().join("x"), OURS).expect("written");
    symlink(elsewhere.path().join("x"), at("bar.ns2.global.yaml")).expect("a link");
    fs::create_dir(at("dir.ns2.global.yaml")).expect("made");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe.ns2.global.yaml"), fifo, mode, 0).expect("pipe");
    let found = place.look();
    assert!(found.ours.is_empty());
    for host in ["bar.ns2.global", "dir.ns2.global", "pipe.ns2.global"] {
        assert!(place.folder.other_at(host, &found).is_some(), "{host}");
    }
    assert_eq!(found.remarks.len(), 3, "{:?}", found.remarks);
}

#[test]
fn files_are_written_and_removed_and_nothing_else_is_left() {
    let place = Place::new(&[("bar.ns2.global.yaml", OURS), ("theirs.yaml", "x")]);
    // Of a run that was cut short.
    fs::write(place.dir.path().join(".diolkos-export.1.0"), "half").expect("written");
    let mut changes = Changes::default();
    for n in 0..100 {
        changes.write.insert(format!("a{n}.ns2.global"), OURS.to_owned());
    }
    changes.remove.extend(["bar.ns2.global".to_owned(), "never.ns2.global".to_owned()]);
    place.folder.apply(&changes).expect("applied");
    let names = place.names();
    assert_eq!(names.len(), 101, "{names:?}");
    assert!(names.contains(&"theirs.yaml".to_owned()) && names.iter().all(|n| !n.starts_with('.')));
    let text = fs::read_to_string(place.dir.path().join("a7.ns2.global.yaml"));
    assert_eq!(text.expect("written"), OURS);
}

#[test]
fn a_directory_that_is_none_is_an_error() {
    let place = Place::new(&[("file", "x")]);
    let folder = Folder::new(&place.dir.path().join("file"));
    let error = folder.look().expect_err("a file").to_string();
    assert!(error.ends_with("/file: reading"), "{error}");
    let absent = Folder::new(&place.dir.path().join("absent"));
    assert!(absent.look().expect("nothing").ours.is_empty());
    assert_eq!(place.names(), ["file"], "looking makes nothing");
}
