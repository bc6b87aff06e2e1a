//! The control plane's parsers on what the fuzz targets found worth keeping.
//!
//! Must not know: what must hold, which is in `fuzz/src/control.rs`. The corpora of the data plane
//! are in `tests/hellos.rs` and `tests/orders.rs`.

use std::{fs, panic, path::PathBuf};

#[path = "../fuzz/src/control.rs"]
#[allow(unreachable_pub)] // the fuzz crate needs it
mod control;

fn check(target: &str, at_least: usize, holds: fn(&[u8])) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&directory).expect("a corpus");
    let files: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
    assert!(files.len() >= at_least, "{} files in {}", files.len(), directory.display());
    for file in files {
        let bytes = fs::read(&file).expect("a readable file");
        if panic::catch_unwind(|| holds(&bytes)).is_err() {
            panic!("{}", file.display());
        }
    }
}

#[test]
fn manifests_of_any_bytes_are_read_in_bounds() {
    check("manifests", 10, control::manifests);
}

#[test]
fn settings_of_any_bytes_are_taken_or_refused_by_name() {
    check("settings", 10, control::settings);
}

#[test]
fn packets_of_any_bytes_are_answered_in_bounds() {
    check("dns", 10, control::dns);
}
