//! Many services and no connection: how soon a gateway is ready, and what it holds.
//!
//! Must not know: how a gateway is started.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{
    Told,
    call::{self, Act, Pod},
    gateways::{Side, Stage},
    site::Service,
};

/// Endpoints of each service.
const ENDPOINTS: usize = 3;
/// Above this ours holds more than it should, in bytes: what the program is, and what a service
/// may cost. Measured without optimisation: 58 MB and 4.5 KB.
const OURS_MAX: (u64, u64) = (150 << 20, 30_000);

pub(super) async fn play(stage: &Stage) -> anyhow::Result<Told> {
    let (envoy, ours) = (hold(stage, Side::Envoy).await?, hold(stage, Side::Ours).await?);
    let mut told = Told { envoy: envoy.words(stage), ours: ours.words(stage), wrong: Vec::new() };
    let most = OURS_MAX.0 + OURS_MAX.1 * stage.services as u64;
    told.expect(ours.resident < most, format!("it should hold less than {} MB", most >> 20));
    Ok(told)
}

struct Seen {
    ready: Duration,
    resident: u64,
    /// With one service.
    small: u64,
}

impl Seen {
    #[allow(clippy::cast_precision_loss)] // shown to a tenth of a megabyte
    fn words(&self, stage: &Stage) -> Vec<String> {
        let mb = self.resident as f64 / 1e6;
        let more = self.resident.saturating_sub(self.small);
        let each = more as f64 / 1e3 / stage.services.saturating_sub(1).max(1) as f64;
        vec![
            format!("{mb:.1} MB resident ({:.1} with one service)", self.small as f64 / 1e6),
            format!("{each:.1} KB for each service"),
            format!("ready {:.1} s after its start", self.ready.as_secs_f64()),
        ]
    }
}

async fn hold(stage: &Stage, side: Side) -> anyhow::Result<Seen> {
    let mut pods = Vec::new();
    for last in 0..10 {
        pods.push(Pod::start(side.ip(11 + last), Act::Live).await?);
    }
    let service = |n: usize| {
        let of: Vec<_> = (0..ENDPOINTS).map(|k| pods[(n + k) % pods.len()].address).collect();
        Service::new(&format!("service-{n}"), &of)
    };
    let one = stage.site("memory/one", side, vec![service(0)])?;
    let small = stage.start(side, &one, 1, &[]).await?.process.resident()?;
    let services: Vec<_> = (0..stage.services).map(service).collect();
    let last = services.last().map(|service| service.key("")).unwrap_or_default();
    let site = stage.site("memory/many", side, services)?;
    let begun = Instant::now();
    let gateway = stage.start(side, &site, 1, &[]).await?;
    let ready = begun.elapsed();
    let mut client = call::ask(gateway.address, &last).await?;
    let heard = call::greeted(&mut client).await;
    ensure!(heard.is_ok(), "{} does not serve {last}: {heard:?}", side.name());
    drop(client);
    Ok(Seen { ready, resident: gateway.process.resident()?, small })
}
