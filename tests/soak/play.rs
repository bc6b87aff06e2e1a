//! Both ends of every connection, as its script has them. Must not know: what the gateway counts.

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinSet, spawn_local},
    time::{sleep, sleep_until, timeout},
};

use super::{
    PATIENCE,
    hello::Hello,
    ledger::Ledger,
    script::{End, Refusal, Script, Side, Talk, Target},
    stream::{Stream, Wrong},
};

/// Connections at the same time, at most: a machine that is slower than it was at calibration is
/// not drowned.
const TOGETHER_MAX: usize = 1500;
/// Where a ClientHello's 32 random bytes begin: their first eight hold the connection's number.
const RANDOM_AT: usize = 5 + 4 + 2;
/// An endpoint's first words, where it speaks first: as long and begun as a ServerHello's record.
const GREETING: [u8; 9] = [22, 3, 3, 0, 4, 2, 0, 0, 0];

/// The name of a service's route.
fn key(service: &str) -> String {
    format!("outbound_.8080_._.{service}.ns2.global")
}

fn wire(hello: &Hello, number: u64) -> Vec<u8> {
    let mut wire = hello.wire();
    wire[RANDOM_AT..RANDOM_AT + 8].copy_from_slice(&number.to_be_bytes());
    wire
}

fn name_of(target: Target) -> &'static str {
    match target {
        Target::Steady => "steady",
        Target::Mixed => "mixed",
    }
}

/// The clients.
pub struct Load {
    seed: u64,
    gateway: SocketAddr,
    ledger: Rc<Ledger>,
}

impl Load {
    pub fn new(seed: u64, gateway: SocketAddr, ledger: &Rc<Ledger>) -> Self {
        Self { seed, gateway, ledger: Rc::clone(ledger) }
    }

    /// So many clients, one script after the other and without pauses. Gives connections/s.
    pub async fn all_it_can(&self, clients: usize, time: Duration) -> f64 {
        let (begun, before) = (Instant::now(), self.ledger.begun());
        let mut running = JoinSet::new();
        while begun.elapsed() < time {
            while running.len() < clients {
                running.spawn_local(self.next_client(true));
            }
            running.join_next().await.expect("a client").expect("it does not panic");
            self.ledger.check();
        }
        let rate = (self.ledger.begun() - before) as f64 / begun.elapsed().as_secs_f64();
        while running.join_next().await.is_some() {}
        rate
    }

    /// Open loop: a connection begins when it is due, whatever became of earlier ones.
    pub async fn at_rate(&self, rate: f64, time: Duration, least: u64) {
        let begun = tokio::time::Instant::now();
        let mut running = JoinSet::new();
        let mut due = begun;
        while due < begun + time || self.ledger.begun() < least {
            sleep_until(due).await;
            self.ledger.check();
            due += Duration::from_secs_f64(1.0 / rate);
            running.spawn_local(self.next_client(false));
            while running.len() >= TOGETHER_MAX || running.try_join_next().is_some() {
                if running.len() >= TOGETHER_MAX {
                    self.ledger.note_late();
                    running.join_next().await;
                }
            }
        }
        while running.join_next().await.is_some() {}
    }

    fn next_client(&self, hurry: bool) -> impl Future<Output = ()> + 'static {
        let number = self.ledger.begin();
        let (seed, gateway, ledger) = (self.seed, self.gateway, Rc::clone(&self.ledger));
        async move {
            let script = Script::new(seed, number);
            let done = timeout(PATIENCE, client(&script, number, gateway, hurry, &ledger)).await;
            if let Err(wrong) = done.unwrap_or_else(|_| Err("it does not end".into())) {
                ledger.note_wrong(format!("client {number}: {wrong}; {script:?}; seed {seed}"));
            }
        }
    }
}

