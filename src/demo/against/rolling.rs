//! Two replicas of a gateway are replaced, one after the other, as a Deployment does it: a new one
//! is ready, sidecars are told of it, the old one is told to end and leaves the sidecars'
//! endpoints, and goes when it has drained.
//!
//! ```text
//!  clients ─▶ their Envoy sidecar ─ mutual TLS ─▶ gateway 1..4 ─▶ the pod's Envoy sidecar ─▶ app
//!                              └──▶ load balancer ──▶┘
//! ```
//!
//! Must not know: how a gateway drains.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, ensure};

pub mod application;
pub mod balancer;
pub mod client;
pub mod load;
pub mod sidecars;
pub mod words;

use super::{
    Told,
    gateways::{Gateway, Side, Stage},
    site::{Service, Site},
};
use crate::{
    certs::{Authority, Existing, SpiffeId},
    demo::{probe, process::Process, witness},
};
use application::Application;
use balancer::Balancer;
use load::{Account, Load};

/// After SIGTERM ours accepts so much longer, as by default; then connections have so long to
/// finish: half of the default, so that people can watch.
const PAUSE: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(10);
const SETTINGS: &[&str] = &["--set", "drain.pause=5s", "--set", "drain.deadline=10s"];
/// Istio's `terminationDrainDuration`: its agent tells Envoy to drain, waits so long and kills it.
const TERMINATION_DRAIN: Duration = Duration::from_secs(5);
/// Istio's drain time of a listener, which is never reached.
const ENVOY: &[&str] = &["--drain-time-s", "45", "--parent-shutdown-time-s", "60"];
/// From a change of endpoints to the sidecars: istiod waits for more changes, then pushes.
const PUSH: Duration = Duration::from_millis(500);
/// Work of all kinds is under way in a few seconds; this is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// Addresses beside those of the gateways: of the load balancer, the pod, the caller.
pub(super) const ADDRESSES: [(u8, u16); 10] = [
    (7, balancer::PORT),
    (8, application::HTTP),
    (8, application::TCP),
    (8, sidecars::INBOUND),
    (8, sidecars::ADMIN),
    (9, sidecars::HTTP1.port),
    (9, sidecars::HTTP2.port),
    (9, sidecars::TCP.port),
    (9, sidecars::BEHIND.port),
    (9, sidecars::ADMIN),
];

pub(super) async fn play(stage: &Stage) -> anyhow::Result<Told> {
    // Both at once: the same minute for both, and the drains are mostly waiting.
    let (envoy, ours) = tokio::try_join!(roll(stage, Side::Envoy), roll(stage, Side::Ours))?;
    let mut told = Told { envoy: words::of(&envoy), ours: words::of(&ours), wrong: Vec::new() };
    words::expect(&ours, &mut told);
    Ok(told)
}

/// What came of one side.
#[derive(Debug)]
pub struct Seen {
    /// Whose.
    pub side: Side,
    /// When each gateway was told to end, and how long it took.
    pub ends: Vec<(Instant, Duration)>,
    /// What its clients had.
    pub account: Account,
    /// The ALPN of each connection that the gateways' logs have as cut at the deadline.
    pub logged: Vec<String>,
}

async fn roll(stage: &Stage, side: Side) -> anyhow::Result<Seen> {
    let bar = Service::new("bar", &[(side.ip(8), sidecars::INBOUND).into()]);
    let sni = bar.key("");
    let site = stage.site("rolling", side, vec![bar])?;
    let _app = Application::start(side.ip(8)).await?;
    certify(&site.dir)?;
    let pod = sidecars::of_pod(side.ip(8), &site.dir.join("bar"));
    let _pod = start_sidecar(stage, &site, side, "sidecar-bar", 8, &pod).await?;
    let first = start(stage, side, &site, 1).await?;
    let second = start(stage, side, &site, 2).await?;
    let balancer = Balancer::start(side.ip(7)).await?;
    let ways = Ways { dir: &site.dir, balancer: &balancer };
    ways.lead_to(&[first.address, second.address])?;
    let one = (side.ip(7), balancer::PORT).into();
    let client = sidecars::of_client(side.ip(9), one, &site.dir, &site.dir.join("sleep"), &sni);
    let _client = start_sidecar(stage, &site, side, "sidecar-sleep", 9, &client).await?;

    let load = Load::start(side.ip(9));
    let begun = Instant::now();
    while !load.is_under_way() {
        ensure!(begun.elapsed() < PATIENCE, "{}: not all work gets under way", side.name());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut seen = Seen { side, ends: Vec::new(), account: Account::default(), logged: Vec::new() };
    let third = replace(stage, &site, &ways, &mut seen, first, &second).await?;
    let _fourth = replace(stage, &site, &ways, &mut seen, second, &third).await?;
    // What the second one took with it has time to be seen.
    tokio::time::sleep(Duration::from_secs(1)).await;
    seen.account = load.stop().await;
    Ok(seen)
}

/// How new connections find gateways.
struct Ways<'a> {
    dir: &'a Path,
    balancer: &'a Balancer,
}

