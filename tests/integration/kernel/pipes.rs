//! A user who has used up what the kernel gives of pipes: those that come later hold 8 KiB.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use serde_json::json;

use super::{exchange, mesh, served, under};
use crate::support::{Pod, cage, tools};

/// The kernel's budget for a user is 1,024 pipes of 64 KiB.
const MANY: &str = "
    for (1..1100) { pipe(my $r, my $w) or die; push @held, $r, $w }
    $| = 1; print \"held\\n\"; <STDIN>;
";

#[test]
fn pipes_of_eight_kib_carry_every_byte() {
    let everything = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []});
    let (Some(perl), Some(setpriv)) = (tools::find("perl"), tools::find("setpriv")) else { return };
    let pod = Pod::new();
    let (files, bar) = mesh(&[&pod]);
    let Some(process) = under(&everything, &files, &[]) else { return };
    let user = cage::USER.to_string();
    let mut hoard = Command::new(setpriv);
    hoard.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(perl).args(["-e", MANY]);
    let mut hoard = hoard.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = String::new();
    let out = hoard.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut said).expect("a line");
    assert_eq!(said, "held\n");

    let (client, server) = served(&process, &pod, &bar);
    exchange(client, server);
    let sizes = pipes_of(&process);
    assert!(sizes.iter().any(|size| *size <= 8192), "small ones were used: {sizes:?}");
    assert_eq!(process.sample("diolkos_splice_fallbacks_total"), Some(0.0));
    assert_eq!(process.sample("diolkos_pipe_shortages_total"), Some(0.0));
    drop(hoard.stdin.take());
    hoard.wait().expect("it ends");
}

/// What each of its pipes holds. Opening one by its name in /proc opens the same pipe.
fn pipes_of(process: &crate::support::process::Process) -> Vec<usize> {
    let all = std::fs::read_dir(format!("/proc/{}/fd", process.id())).expect("descriptors");
    let is_pipe = |path: &std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"))
    };
    let paths = all.flatten().map(|fd| fd.path()).filter(is_pipe);
    let opened = paths.filter_map(|path| std::fs::File::open(path).ok());
    opened.filter_map(|pipe| rustix::pipe::fcntl_getpipe_size(pipe).ok()).collect()
}
