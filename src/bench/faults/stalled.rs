//! G16: readers that stop cost no memory, and lose nothing.

use std::{thread, time::Duration};

use socket2::SockRef;

use super::{
    Peer, Stage,
    front::Terms,
    goal::{Cell, Goal, How},
    script::{Clients, End, PATIENCE, Pod, drain, fill, fin},
};

pub(super) const GOAL: Goal = Goal {
    name: "G16",
    done: "500 clients (--quick: 200) stop reading while their endpoints say all they can",
    reach: "≤ 1 MiB more resident than with the same clients idle; 0 bytes lost afterwards",
    how: How::Measured { measure, rivals: true },
};

const MORE_MAX: u64 = 1 << 20;
/// With default limits of the kernel each holds 2.2 MB, and for 1,000 that is more than it has for
/// TCP in all (`net.ipv4.tcp_mem`): then it drops packets and acknowledges nothing, and whoever
/// does not acknowledge for 30 s counts as vanished.
const STALLED: usize = 500;
/// Of the peers' sockets. Those of the gateway are its own business.
const BUFFER_BYTES: usize = 128 << 10;

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let pod = Pod::new()?;
    let front = stage.front(peer, &[pod.address], &Terms::default())?;
    let clients = Clients::of(&front)?;
    let mut pairs = clients.pairs(&pod, stage.pick(STALLED, 200))?;
    for (client, server) in &pairs {
        SockRef::from(client).set_recv_buffer_size(BUFFER_BYTES)?;
        SockRef::from(server).set_send_buffer_size(BUFFER_BYTES)?;
    }
    let idle = front.reading()?.resident;
    let mut said = Vec::new();
    for (_, server) in &mut pairs {
        said.push(fill(server, Duration::from_millis(10))?);
    }
    thread::sleep(Duration::from_secs(stage.pick(60, 2)));
    let more = front.reading()?.resident.saturating_sub(idle);
    let (mut lost, mut ended) = (0, 0);
    for ((client, server), said) in pairs.iter_mut().zip(said) {
        fin(server);
        let (heard, end) = drain(client, PATIENCE)?;
        lost += said.saturating_sub(heard);
        ended += usize::from(end == End::Fin);
    }
    let each = more as f64 / pairs.len() as f64 / 1024.0;
    let cut = pairs.len() - ended;
    let figure =
        format!("{} KiB more ({each:.1} for each), {lost} bytes lost, {cut} cut", more >> 10);
    Ok(Cell::measured(more <= MORE_MAX && (lost, cut) == (0, 0), figure))
}
