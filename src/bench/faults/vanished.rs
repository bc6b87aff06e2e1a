//! G15: when an endpoint's host is gone, its clients hear of it.

use std::{
    io::Write as _,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use super::{
    Peer, Stage,
    apart::Apart,
    front::{Terms, Under},
    goal::{Cell, Goal, How},
    script::{Clients, End, Pod, drain},
};

pub(super) const GOAL: Goal = Goal {
    name: "G15",
    done: "an endpoint's host vanishes, with bytes on their way to it and from an idle connection",
    reach: "RST to the client ≤ 30 s after the first byte unanswered, ≤ 60 s when idle",
    how: How::Measured { measure, rivals: true },
};

/// Keepalive: 30 s and three times 10; a second to see it.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(70);

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    if stage.what.quick {
        return Ok(Cell::not("takes a minute: not with --quick"));
    }
    let apart = Apart::new(1)?;
    let pod = Pod::at(apart.pod(0).into())?;
    let terms = Terms { under: Under::Host(&apart), ..Terms::default() };
    let front = stage.front(peer, &[pod.address], &terms)?;
    let clients = Clients::of(&front)?;
    let (mut busy, mut idle) = (clients.pair(&pod)?, clients.pair(&pod)?);
    // The keepalive is set by the first look at a connection.
    thread::sleep(Duration::from_secs(2));
    apart.lose(apart.pod(0))?;
    let begun = Instant::now();
    busy.0.write_all(&[7; 1000])?;
    let (busy, idle) = thread::scope(|scope| {
        let busy = scope.spawn(|| told(&mut busy.0, begun));
        let idle = scope.spawn(|| told(&mut idle.0, begun));
        (busy.join(), idle.join())
    });
    let lost = || anyhow::anyhow!("a thread has panicked");
    let (busy, idle) = (busy.map_err(|_| lost())??, idle.map_err(|_| lost())??);
    let within = |told: Option<f64>, seconds| told.is_some_and(|took| took <= seconds);
    let shown = |told: Option<f64>| {
        told.map_or_else(|| format!("not in {GIVEN_UP_AFTER:?}"), |took| format!("{took:.1} s"))
    };
    // The sweep comes by each half second.
    let met = within(busy, 30.5) && within(idle, 60.5);
    Ok(Cell::measured(met, format!("in flight {}, idle {}", shown(busy), shown(idle))))
}

/// When it was reset, in seconds.
fn told(client: &mut TcpStream, begun: Instant) -> anyhow::Result<Option<f64>> {
    let (_, end) = drain(client, GIVEN_UP_AFTER)?;
    Ok((end == End::Rst).then(|| begun.elapsed().as_secs_f64()))
}
