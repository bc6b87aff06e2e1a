//! What a load test found, for people and for programs. Must not know: how it was found.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use serde::Serialize;

use super::{
    Mode, Plan, Scenario,
    churn::Changes,
    tally::{Latency, Tally},
};

/// The result of one load test.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was done.
    pub scenario: Scenario,
    /// What was spoken.
    pub mode: Mode,
    /// The gateway.
    pub target: SocketAddr,
    /// How many server names were asked for in turn.
    pub names: usize,
    /// How many addresses it came from in turn; 0: as the kernel chose.
    pub sources: usize,
    /// Clients at the same time.
    pub concurrency: usize,
    /// Operations begun each second; `None` in a closed loop.
    pub rate: Option<f64>,
    /// Bytes of a request or answer.
    pub size: u64,
    /// From the first operation's beginning to the last one's end. For a storm: until every client
    /// is established.
    pub seconds: f64,
    /// What the operations came to.
    #[serde(flatten)]
    pub totals: Totals,
    /// In a mixed load, each kind on its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<&'static str, Totals>,
    /// What changed meanwhile, where something was to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
}

/// Counts and latencies of one kind of operation.
#[derive(Clone, Debug, Serialize)]
pub struct Totals {
    /// How many went well.
    pub operations: u64,
    /// Operations that went well, each second.
    pub per_second: f64,
    /// Bytes that they moved.
    pub bytes: u64,
    /// How many did not go well, by cause.
    pub errors: BTreeMap<String, u64>,
    /// In microseconds, from when the operation was due.
    pub latency_us: Option<Latency>,
}

impl Totals {
    /// Of a tally and the time it took.
    #[must_use]
    pub fn new(tally: &Tally, seconds: f64) -> Self {
        Self {
            operations: tally.operations(),
            per_second: tally.operations() as f64 / seconds.max(1e-9),
            bytes: tally.bytes(),
            errors: tally.errors().clone(),
            latency_us: tally.latency(),
        }
    }

    /// How many did not go well.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// How many of these befell a connection that was open: it was cut.
    #[must_use]
    pub fn cut(&self) -> u64 {
        let open = ["request:", "close:", "after being held:"];
        let cut = |cause: &str| open.iter().any(|stage| cause.starts_with(stage));
        self.errors.iter().filter(|(cause, _)| cut(cause)).map(|(_, count)| count).sum()
    }
}

impl Report {
    /// Of the tallies of a plan, one for each kind of operation.
    #[must_use]
    pub fn new(plan: &Plan, seconds: f64, tallies: &[(&'static str, Tally)]) -> Self {
        let mut all = Tally::default();
        tallies.iter().for_each(|(_, tally)| all.add(tally));
        let kinds = tallies.iter().map(|(kind, tally)| (*kind, Totals::new(tally, seconds)));
        Self {
            scenario: plan.scenario,
            mode: plan.mode,
            target: plan.target,
            names: plan.names.len(),
            sources: plan.sources.len(),
            concurrency: plan.clients(),
            rate: plan.rate,
            size: plan.size(),
            seconds,
            totals: Totals::new(&all, seconds),
            kinds: if tallies.len() > 1 { kinds.collect() } else { BTreeMap::new() },
            changes: None,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scenario, mode) = (self.scenario, self.mode);
        let loop_kind = match self.rate {
            Some(rate) => format!("open loop, {rate} begun each second"),
            None => "closed loop".to_owned(),
        };
        writeln!(f, "{scenario:?}, {mode:?}, {} clients, {loop_kind}", self.concurrency)?;
        writeln!(f, "  target      {}, {} names", self.target, self.names)?;
        writeln!(f, "  time        {:.3} s", self.seconds)?;
        self.totals.fmt(f)?;
        if let Some(changes) = &self.changes {
            let (cut, all) = (self.totals.cut(), self.totals.failures());
            writeln!(f, "  changes     {} made meanwhile", changes.made)?;
            writeln!(f, "  connections {cut} cut when open, {} that never opened", all - cut)?;
            for (cause, count) in &changes.failed {
                writeln!(f, "  {count:>10}  changes not made: {cause}")?;
            }
        }
        for (kind, totals) in &self.kinds {
            write!(f, "{kind}\n{totals}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  operations  {} ({:.0} each second)", self.operations, self.per_second)?;
        if self.operations > 0 {
            let each = self.per_second / self.operations as f64;
            let rate = self.bytes as f64 * each / 1e6;
            writeln!(f, "  bytes       {} ({rate:.1} MB/s)", self.bytes)?;
        }
        if let Some(l) = &self.latency_us {
            writeln!(
                f,
                "  latency     p50 {} · p90 {} · p99 {} · p99.9 {} · p99.99 {} · max {}",
                time(l.p50),
                time(l.p90),
                time(l.p99),
                time(l.p99_9),
                time(l.p99_99),
                time(l.max)
            )?;
        }
        match self.failures() {
            0 => writeln!(f, "  errors      none"),
            n => writeln!(f, "  errors      {n}"),
        }?;
        for (cause, count) in &self.errors {
            writeln!(f, "  {count:>10}  {cause}")?;
        }
        Ok(())
    }
}

/// Microseconds in the unit that suits them.
#[must_use]
pub fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}
