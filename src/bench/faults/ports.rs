//! G13: without a port left towards an endpoint the client is told at once, and the next one is
//! served as soon as there is a port again.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Peer, Stage,
    apart::Apart,
    front::{Terms, Under},
    goal::{Cell, Goal, How},
    script::{Clients, End, PATIENCE, Pod, drain},
};

pub(super) const GOAL: Goal = Goal {
    name: "G13",
    done: "32 ports, 1,000 connections (--quick: 200) to one endpoint",
    reach: "32 served, the rest answered ≤ 50 ms, again ≤ 100 ms, CPU ≤ 2 % between",
    how: How::Measured { measure, rivals: true },
};

const PORTS: usize = 32;

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let apart = Apart::new(1)?;
    let pod = Pod::at(apart.pod(0).into())?;
    let terms = Terms { under: Under::Host(&apart), ..Terms::default() };
    let front = stage.front(peer, &[pod.address], &terms)?;
    apart.run("sysctl -qw net.ipv4.ip_local_port_range=40000\t40031")?;
    let clients = Clients::of(&front)?;
    let (mut held, mut latest) = (Vec::new(), Duration::ZERO);
    for _ in 0..stage.pick(1_000, 200) {
        match clients.try_pair(&pod)? {
            (Some(pair), _) => held.push(pair),
            (None, took) => latest = latest.max(took),
        }
    }
    let served = held.len();
    let cpu = front.cpu_over(Duration::from_secs(1))?;
    let again = if let Some((mut client, server)) = held.pop() {
        // The endpoint first: its port is free at once.
        drop(server);
        let ended = drain(&mut client, PATIENCE)?.1 == End::Fin;
        drop(client);
        let begun = Instant::now();
        while ended && clients.try_pair(&pod)?.0.is_none() && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(2));
        }
        begun.elapsed()
    } else {
        PATIENCE
    };
    let met = served == PORTS
        && latest <= Duration::from_millis(50)
        && again <= Duration::from_millis(100)
        && cpu <= 2.0;
    let (latest, again) = (latest.as_millis(), again.as_millis());
    let figure = format!(
        "{served} served, others told within {latest} ms, again after {again} ms, {cpu:.1} % CPU"
    );
    Ok(Cell::measured(met, figure))
}