impl Ways<'_> {
    /// From now on to these, whether they are the sidecars' endpoints or behind one address.
    fn lead_to(&self, gateways: &[SocketAddr]) -> std::io::Result<()> {
        self.balancer.set(gateways);
        sidecars::write_endpoints(self.dir, gateways)
    }
}

/// Puts a new gateway in place of `old`; `other` stays.
async fn replace(
    stage: &Stage,
    site: &Site,
    ways: &Ways<'_>,
    seen: &mut Seen,
    old: Gateway,
    other: &Gateway,
) -> anyhow::Result<Gateway> {
    let last = if seen.ends.is_empty() { 3 } else { 4 };
    let new = start(stage, seen.side, site, last).await?;
    tokio::time::sleep(PUSH).await;
    ways.lead_to(&[old.address, other.address, new.address])?;
    let told = Instant::now();
    match seen.side {
        Side::Ours => old.process.terminate(),
        Side::Envoy => {
            // As Istio's agent, when it gets the SIGTERM.
            let drained = probe::ask(old.operators, "POST", "/drain_listeners?graceful").await?;
            ensure!(drained.0 == 200, "Envoy does not drain: {}", drained.1);
        }
    }
    // Kubernetes has it as terminating at once, and istiod leaves such endpoints out.
    tokio::time::sleep(PUSH).await;
    ways.lead_to(&[other.address, new.address])?;
    seen.logged.extend(end(old, told).await?);
    seen.ends.push((told, told.elapsed()));
    Ok(new)
}

/// Waits for its end as a kubelet does, and gives the ALPN of each connection that its log has as
/// cut at the deadline.
async fn end(mut old: Gateway, told: Instant) -> anyhow::Result<Vec<String>> {
    match old.side {
        Side::Ours => {
            let limit = PAUSE + DEADLINE + Duration::from_secs(20);
            ensure!(old.process.ended(limit).await, "it has not ended in {limit:?}");
        }
        Side::Envoy => {
            tokio::time::sleep(TERMINATION_DRAIN.saturating_sub(told.elapsed())).await;
            // Dropped below, it is killed, as the agent does.
            drop(old.process);
        }
    }
    let lines = old.witness.look();
    let cut = lines.iter().filter(|line| witness::text(line, "outcome") == "drained");
    Ok(cut.map(|line| witness::text(line, "alpn").to_owned()).collect())
}

async fn start(stage: &Stage, side: Side, site: &Site, last: u8) -> anyhow::Result<Gateway> {
    stage.start(side, site, last, if side == Side::Ours { SETTINGS } else { ENVOY }).await
}

async fn start_sidecar(
    stage: &Stage,
    site: &Site,
    side: Side,
    name: &str,
    last: u8,
    config: &serde_json::Value,
) -> anyhow::Result<Process> {
    let mut process = stage.run_envoy(&site.dir, name, config, &[])?;
    let admin = (side.ip(last), sidecars::ADMIN).into();
    stage.listens(&mut process, admin).await.context("a sidecar")?;
    let ready =
        async || probe::ask(admin, "GET", "/ready").await.is_ok_and(|(code, _)| code == 200);
    process.ready(PATIENCE, ready).await.context("a sidecar")?;
    Ok(process)
}

/// Keys and certificates for both sidecars, in directories `sleep` and `bar`.
fn certify(dir: &Path) -> anyhow::Result<()> {
    let now = SystemTime::now();
    let root = Authority::root(now)?;
    for (cluster, name, id) in
        [("cluster1", "sleep", sidecars::SLEEP), ("cluster2", "bar", sidecars::BAR)]
    {
        let leaf = root.cluster(cluster, now)?.workload(&SpiffeId::parse(id)?, now)?;
        leaf.write_over(&dir.join(name), Existing::Replace)?;
    }
    Ok(())
}