async fn client(
    script: &Script,
    number: u64,
    gateway: SocketAddr,
    hurry: bool,
    ledger: &Ledger,
) -> Result<(), Wrong> {
    let tcp = TcpStream::connect(gateway).await.map_err(|e| format!("connect: {e}"))?;
    tcp.set_nodelay(true).map_err(|e| e.to_string())?;
    match script {
        Script::Refused(refusal) => {
            be_refused(tcp, *refusal, number).await?;
            ledger.refused(*refusal);
        }
        Script::Relayed(talk) => {
            ledger.expect(number, hurry);
            let hello = wire(&Hello::new(&key(name_of(talk.target))), number);
            let moved = talk_as_client(tcp, talk, &hello, number, hurry).await?;
            ledger.client_done(number, talk.end, hello.len() as u64, moved)?;
        }
    }
    Ok(())
}

async fn be_refused(mut tcp: TcpStream, refusal: Refusal, number: u64) -> Result<(), Wrong> {
    let good = Hello::new(&key("steady"));
    let hello = match refusal {
        Refusal::UnknownName => wire(&Hello::new(&key("nobody")), number),
        Refusal::NoEndpoint => wire(&Hello::new(&key("empty")), number),
        Refusal::NoName => wire(&Hello { server_name: None, ..good }, number),
        Refusal::NoAlpn => wire(&Hello { alpn: vec!["h2"], ..good }, number),
        Refusal::OldVersion => wire(&Hello { legacy_version: 0x0300, ..good }, number),
        Refusal::NotTls => b"GET / HTTP/1.1\r\nhost: bar\r\n\r\n".to_vec(),
        Refusal::CutByFin | Refusal::CutByReset => {
            let mut wire = wire(&good, number);
            wire.truncate(5 + usize::try_from(number % 60).expect("small"));
            wire
        }
    };
    tcp.write_all(&hello).await.map_err(|e| format!("hello: {e}"))?;
    match refusal {
        Refusal::CutByFin => tcp.shutdown().await.map_err(|e| format!("FIN: {e}"))?,
        Refusal::CutByReset => return Stream::client(tcp, number).reset(),
        _ => {}
    }
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.map_err(|e| format!("no FIN: {e}"))?;
    let alert = |description| vec![21, 3, 3, 0, 2, 2, description];
    let owed = match refusal {
        Refusal::UnknownName | Refusal::NoName => alert(112),
        Refusal::NoEndpoint => alert(80),
        Refusal::NoAlpn => alert(120),
        Refusal::OldVersion => alert(70),
        Refusal::NotTls | Refusal::CutByFin | Refusal::CutByReset => Vec::new(),
    };
    if answer == owed { Ok(()) } else { Err(format!("answered {answer:?}, not {owed:?}")) }
}

async fn talk_as_client(
    mut tcp: TcpStream,
    talk: &Talk,
    hello: &[u8],
    number: u64,
    hurry: bool,
) -> Result<(u64, u64), Wrong> {
    tcp.write_all(hello).await.map_err(|e| format!("hello: {e}"))?;
    if !talk.pipelined {
        let (mut greeting, mut read) = ([0; GREETING.len()], 0);
        while read < GREETING.len() {
            match tcp.read(&mut greeting[read..]).await {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) => return Err(format!("greeting: {e} behind {read} bytes")),
            }
        }
        if greeting != GREETING {
            return Err(format!("greeted with {:?} and FIN", &greeting[..read]));
        }
    }
    let mut stream = Stream::client(tcp, number);
    for (n, (up, down)) in talk.rounds.iter().enumerate() {
        if n > 0 && !hurry {
            sleep(talk.pause).await;
        }
        if talk.duplex && talk.stall.is_none() {
            stream.say_and_hear(*up, *down).await?;
        } else {
            stream.say(*up).await?;
            stalled(talk, n, Side::Client, hurry).await;
            stream.hear(*down).await?;
        }
    }
    // So that each knows that the other has heard everything.
    stream.say(1).await?;
    stream.hear(1).await?;
    end(&mut stream, Side::Client, talk.end).await?;
    Ok(stream.moved())
}

