//! A DestinationRule changes under a live connection: in Envoy's configuration that is another
//! filter chain.
//!
//! Must not know: how a gateway is started.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::net::TcpStream;

use super::{
    Told,
    call::{self, Act, Pod},
    gateways::{Gateway, Side, Stage},
    site::{Service, Site},
};

/// Istio's is 45 s.
const DRAIN_S: u64 = 2;
/// The change is in force within a second; this is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long connections are looked after once it is: longer than Envoy takes to end them.
const WATCHED: Duration = Duration::from_secs(DRAIN_S + 2);

pub(super) async fn play(stage: &Stage) -> anyhow::Result<Told> {
    let (envoy, ours) = tokio::try_join!(change(stage, Side::Envoy), change(stage, Side::Ours))?;
    let mut told = Told { envoy: envoy.words(), ours: ours.words(), wrong: Vec::new() };
    told.envoy.push(format!(
        "started with --drain-time-s {DRAIN_S} so that it is soon seen; Istio's is 45 s"
    ));
    told.expect(ours.of_rule.is_none(), "the connection should live on");
    told.expect(ours.of_other.is_none(), "the other service's connection should live on");
    Ok(told)
}

/// When each connection ended after the change.
struct Seen {
    of_rule: Option<Duration>,
    of_other: Option<Duration>,
}

impl Seen {
    fn words(&self) -> Vec<String> {
        let word = |whose: &str, ended: Option<Duration>| match ended {
            Some(at) => format!("{whose}: cut {:.1} s after the change", at.as_secs_f64()),
            None => format!("{whose}: lives on, every byte came back"),
        };
        vec![
            word("its live connection", self.of_rule),
            word("one of another service", self.of_other),
        ]
    }
}

fn service(name: &str, pod: &Pod, hours: u64) -> Service {
    let idle = Some(Duration::from_secs(3600 * hours));
    Service { idle, subsets: vec!["v1"], ..Service::new(name, &[pod.address]) }
}

async fn change(stage: &Stage, side: Side) -> anyhow::Result<Seen> {
    let pod = Pod::start(side.ip(11), Act::Live).await?;
    let services = vec![service("bar", &pod, 1), service("other", &pod, 1)];
    let (bar, other) = (services[0].key(""), services[1].key(""));
    let mut site = stage.site("chain-change", side, services)?;
    let drain = DRAIN_S.to_string();
    let more: &[&str] = match side {
        Side::Envoy => &["--drain-time-s", &drain, "--parent-shutdown-time-s", "60"],
        Side::Ours => &[],
    };
    let gateway = stage.start(side, &site, 1, more).await?;
    let mut of_rule = live(&gateway, &bar).await?;
    let mut of_other = live(&gateway, &other).await?;
    // A subset more tells when it is in force.
    site.services[0] = Service { subsets: vec!["v1", "v2"], ..service("bar", &pod, 2) };
    rewrite(&site, &gateway)?;
    let key = site.services[0].key("v2");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = call::ask(gateway.address, &key).await?;
        if call::greeted(&mut client).await.is_ok() {
            break;
        }
        ensure!(Instant::now() < deadline, "{} never took the change", side.name());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    let mut seen = Seen { of_rule: None, of_other: None };
    while begun.elapsed() < WATCHED {
        let connections = [(&mut of_rule, &mut seen.of_rule), (&mut of_other, &mut seen.of_other)];
        for (connection, ended) in connections {
            if ended.is_none() && !call::is_alive(connection).await {
                *ended = Some(begun.elapsed());
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(seen)
}

async fn live(gateway: &Gateway, key: &str) -> anyhow::Result<TcpStream> {
    let mut client = call::ask(gateway.address, key).await?;
    let heard = call::greeted(&mut client).await;
    ensure!(heard.is_ok(), "{} does not serve {key}: {heard:?}", gateway.side.name());
    Ok(client)
}

/// As istiod, or whoever applies manifests, would.
fn rewrite(site: &Site, gateway: &Gateway) -> anyhow::Result<()> {
    match gateway.side {
        Side::Ours => site.write_manifests()?,
        Side::Envoy => {
            site.write_envoy("envoy-1", gateway.address, gateway.operators)?;
        }
    }
    Ok(())
}
