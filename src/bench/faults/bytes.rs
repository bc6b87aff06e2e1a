//! G4 and G26: every byte arrives once, in its place and on its own connection, also when one side
//! has ended its half, and also over a bad line.

use std::{
    cell::{Cell as Count, OnceCell},
    io,
    net::IpAddr,
    rc::Rc,
    sync::LazyLock,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinSet, LocalSet, spawn_local},
    time::{sleep, timeout},
};

use super::{
    Peer, Stage,
    apart::Apart,
    front::{Front, Terms, Under},
    goal::{Cell, Goal, How},
    script::Clients,
};

pub(super) const GOAL: Goal = Goal {
    name: "G4",
    done: "100,000 connections (--quick: 300; rivals: 2,000) of 0 to 8 MB each way: pipelining, \
           stalls, half-closes by either side",
    reach: "0 bytes lost, 0 foreign, 0 connections stuck",
    how: How::Measured { measure, rivals: true },
};

pub(super) const LOSS: Goal = Goal {
    name: "G26",
    done: "5 % of packets lost in either direction: 2,000 connections (--quick: 60)",
    reach: "0 bytes lost, 0 foreign, 0 connections stuck",
    how: How::Measured { measure: measure_with_loss, rivals: true },
};

const TOGETHER: usize = 32;
const CHUNK: usize = 64 << 10;
const TABLE_LEN: usize = 4_194_301;

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let full = if peer == Peer::Diolkos { 100_000 } else { 2_000 };
    let what = What { count: stage.pick(full, 300), doublings: 23, patience: 30 };
    let start = |pod| stage.front(peer, &[pod], &Terms::default());
    talk([127, 30, 4, 1].into(), start, &what)
}

fn measure_with_loss(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let apart = Apart::new(1)?;
    for hook in ["input", "output"] {
        apart.filter(hook, "numgen random mod 100 < 5 drop")?;
    }
    let what = What { count: stage.pick(2_000, 60), doublings: 16, patience: 60 };
    let terms = Terms { under: Under::Host(&apart), ..Terms::default() };
    let start = |pod| stage.front(peer, &[pod], &terms);
    talk(apart.pod(0).into(), start, &what)
}

struct What {
    count: u64,
    /// Up to 2 to the power of this many bytes each way.
    doublings: u64,
    /// Seconds for each connection.
    patience: u64,
}

/// What came of all connections.
#[derive(Default)]
struct Tally {
    lost: Count<u64>,
    foreign: Count<u64>,
    stuck: Count<u64>,
    /// Connections of which one end was not content.
    bad: Count<u64>,
    /// The first of these: which end, and of what it complained.
    first: OnceCell<String>,
}

fn talk(
    ip: IpAddr,
    start: impl FnOnce(std::net::SocketAddr) -> anyhow::Result<Front>,
    what: &What,
) -> anyhow::Result<Cell> {
    let listener = std::net::TcpListener::bind((ip, 0))?;
    listener.set_nonblocking(true)?;
    let front = start(listener.local_addr()?)?;
    let clients = Rc::new(Clients::of(&front)?);
    let tally = Rc::new(Tally::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let patience = Duration::from_secs(what.patience);
        let listener = TcpListener::from_std(listener)?;
        let (counted, doublings) = (Rc::clone(&tally), what.doublings);
        spawn_local(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let tally = Rc::clone(&counted);
                spawn_local(async move {
                    let done = timeout(patience, serve(tcp, doublings, &tally)).await;
                    tally.note("pod", done.unwrap_or(Ok(())));
                });
            }
        });
        let mut running = JoinSet::new();
        for number in 0..what.count {
            if running.len() >= TOGETHER {
                running.join_next().await;
            }
            let (clients, tally) = (Rc::clone(&clients), Rc::clone(&tally));
            running.spawn_local(async move {
                let call = call(&clients, number, doublings, &tally);
                match timeout(patience, call).await {
                    Ok(done) => tally.note("client", done),
                    Err(_) => tally.stuck.set(tally.stuck.get() + 1),
                }
            });
        }
        while running.join_next().await.is_some() {}
        anyhow::Ok(())
    })?;
    Ok(tally.cell(what.count))
}

impl Tally {
    fn note(&self, whose: &str, done: io::Result<()>) {
        if let Err(error) = done {
            self.bad.set(self.bad.get() + 1);
            self.first.get_or_init(|| format!(" (first a {whose}: {error})"));
        }
    }

