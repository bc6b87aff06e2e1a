//! Starts several gateways in turn, gives each the same work and reads what it cost.
//!
//! Every measurement has a fresh process on a core of its own; pods and load share the others.
//! The gateways take turns (A B C, A B C, …), so that what the machine does meanwhile meets them
//! all. Must not know: how a gateway works.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use super::{
    Plan, Report, Scenario, churn::Churn, material::Material, plan::parse_sources,
    progress::Progress, run,
};
use churn::Changer;

pub(in crate::bench) mod churn;
pub mod configs;
mod envoy;
mod hold;
pub(in crate::bench) mod manifests;
pub mod page;
pub mod peer;
mod plot;
pub(in crate::bench) mod process;
pub mod results;
mod syscalls;
pub mod table;
pub mod work;

pub use peer::Peer;
use process::{Child, Cores};
pub use results::{Results, Sample};
pub use work::Work;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// In this order.
    pub peers: Vec<Peer>,
    /// In this order.
    pub works: Vec<Work>,
    /// How many services a gateway knows: the first while it works; all of them for the memory
    /// that they take.
    pub routes: Vec<usize>,
    /// Rounds.
    pub repeat: usize,
    /// Little work, to see that everything runs.
    pub quick: bool,
    /// Count system calls too, in a round of their own.
    pub syscalls: bool,
    /// Operations begun each second in [`Work::Paced`].
    pub rate: f64,
    /// Changes of routes and endpoints each second in [`Work::Churn`].
    pub churn: f64,
    /// This program, which plays the pods, the floor and diolkos.
    pub program: PathBuf,
}

/// A gateway that is not there within this has not started.
pub(in crate::bench) const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Where the pods are.
const PODS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(127, 30, 0, 1), Ipv4Addr::new(127, 30, 0, 2), Ipv4Addr::new(127, 30, 0, 3)];
/// Where the gateways listen, and where the load comes from.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(127, 31, 0, 1);
const SOURCES: &str = "127.32.0.0/24";
/// More names than this are not asked for, however many there are.
const NAMES_MAX: usize = 1000;

/// Does all of it, and shows what there is so far after each round: a long comparison that is
/// ended early has not been in vain.
///
/// # Errors
/// When pods or a gateway cannot be started. What goes wrong in the work is counted.
pub fn compare(
    what: &Comparison,
    progress: &Progress,
    mut so_far: impl FnMut(&Results) -> anyhow::Result<()>,
) -> anyhow::Result<Results> {
    let (peers, missing) = peer::find(&what.peers);
    ensure!(!peers.is_empty(), "none of the gateways asked for is installed");
    ensure!(what.routes.iter().all(|n| *n > 0), "--routes: a gateway needs at least one route");
    process::end_children_when_told()?;
    let (place, _made) = process::temporary()?;
    let bench = Bench {
        what,
        cores: Cores::choose(),
        pods: Pods::start(what, &place, false)?,
        mutual_pods: match what.works.contains(&Work::Storm) {
            true => Some(Pods::start(what, &place, true)?),
            false => None,
        },
        place: &place,
    };
    bench.cores.take_load()?;
    let mut results = Results::new(what, &bench.cores, &peers, missing);
    if what.works.contains(&Work::Churn) {
        churn::NOTES.iter().for_each(|note| results.note(note));
    }
    let all = what.repeat * what.works.len() * peers.len();
    let mut done = 0;
    for round in 0..what.repeat {
        for work in &what.works {
            for peer in &peers {
                let bar = super::progress::bar(done, all, 30);
                progress.say(&format!("{bar} round {} {} {}", round + 1, work.name(), peer.name()));
                results.add(*peer, *work, bench.measure(*peer, *work)?);
                done += 1;
            }
        }
        so_far(&results)?;
    }
    for peer in peers.iter().filter(|peer| peer.is_process()) {
        for routes in &what.routes {
            progress.say(&format!("memory: {} with {routes} routes", peer.name()));
            results.memory_at(*peer, *routes, bench.memory(*peer, *routes)?);
        }
        if what.syscalls {
            progress.say(&format!("system calls of {}", peer.name()));
            bench.count_syscalls(*peer, &mut results)?;
        }
    }
    progress.clear();
    Ok(results)
}

