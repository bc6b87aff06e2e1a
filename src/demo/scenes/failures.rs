//! What dies, and who notices.
//!
//! Must not know: how a part is started.

use super::{Seen, Tally, World, ask};
use crate::demo::places::{PODS, STABLE};

const CALLS: usize = 40;

/// A pod dies; the manifests go on naming it, as they do for a while in life.
pub(super) async fn pod(world: &mut World) -> anyhow::Result<Vec<Seen>> {
    let pod = &PODS[0];
    let tally = calls(world, "bar.ns2.global", |world| world.kill_pod(pod)).await;
    let good = tally.failures.is_empty();
    let expected = format!("{} is killed after {} calls; no call fails", pod.name, CALLS / 4);
    world.start_pod(pod).await?;
    Ok(vec![Seen::new(expected, tally.to_string(), good)])
}

/// A gateway dies; the entry that the automation wrote names that of cluster 3 too.
pub(super) async fn cluster(world: &mut World) -> anyhow::Result<Vec<Seen>> {
    let tally = calls(world, "shop.ns2.global", |world| world.kill(STABLE.name)).await;
    let good = tally.failures.is_empty() && tally.pods() == ["shop-2", "shop-3"];
    let after = CALLS / 4;
    let expected = format!("shop-2 and shop-3 answer; after {after} calls only shop-3; none fails");
    world.start_gateway(&STABLE).await?;
    Ok(vec![Seen::new(expected, tally.to_string(), good)])
}

/// Calls in a row; after a quarter of them something happens.
async fn calls(world: &mut World, host: &str, happens: impl FnOnce(&mut World)) -> Tally {
    let mut tally = Tally::default();
    let mut happens = Some(happens);
    for n in 0..CALLS {
        if n == CALLS / 4
            && let Some(happens) = happens.take()
        {
            happens(world);
        }
        tally.count(ask(world, host).await);
    }
    tally
}