    fn cell(&self, count: u64) -> Cell {
        let all = [&self.lost, &self.foreign, &self.stuck, &self.bad].map(Count::get);
        let [lost, foreign, stuck, bad] = all;
        let first = self.first.get().map_or("", String::as_str);
        let figure = format!(
            "{count} connections: {lost} bytes lost, {foreign} foreign, {stuck} stuck, {bad} \
             failed{first}"
        );
        Cell::measured(all == [0; 4], figure)
    }
}

/// What the two ends of a connection do.
struct Talk {
    up: u64,
    down: u64,
    client_ends_first: bool,
    stall: Duration,
}

impl Talk {
    fn new(number: u64, doublings: u64) -> Self {
        let random = |n| mix(mix(number) ^ n);
        let size = |n: u64| random(n) % ((1 << (random(n + 1) % (doublings + 1))) + 1);
        let stall = if random(5) % 10 == 0 { random(6) % 200 } else { 0 };
        let client_ends_first = random(7) % 2 == 0;
        Self { up: size(1), down: size(3), client_ends_first, stall: Duration::from_millis(stall) }
    }
}

async fn call(clients: &Clients, number: u64, doublings: u64, tally: &Tally) -> io::Result<()> {
    let talk = Talk::new(number, doublings);
    let mut tcp = TcpStream::connect(clients.target()).await?;
    // Its number and whatever follows come with the hello.
    let hello = [clients.hello(), number.to_be_bytes().to_vec()].concat();
    tcp.write_all(&hello).await?;
    if talk.client_ends_first {
        say(&mut tcp, number * 2, talk.up).await?;
        sleep(talk.stall).await;
        hear(&mut tcp, number * 2 + 1, talk.down, tally).await
    } else {
        sleep(talk.stall).await;
        hear(&mut tcp, number * 2 + 1, talk.down, tally).await?;
        say(&mut tcp, number * 2, talk.up).await
    }
}

async fn serve(mut tcp: TcpStream, doublings: u64, tally: &Tally) -> io::Result<()> {
    let mut header = [0; 5];
    tcp.read_exact(&mut header).await?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    tcp.read_exact(&mut body).await?;
    let number = tcp.read_u64().await?;
    let talk = Talk::new(number, doublings);
    if talk.client_ends_first {
        hear(&mut tcp, number * 2, talk.up, tally).await?;
        say(&mut tcp, number * 2 + 1, talk.down).await
    } else {
        say(&mut tcp, number * 2 + 1, talk.down).await?;
        hear(&mut tcp, number * 2, talk.up, tally).await
    }
}

/// Random bytes over and over: each stream begins at a place of its own.
static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = (0..TABLE_LEN.div_ceil(8) as u64).flat_map(|n| mix(n).to_le_bytes());
    let mut bytes: Vec<u8> = words.take(TABLE_LEN).collect();
    bytes.extend_from_within(..CHUNK);
    bytes
});

fn ahead(key: u64, at: u64, most: u64) -> &'static [u8] {
    let length = TABLE_LEN as u64;
    let begin = usize::try_from((mix(key) % length + at) % length).unwrap_or(0);
    &TABLE[begin..begin + usize::try_from(most).unwrap_or(CHUNK).min(CHUNK)]
}

/// The finisher of splitmix64.
fn mix(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// All of it, then FIN.
async fn say(tcp: &mut TcpStream, key: u64, bytes: u64) -> io::Result<()> {
    let mut at = 0;
    while at < bytes {
        at += tcp.write(ahead(key, at, bytes - at)).await? as u64;
    }
    tcp.shutdown().await
}

/// All of it, then FIN; what is missing or is not from here is counted.
async fn hear(tcp: &mut TcpStream, key: u64, bytes: u64, tally: &Tally) -> io::Result<()> {
    let (mut at, mut chunk) = (0, vec![0; CHUNK]);
    loop {
        let got = match tcp.read(&mut chunk).await {
            Ok(0) => break,
            Ok(got) => got,
            Err(e) => {
                tally.lost.set(tally.lost.get() + bytes.saturating_sub(at));
                return Err(e);
            }
        };
        let owed = ahead(key, at, got as u64);
        let foreign = owed.iter().zip(&chunk).filter(|(a, b)| a != b).count();
        at += got as u64;
        let beyond = at.saturating_sub(bytes).min(got as u64);
        tally.foreign.set(tally.foreign.get() + (foreign as u64).max(beyond));
    }
    tally.lost.set(tally.lost.get() + bytes.saturating_sub(at));
    Ok(())
}
