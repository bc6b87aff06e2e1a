//! G22: a worker that hangs keeps nobody waiting but those whom it had already.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context as _;

use super::{
    Peer, Stage,
    front::{Front, Terms},
    goal::{Cell, Goal, How},
    load,
};
use crate::bench::{Plan, Scenario};

pub(super) const GOAL: Goal = Goal {
    name: "G22",
    done: "one of two workers is frozen for 5 s beside 200 new connections/s",
    reach: "0 fail, 99 % within 1 s",
    how: How::Measured { measure, rivals: false },
};

const FROZEN: Duration = Duration::from_secs(5);
/// Where a single thread can be frozen: cgroups version 1.
const FREEZER: &str = "/sys/fs/cgroup/freezer";

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let group = PathBuf::from(format!("{FREEZER}/diolkos-{}", std::process::id()));
    if !Path::new(FREEZER).join("tasks").exists() || fs::create_dir(&group).is_err() {
        return Ok(Cell::not("freezing a thread needs root and the freezer of cgroups version 1"));
    }
    let group = Group(group);
    let pods = stage.local_pods()?;
    let front =
        stage.front(peer, &pods.addresses, &Terms { more_workers: 1, ..Terms::default() })?;
    let worker = worker(&front).context("no thread is called a worker")?;
    fs::write(group.0.join("tasks"), worker)?;
    let plan = load::plan(&front, Scenario::Connect)?;
    let plan = Plan { rate: Some(200.0), duration: Some(FROZEN), ..plan };
    let (report, ()) = load::beside(&plan, || {
        group.say("FROZEN")?;
        thread::sleep(FROZEN);
        Ok(group.say("THAWED")?)
    })?;
    let (failed, p99) = (report.totals.failures(), load::p99_ms(&report));
    let figure = format!("{failed} of {} fail, p99 {p99:.0} ms", report.totals.operations + failed);
    Ok(Cell::measured(failed == 0 && p99 <= 1_000.0, figure))
}

/// The id of a thread that serves connections.
fn worker(front: &Front) -> Option<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", front.child.pid())).ok()?;
    let mut threads = threads.flatten().map(|thread| thread.path());
    let worker = threads.find(|thread| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.starts_with("worker"))
    })?;
    Some(worker.file_name()?.to_str()?.to_owned())
}

/// A group of threads that are frozen together.
struct Group(PathBuf);

impl Group {
    fn say(&self, state: &str) -> std::io::Result<()> {
        fs::write(self.0.join("freezer.state"), state)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its thread has ended with its process, or goes back to where it came from.
        let _ = self.say("THAWED");
        let tasks = fs::read_to_string(self.0.join("tasks")).unwrap_or_default();
        for task in tasks.lines() {
            let _ = fs::write(Path::new(FREEZER).join("tasks"), task);
        }
        let _ = fs::remove_dir(&self.0);
    }
}
