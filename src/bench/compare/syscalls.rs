//! Counts the system calls of a process while work is done. Must not know: the work.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::process::Child;

/// A tool that is not attached within this does not work here.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);

/// How many calls, and who counted; `None` when no tool is there. perf counts without slowing the
/// process; strace stops it at each call, which lets more work gather for each wait.
pub(super) fn count(
    child: &Child,
    dir: &Path,
    work: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<Option<(u64, &'static str)>> {
    let (out, pid) = (dir.join("syscalls"), child.pid().to_string());
    let mut perf = Command::new("perf");
    perf.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid, "-o"]).arg(&out);
    let attached = |tool: Pid| {
        let fds = fs::read_dir(format!("/proc/{tool}/fd")).into_iter().flatten().flatten();
        let links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        links.into_iter().any(|link| link.to_string_lossy().contains("perf_event"))
    };
    if let Some(text) = watched(perf, &out, attached, &work)? {
        let line = text.lines().find(|line| line.contains("raw_syscalls"));
        let calls = line.and_then(|line| line.split(',').next()?.parse().ok());
        if let Some(calls) = calls {
            return Ok(Some((calls, "perf")));
        }
    }
    let mut strace = Command::new("strace");
    strace.args(["-c", "-f", "-p", &pid, "-o"]).arg(&out);
    let tracer = |tool: Pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("TracerPid:\t{tool}"))
    };
    Ok(watched(strace, &out, tracer, &work)?.and_then(|text| {
        // The last line: 100.00 seconds usecs/call calls [errors] total
        let line = text.lines().rfind(|line| line.trim_end().ends_with("total"))?;
        Some((line.split_whitespace().nth(3)?.parse().ok()?, "strace"))
    }))
}

/// Runs `work` while the tool looks on; what the tool wrote, `None` when it cannot.
fn watched(
    mut command: Command,
    out: &Path,
    attached: impl Fn(Pid) -> bool,
    work: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<Option<String>> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut tool) = quiet.spawn() else { return Ok(None) };
    let pid = Pid::from_child(&tool);
    let deadline = Instant::now() + ATTACH_TIMEOUT;
    while !attached(pid) {
        if tool.try_wait()?.is_some() || Instant::now() > deadline {
            let _ = tool.kill();
            tool.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // From opening its counters to letting them count, perf needs a moment and says nothing.
    std::thread::sleep(Duration::from_millis(100));
    let worked = work();
    kill_process(pid, Signal::INT).context("the tool has ended early")?;
    tool.wait()?;
    worked?;
    match fs::read_to_string(out) {
        Ok(text) => Ok(Some(text)),
        Err(e) => bail!("{}: {e}", out.display()),
    }
}
