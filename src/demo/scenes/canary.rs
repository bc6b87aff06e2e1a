//! Two gateways of one cluster side by side, Istio's Envoy and ours, by the weights of an entry.
//!
//! Must not know: how a part is started.

use std::time::{Duration, Instant};

use super::{Seen, Tally, World, ask};
use crate::demo::{
    places::{self, CANARY_FORM, MANIFESTS, STABLE},
    rival,
    witness::Witness,
};

const HOST: &str = "bar.ns2.global";
const CALLS: usize = 100;
/// Of a hundred calls ten are ours, give or take: more than this once in 10^7 runs.
const OURS_MAX: usize = 30;
/// A change of manifests is in force within a second; this is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// What follows it in the entry is our endpoint.
const OURS: &str = "    # diolkos.";

/// 9:1, and back to Envoy alone.
pub(super) async fn play(world: &mut World) -> anyhow::Result<Vec<Seen>> {
    let Some(envoy) = rival::find() else {
        let why = "not played: Envoy is not installed; tests/setup.sh brings it";
        return Ok(vec![Seen::new("Envoy beside us", why, true)]);
    };
    let mut theirs = world.start_envoy(&envoy).await?;
    let mut ours = world.witness(&STABLE);
    world.write_manifest("cluster1", "bar.yaml", CANARY_FORM)?;
    until_heard(world, &mut theirs).await;
    let mut seen = Vec::new();
    let (tally, by_envoy, by_us) = calls(world, &mut theirs, &mut ours).await;
    let good =
        tally.failures.is_empty() && by_envoy + by_us == CALLS && (1..=OURS_MAX).contains(&by_us);
    seen.push(Seen::new(
        format!("9:1: some ten of {CALLS} connections through diolkos, no call fails"),
        format!("9:1: {by_envoy} through Envoy, {by_us} through diolkos; {tally}"),
        good,
    ));
    let alone = CANARY_FORM.split(OURS).next().unwrap_or_default();
    world.write_manifest("cluster1", "bar.yaml", alone)?;
    until_quiet(world, &mut ours).await;
    let (tally, by_envoy, by_us) = calls(world, &mut theirs, &mut ours).await;
    seen.push(Seen::new(
        "back: all through Envoy, no call fails",
        format!("back: {by_envoy} through Envoy, {by_us} through diolkos; {tally}"),
        tally.failures.is_empty() && (by_envoy, by_us) == (CALLS, 0),
    ));
    let (cluster, name, plain) = MANIFESTS[0];
    world.write_manifest(cluster, name, plain)?;
    until_quiet(world, &mut theirs).await;
    world.kill(places::ENVOY_NAME);
    Ok(seen)
}

/// Calls, and how many connections each gateway had with them.
async fn calls(world: &World, theirs: &mut Witness, ours: &mut Witness) -> (Tally, usize, usize) {
    theirs.look();
    ours.look();
    let mut tally = Tally::default();
    for _ in 0..CALLS {
        tally.count(ask(world, HOST).await);
    }
    let deadline = Instant::now() + PATIENCE;
    let (mut by_envoy, mut by_us) = (0, 0);
    while by_envoy + by_us < CALLS && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
        by_envoy += theirs.look().len();
        by_us += ours.look().len();
    }
    (tally, by_envoy, by_us)
}

/// Calls until this gateway has had one.
async fn until_heard(world: &World, witness: &mut Witness) {
    let deadline = Instant::now() + PATIENCE;
    witness.look();
    while witness.look().is_empty() && Instant::now() < deadline {
        let _ = ask(world, HOST).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    settle().await;
}

/// Calls until this gateway has had none for a while.
async fn until_quiet(world: &World, witness: &mut Witness) {
    let deadline = Instant::now() + PATIENCE;
    let mut calls = 0;
    while calls < 40 && Instant::now() < deadline {
        let _ = ask(world, HOST).await;
        calls = if witness.look().is_empty() { calls + 1 } else { 0 };
    }
    settle().await;
}

/// Lines of calls that were may still be written.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}
