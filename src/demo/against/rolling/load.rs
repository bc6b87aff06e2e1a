//! What goes through the gateways while they are replaced: requests short and long, streams, calls
//! and sessions over TCP; and the account of it.
//!
//! Must not know: which gateway is there when.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    application::EVERY,
    client::{Http, Lines},
    sidecars::{BEHIND, HTTP1, HTTP2, TCP},
};

/// Between two short requests of one client.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two calls over TCP of one client: each has a handshake.
const CALL_PAUSE: Duration = Duration::from_millis(200);
/// Between two requests that take as long, through a load balancer: too short for a quiet moment.
const BUSY_PAUSE: Duration = Duration::from_millis(300);
/// Between two lines of a session: longer than a quiet moment.
const SESSION_PAUSE: Duration = Duration::from_secs(3);
/// Clients of each kind.
const SHORT: u32 = 5;
const LONG: usize = 3;
const ENDLESS: usize = 3;

/// Kinds of work that end by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// An answer of two bytes, at once.
    Short,
    /// The same after six seconds.
    Long,
    /// An answer after 0.3 s, by HTTP/1.1 through a load balancer's one address.
    Behind,
    /// An HTTP/2 stream of six seconds.
    Stream,
    /// A connection over TCP: a line and its echo.
    Call,
    /// A line of a TCP session that rests between lines.
    Line,
}

/// How many went well, and why the others did not.
#[derive(Debug, Default)]
pub struct Tally {
    /// To the last byte.
    pub good: usize,
    /// When, and in words.
    pub failed: Vec<(Instant, String)>,
}

/// Everything together.
#[derive(Debug, Default)]
pub struct Account {
    /// By kind.
    pub work: BTreeMap<Work, Tally>,
    /// When endless HTTP/2 streams were cut.
    pub streams_cut: Vec<Instant>,
    /// When endless TCP streams were cut.
    pub tcp_cut: Vec<Instant>,
    /// Sessions that ended while they rested.
    pub ended_at_rest: usize,
}

type Shared = Arc<Mutex<Account>>;

/// Goes on until it is dropped or [`Load::stop`]ped.
#[derive(Debug)]
pub struct Load {
    account: Shared,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts all clients of the sidecar at this address.
    #[must_use]
    pub fn start(sidecar: Ipv4Addr) -> Self {
        let account = Shared::default();
        let mut clients = JoinSet::new();
        for way in [HTTP1, HTTP2] {
            let to = (sidecar, way.port).into();
            for _ in 0..SHORT {
                clients.spawn(requests(account.clone(), to, "/", Work::Short, PAUSE));
            }
            for _ in 0..LONG {
                clients.spawn(requests(account.clone(), to, "/slow", Work::Long, PAUSE));
            }
        }
        let (http2, tcp) = ((sidecar, HTTP2.port).into(), (sidecar, TCP.port).into());
        for _ in 0..LONG {
            clients.spawn(requests(account.clone(), http2, "/stream/60", Work::Stream, PAUSE));
            clients.spawn(sessions(account.clone(), tcp));
        }
        let behind = (sidecar, BEHIND.port).into();
        for n in 0..SHORT {
            clients.spawn(calls(account.clone(), tcp));
            let work = requests(account.clone(), behind, "/work", Work::Behind, BUSY_PAUSE);
            // Not in step: at any time some are at work and some rest.
            let early = BUSY_PAUSE * 2 * n / SHORT;
            clients.spawn(async move {
                tokio::time::sleep(early).await;
                work.await;
            });
        }
        for _ in 0..ENDLESS {
            clients.spawn(endless_streams(account.clone(), http2));
            clients.spawn(endless_tcp(account.clone(), tcp));
        }
        Self { account, clients }
    }

    /// True when every kind of work was done at least once.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        let account = lock(&self.account);
        let kinds = [Work::Short, Work::Long, Work::Behind, Work::Stream, Work::Call, Work::Line];
        kinds.iter().all(|kind| account.work.get(kind).is_some_and(|tally| tally.good > 0))
    }

    /// Ends; what is under way is neither good nor failed.
    pub async fn stop(mut self) -> Account {
        self.clients.shutdown().await;
        std::mem::take(&mut lock(&self.account))
    }
}

fn lock(account: &Shared) -> MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(account: &Shared, work: Work, result: Result<(), String>) {
    let mut account = lock(account);
    let tally = account.work.entry(work).or_default();
    match result {
        Ok(()) => tally.good += 1,
        Err(why) => tally.failed.push((Instant::now(), why)),
    }
}

async fn requests(account: Shared, to: SocketAddr, path: &str, work: Work, pause: Duration) {
    let mut client = Http::new(to);
    loop {
        let result = client.get(path).await.map_err(|failure| failure.why);
        count(&account, work, result);
        tokio::time::sleep(pause).await;
    }
}

/// One that never began is a failed request, one that did is cut.
async fn endless_streams(account: Shared, to: SocketAddr) {
    loop {
        match Http::new(to).get("/stream/1000000").await {
            Err(failure) if failure.begun => lock(&account).streams_cut.push(Instant::now()),
            Err(failure) => count(&account, Work::Stream, Err(failure.why)),
            Ok(()) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn calls(account: Shared, to: SocketAddr) {
    loop {
        let call = async { Lines::connect(to).await?.say().await };
        count(&account, Work::Call, call.await.map_err(|e| e.to_string()));
        tokio::time::sleep(CALL_PAUSE).await;
    }
}

async fn endless_tcp(account: Shared, to: SocketAddr) {
    loop {
        let mut begun = false;
        let talk = async {
            let mut lines = Lines::connect(to).await?;
            loop {
                lines.say().await?;
                begun = true;
                tokio::time::sleep(EVERY).await;
            }
        };
        let ended: std::io::Result<()> = talk.await;
        match ended {
            Err(_) if begun => lock(&account).tcp_cut.push(Instant::now()),
            ended => count(&account, Work::Call, ended.map_err(|e| e.to_string())),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A connection that ends while it rests has lost nothing.
async fn sessions(account: Shared, to: SocketAddr) {
    loop {
        let Ok(mut lines) = Lines::connect(to).await else { continue };
        loop {
            let said = lines.say().await.map_err(|e| e.to_string());
            let failed = said.is_err();
            count(&account, Work::Line, said);
            if failed {
                break;
            }
            if !lines.rest(SESSION_PAUSE).await {
                lock(&account).ended_at_rest += 1;
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
