//! G12: short of memory a gateway turns newcomers away; nobody is cut, and it is not killed.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    Peer, Stage,
    flights::{Hello, padding},
    front::{Terms, Under},
    goal::{Cell, Goal, How},
    script::{Clients, PATIENCE, Pair, Pod},
};
use crate::bench::compare::process::Made;

pub(super) const GOAL: Goal = Goal {
    name: "G12",
    done: "64 MiB for it and 6,000 hellos of which 12 KiB have come, beside 200 live connections",
    reach: "not killed, 0 live cut, newcomers reset ≤ 1 ms and served when the crowd has gone",
    how: How::Measured { measure, rivals: true },
};

const GROUPS: &str = "/sys/fs/cgroup/memory";
const LIMIT: &str = "67108864";
const CROWD: usize = 6_000;
const PART_BYTES: usize = 12 << 10;
/// As long as all of them may take to arrive.
const CROWD_TIME: Duration = Duration::from_secs(20);
/// They are to hold what they have; the deadline of hellos is another goal's.
const SETTINGS: &[&str] = &["sniff.timeout=1m"];

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let group = PathBuf::from(format!("{GROUPS}/diolkos-{}", std::process::id()));
    if !Path::new(GROUPS).join("cgroup.procs").exists() || fs::create_dir(&group).is_err() {
        return Ok(Cell::not("needs root and the memory controller of cgroups version 1"));
    }
    let _made = Made::new(group.to_string_lossy(), take_away);
    fs::write(group.join("memory.limit_in_bytes"), LIMIT)?;
    let procs = group.join("cgroup.procs");
    let pod = Pod::new()?;
    let terms = Terms { settings: SETTINGS, under: Under::Group(&procs), ..Terms::default() };
    let mut front = stage.front(peer, &[pod.address], &terms)?;
    let clients = Clients::of(&front)?;
    let mut pairs = clients.pairs(&pod, 200)?;
    let mut hello = Hello::new(&front.name());
    hello.extensions.push(padding(15_000));
    let part = &hello.wire()[..PART_BYTES];
    let (mut crowd, begun) = (Vec::new(), Instant::now());
    for _ in 0..CROWD {
        // One that is killed, or busy with nothing but its memory, takes no more of them.
        if begun.elapsed() > CROWD_TIME {
            break;
        }
        crowd.extend(clients.say(part).ok());
    }
    let crowd_size = crowd.len();
    thread::sleep(Duration::from_secs(stage.pick(30, 3)));
    let mut shed = 0;
    for client in &mut crowd {
        client.set_nonblocking(true)?;
        let ended = client.read(&mut [0]);
        shed += usize::from(!ended.is_err_and(|e| e.kind() == ErrorKind::WouldBlock));
    }
    let newcomer = if shed > 0 && front.is_alive() { newcomer(&clients) } else { None };
    drop(crowd);
    pod.refuse_all();
    let again = if front.is_alive() { again(&clients, &pod)? } else { None };
    let cut = pairs.iter_mut().filter_map(|pair| exchange(pair).err()).count();
    let alive = front.is_alive();
    let life = if alive { "alive" } else { "killed" };
    let took = newcomer.map_or_else(|| "not reset".into(), |took| format!("reset in {took:.1?}"));
    let later = again.map_or("never again".into(), |took| format!("again after {took:.1?}"));
    let figure = format!(
        "{life}, {cut} of 200 live cut, {shed} of {crowd_size} shed, a newcomer {took}, {later}"
    );
    // Whoever is let in is not told anything: there was room again.
    let told = newcomer.is_none_or(|took| took <= Duration::from_millis(1));
    Ok(Cell::measured(alive && cut == 0 && told && again.is_some(), figure))
}

/// The median time until it is reset, of those who are.
fn newcomer(clients: &Clients) -> Option<Duration> {
    let mut took: Vec<Duration> = (0..20)
        .filter_map(|_| {
            let begun = Instant::now();
            let read = clients.dial().and_then(|mut client| {
                // One that is let in is answered by nobody.
                client.set_read_timeout(Some(Duration::from_millis(200)))?;
                client.read(&mut [0])
            });
            read.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset).then(|| begun.elapsed())
        })
        .collect();
    took.sort();
    took.get(took.len() / 2).copied()
}

/// How long after the crowd has gone a newcomer is served.
fn again(clients: &Clients, pod: &Pod) -> anyhow::Result<Option<Duration>> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if matches!(clients.try_pair(pod), Ok((Some(_), _))) {
            return Ok(Some(begun.elapsed()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(None)
}

/// A byte each way.
fn exchange((client, server): &mut Pair) -> std::io::Result<()> {
    client.write_all(&[1])?;
    server.read_exact(&mut [0])?;
    server.write_all(&[1])?;
    client.read_exact(&mut [0])
}

/// Whoever is still in it has been killed, and is about to be gone.
fn take_away(group: &str) {
    for _ in 0..100 {
        if fs::remove_dir(group).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
