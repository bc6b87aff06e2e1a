//! Real directories, real events: what reaches the store, and that nothing reaches it by half.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
    time::Duration,
};

use tempfile::TempDir;

use super::*;
use crate::manifests::Store;

/// A directory, what watches it, and the store it feeds.
struct World {
    directory: TempDir,
    directories: Directories,
    store: Store,
}

impl World {
    /// Watches `root` below a new directory that `prepare` has filled.
    fn new(root: &str, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        prepare(directory.path());
        let roots = [directory.path().join(root)];
        let mut directories = Directories::open(&roots).expect("opened");
        let mut store = Store::new();
        store.apply(directories.load());
        Self { directory, directories, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `name:port` of every Service in force.
    fn services(&self) -> Vec<String> {
        let services = self.store.objects().services.iter();
        services.map(|s| format!("{}:{}", s.meta.name, s.spec.ports[0].port)).collect()
    }

    fn problems(&self) -> Vec<String> {
        self.store.problems().iter().map(ToString::to_string).collect()
    }

    /// Applies changes until these services are in force.
    async fn until(&mut self, expected: &[&str]) {
        while self.services() != expected {
            self.next_change(&format!("{expected:?}")).await;
        }
    }

    async fn until_problem(&mut self) {
        while self.store.problems().is_empty() {
            self.next_change("a problem").await;
        }
    }

    /// Applies the next change. Fails when none comes: a change takes some 10 ms, and the rest is
    /// for a busy machine.
    async fn next_change(&mut self, expected: &str) {
        let waited = tokio::time::timeout(Duration::from_secs(5), self.directories.changed());
        match waited.await {
            Ok(update) => self.store.apply(update),
            Err(_) => panic!("expected {expected}, found {:?}", self.services()),
        };
    }
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: \
         {port}}}]}}\n"
    )
}

fn write(path: impl AsRef<Path>, text: &str) {
    fs::write(path, text).expect("written");
}

fn mkdir(path: impl AsRef<Path>) {
    fs::create_dir_all(path).expect("created");
}

#[test]
fn manifests_below_a_directory_are_read_once() {
    let world = World::new("", |at| {
        mkdir(at.join("sub/..2024_05_06"));
        mkdir(at.join(".git"));
        write(at.join("a.yaml"), &service("a", 1));
        write(at.join("b.yml"), &service("b", 1));
        write(at.join("c.json"), &service("c", 1));
        write(at.join("no.txt"), &service("no", 1));
        write(at.join(".no.yaml"), &service("no", 1));
        write(at.join(".git/no.yaml"), &service("no", 1));
        write(at.join("sub/..2024_05_06/d.yaml"), &service("d", 1));
        symlink("..2024_05_06", at.join("sub/..data")).expect("linked");
        symlink("..data/d.yaml", at.join("sub/d.yaml")).expect("linked");
        symlink("nowhere", at.join("dangling.yaml")).expect("linked");
        symlink("..", at.join("sub/up")).expect("linked");
    });
    assert_eq!(world.services(), ["a:1", "b:1", "c:1", "d:1"]);
    assert_eq!(world.problems(), Vec::<String>::new());
}

#[test]
fn many_files_are_read_on_two_threads() {
    let world = World::new("", |at| {
        for index in 0..100 {
            write(at.join(format!("{index}.yaml")), &service(&format!("s{index}"), 1));
        }
    });
    assert_eq!(world.services().len(), 100);
}

#[test]
fn a_path_that_does_not_exist_is_an_error() {
    let error = Directories::open(&["/nonexistent/manifests"]).expect_err("no such path");
    assert_eq!(
        error.to_string(),
        "cannot open manifests at /nonexistent/manifests: name a directory or a file that exists"
    );
}

#[test]
fn what_is_no_regular_file_is_told_and_not_waited_for() {
    let world = World::new("", |at| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at.join("a.yaml"), kind, mode, 0).expect("a pipe");
        write(at.join("b.yaml"), &service("b", 1));
    });
    assert_eq!(world.services(), ["b:1"]);
    assert!(world.problems()[0].contains("a.yaml: error: cannot be read: is not a regular file"));
}

#[tokio::test]
async fn files_that_are_written_renamed_and_removed_are_seen() {
    let mut world = World::new("", |at| write(at.join("a.yaml"), &service("a", 1)));
    write(world.path("a.yaml"), &service("a", 2));
    world.until(&["a:2"]).await;
    write(world.path(".new"), &service("b", 1));
    fs::rename(world.path(".new"), world.path("b.yaml")).expect("renamed");
    world.until(&["a:2", "b:1"]).await;
    fs::rename(world.path("b.yaml"), world.path("c.yaml")).expect("renamed");
    write(world.path("d.yaml"), &service("d", 1));
    world.until(&["a:2", "b:1", "d:1"]).await;
    assert!(world.store.problems().is_empty());
    fs::remove_file(world.path("c.yaml")).expect("removed");
    fs::remove_file(world.path("a.yaml")).expect("removed");
    world.until(&["d:1"]).await;
    symlink("d.yaml", world.path("e.yaml")).expect("linked");
    world.until_problem().await;
    assert!(world.problems()[0].contains("e.yaml:1: warning: Service default/d: is also in"));
}

#[tokio::test]
async fn only_the_file_that_changed_is_read() {
    let mut world = World::new("", |at| {
        write(at.join("a.yaml"), &service("a", 1));
        write(at.join("b.yaml"), &service("b", 1));
    });
    write(world.path("b.yaml"), &service("b", 2));
    let update = world.directories.changed().await;
    let files: Vec<_> = update
        .iter()
        .map(|news| match news {
            News::File(file, _) => file.to_path_buf(),
            other => panic!("no news of a file: {other:?}"),
        })
        .collect();
    assert_eq!(files, [world.path("b.yaml")]);
}

