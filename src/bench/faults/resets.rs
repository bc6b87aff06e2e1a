//! G5: an RST of one side is an RST to the other, after every byte that was taken before it.

use std::{
    io::Write as _,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use super::{
    Peer, Stage,
    front::Terms,
    goal::{Cell, Goal, How},
    script::{Clients, End, Pod, drain, fill, reset},
};
use crate::net::sys::unacknowledged;

pub(super) const GOAL: Goal = Goal {
    name: "G5",
    done: "each side resets an idle, a streaming and a stalled connection",
    reach: "100 % seen as RST, 0 bytes lost of those taken before it",
    how: How::Measured { measure, rivals: true },
};

const STREAMED_BYTES: usize = 128 << 10;
/// Not RST and not FIN after this is neither.
const SEEN_WITHIN: Duration = Duration::from_secs(3);

#[derive(Clone, Copy)]
enum State {
    Idle,
    Streaming,
    /// The other side reads nothing, and begins to when the RST was sent.
    Stalled,
}

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let pod = Pod::new()?;
    let front = stage.front(peer, &[pod.address], &Terms::default())?;
    let clients = Clients::of(&front)?;
    let (mut all, mut seen, mut lost, mut fins) = (0, 0, 0, 0);
    for _ in 0..stage.pick(20, 3) {
        for state in [State::Idle, State::Streaming, State::Stalled] {
            for by_client in [true, false] {
                let (client, server) = clients.pair(&pod)?;
                let (from, mut to) = if by_client { (client, server) } else { (server, client) };
                let taken = say(state, from)?;
                let (heard, end) = drain(&mut to, SEEN_WITHIN)?;
                all += 1;
                seen += usize::from(end == End::Rst);
                fins += usize::from(end == End::Fin);
                lost += taken.saturating_sub(heard);
            }
        }
    }
    let rest = all - seen - fins;
    let figure = format!("{seen} of {all} RST, {fins} FIN, {rest} neither; {lost} bytes lost");
    Ok(Cell::measured(seen == all && lost == 0, figure))
}

/// Says something, resets, and gives how many bytes were taken before that.
fn say(state: State, mut from: TcpStream) -> anyhow::Result<u64> {
    let said = match state {
        State::Idle => 0,
        State::Streaming => {
            from.write_all(&vec![7; STREAMED_BYTES])?;
            STREAMED_BYTES as u64
        }
        State::Stalled => fill(&mut from, Duration::from_millis(100))?,
    };
    // On its way to the gateway's kernel: given a moment, where there is room.
    let deadline = Instant::now() + Duration::from_millis(100);
    while unacknowledged(&from)? > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let taken = said - unacknowledged(&from)? as u64;
    reset(from)?;
    Ok(taken)
}
