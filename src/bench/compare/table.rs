//! A comparison as text: for each work a row for each gateway. Must not know: how it was measured.

use std::fmt::Write as _;

use super::{
    Peer, Work,
    results::{Cell, Results},
};
use crate::bench::report::time;

/// Ratios are given to these.
const AGAINST: [Peer; 3] = [Peer::Floor, Peer::Envoy, Peer::Haproxy];

/// The whole text.
#[must_use]
pub fn text(results: &Results) -> String {
    let mut text = String::new();
    let machine = &results.machine;
    let _ = writeln!(text, "{}, Linux {}", machine.cpu, machine.kernel);
    let _ = match machine.gateway_core {
        Some(core) => writeln!(
            text,
            "gateway alone on core {core}, pods and load on {:?}; load average before: {}",
            machine.load_cores, machine.load_average
        ),
        None => writeln!(text, "nothing pinned; load average before: {}", machine.load_average),
    };
    let routes = results.routes.first().copied().unwrap_or(1);
    let _ = writeln!(
        text,
        "routes {routes}, rounds {}; switches and system calls of the gateway, for each operation",
        results.repeat
    );
    for work in &results.works {
        text.push_str(&block(results, *work));
    }
    text.push_str(&memory(results));
    text.push('\n');
    for (peer, version) in &results.peers {
        let _ = writeln!(text, "{:<9} {version}", peer.name());
    }
    for (peer, how) in &results.missing {
        let _ = writeln!(text, "{:<9} missing: {how}", peer.name());
    }
    for note in &results.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn block(results: &Results, work: Work) -> String {
    let mut rows = vec![head(results, work)];
    let mut faults = String::new();
    for (peer, _) in &results.peers {
        let Some(cell) = results.cell(*peer, work) else { continue };
        rows.push(row(results, cell));
        faults.push_str(&changes(cell));
        for (cause, count) in cell.errors() {
            let _ = writeln!(faults, "  {}: {count} × {cause}", peer.name());
        }
    }
    let (name, unit) = (work.name(), work.unit());
    format!("\n{name}: {unit}; {}\n{}{faults}", work.title(), aligned(&rows))
}

/// A line about what changed meanwhile, and whom that cost something.
fn changes(cell: &Cell) -> String {
    let reports = || cell.samples.iter().map(|sample| &sample.report);
    let changes = || reports().filter_map(|report| report.changes.as_ref());
    if changes().next().is_none() {
        return String::new();
    }
    let made: u64 = changes().map(|changes| changes.made).sum();
    let missed: u64 = changes().flat_map(|changes| changes.failed.values()).sum();
    let cut: u64 = reports().map(|report| report.totals.cut()).sum();
    let (name, others) = (cell.peer.name(), cell.failures() - cut);
    let missed = if missed > 0 { format!(", {missed} could not be made") } else { String::new() };
    format!("  {name}: {made} changes{missed}; {cut} open connections cut, {others} never opened\n")
}

fn head(results: &Results, work: Work) -> Vec<String> {
    let mut head = vec![String::new(), "median".to_owned(), "least to most".to_owned()];
    let against = AGAINST.iter().filter(|to| results.cell(**to, work).is_some());
    head.extend(against.map(|to| format!("/{}", to.name())));
    head.extend(["p50", "p99", "p99.9", "each s", "switches"].map(String::from));
    if has_syscalls(results, work) {
        head.push("system calls".to_owned());
    }
    head
}

fn row(results: &Results, cell: &Cell) -> Vec<String> {
    let value = |f: fn(&super::results::Spread) -> f64| cell.value.as_ref().map(f);
    let spread = match (value(|v| v.min), value(|v| v.max)) {
        (Some(min), Some(max)) => format!("[{} to {}]", digits(min), digits(max)),
        _ => String::new(),
    };
    let shown = value(|v| v.median).map_or_else(|| "-".to_owned(), digits);
    let mut row = vec![cell.peer.name().to_owned(), shown, spread];
    for to in AGAINST.iter().filter(|to| results.cell(**to, cell.work).is_some()) {
        let ratio = results.ratio(cell.work, cell.peer, *to);
        row.push(ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
    }
    let latency = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), time);
    row.push(latency(cell.latency(|l| l.p50)));
    row.push(latency(cell.latency(|l| l.p99)));
    row.push(latency(cell.latency(|l| l.p99_9)));
    let each_s = cell.median(|sample| Some(sample.report.totals.per_second));
    row.push(each_s.map_or_else(|| "-".to_owned(), |n| format!("{n:.0}")));
    let switches = cell.median(|sample| {
        // Those of processes that have ended are not known.
        sample.report.changes.is_none().then_some(())?;
        Some(sample.cost.as_ref()?.switches as f64 / sample.report.totals.operations as f64)
    });
    row.push(switches.map_or_else(|| "-".to_owned(), |n| format!("{n:.2}")));
    if has_syscalls(results, cell.work) {
        row.push(cell.syscalls.map_or_else(|| "-".to_owned(), |(each, _)| format!("{each:.1}")));
    }
    row
}

fn has_syscalls(results: &Results, work: Work) -> bool {
    results.cells.iter().any(|cell| cell.work == work && cell.syscalls.is_some())
}

fn memory(results: &Results) -> String {
    if results.memory.is_empty() {
        return String::new();
    }
    let mut head = vec![String::new()];
    head.extend(results.routes.iter().map(|n| format!("{n} routes")));
    let mut rows = vec![head];
    for (peer, _) in results.peers.iter().filter(|(peer, _)| peer.is_process()) {
        let mut row = vec![peer.name().to_owned()];
        for routes in &results.routes {
            let found = results.memory.iter().find(|m| m.peer == *peer && m.routes == *routes);
            row.push(
                found.map_or_else(
                    || "-".to_owned(),
                    |m| format!("{:.1} MB", m.resident as f64 / 1e6),
                ),
            );
        }
        rows.push(row);
    }
    format!("\nresident after start and one connection\n{}", aligned(&rows))
}

/// Three digits that mean something.
#[must_use]
pub fn digits(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{v:.0}"),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            // Names to the left, numbers to the right.
            let _ = match column {
                0 => write!(line, " {cell}{pad}"),
                _ => write!(line, "  {pad}{cell}"),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows = [vec!["a".into(), "µs".into()], vec!["bbb".into(), "100".into()]];
        assert_eq!(aligned(&rows), "  a     µs\n  bbb  100\n");
    }

    #[test]
    fn three_digits_are_enough() {
        let shown = [12345.6, 123.4, 12.34, 1.234, 0.1234].map(digits);
        assert_eq!(shown, ["12346", "123", "12.3", "1.23", "0.123"]);
    }
}
