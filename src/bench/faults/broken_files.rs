//! G19: whatever is written into the manifests, the gateway lives and what is good is served.

use std::{fs, time::Duration};

use super::{
    Peer, Stage,
    front::Terms,
    goal::{Cell, Goal, How},
    load,
};
use crate::bench::{Plan, Scenario};

pub(super) const GOAL: Goal = Goal {
    name: "G19",
    done: "20,000 mutations (--quick: 300) of a manifest beside 200 connections/s to another \
           (fuzz/ has those of the parser)",
    reach: "0 crashes, 0 connections fail, the last good is served throughout",
    how: How::Measured { measure, rivals: false },
};

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let pods = stage.local_pods()?;
    let terms = Terms { changing: true, ..Terms::default() };
    let mut front = stage.front(peer, &pods.addresses, &terms)?;
    let good = fs::read(front.dir.join("manifests/route-0.yaml"))?;
    let good = String::from_utf8(good)?.replace("svc-0", "svc-9").into_bytes();
    let (new, file) = (front.dir.join("new"), front.dir.join("manifests/mutated.yaml"));
    let count = stage.pick(20_000, 300);
    // As long as it takes.
    let pause = Duration::from_millis(5);
    let duration = Some(pause * u32::try_from(count)? * 2);
    let plan = Plan { rate: Some(200.0), duration, ..load::plan(&front, Scenario::Connect)? };
    let (report, ()) = load::beside(&plan, || {
        for number in 0..count {
            fs::write(&new, mutated(&good, number))?;
            fs::rename(&new, &file)?;
            std::thread::sleep(pause);
        }
        Ok(())
    })?;
    let (failed, alive) = (report.totals.failures(), front.is_alive());
    let life = if alive { "alive" } else { "ended" };
    let figure = format!(
        "{count} mutations: {life}, {failed} of {} connections fail",
        report.totals.operations + failed
    );
    Ok(Cell::measured(alive && failed == 0, figure))
}

/// A few bytes changed, taken away or said twice, or the rest cut off.
fn mutated(good: &[u8], number: u64) -> Vec<u8> {
    let mut state = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut below = |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % end.max(1) as u64).unwrap_or(0)
    };
    let mut bytes = good.to_vec();
    for _ in 0..=below(4) {
        let at = below(bytes.len());
        match below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..(at + below(40)).min(bytes.len()))),
            2 => bytes.splice(at..at, good[at.min(good.len())..].to_vec()).for_each(drop),
            3 => bytes.insert(at, b"\0\t{[\"'&*!%@\xff\n:-"[below(15)]),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << below(8)),
        }
        bytes.truncate(64 << 10);
    }
    bytes
}
