//! G17: told to end, a gateway is not ready at once, cuts nobody before the deadline, and goes with
//! the last connection.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use rustix::process::Signal;

use super::{
    Peer, Stage,
    front::{Front, Terms},
    goal::{Cell, Goal, How},
    script::{Clients, End, Pair, Pod, drain},
};

pub(super) const GOAL: Goal = Goal {
    name: "G17",
    done: "SIGTERM with 1,000 busy connections (--quick: 200), which their clients end after 3 s",
    reach: "not ready ≤ 10 ms; 0 cut before that; exit ≤ 100 ms after the last",
    how: How::Measured { measure, rivals: true },
};

/// Short of a pause for load balancers; the deadline is not reached. Connections are never quiet,
/// as the client spoke last.
const SETTINGS: &[&str] =
    &["drain.pause=500ms", "drain.deadline=30s", "drain.idle=1h", "drain.late_idle=1h"];
const ENDED_BY_CLIENTS_AFTER: Duration = Duration::from_secs(3);
const EXIT_WITHIN: Duration = Duration::from_secs(10);

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let pod = Pod::new()?;
    let mut front =
        stage.front(peer, &[pod.address], &Terms { settings: SETTINGS, ..Terms::default() })?;
    let clients = Clients::of(&front)?;
    let mut pairs = clients.pairs(&pod, stage.pick(1_000, 200))?;
    let told = Instant::now();
    front.signal(Signal::TERM)?;
    let not_ready = (peer == Peer::Diolkos).then(|| not_ready(&front, told)).transpose()?;
    thread::sleep(ENDED_BY_CLIENTS_AFTER.saturating_sub(told.elapsed()));
    let cut = count_ended(&mut pairs)?;
    let alone = !front.is_alive();
    drop(pairs);
    let begun = Instant::now();
    while front.is_alive() && begun.elapsed() < EXIT_WITHIN {
        thread::sleep(Duration::from_millis(1));
    }
    let exit = begun.elapsed();
    let left = match (alone, front.is_alive()) {
        (true, _) => "had ended before".to_owned(),
        (false, true) => format!("still there after {EXIT_WITHIN:?}"),
        (false, false) => format!("exit {} ms after the last", exit.as_millis()),
    };
    let met = cut == 0
        && !alone
        && exit <= Duration::from_millis(100)
        && not_ready.is_none_or(|took| took <= Duration::from_millis(10));
    let ready = not_ready.map_or(String::new(), |took| format!("not ready {took:.1?}, "));
    Ok(Cell::measured(met, format!("{ready}{cut} cut, {left}")))
}

fn not_ready(front: &Front, told: Instant) -> anyhow::Result<Duration> {
    loop {
        // The answer was decided on before it is here, so this errs to our disadvantage.
        if front.ask("/ready")?.0 != 200 {
            return Ok(told.elapsed());
        }
        ensure!(told.elapsed() < EXIT_WITHIN, "ready all the time");
    }
}

fn count_ended(pairs: &mut [Pair]) -> anyhow::Result<usize> {
    let mut ended = 0;
    for (client, _) in pairs {
        let (_, end) = drain(client, Duration::from_millis(1))?;
        ended += usize::from(end != End::Open);
    }
    Ok(ended)
}