struct Bench<'a> {
    what: &'a Comparison,
    cores: Cores,
    pods: Pods,
    mutual_pods: Option<Pods>,
    place: &'a Path,
}

/// Pods in a process of their own.
struct Pods {
    addresses: Vec<SocketAddr>,
    certs: PathBuf,
    _child: Child,
}

impl Pods {
    fn start(what: &Comparison, place: &Path, mutual: bool) -> anyhow::Result<Self> {
        let certs = place.join("certs");
        let mut command = std::process::Command::new(&what.program);
        command.args(["bench", "serve"]);
        for ip in PODS {
            command.arg("--listen").arg(format!("{ip}:0"));
        }
        if mutual {
            // Made here first, so that the pods and the load do not both make one.
            Material::open(&certs)?;
            command.args(["--mode", "mutual", "--certs"]).arg(&certs);
        }
        let mut child = Child::start(command, &place.join("pods.log"), None)?;
        let addresses = child.listening(PODS.len(), START_TIMEOUT)?;
        Ok(Self { addresses, certs, _child: child })
    }
}

/// A gateway that answers.
struct Gateway {
    target: SocketAddr,
    /// None when the load goes straight to the pods.
    child: Option<Child>,
    /// Where the gateway has routes that are to change.
    changer: Option<Changer>,
}

