//! A comparison as one HTML file that needs nothing else. Must not know: how it was measured.

use std::fmt::Write as _;

use super::{
    Peer, Work,
    plot::{Axes, Bar, Line, bars, lines, short},
    results::{Cell, Results},
    table::{self, digits},
};
use crate::bench::{report::time, tally::Latency};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#667;--back:#fff;--grid:#e3e6ea}\
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--dim:#9aa;--back:#16181b;--grid:#2c3036}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);\
max-width:70rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:0}p,figcaption{color:var(--dim);margin:.2rem 0}\
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(26rem,1fr));gap:2rem}\
figure{margin:0}svg{width:100%;height:auto;font:12px system-ui,sans-serif;fill:var(--ink)}\
.name{font-weight:600}.grid{stroke:var(--grid);fill:none}.line{fill:none;stroke-width:2.5}\
.whisker{stroke:var(--ink);fill:none}pre{overflow-x:auto;font-size:12px;line-height:1.4}";

/// Where a line of latency has a point, and what it is called.
type Percentile = (&'static str, fn(&Latency) -> f64);

const PERCENTILES: [Percentile; 6] = [
    ("p50", |l| l.p50),
    ("p90", |l| l.p90),
    ("p99", |l| l.p99),
    ("p99.9", |l| l.p99_9),
    ("p99.99", |l| l.p99_99),
    ("max", |l| l.max),
];

/// The whole page.
#[must_use]
pub fn html(results: &Results) -> String {
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport \
         content='width=device-width'><title>diolkos bench compare</title><style>{STYLE}</style>\
         <h1>Gateways at the same work</h1><p>{}, Linux {}. Each gateway alone on one core, pods \
         and load on another; medians of {}, whiskers from least to most. Less is better.</p>",
        escaped(&results.machine.cpu),
        escaped(&results.machine.kernel),
        results.repeat
    );
    for note in &results.notes {
        let _ = write!(page, "<p><strong>{}</strong></p>", escaped(note));
    }
    page.push_str("<main>");
    for work in &results.works {
        page.push_str(&cost(results, *work));
    }
    for work in &results.works {
        if matches!(work, Work::Connect | Work::Request | Work::Latency | Work::Paced) {
            page.push_str(&latency(results, *work));
        }
    }
    page.push_str(&memory_by_connections(results));
    page.push_str(&memory_by_routes(results));
    let _ =
        write!(page, "</main><h2>All numbers</h2><pre>{}</pre>", escaped(&table::text(results)));
    page.push_str("</html>\n");
    page
}

fn cost(results: &Results, work: Work) -> String {
    let shown: Vec<Bar> = cells(results, work)
        .filter_map(|cell| {
            let value = cell.value?;
            let failed = match cell.failures() {
                0 => String::new(),
                n => format!(" ({n} failed)"),
            };
            Some(Bar {
                name: cell.peer.name(),
                color: color(cell.peer),
                value: value.median,
                min: value.min,
                max: value.max,
                label: format!("{}{failed}", digits(value.median)),
            })
        })
        .collect();
    figure(&format!("{}: {}", work.name(), work.unit()), work.title(), &bars(&shown))
}

fn latency(results: &Results, work: Work) -> String {
    let shown: Vec<Line> = cells(results, work)
        .map(|cell| {
            let at = |(i, p): (usize, &Percentile)| Some((i as f64, cell.latency(p.1)?));
            Line {
                name: cell.peer.name(),
                color: color(cell.peer),
                points: PERCENTILES.iter().enumerate().filter_map(at).collect(),
            }
        })
        .collect();
    let marks = PERCENTILES.iter().enumerate().map(|(i, p)| (i as f64, p.0.to_owned())).collect();
    let axes = Axes { x: "percentile", y: "microseconds", marks, log_y: true };
    let worst = cells(results, work).filter_map(|cell| cell.latency(|l| l.max)).fold(0.0, f64::max);
    let caption = format!("{}; the slowest of all took {}", work.title(), time(worst));
    figure(&format!("{}: latency", work.name()), &caption, &lines(&shown, &axes))
}

fn memory_by_connections(results: &Results) -> String {
    let shown: Vec<Line> = cells(results, Work::Hold)
        .filter_map(|cell| {
            let memory = &cell.samples.first()?.memory;
            let point = |(n, bytes): &(usize, u64)| (*n as f64, *bytes as f64 / 1e6);
            let points = memory.iter().map(point).collect();
            Some(Line { name: cell.peer.name(), color: color(cell.peer), points })
        })
        .collect();
    let most = shown.iter().flat_map(|l| &l.points).map(|p| p.0).fold(0.0, f64::max);
    if most == 0.0 {
        return String::new();
    }
    let marks = (0..=4).map(|i| most * f64::from(i) / 4.0).map(|x| (x, short(x))).collect();
    let axes = Axes { x: "idle connections", y: "resident MB", marks, log_y: false };
    figure("memory by connections", "one route", &lines(&shown, &axes))
}

fn memory_by_routes(results: &Results) -> String {
    if results.routes.len() < 2 {
        return String::new();
    }
    let line = |peer: Peer| {
        let of = results.memory.iter().filter(|m| m.peer == peer);
        let points = of.map(|m| (m.routes as f64, m.resident as f64 / 1e6)).collect();
        Line { name: peer.name(), color: color(peer), points }
    };
    let peers = results.peers.iter().map(|(peer, _)| *peer).filter(|peer| peer.is_process());
    let shown: Vec<Line> = peers.map(line).collect();
    let marks = results.routes.iter().map(|n| (*n as f64, short(*n as f64))).collect();
    let axes = Axes { x: "routes", y: "resident MB", marks, log_y: false };
    figure("memory by routes", "after start and one connection", &lines(&shown, &axes))
}

fn cells(results: &Results, work: Work) -> impl Iterator<Item = &Cell> {
    results.peers.iter().filter_map(move |(peer, _)| results.cell(*peer, work))
}

fn figure(title: &str, caption: &str, svg: &str) -> String {
    format!("<figure><h2>{title}</h2><figcaption>{caption}</figcaption>{svg}</figure>")
}

/// Told apart with any kind of sight, on light and dark.
fn color(peer: Peer) -> &'static str {
    match peer {
        Peer::Direct => "#b0b5bb",
        Peer::Floor => "#7d858f",
        Peer::Haproxy => "#56b4e9",
        Peer::Nginx => "#009e73",
        Peer::Envoy => "#cc79a7",
        Peer::Diolkos => "#e07b00",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
