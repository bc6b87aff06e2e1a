//! Puts a gateway through what goes wrong, and holds the result against a goal, with what rivals
//! make of the same beside it.
//!
//! Gateways are started as programs and seen from outside: their sockets, /proc, and of diolkos
//! its operators' port. Must not know: how a gateway works.

use std::path::{Path, PathBuf};

use super::{
    compare::{
        Peer, peer,
        process::{self, Cores},
    },
    progress::{Progress, bar},
};

// What was done, what is owed, what came of it.
pub mod goal;
pub mod table;

// What all goals stand on: a gateway, scripted sockets around it, a host of its own, and load.
mod apart;
mod front;
mod load;
mod script;

// One goal each.
mod blackhole;
mod broken_files;
mod bytes;
mod descriptors;
mod endpoints;
mod flights;
mod frozen;
mod half_open;
mod leaving;
mod memory;
mod pipes;
mod ports;
mod reloads;
mod resets;
mod stalled;
mod strangers;
mod vanished;

use goal::{Cell, Goal, How, Row};

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Goals by name; all when empty.
    pub only: Vec<String>,
    /// Whom to put through the same.
    pub rivals: Vec<Peer>,
    /// Fewer and shorter, for a first look.
    pub quick: bool,
    /// This program.
    pub program: PathBuf,
}

/// Every goal that there is, in order.
const GOALS: &[Goal] = &[
    Goal::tested(
        "G1",
        "ClientHellos of fifteen clients in every two pieces and in records of one byte",
        "the same name and verdict",
        "tests/hellos.rs",
    ),
    flights::GOAL,
    bytes::GOAL,
    resets::GOAL,
    reloads::GOAL,
    endpoints::GOAL,
    half_open::GOAL,
    descriptors::GOAL,
    memory::GOAL,
    ports::GOAL,
    blackhole::GOAL,
    vanished::GOAL,
    stalled::GOAL,
    leaving::GOAL,
    broken_files::GOAL,
    frozen::GOAL,
    pipes::GOAL,
    strangers::GOAL,
    bytes::LOSS,
    Goal::tested(
        "G27",
        "who is served: names, ALPN, exports, evidence of mesh TLS, each with each",
        "as Istio 1.9.5 and later",
        "tests/integration/matrix.rs",
    ),
    Goal::tested(
        "G28",
        "a panic in the task of a connection",
        "the process lives, it is counted",
        "tests/integration/outcomes.rs",
    ),
];

/// The names of all goals, in order.
#[must_use]
pub fn names() -> Vec<&'static str> {
    GOALS.iter().map(|goal| goal.name).collect()
}

/// A line for each goal: its name, and what is done.
#[must_use]
pub fn list() -> String {
    GOALS.iter().map(|goal| format!("  {:<4} {}\n", goal.name, without_asides(goal.done))).collect()
}

/// Without what stands in brackets.
fn without_asides(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, aside)) = rest.split_once(" (") {
        plain += before;
        rest = aside.split_once(')').map_or("", |(_, after)| after);
    }
    plain + rest
}

/// Where goals are measured.
struct Stage<'a> {
    what: &'a Faults,
    place: &'a Path,
    cores: Cores,
}

impl Stage<'_> {
    /// How many, or how long.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.what.quick { quick } else { full }
    }
}

/// Measures the goals, and shows each row when it is there.
///
/// # Errors
/// When nothing can be measured here at all. What goes wrong with one goal stands in its row.
pub fn measure(
    what: &Faults,
    progress: &Progress,
    mut show: impl FnMut(&Row),
) -> anyhow::Result<Vec<Row>> {
    process::end_children_when_told()?;
    let (place, _made) = process::temporary()?;
    let stage = Stage { what, place: &place, cores: Cores::choose() };
    stage.cores.take_load()?;
    let (rivals, missing) = peer::find(&what.rivals);
    let wanted = |goal: &&Goal| what.only.is_empty() || what.only.iter().any(|n| n == goal.name);
    let goals: Vec<&Goal> = GOALS.iter().filter(wanted).collect();
    let mut rows = Vec::new();
    for (done, goal) in goals.iter().enumerate() {
        let say = |peer: Peer| {
            let bar = bar(done, goals.len(), 30);
            progress.say(&format!("{bar} {} {}: {}", goal.name, peer.name(), goal.done));
        };
        say(Peer::Diolkos);
        let ours = goal.measure(&stage, Peer::Diolkos).unwrap_or_else(|e| Cell::missed(&e));
        let mut theirs = Vec::new();
        for rival in &rivals {
            say(*rival);
            let cell = match goal.how {
                How::Measured { rivals: false, .. } | How::Tested(_) => Cell::not("not measured"),
                How::Measured { .. } => {
                    goal.measure(&stage, *rival).unwrap_or_else(|e| Cell::not(&format!("{e:#}")))
                }
            };
            theirs.push((*rival, cell));
        }
        for (rival, how) in &missing {
            theirs.push((*rival, Cell::not(&format!("not installed: {how}"))));
        }
        let row = Row { goal: goal.name, done: goal.done, reach: goal.reach, ours, theirs };
        progress.clear();
        show(&row);
        rows.push(row);
    }
    Ok(rows)
}
