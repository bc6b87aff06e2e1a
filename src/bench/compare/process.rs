//! Processes under measurement: started on a core, read from /proc, ended by their id. Must not
//! know: what they do.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, Signal, kill_process_group},
    thread::CpuSet,
};
use serde::Serialize;

use crate::bench::stop::Stop;

/// Which core is for the gateway under measurement, and which are for the rest.
#[derive(Clone, Debug, Serialize)]
pub(in crate::bench) struct Cores {
    /// `None` when there is only one: then nothing is pinned.
    pub(in crate::bench) gateway: Option<usize>,
    pub(in crate::bench) load: Vec<usize>,
}

impl Cores {
    /// The last core that we may use is the gateway's.
    pub(in crate::bench) fn choose() -> Self {
        let set = rustix::thread::sched_getaffinity(None).unwrap_or_default();
        let mut load: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
        let gateway = if load.len() > 1 { load.pop() } else { None };
        Self { gateway, load }
    }

    /// Puts this thread, and those it starts from now on, on the cores of the load.
    pub(in crate::bench) fn take_load(&self) -> io::Result<()> {
        pin(&self.load)
    }
}

fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// A process that ends with its handle.
#[derive(Debug)]
pub(in crate::bench) struct Child {
    child: process::Child,
    log: PathBuf,
}

/// What is running, for the moment when we are told to end.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
/// What else is to be gone then, by its name, and how.
static MADE: Mutex<BTreeMap<String, Remove>> = Mutex::new(BTreeMap::new());

/// Takes away what has this name.
type Remove = fn(&str);

/// Something that a process does not take with it when it ends.
#[derive(Debug)]
pub(in crate::bench) struct Made(String);

impl Made {
    /// Takes it away with `how` when the handle is dropped, or when we are told to end.
    pub(in crate::bench) fn new(name: impl Into<String>, how: Remove) -> Self {
        let name = name.into();
        MADE.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), how);
        Self(name)
    }
}

/// A temporary directory that is gone with its handle.
pub(in crate::bench) fn temporary() -> anyhow::Result<(PathBuf, Made)> {
    let place = tempfile::tempdir().context("cannot make a temporary directory")?.keep();
    let made = Made::new(place.to_string_lossy(), |place| {
        // What is still written meanwhile makes a directory not empty again.
        let _ = (0..10).any(|_| fs::remove_dir_all(place).is_ok());
    });
    Ok((place, made))
}

impl Drop for Made {
    fn drop(&mut self) {
        let how = MADE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        how.into_iter().for_each(|how| how(&self.0));
    }
}

impl Child {
    /// Starts it, on the gateway's core when `cores` are given; what it says on standard error
    /// goes to `log`.
    pub(in crate::bench) fn start(
        mut command: Command,
        log: &Path,
        cores: Option<&Cores>,
    ) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(log)?);
        // Whatever it starts itself ends with it.
        command.process_group(0);
        // A child inherits the cores of the thread that starts it.
        let core = cores.and_then(|cores| Some((cores, cores.gateway?)));
        if let Some((_, core)) = core {
            pin(&[core])?;
        }
        // Held meanwhile: told to end, we end this one too, or it is not started any more.
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn().with_context(|| format!("cannot start {name}"));
        running.extend(child.as_ref().ok().map(Pid::from_child));
        drop(running);
        if let Some((cores, _)) = core {
            cores.take_load()?;
        }
        Ok(Self { child: child?, log: log.to_owned() })
    }

    pub(in crate::bench) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Fails when it has ended.
    pub(in crate::bench) fn check(&mut self, name: &str) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{name} has ended by itself ({status}): {}", self.log_tail()),
            None => Ok(()),
        }
    }

    /// The last of what it said.
    pub(in crate::bench) fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// Reads its `listening ADDR` lines.
    pub(in crate::bench) fn listening(
        &mut self,
        count: usize,
        timeout: Duration,
    ) -> anyhow::Result<Vec<SocketAddr>> {
        let stdout = self.child.stdout.take().context("its output was taken before")?;
        let deadline = Instant::now() + timeout;
        let mut addresses = Vec::new();
        for line in BufReader::new(stdout).lines() {
            if let Some(address) = line?.strip_prefix("listening ") {
                addresses.push(address.parse()?);
            }
            if addresses.len() == count {
                return Ok(addresses);
            }
            if Instant::now() > deadline {
                break;
            }
        }
        bail!("{} of {count} addresses were said: {}", addresses.len(), self.log_tail())
    }

    /// What it has cost so far, all threads together, and those that it started.
    pub(in crate::bench) fn reading(&self) -> io::Result<Reading> {
        let pid = self.pid().to_string();
        let mut reading = Reading::of(&Path::new("/proc").join(&pid))?;
        for process in fs::read_dir("/proc")? {
            let process = process?.path();
            let stat = Stat::of(&process);
            if process.ends_with(&pid) {
                reading.cpu_ns += stat.ended_cpu_ns;
            } else if stat.parent == pid {
                // It may have ended since.
                reading.add(&Reading::of(&process).unwrap_or_default());
            }
        }
        Ok(reading)
    }
}

