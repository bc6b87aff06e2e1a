//! G11: more connections than descriptors are waited out, without a spin and without a death.

use std::{
    io::Read as _,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use super::{
    Peer, Stage,
    front::{Terms, Under},
    goal::{Cell, Goal, How},
    load,
    script::{Clients, PATIENCE},
};
use crate::bench::{Plan, Scenario, exchange::GREETING_BYTES};

pub(super) const GOAL: Goal = Goal {
    name: "G11",
    done: "256 descriptors and 1,200 clients that stay, then 10,000 (--quick: 2,000), 600 at a time",
    reach: "alive, CPU ≤ 2 % while full, operators answered, the next served ≤ 100 ms after ten have gone, 0 fail",
    how: How::Measured { measure, rivals: true },
};

const FILES: u64 = 256;
const CROWD: usize = 1200;

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let pods = stage.local_pods()?;
    // Of HAProxy, which starts only when its own limit fits.
    let terms = Terms { under: Under::Files(FILES), connections: Some(80), ..Terms::default() };
    let mut front = stage.front(peer, &pods.addresses, &terms)?;
    let clients = Clients::of(&front)?;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.extend(clients.dial().ok());
    }
    thread::sleep(Duration::from_secs(1));
    if !front.is_alive() {
        return Ok(Cell::measured(false, "it ended by itself"));
    }
    let cpu = front.cpu_over(stage.pick(Duration::from_secs(3), Duration::from_secs(1)))?;
    let answers = peer != Peer::Diolkos || front.ask("/ready").is_ok();
    let again = again(crowd)?;
    let plan = Plan {
        count: Some(stage.pick(10_000, 2_000)),
        concurrency: 600,
        ..load::plan(&front, Scenario::Connect)?
    };
    let failed = load::make(&plan)?.totals.failures();
    let alive = front.is_alive();
    let met = alive
        && answers
        && cpu <= 2.0
        && failed == 0
        && again.is_none_or(|took| took <= Duration::from_millis(100));
    let again = match again {
        Some(took) if took < PATIENCE => format!("again {took:.1?}"),
        Some(_) => "never again".to_owned(),
        None => "nobody waited".to_owned(),
    };
    let alive = if alive { "alive" } else { "ended" };
    let silent = if answers { "" } else { "; operators not answered" };
    Ok(Cell::measured(met, format!("{alive}, {cpu:.1} % CPU, {again}, {failed} failed{silent}")))
}

/// How long after ten of those who were served have gone one of those who waited is served; `None`
/// when nobody waits, or nobody was served.
fn again(crowd: Vec<TcpStream>) -> anyhow::Result<Option<Duration>> {
    let greeted = |mut client: &TcpStream| client.read(&mut [0; GREETING_BYTES]);
    crowd.iter().try_for_each(|client| client.set_nonblocking(true))?;
    let (mut served, waiting): (Vec<_>, Vec<_>) =
        crowd.into_iter().partition(|client| greeted(client).is_ok_and(|n| n > 0));
    if served.is_empty() || waiting.is_empty() {
        return Ok(None);
    }
    let begun = Instant::now();
    served.truncate(served.len().saturating_sub(10));
    while begun.elapsed() < PATIENCE {
        if waiting.iter().any(|client| greeted(client).is_ok_and(|n| n > 0)) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(Some(begun.elapsed()))
}
