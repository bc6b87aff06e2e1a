//! Ordinary load beside a fault: pods that serve it, and what its clients saw. Must not know: the
//! fault.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    thread,
    time::Duration,
};

use super::{Stage, front::Front};
use crate::bench::{
    Plan, Report, Scenario,
    compare::{START_TIMEOUT, process::Child},
    plan::parse_sources,
    progress::Progress,
    run,
};

/// Clients come from many addresses, so that their ports do not run out.
const SOURCES: &str = "127.32.0.0/24";

/// `bench serve` in a process of its own.
pub(super) struct Pods {
    pub(super) addresses: Vec<SocketAddr>,
    _child: Child,
}

impl Stage<'_> {
    /// Pods that serve load, on these addresses.
    pub(super) fn pods(&self, ips: &[Ipv4Addr]) -> anyhow::Result<Pods> {
        let mut command = Command::new(&self.what.program);
        command.args(["bench", "serve"]);
        for ip in ips {
            command.arg("--listen").arg(format!("{ip}:0"));
        }
        let mut child = Child::start(command, &self.place.join("pods.log"), None)?;
        let addresses = child.listening(ips.len(), START_TIMEOUT)?;
        Ok(Pods { addresses, _child: child })
    }

    /// Two pods on loopback.
    pub(super) fn local_pods(&self) -> anyhow::Result<Pods> {
        self.pods(&[Ipv4Addr::new(127, 30, 2, 1), Ipv4Addr::new(127, 30, 2, 2)])
    }
}

/// A plan for the gateway's first name.
pub(super) fn plan(front: &Front, scenario: Scenario) -> anyhow::Result<Plan> {
    let plan = Plan::new(front.target, vec![front.name()], scenario);
    let local = front.target.ip().is_loopback();
    let sources = if local { parse_sources(SOURCES)? } else { Vec::new() };
    Ok(Plan { sources, timeout: Duration::from_secs(15), ..plan })
}

/// Does it, and says what came of it.
pub(super) fn make(plan: &Plan) -> anyhow::Result<Report> {
    run::run(plan, &Progress::quiet())
}

/// Does it while something else is done.
pub(super) fn beside<T>(
    plan: &Plan,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(Report, T)> {
    thread::scope(|scope| {
        let load = scope.spawn(|| make(plan));
        let done = work();
        let report = load.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the load panicked")));
        Ok((report?, done?))
    })
}

/// The 99th percentile in milliseconds.
pub(super) fn p99_ms(report: &Report) -> f64 {
    report.totals.latency_us.map_or(f64::INFINITY, |latency| latency.p99 / 1e3)
}