#[tokio::test]
async fn half_a_file_is_never_read() {
    let mut world = World::new("", |at| {
        write(at.join("a.yaml"), &(service("a", 1) + "---\n" + &service("b", 1)));
    });
    let mut half = File::create(world.path("a.yaml")).expect("created");
    half.write_all(service("a", 2).as_bytes()).expect("written");
    write(world.path("c.yaml"), &service("c", 1));
    world.until(&["a:1", "b:1", "c:1"]).await;
    half.write_all(format!("---\n{}", service("b", 2)).as_bytes()).expect("written");
    drop(half);
    world.until(&["a:2", "b:2", "c:1"]).await;
}

#[tokio::test]
async fn a_config_map_swap_is_seen() {
    let publish = |at: &Path, version: &str, port| {
        mkdir(at.join(version));
        write(at.join(version).join("a.yaml"), &service("a", port));
        symlink(version, at.join("..data_tmp")).expect("linked");
        fs::rename(at.join("..data_tmp"), at.join("..data")).expect("renamed");
    };
    let mut world = World::new("", |at| {
        publish(at, "..1", 1);
        symlink("..data/a.yaml", at.join("a.yaml")).expect("linked");
    });
    for port in 2..5_u16 {
        publish(world.directory.path(), &format!("..{port}"), port);
        fs::remove_dir_all(world.path(&format!("..{}", port - 1))).expect("removed");
        world.until(&[&format!("a:{port}")]).await;
    }
    assert!(world.store.problems().is_empty());
}

#[tokio::test]
async fn directories_that_come_and_go_are_seen() {
    let mut world = World::new("", |at| mkdir(at.join("gone")));
    for round in 1..20_u16 {
        mkdir(world.path("new/deep"));
        write(world.path("new/deep/a.yaml"), &service("a", round));
        world.until(&[&format!("a:{round}")]).await;
        write(world.path("new/deep/a.yaml"), &service("a", round + 100));
        world.until(&[&format!("a:{}", round + 100)]).await;
        fs::remove_dir_all(world.path("new")).expect("removed");
        world.until(&[]).await;
    }
    write(world.path("gone/b.yaml"), &service("b", 1));
    fs::rename(world.path("gone"), world.path("here")).expect("renamed");
    world.until(&["b:1"]).await;
    write(world.path("here/b.yaml"), &service("b", 2));
    world.until(&["b:2"]).await;
}

#[tokio::test]
async fn a_root_may_be_a_file_of_any_name() {
    let mut world = World::new("my-manifests", |at| {
        write(at.join("my-manifests"), &service("a", 1));
        write(at.join("other.yaml"), &service("no", 1));
    });
    assert_eq!(world.services(), ["a:1"]);
    write(world.path("my-manifests"), &service("a", 2));
    world.until(&["a:2"]).await;
    write(world.path(".new"), &service("a", 3));
    fs::rename(world.path(".new"), world.path("my-manifests")).expect("renamed");
    world.until(&["a:3"]).await;
}

#[tokio::test]
async fn a_root_behind_a_link_may_be_swapped() {
    let mut world = World::new("current/manifests", |at| {
        for (version, port) in [("v1", 1), ("v2", 2)] {
            mkdir(at.join(version).join("manifests"));
            write(at.join(version).join("manifests/a.yaml"), &service("a", port));
        }
        symlink("v1", at.join("current")).expect("linked");
    });
    symlink("v2", world.path("tmp")).expect("linked");
    fs::rename(world.path("tmp"), world.path("current")).expect("renamed");
    world.until(&["a:2"]).await;
    write(world.path("v2/manifests/a.yaml"), &service("a", 3));
    world.until(&["a:3"]).await;
    assert!(world.store.problems().is_empty());
}

#[tokio::test]
async fn a_root_that_is_gone_is_a_problem_and_empties_nothing() {
    let mut world = World::new("root", |at| {
        mkdir(at.join("root"));
        write(at.join("root/a.yaml"), &service("a", 1));
    });
    fs::rename(world.path("root"), world.path("away")).expect("renamed");
    world.until_problem().await;
    assert_eq!(world.services(), ["a:1"]);
    assert!(world.problems()[0].contains("root: error: cannot be read: No such file"));
    mkdir(world.path("root"));
    write(world.path("root/a.yaml"), &service("a", 2));
    world.until(&["a:2"]).await;
    assert!(world.store.problems().is_empty());
    fs::remove_file(world.path("root/a.yaml")).expect("removed");
    world.until(&[]).await;
}

#[tokio::test]
async fn lost_events_and_rescans_find_what_changed() {
    let mut world = World::new("", |at| {
        write(at.join("a.yaml"), &service("a", 1));
        mkdir(at.join("sub"));
        symlink("..", at.join("sub/up")).expect("linked");
    });
    let outside = tempfile::tempdir().expect("a directory");
    write(outside.path().join("b.yaml"), &service("b", 1));
    symlink(outside.path().join("b.yaml"), world.path("sub/b.yaml")).expect("linked");
    world.until(&["a:1", "b:1"]).await;
    write(outside.path().join("b.yaml"), &service("b", 22));
    let update = world.directories.rescan();
    assert_eq!(update.len(), 1);
    world.store.apply(update);
    assert_eq!(world.services(), ["a:1", "b:22"]);
    assert!(world.directories.rescan().is_empty());
    write(outside.path().join("b.yaml"), &service("b", 333));
    let lost = notify::Event::new(notify::EventKind::Other).set_flag(notify::event::Flag::Rescan);
    world.directories.pending.note(Ok(lost));
    world.until(&["a:1", "b:333"]).await;
}
