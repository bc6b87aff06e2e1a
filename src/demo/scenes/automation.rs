//! A service is applied in cluster 2, and that is all that anybody does.
//!
//! Must not know: how a part is started.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Seen, World, ask};
use crate::demo::places::{BAZ, BAZ_POD};

const HOST: &str = "baz.ns2.global";
/// Files are looked at within a second; three programs look one after the other.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn play(world: &mut World) -> anyhow::Result<Vec<Seen>> {
    let before = world.caller.resolve(HOST).await;
    let mut seen = vec![Seen::new(
        format!("before: no {HOST} in DNS"),
        format!("before: {}", before.as_ref().map_or("no such name".into(), IpAddr::to_string)),
        before.is_err(),
    )];
    world.start_pod(&BAZ_POD).await?;
    world.write_manifest("cluster2", "baz.yaml", BAZ)?;
    let applied = Instant::now();
    let mut answer = Err("no answer".to_owned());
    while answer.is_err() && applied.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = ask(world, HOST).await;
    }
    let took = applied.elapsed();
    let address = world.caller.resolve(HOST).await.map(|ip| ip.to_string()).unwrap_or_default();
    let good = answer.as_deref() == Ok("baz-a");
    let answered = answer.unwrap_or_else(|error| error);
    seen.push(Seen::new(
        "after: baz-a answers",
        format!("after {:.1} s: {answered} answers at {address}", took.as_secs_f64()),
        good,
    ));
    let mut others = Vec::new();
    for name in ["bar.ns2.global", "secret.ns2.global", "shop.ns2.global"] {
        others.push(world.caller.resolve(name).await?.to_string());
    }
    let own = !others.contains(&address);
    let text = format!("{address}; the others have {}", others.join(", "));
    seen.push(Seen::new("an address that nobody else has", text, own));
    Ok(seen)
}