async fn talk_as_server(mut stream: Stream, talk: &Talk, hurry: bool) -> Result<(u64, u64), Wrong> {
    for (n, (up, down)) in talk.rounds.iter().enumerate() {
        if talk.duplex && talk.stall.is_none() {
            stream.say_and_hear(*down, *up).await?;
        } else {
            stalled(talk, n, Side::Endpoint, hurry).await;
            stream.hear(*up).await?;
            stream.say(*down).await?;
        }
    }
    stream.hear(1).await?;
    stream.say(1).await?;
    end(&mut stream, Side::Endpoint, talk.end).await?;
    Ok(stream.moved())
}

/// Lets the other side talk to nobody for a while.
async fn stalled(talk: &Talk, round: usize, side: Side, hurry: bool) {
    if let Some((who, pause)) = talk.stall
        && (round, who, hurry) == (0, side, false)
    {
        sleep(pause).await;
    }
}

async fn end(stream: &mut Stream, side: Side, end: End) -> Result<(), Wrong> {
    match end {
        End::Fin(who, more) if who == side => {
            stream.fin().await?;
            stream.hear(more).await?;
            stream.hear_fin().await
        }
        End::Fin(_, more) => {
            stream.hear_fin().await?;
            stream.say(more).await?;
            stream.fin().await
        }
        End::Reset(who) if who == side => stream.reset(),
        End::Reset(_) => stream.hear_reset().await,
        End::Abort(who, more) if who == side => {
            stream.hear(more / 2).await?;
            stream.reset()
        }
        End::Abort(_, more) => stream.say_until_reset(more).await,
    }
}

/// Pods that follow the scripts.
pub fn serve(listener: TcpListener, seed: u64, ledger: Rc<Ledger>) {
    spawn_local(async move {
        loop {
            let (tcp, _) = listener.accept().await.expect("accept");
            let ledger = Rc::clone(&ledger);
            spawn_local(async move {
                let mut number = None;
                let done = timeout(PATIENCE, server(tcp, seed, &ledger, &mut number)).await;
                if let Err(wrong) = done.unwrap_or_else(|_| Err("it does not end".into())) {
                    ledger.note_wrong(format!("endpoint of {number:?}: {wrong}; seed {seed}"));
                }
            });
        }
    });
}

async fn server(
    mut tcp: TcpStream,
    seed: u64,
    ledger: &Ledger,
    known: &mut Option<u64>,
) -> Result<(), Wrong> {
    tcp.set_nodelay(true).map_err(|e| e.to_string())?;
    let mut hello = vec![0; RANDOM_AT + 8];
    tcp.read_exact(&mut hello).await.map_err(|e| format!("no hello: {e}"))?;
    let number = u64::from_be_bytes(hello[RANDOM_AT..].try_into().expect("eight"));
    *known = Some(number);
    let hurry = ledger.dialled(number)?;
    let script = Script::new(seed, number);
    let Script::Relayed(talk) = &script else {
        return Err(format!("an endpoint was dialled for {script:?}"));
    };
    let owed = wire(&Hello::new(&key(name_of(talk.target))), number);
    hello.resize(owed.len(), 0);
    let rest = &mut hello[RANDOM_AT + 8..];
    tcp.read_exact(rest).await.map_err(|e| format!("half a hello: {e}"))?;
    if hello != owed {
        return Err("the hello was changed".into());
    }
    if !talk.pipelined {
        tcp.write_all(&GREETING).await.map_err(|e| format!("greeting: {e}"))?;
    }
    let moved = talk_as_server(Stream::server(tcp, number), talk, hurry).await;
    let moved = moved.map_err(|wrong| format!("{wrong}; {talk:?}"))?;
    let greeting = if talk.pipelined { 0 } else { GREETING.len() as u64 };
    ledger.server_done(number, talk.end, greeting, moved)
}

/// A pod that accepts and resets before it says anything.
pub fn reset_all(listener: TcpListener) {
    spawn_local(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.expect("accept");
            spawn_local(async move {
                let _ = tcp.read(&mut [0; 64]).await;
                Stream::server(tcp, 0).reset()
            });
        }
    });
}
