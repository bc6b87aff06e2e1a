//! The image: what its Dockerfile copies is all that cargo asks for. Must not know: what Docker does
//! with it; nothing is built here.

use std::{fs, path::Path, process::Command};

use super::{root, text};

/// It is built from what `.dockerignore` lets through: what the Dockerfile copies, and what the
/// sources include.
#[test]
fn the_image_is_built_from_what_is_there() {
    let (dockerfile, ignore) = (text("Dockerfile"), text(".dockerignore"));
    let copies = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    let sources: Vec<&str> = copies
        .filter(|line| !line.starts_with("--from"))
        .flat_map(|line| {
            line.split(' ').collect::<Vec<_>>().split_last().expect("words").1.to_vec()
        })
        .collect();
    let place = tempfile::tempdir().expect("a directory");
    for source in &sources {
        assert!(ignore.lines().any(|line| line == format!("!{source}")), "{source} is ignored");
        copy(&root().join(source), &place.path().join(source));
    }
    for included in ["config/diolkos.yaml", "config/demo", "config/two-clusters", "src"] {
        assert!(sources.contains(&included), "{included} is not copied");
    }
    assert!(dockerfile.contains("cargo build --locked --profile dist --bin diolkos"));

    // All that comes before compiling, with every target of the manifest looked for. `unit-graph`
    // is no part of a stable cargo, hence the variable.
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args("build --locked --offline --profile dist --bin diolkos".split(' '));
    cargo.args(["--unit-graph", "-Z", "unstable-options"]).env("RUSTC_BOOTSTRAP", "1");
    let said = cargo.current_dir(place.path()).output().expect("cargo");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a directory");
        for entry in fs::read_dir(from).expect("a directory") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}