impl Bench<'_> {
    fn pods_of(&self, work: Work) -> &Pods {
        self.mutual_pods.as_ref().filter(|_| work == Work::Storm).unwrap_or(&self.pods)
    }

    fn plan(&self, gateway: &Gateway, work: Work) -> anyhow::Result<Plan> {
        let routes = self.what.routes.first().copied().unwrap_or(1);
        let names = configs::names(routes.min(NAMES_MAX));
        let plan = Plan {
            sources: parse_sources(SOURCES)?,
            certs: Some(self.pods_of(work).certs.clone()),
            ..Plan::new(gateway.target, names, work.scenario())
        };
        Ok(work.fill(plan, self.what))
    }

    fn start(
        &self,
        peer: Peer,
        routes: usize,
        pods: &Pods,
        changing: bool,
    ) -> anyhow::Result<Gateway> {
        let Some(listen) = peer.is_process().then(free_port).transpose()? else {
            return Ok(Gateway { target: pods.addresses[0], child: None, changer: None });
        };
        let dir = tempfile::tempdir_in(self.place)?.keep();
        let (dir, pods) = (&*dir, &*pods.addresses);
        let site = configs::Site { routes, changing, ..configs::Site::new(dir, listen, pods) };
        let command = peer.command(&site, &self.what.program)?;
        let mut child = Child::start(command, &dir.join("log"), Some(&self.cores))?;
        let deadline = Instant::now() + START_TIMEOUT;
        while std::net::TcpStream::connect(listen).is_err() {
            child.check(peer.name())?;
            if Instant::now() > deadline {
                bail!("{} does not accept on {listen}: {}", peer.name(), child.log_tail());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let changer = changing.then(|| Changer::new(peer, &site, child.pid())).flatten();
        Ok(Gateway { target: listen, child: Some(child), changer })
    }

    /// Starts the gateway and has it do a little of the work, until it can.
    fn ready(&self, peer: Peer, work: Work) -> anyhow::Result<Gateway> {
        let routes = self.what.routes.first().copied().unwrap_or(1);
        let changing = work == Work::Churn;
        let mut gateway = self.start(peer, routes, self.pods_of(work), changing)?;
        let plan = self.plan(&gateway, work)?;
        let scenario = match plan.scenario {
            Scenario::Storm | Scenario::Hold => Scenario::Connect,
            other => other,
        };
        let count = Some(work.warm_up(self.what.quick));
        let timeout = Duration::from_secs(5);
        let (duration, rate) = (None, None);
        let concurrency = plan.concurrency.min(64);
        let little = Plan { scenario, count, duration, rate, timeout, concurrency, ..plan };
        gateway.answers(peer, &little)?;
        run::run(&little, &Progress::quiet())?;
        Ok(gateway)
    }

    fn measure(&self, peer: Peer, work: Work) -> anyhow::Result<Sample> {
        let mut gateway = self.ready(peer, work)?;
        let plan = self.plan(&gateway, work)?;
        let before = gateway.child.as_ref().map(Child::reading).transpose()?;
        let (report, memory) = match (work, &gateway.child) {
            (Work::Hold, Some(child)) => hold::run(&plan, child)?,
            (Work::Churn, Some(_)) => (gateway.churn(peer, &plan, self.what.churn)?, Vec::new()),
            _ => (run::run(&plan, &Progress::quiet())?, Vec::new()),
        };
        let after = gateway.child.as_ref().map(Child::reading).transpose()?;
        if let Some(child) = &mut gateway.child {
            child.check(peer.name())?;
        }
        Ok(Sample { report, cost: before.zip(after).map(|(b, a)| a.since(&b)), memory })
    }

    fn memory(&self, peer: Peer, routes: usize) -> anyhow::Result<u64> {
        let mut gateway = self.start(peer, routes, &self.pods, false)?;
        // The last of its routes, so that all are there when the memory is read.
        let last = configs::names(routes).split_off(routes - 1);
        gateway.answers(peer, &Plan::new(gateway.target, last, Scenario::Connect))?;
        match &gateway.child {
            Some(child) => Ok(child.reading()?.resident),
            None => Ok(0),
        }
    }

    fn count_syscalls(&self, peer: Peer, results: &mut Results) -> anyhow::Result<()> {
        for work in [Work::Connect, Work::Request] {
            if !self.what.works.contains(&work) {
                continue;
            }
            let gateway = self.ready(peer, work)?;
            let plan = self.plan(&gateway, work)?;
            let count = if self.what.quick { 200 } else { 5_000 };
            let plan = Plan { count: Some(count), ..plan };
            let Some(child) = &gateway.child else { continue };
            let counted = syscalls::count(child, self.place, || {
                run::run(&plan, &Progress::quiet()).map(|_| ())
            })?;
            match counted {
                Some((calls, by)) => {
                    results.syscalls(peer, work, calls as f64 / count as f64, by);
                }
                None => results.note("system calls are not counted: install perf or strace"),
            }
        }
        Ok(())
    }
}

impl Gateway {
    /// Does the work while the routes change. Fails when the last change is never served.
    fn churn(&mut self, peer: Peer, plan: &Plan, rate: f64) -> anyhow::Result<Report> {
        let Some(changer) = self.changer.take() else { return run::run(plan, &Progress::quiet()) };
        let changer = Arc::new(changer);
        let changing = Arc::clone(&changer);
        let churn = Churn::start(rate, move |turn| changing.change(turn))?;
        let report = run::run(plan, &Progress::quiet());
        let changes = Some(churn.stop());
        let name = changer.last()?;
        self.answers(
            peer,
            &Plan { names: vec![name], scenario: Scenario::Connect, ..plan.clone() },
        )
        .context("a change was not taken")?;
        Ok(Report { changes, ..report? })
    }

    /// Waits until one connection was served as the plan has it.
    fn answers(&mut self, peer: Peer, plan: &Plan) -> anyhow::Result<()> {
        let timeout = Duration::from_secs(5);
        let one = Plan { count: Some(1), size: None, concurrency: 1, timeout, ..plan.clone() };
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let report = run::run(&one, &Progress::quiet())?;
            if report.totals.failures() == 0 {
                return Ok(());
            }
            if let Some(child) = &mut self.child {
                child.check(peer.name())?;
            }
            if Instant::now() > deadline {
                let (errors, name) = (report.totals.errors, peer.name());
                let log = self.child.as_ref().map(Child::log_tail).unwrap_or_default();
                bail!("{name} has not served one connection: {errors:?}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A port that is free now, on an address that nobody else is likely to use.
fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((GATEWAY, 0))
        .with_context(|| format!("cannot listen on {GATEWAY}: is all of 127.0.0.0/8 loopback?"))?;
    Ok(listener.local_addr()?)
}
