//! G7: an endpoint that was taken away is not dialled any more, and whoever talks to it goes on.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};

use super::{
    Peer, Stage,
    front::Terms,
    goal::{Cell, Goal, How},
    load,
};
use crate::bench::{
    Plan, Scenario,
    churn::Churn,
    compare::{
        configs::{Site, names},
        manifests,
    },
    exchange::GREETING,
};

pub(super) const GOAL: Goal = Goal {
    name: "G7",
    done: "10,000 endpoints, 100,000 of them a minute come or go (--quick: 1,000, 300/s for 3 s) \
           beside 200 live and 300 new connections/s",
    reach: "0 dials > 100 ms after the removal, 0 cut, 0 fail (a swap is not seen from outside)",
    how: How::Measured { measure, rivals: false },
};

const ENDPOINTS: usize = 5;
/// After this nobody may be dialled who was taken away.
const GRACE: Duration = Duration::from_millis(100);

/// Who is away, and since when.
type Away = Arc<Mutex<HashMap<IpAddr, Instant>>>;

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let (services, rate, seconds) = stage.pick((2_000, 100_000.0 / 60.0, 60), (200, 300.0, 3));
    let (away, late) = (Away::default(), Arc::<AtomicU64>::default());
    let port = serve(Arc::clone(&away), Arc::clone(&late))?;
    let endpoints = move |service: usize| -> Vec<SocketAddr> {
        (0..ENDPOINTS).map(|n| (address(service, n), port).into()).collect()
    };
    let terms = Terms {
        changing: true,
        // The addresses have no Pods that would say so.
        settings: &["gateway.require_mesh_tls=false"],
        ..Terms::default()
    };
    let front = stage.front(peer, &endpoints(0), &terms)?;
    let dir = front.dir.clone();
    for service in 0..services {
        write(&dir, front.target, service, &endpoints(service))?;
    }
    let duration = Some(Duration::from_secs(seconds));
    let names = names(services);
    let one = load::plan(&front, Scenario::Connect)?;
    wait_for_all(&Plan { names: names[services - 1..].to_vec(), count: Some(1), ..one.clone() })?;
    let new = Plan { names: names.clone(), rate: Some(300.0), duration, ..one.clone() };
    let hold = Plan { scenario: Scenario::Hold, names, concurrency: 200, duration, ..one };
    let (target, absent) = (front.target, Arc::clone(&away));
    // Each turn takes one away and lets the one before back in.
    let change = move |turn: u64| {
        let turn = usize::try_from(turn)?;
        let (service, gone) = (turn * 7919 % services, turn / services % ENDPOINTS);
        let mut left = endpoints(service);
        let leaves = left.remove(gone).ip();
        let lock = || absent.lock().unwrap_or_else(PoisonError::into_inner);
        lock().retain(|ip, _| !left.iter().any(|present| present.ip() == *ip));
        write(&dir, target, service, &left)?;
        lock().insert(leaves, Instant::now());
        Ok(())
    };
    let churn = Churn::start(rate, change)?;
    let (held, made) = load::beside(&hold, || load::make(&new))?;
    let changes = churn.stop();
    let late = late.load(Ordering::Relaxed);
    let cut = held.totals.failures() + made.totals.cut();
    let failed = made.totals.failures() - made.totals.cut();
    let figure = format!(
        "{} files changed, {:.0}/s; {late} dials too late, {cut} cut, {failed} fail of {}",
        changes.made,
        changes.made as f64 / made.seconds,
        made.totals.operations
    );
    Ok(Cell::measured((late, cut, failed) == (0, 0, 0) && changes.failed.is_empty(), figure))
}

fn address(service: usize, n: usize) -> Ipv4Addr {
    let part = |n: usize| u8::try_from(n % 250).unwrap_or(0);
    Ipv4Addr::new(127, 40 + part(n), part(service / 250), 1 + part(service))
}

fn write(dir: &Path, listen: SocketAddr, service: usize, pods: &[SocketAddr]) -> io::Result<()> {
    manifests::write_route(&Site::new(dir, listen, pods), service)
}

/// Waits until the last of the services is served.
fn wait_for_all(plan: &Plan) -> anyhow::Result<()> {
    let begun = Instant::now();
    while load::make(plan)?.totals.failures() > 0 {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(60), "not all services are served");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Every endpoint at once: one listener for all of 127/8, which sees who was meant.
fn serve(away: Away, late: Arc<AtomicU64>) -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind("0.0.0.0:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("endpoints".into()).spawn(move || {
        LocalSet::new().block_on(&runtime, async {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((tcp, _)) = listener.accept().await {
                let meant = tcp.local_addr().map(|address| address.ip());
                let away = away.lock().unwrap_or_else(PoisonError::into_inner);
                let since = meant.ok().and_then(|ip| away.get(&ip).copied());
                late.fetch_add(
                    u64::from(since.is_some_and(|since| since.elapsed() > GRACE)),
                    Ordering::Relaxed,
                );
                spawn_local(echo(tcp));
            }
        });
    })?;
    Ok(port)
}

/// Greets, then says what it hears: a request is as long as its answer here.
async fn echo(mut tcp: TcpStream) -> io::Result<()> {
    let mut header = [0; 5];
    tcp.read_exact(&mut header).await?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    tcp.read_exact(&mut body).await?;
    tcp.write_all(&GREETING).await?;
    let (mut from, mut to) = tcp.split();
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}
