//! G14: an endpoint whose host drops everything costs nobody more than a try, and soon nothing.

use std::time::Duration;

use super::{
    Peer, Stage,
    apart::Apart,
    front::{Front, Terms, Under},
    goal::{Cell, Goal, How},
    load,
};
use crate::bench::{Plan, Report, Scenario};

pub(super) const GOAL: Goal = Goal {
    name: "G14",
    done: "one of three endpoints drops every packet: 50 connections/s for 5 s, then for 3 s more",
    reach: "0 fail; none takes more than 1.05 s longer, and then 99 % are as prompt as ever",
    how: How::Measured { measure, rivals: true },
};

/// What a try may take, milliseconds.
const LATE_MS: f64 = 1_050.0;
/// No connection that was kept waiting for a try is this quick.
const PROMPT_MS: f64 = 500.0;

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let apart = Apart::new(3)?;
    let pods = stage.pods(&[apart.pod(0), apart.pod(1), apart.pod(2)])?;
    let terms = Terms { under: Under::Host(&apart), ..Terms::default() };
    let front = stage.front(peer, &pods.addresses, &terms)?;
    apart.lose(apart.pod(1))?;
    // Long enough for three tries to fail, and the second part short enough to come before the
    // endpoint is tried again.
    let first = connect(&front, 5)?;
    let then = connect(&front, 3)?;
    let failed = first.totals.failures() + then.totals.failures();
    let worst = first.totals.latency_us.map_or(f64::INFINITY, |latency| latency.max / 1e3);
    let p99 = load::p99_ms(&then);
    let met = failed == 0 && worst <= LATE_MS && p99 <= PROMPT_MS;
    let figure = format!("{failed} of 400 fail; latest {worst:.0} ms, then p99 {p99:.0} ms");
    Ok(Cell::measured(met, figure))
}

fn connect(front: &Front, seconds: u64) -> anyhow::Result<Report> {
    let duration = Some(Duration::from_secs(seconds));
    let plan = load::plan(front, Scenario::Connect)?;
    load::make(&Plan { rate: Some(50.0), duration, ..plan })
}
