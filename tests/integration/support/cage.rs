//! A program confined as a pod is: another user, no capability, no new privileges, a root that
//! cannot be written, and only the system calls of a profile.
//!
//! Must not know: what runs there, which calls it needs.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{PATIENCE, tools};

/// Whoever runs in a cage.
pub const USER: u32 = 65532;

/// Mounts a root of its own, with the system's libraries and what `$READS` and `$WRITES` name,
/// and goes there as nobody in particular.
const ENTER: &str = r#"
set -e
mount -t tmpfs -o mode=755 cage "$ROOT"
for dir in /usr /lib /lib64 /bin /sbin /proc /dev; do
    if [ -L "$dir" ]; then cp -P "$dir" "$ROOT$dir"
    elif [ -d "$dir" ]; then mkdir "$ROOT$dir"; mount --rbind "$dir" "$ROOT$dir"; fi
done
mount -o remount,bind,ro "$ROOT/usr"
for dir in $READS $WRITES; do mkdir -p "$ROOT$dir"; mount --bind "$dir" "$ROOT$dir"; done
for dir in $READS; do mount -o remount,bind,ro "$ROOT$dir"; done
mount -o remount,ro "$ROOT"
cd /
exec chroot "$ROOT" setpriv --reuid="$USER" --regid="$USER" --clear-groups --inh-caps=-all \
    --bounding-set=-all --no-new-privs "$LOADER" "$@"
"#;

/// A profile, ready to be put on programs.
pub struct Cage {
    dir: TempDir,
}

impl Cage {
    /// With a profile as container runtimes take it. `None`, said aloud, where we are not root or
    /// have no C compiler; in CI that fails.
    pub fn new(profile: &Value) -> Option<Self> {
        for tool in ["cc", "unshare", "setpriv", "chroot", "mount"] {
            tools::find(tool)?;
        }
        if !rustix::process::geteuid().is_root() {
            let reason = "only root can make a cage";
            assert!(std::env::var_os("CI").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("root")).expect("a directory");
        fs::write(dir.path().join("rules.h"), rules(profile)).expect("written");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/confine/confine.c");
        let mut compile = Command::new("cc");
        compile.arg("-I").arg(dir.path()).arg("-o").arg(dir.path().join("confine")).arg(source);
        let compiled = tools::run(&mut compile, b"", PATIENCE);
        assert!(compiled.good, "{compiled:?}");
        open(dir.path());
        Some(Self { dir })
    }

    /// The command in the cage, where it sees these directories: the first it can only read.
    pub fn command(&self, command: &Command, reads: &[&Path], writes: &[&Path]) -> Command {
        for dir in reads {
            open(dir);
        }
        for dir in writes {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).expect("ours");
        }
        let binary = PathBuf::from(command.get_program());
        let ours = [self.dir.path(), binary.parent().expect("a directory")];
        let list = |paths: &[&Path]| {
            paths.iter().map(|path| path.to_str().expect("a path")).collect::<Vec<_>>().join(" ")
        };
        let mut caged = Command::new("unshare");
        caged.args(["--mount", "sh", "-c", ENTER, "sh"]);
        caged.arg(command.get_program()).args(command.get_args());
        caged.env("ROOT", self.dir.path().join("root"));
        caged.env("LOADER", self.dir.path().join("confine")).env("USER", USER.to_string());
        caged.env("READS", list(&[&ours, reads].concat())).env("WRITES", list(writes));
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => caged.env(name, value),
                None => caged.env_remove(name),
            };
        }
        caged
    }
}

/// What the kernel says of a process, by the names of `/proc/PID/status`.
pub fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

/// Lets everybody read what is there.
fn open(dir: &Path) {
    // Fails for what is not ours, which is open already or was never meant to be.
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o755));
}

/// The profile as the lines of `rules.h`. Names that this machine does not have are left out, as
/// container runtimes leave them out.
fn rules(profile: &Value) -> String {
    let action = |of: &Value, errno: &str| match of["action"].as_str() {
        Some("SCMP_ACT_ALLOW") => "SECCOMP_RET_ALLOW".to_owned(),
        Some("SCMP_ACT_ERRNO") => {
            format!("(SECCOMP_RET_ERRNO | {})", of[errno].as_u64().expect("an errno"))
        }
        other => panic!("an action of {other:?}"),
    };
    let mut text = String::new();
    for rule in profile["syscalls"].as_array().expect("rules") {
        let then = action(rule, "errnoRet");
        for name in rule["names"].as_array().expect("names") {
            let call = format!("SYS_{}", name.as_str().expect("a name"));
            let line = match rule["args"].as_array().map(Vec::as_slice) {
                None => format!("RULE({call}, {then})"),
                Some([argument]) => {
                    let number = |key: &str| argument[key].as_u64().expect("a number");
                    let (mask, value) = match argument["op"].as_str() {
                        Some("SCMP_CMP_EQ") => (u64::from(u32::MAX), number("value")),
                        Some("SCMP_CMP_MASKED_EQ") => (number("value"), number("valueTwo")),
                        other => panic!("a comparison by {other:?}"),
                    };
                    let index = number("index");
                    format!("RULE_WHERE({call}, {index}, {mask:#x}, {value:#x}, {then})")
                }
                Some(more) => panic!("{} arguments", more.len()),
            };
            writeln!(text, "#ifdef {call}\n{line}\n#endif").expect("a text");
        }
    }
    let default = serde_json::json!({
        "action": profile["defaultAction"],
        "errnoRet": profile["defaultErrnoRet"],
    });
    writeln!(text, "RETURN({}),", action(&default, "errnoRet")).expect("a text");
    text
}
