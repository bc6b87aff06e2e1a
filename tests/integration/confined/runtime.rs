//! A container runtime that applies the profile itself: with the filter in force it still has a few
//! calls to make before it starts the program. Must not know: what the program needs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serde_json::{Value, json};

use super::profile;
use crate::support::{PATIENCE, cage, tools};

/// A bundle as the OCI runtime specification has it: the program on a root that cannot be written,
/// with this machine's libraries.
fn bundle(dir: &Path, seccomp: Option<Value>) {
    let program = env!("CARGO_BIN_EXE_diolkos");
    fs::create_dir_all(dir.join("rootfs")).expect("a directory");
    let bind = |from: &str, to: &str| {
        json!({ "destination": to, "type": "bind", "source": from,
                "options": ["rbind", "ro", "nosuid", "nodev"] })
    };
    let libraries = ["/usr", "/lib", "/lib64"].into_iter().filter(|dir| Path::new(dir).exists());
    let mut mounts = vec![json!({ "destination": "/proc", "type": "proc", "source": "proc" })];
    mounts.push(bind(program, "/diolkos"));
    mounts.extend(libraries.map(|dir| bind(dir, dir)));
    let namespaces = ["pid", "mount", "ipc", "uts"].map(|name| json!({ "type": name }));
    let config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": true },
        "process": {
            "cwd": "/", "args": ["/diolkos", "--version"], "noNewPrivileges": true,
            "user": { "uid": cage::USER, "gid": cage::USER },
        },
        "mounts": mounts,
        "linux": { "namespaces": namespaces, "seccomp": seccomp },
    });
    fs::write(dir.join("config.json"), config.to_string()).expect("a bundle");
}

#[test]
fn runc_starts_it_under_the_profile() {
    let Some(runc) = tools::find("runc") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("for all to enter");
    let run = |name: &str, seccomp| {
        let bundled = dir.path().join(name);
        bundle(&bundled, seccomp);
        let mut command = Command::new(&runc);
        command.arg("--root").arg(dir.path().join("state"));
        command.args(["run", "--bundle"]).arg(bundled);
        command.arg(format!("diolkos-{name}-{}", std::process::id()));
        tools::run(&mut command, b"", PATIENCE)
    };
    let free = run("free", None);
    if !free.good {
        return eprintln!("skipped: runc runs no container here: {}", free.stderr.trim());
    }
    let confined = run("confined", Some(profile()));
    assert!(confined.good, "{}", confined.stderr);
    assert_eq!(confined.stdout, free.stdout);
    assert!(confined.stdout.starts_with("diolkos "), "{}", confined.stdout);
}