/// What `stat` of a process says.
#[derive(Default)]
struct Stat {
    parent: String,
    /// CPU time of those that it started and that have ended.
    ended_cpu_ns: u64,
}

impl Stat {
    fn of(process: &Path) -> Self {
        let text = fs::read_to_string(process.join("stat")).unwrap_or_default();
        // Behind the name, which may hold anything: state, parent, ... proc(5).
        let fields: Vec<&str> =
            text.rsplit(") ").next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields.iter().skip(13).take(2).map(|f| number(Some(*f))).sum();
        let parent = fields.get(1).copied().unwrap_or_default().to_owned();
        Self { parent, ended_cpu_ns: ticks * 1_000_000_000 / clock_ticks_per_second() }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let pid = self.pid();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|p| *p != pid);
        // It may have ended by itself.
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process's counters at one moment, or the difference of two.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reading {
    /// Nanoseconds on a CPU, user and system together, as the scheduler counts them.
    pub cpu_ns: u64,
    /// Context switches.
    pub switches: u64,
    /// Resident bytes; in a difference, those at its end.
    pub resident: u64,
}

impl Reading {
    fn of(process: &Path) -> io::Result<Self> {
        let mut reading = Self { resident: resident(process)?, ..Self::default() };
        for task in fs::read_dir(process.join("task"))? {
            let task = task?.path();
            let ran = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            reading.cpu_ns += number(ran.split_whitespace().next());
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            let switches = status.lines().filter(|line| line.contains("ctxt_switches:"));
            reading.switches += switches.map(|l| number(l.split_whitespace().last())).sum::<u64>();
        }
        Ok(reading)
    }

    fn add(&mut self, other: &Self) {
        self.cpu_ns += other.cpu_ns;
        self.switches += other.switches;
        self.resident += other.resident;
    }

    pub(in crate::bench) fn since(&self, before: &Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            switches: self.switches.saturating_sub(before.switches),
            resident: self.resident,
        }
    }
}

/// Exact to the page, unlike the counters of `status`.
fn resident(dir: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(dir.join("smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Rss:"));
    Ok(number(line.and_then(|line| line.split_whitespace().nth(1))) * 1024)
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// On SIGINT, SIGTERM and SIGHUP: ends what was started, takes away what was made, says so, then
/// ends this process.
pub(in crate::bench) fn end_children_when_told() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stop = {
        let _inside = runtime.enter();
        Stop::listen()?
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let told = runtime.block_on(stop.told());
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        for pid in running.iter() {
            let _ = kill_process_group(*pid, Signal::KILL);
        }
        let made = std::mem::take(&mut *MADE.lock().unwrap_or_else(PoisonError::into_inner));
        made.iter().for_each(|(name, how)| how(name));
        let ended = running.len();
        // A terminal that was closed takes no words.
        let _ = writeln!(io::stderr(), "diolkos: {told}: {ended} programs that were started ended");
        process::exit(1);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_read_and_ends_with_its_handle() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo listening 127.0.0.1:1; while :; do :; done"]);
        let mut child = Child::start(command, &dir.path().join("log"), None).unwrap();
        let said = child.listening(1, Duration::from_secs(10)).unwrap();
        assert_eq!(said, ["127.0.0.1:1".parse().unwrap()]);
        let first = child.reading().unwrap();
        assert!(first.resident > 4096, "{first:?}");
        let deadline = Instant::now() + Duration::from_secs(10);
        while child.reading().unwrap().since(&first).cpu_ns == 0 {
            assert!(Instant::now() < deadline, "it burns CPU");
        }
        child.check("sh").unwrap();
        let pid = child.pid();
        drop(child);
        assert!(rustix::process::test_kill_process(pid).is_err(), "it has ended");
    }
}
