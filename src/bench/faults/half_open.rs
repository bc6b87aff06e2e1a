//! G10: thousands that begin a hello and stop are held cheaply, ended in time, and in nobody's way.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{
    Peer, Stage,
    front::{Front, Terms},
    goal::{Cell, Goal, How},
    load,
    script::Clients,
};
use crate::bench::{Plan, Report, Scenario};

pub(super) const GOAL: Goal = Goal {
    name: "G10",
    done: "5,000 half-open hellos (--quick: 1,000) from 12 addresses beside 300 connections/s",
    reach: "good p99 ≤ 1 ms more, 0 good fail; ≤ 1 KiB each; all gone 4.9 to 5.1 s after accept",
    how: How::Measured { measure, rivals: true },
};

const SOURCES: u8 = 12;
const HALF: usize = 9;
/// Whoever is there still is not waited for.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(8);

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let pods = stage.local_pods()?;
    let front = stage.front(peer, &pods.addresses, &Terms::default())?;
    let plan = Plan {
        rate: Some(300.0),
        duration: Some(Duration::from_secs(3)),
        ..load::plan(&front, Scenario::Connect)?
    };
    let alone = load::make(&plan)?;
    let count = stage.pick(5_000, 1_000);
    let before = front.reading()?.resident;
    let (crowd, begun) = crowd(&front, count)?;
    thread::sleep(Duration::from_millis(200));
    let each = front.reading()?.resident.saturating_sub(before) / count as u64;
    let (beside, gone) = load::beside(&plan, || Ok(gone(crowd, &begun)))?;
    let (met, figure) = judge(&alone, &beside, each, &gone, count);
    Ok(Cell::measured(met, figure))
}

fn judge(
    alone: &Report,
    beside: &Report,
    each: u64,
    gone: &[Duration],
    count: usize,
) -> (bool, String) {
    let (p99, failed) = ((load::p99_ms(alone), load::p99_ms(beside)), beside.totals.failures());
    let first = gone.iter().min().map_or(0.0, Duration::as_secs_f64);
    let last = gone.iter().max().map_or(0.0, Duration::as_secs_f64);
    let there = count - gone.len();
    let met = p99.1 - p99.0 <= 1.0
        && (failed, there) == (0, 0)
        && each <= 1024
        && (first, last) >= (4.9, 4.9)
        && last <= 5.1;
    let ends = match there {
        0 => format!("gone after {first:.2} to {last:.2} s"),
        n => format!("{n} still there after {GIVEN_UP_AFTER:?}"),
    };
    let figure =
        format!("p99 {:.1} to {:.1} ms, {failed} good fail; {each} B each; {ends}", p99.0, p99.1);
    (met, figure)
}

/// They have said a little each, in the order in which they began.
fn crowd(front: &Front, count: usize) -> anyhow::Result<(Vec<TcpStream>, Vec<Instant>)> {
    let half = Clients::of(front)?.hello()[..HALF].to_vec();
    let (mut streams, mut begun) = (Vec::new(), Vec::new());
    for (_, source) in (0..count).zip((1..=SOURCES).cycle()) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 33, 0, source), 0)).into())?;
        socket.connect(&front.target.into())?;
        socket.send(&half)?;
        begun.push(Instant::now());
        streams.push(socket.into());
    }
    Ok((streams, begun))
}

/// When each was ended, in the order in which they began, as long as they are.
fn gone(crowd: Vec<TcpStream>, begun: &[Instant]) -> Vec<Duration> {
    let mut gone = Vec::new();
    for (mut stream, begun) in crowd.into_iter().zip(begun) {
        let left = GIVEN_UP_AFTER.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
        let patient = stream.set_read_timeout(Some(left)).is_ok();
        // FIN, RST or an alert.
        let waits = |e: &std::io::Error| e.kind() == std::io::ErrorKind::WouldBlock;
        if patient && !stream.read(&mut [0; 8]).as_ref().is_err_and(waits) {
            gone.push(begun.elapsed());
        }
    }
    gone
}
