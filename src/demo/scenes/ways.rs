//! Other ways to the same service: by labels and subset, by the egress gateway.
//!
//! Must not know: how a part is started.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{Seen, Tally, World, ask};
use crate::demo::{
    places::{self, BETA, EGRESS, EGRESS_FORM, LABELLED_FORM, MANIFESTS, STABLE},
    witness::text,
};

const HOST: &str = "bar.ns2.global";
const CALLS: usize = 10;
/// A change of manifests is in force within a second; this is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two gateways told apart by labels.
pub(super) async fn subset(world: &mut World) -> anyhow::Result<Vec<Seen>> {
    world.write_manifest("cluster1", "bar.yaml", LABELLED_FORM)?;
    world.start_caller_sidecar("sleep", &["--subset", "bar.ns2.global=beta"]).await?;
    let (mut stable, mut beta) = (world.witness(&STABLE), world.witness(&BETA));
    stable.look();
    beta.look();
    let tally = calls(world).await;
    let good = tally.pods() == ["bar-beta-a"] && tally.failures.is_empty();
    let mut seen = vec![Seen::new("only bar-beta-a answers", tally.to_string(), good)];
    let name = "outbound_.8080_.beta_.bar.ns2.global";
    let lines = beta.wait(CALLS).await;
    let named = lines.iter().filter(|line| text(line, "requested_server_name") == name).count();
    let others = stable.look().len();
    seen.push(Seen::new(
        format!("{CALLS} through the beta gateway as {name}, none through the stable one"),
        format!("{named} through the beta gateway as {name}, {others} through the stable one"),
        (named, others) == (CALLS, 0),
    ));
    plain_form(world)?;
    world.start_caller_sidecar("sleep", &[]).await?;
    Ok(seen)
}

/// The entry is changed under the caller's running sidecar.
pub(super) async fn egress(world: &mut World) -> anyhow::Result<Vec<Seen>> {
    let (mut egress, mut ingress) = (world.witness(&EGRESS), world.witness(&STABLE));
    egress.look();
    world.write_manifest("cluster1", "bar.yaml", EGRESS_FORM)?;
    let deadline = Instant::now() + PATIENCE;
    while egress.look().is_empty() && Instant::now() < deadline {
        let _ = ask(world, HOST).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    egress.look();
    ingress.look();
    let tally = calls(world).await;
    let good = tally.failures.is_empty() && tally.pods().iter().all(|pod| pod.starts_with("bar-"));
    let mut seen = vec![Seen::new("pods of bar answer, no call fails", tally.to_string(), good)];
    let (out, into) = (egress.wait(CALLS).await, ingress.wait(CALLS).await);
    let left: BTreeSet<_> = out.iter().map(|line| text(line, "upstream_local_address")).collect();
    let came = into.iter().map(|line| text(line, "downstream_remote_address"));
    let strangers = came.filter(|address| !left.contains(address)).count();
    seen.push(Seen::new(
        format!("{CALLS} leave by the egress gateway; cluster 2 hears from nobody else"),
        format!(
            "{} left by {}; of the {} that came to {}, {strangers} from elsewhere",
            out.len(),
            EGRESS.address(),
            into.len(),
            STABLE.address(),
        ),
        (out.len(), into.len(), strangers) == (CALLS, CALLS, 0),
    ));
    plain_form(world)?;
    // Later scenes want the plain way: it is back when the egress gateway hears nothing more.
    let deadline = Instant::now() + PATIENCE;
    loop {
        egress.look();
        let _ = ask(world, HOST).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if egress.look().is_empty() || Instant::now() > deadline {
            return Ok(seen);
        }
    }
}

async fn calls(world: &World) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..CALLS {
        tally.count(ask(world, HOST).await);
    }
    tally
}

fn plain_form(world: &World) -> anyhow::Result<()> {
    let (cluster, name, text) = MANIFESTS[0];
    debug_assert_eq!((cluster, name), ("cluster1", "bar.yaml"), "{:?}", places::STABLE);
    world.write_manifest(cluster, name, text)
}
