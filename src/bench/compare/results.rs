//! What a comparison found. Must not know: how it is shown.

use std::collections::BTreeMap;

use serde::Serialize;

pub use super::process::Reading;
use super::{Comparison, Peer, Work, process::Cores};
use crate::bench::{Report, tally::Latency};

/// Everything, as it goes into the JSON file.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Where it was measured.
    pub machine: Machine,
    /// The gateways compared and their versions, in their order.
    pub peers: Vec<(Peer, String)>,
    /// Those not installed, and how to install them.
    pub missing: Vec<(Peer, &'static str)>,
    /// Works in their order.
    pub works: Vec<Work>,
    /// How many routes each gateway knew.
    pub routes: Vec<usize>,
    /// How often each measurement was made.
    pub repeat: usize,
    /// True when there was too little work to compare by.
    pub quick: bool,
    /// One for each work and gateway.
    pub cells: Vec<Cell>,
    /// Resident bytes of a gateway that has started and served one connection, by routes.
    pub memory: Vec<Memory>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Where it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor.
    pub cpu: String,
    /// The kernel's release.
    pub kernel: String,
    /// The gateway's own core; `None`: nothing was pinned.
    pub gateway_core: Option<usize>,
    /// The cores of pods and load.
    pub load_cores: Vec<usize>,
    /// Load average when it began: above a few tenths others were at work too.
    pub load_average: String,
}

/// All samples of one gateway at one work.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The work.
    pub work: Work,
    /// The gateway.
    pub peer: Peer,
    /// What the value is.
    pub unit: &'static str,
    /// The value by which the work is judged: least, median, most.
    pub value: Option<Spread>,
    /// System calls of the gateway for each operation, and what counted them.
    pub syscalls: Option<(f64, &'static str)>,
    /// As measured.
    pub samples: Vec<Sample>,
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// What the load saw.
    pub report: Report,
    /// What the gateway cost; `None` without a gateway.
    pub cost: Option<Reading>,
    /// Connections held and resident bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<(usize, u64)>,
}

/// Of several measurements of the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The most.
    pub max: f64,
}

/// Resident bytes of an idle gateway.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// The gateway.
    pub peer: Peer,
    /// How many routes it knows.
    pub routes: usize,
    /// Resident bytes.
    pub resident: u64,
}

impl Spread {
    /// `None` of nothing.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { min, median: f64::midpoint(low, high), max })
    }
}

impl Cell {
    /// The median over all samples.
    #[must_use]
    pub fn median(&self, value: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        Spread::of(self.samples.iter().filter_map(value)).map(|spread| spread.median)
    }

    /// The median of one percentile over all samples.
    #[must_use]
    pub fn latency(&self, percentile: impl Fn(&Latency) -> f64) -> Option<f64> {
        self.median(|sample| sample.report.totals.latency_us.as_ref().map(&percentile))
    }

    /// Operations that went wrong, all samples together.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.samples.iter().map(|sample| sample.report.totals.failures()).sum()
    }

    /// Their causes.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<&str, u64> {
        let mut all = BTreeMap::new();
        for (cause, count) in self.samples.iter().flat_map(|s| &s.report.totals.errors) {
            *all.entry(cause.as_str()).or_default() += count;
        }
        all
    }
}

impl Results {
    pub(super) fn new(
        what: &Comparison,
        cores: &Cores,
        peers: &[Peer],
        missing: Vec<(Peer, &'static str)>,
    ) -> Self {
        let mut results = Self {
            machine: Machine::here(cores),
            peers: peers.iter().map(|peer| (*peer, peer.version())).collect(),
            missing,
            works: what.works.clone(),
            routes: what.routes.clone(),
            repeat: what.repeat,
            quick: what.quick,
            cells: Vec::new(),
            memory: Vec::new(),
            notes: Vec::new(),
        };
        if what.quick {
            results.note("--quick: too little work to compare by");
        }
        if cores.gateway.is_none() {
            results.note("only one core: gateway, pods and load share it, and nothing is pinned");
        }
        results
    }

    pub(super) fn add(&mut self, peer: Peer, work: Work, sample: Sample) {
        let (found, cell) = (self.position(peer, work), Cell::new(peer, work));
        let at = found.unwrap_or_else(|| {
            self.cells.push(cell);
            self.cells.len() - 1
        });
        let cell = &mut self.cells[at];
        cell.samples.push(sample);
        cell.value = Spread::of(cell.samples.iter().filter_map(|sample| work.value(sample)));
    }

    pub(super) fn memory_at(&mut self, peer: Peer, routes: usize, resident: u64) {
        self.memory.push(Memory { peer, routes, resident });
    }

    pub(super) fn syscalls(&mut self, peer: Peer, work: Work, each: f64, by: &'static str) {
        if let Some(at) = self.position(peer, work) {
            self.cells[at].syscalls = Some((each, by));
        }
    }

    pub(super) fn note(&mut self, text: &str) {
        if !self.notes.iter().any(|note| note == text) {
            self.notes.push(text.to_owned());
        }
    }

    /// One cell.
    #[must_use]
    pub fn cell(&self, peer: Peer, work: Work) -> Option<&Cell> {
        self.position(peer, work).map(|at| &self.cells[at])
    }

    /// How a gateway's median compares with another's; `None` when one of them is not there.
    #[must_use]
    pub fn ratio(&self, work: Work, peer: Peer, to: Peer) -> Option<f64> {
        let median = |peer| Some(self.cell(peer, work)?.value?.median);
        let ratio = median(peer)? / median(to)?;
        ratio.is_finite().then_some(ratio)
    }

    /// All operations that went wrong.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.cells.iter().map(Cell::failures).sum()
    }

    fn position(&self, peer: Peer, work: Work) -> Option<usize> {
        self.cells.iter().position(|cell| cell.peer == peer && cell.work == work)
    }
}

impl Cell {
    fn new(peer: Peer, work: Work) -> Self {
        Self { work, peer, unit: work.unit(), value: None, syscalls: None, samples: Vec::new() }
    }
}

impl Machine {
    fn here(cores: &Cores) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = read("/proc/loadavg");
        Self {
            cpu: model.map_or("unknown", |(_, name)| name).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            gateway_core: cores.gateway,
            load_cores: cores.load.clone(),
            load_average: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_median_in_the_middle() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied()).unwrap();
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(spread(&[4.0, 1.0]).median, 2.5);
        assert_eq!(Spread::of([]), None);
    }
}
