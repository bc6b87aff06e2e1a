//! What is refused, and by whom.
//!
//! Must not know: how a part is started.

use std::time::{Duration, Instant, SystemTime};

use super::{Seen, World, ask};
use crate::{
    certs::{Authority, SpiffeId},
    demo::{
        places::{self, STABLE},
        witness::text,
    },
};

/// How a sidecar calls a certificate of another root.
const NOT_OURS: &str = "does not lead to one of our roots";
/// A line of a log may take this long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// The client's name is right and it trusts the right root, but its own certificate is of another.
pub(super) async fn wrong_root(world: &mut World) -> anyhow::Result<Vec<Seen>> {
    let now = SystemTime::now();
    let elsewhere = Authority::root(now)?.cluster("cluster1", now)?;
    let sleep = SpiffeId::parse("spiffe://cluster.local/ns/ns1/sa/sleep")?;
    world.write_certificate("mallory", &elsewhere.workload(&sleep, now)?)?;
    let ours = world.workload("sleep").join("root-cert.pem");
    std::fs::copy(ours, world.workload("mallory").join("root-cert.pem"))?;
    world.start_caller_sidecar("mallory", &[]).await?;
    let mut witness = world.witness(&STABLE);
    witness.look();
    let answer = ask(world, "bar.ns2.global").await;
    let told = answer.clone().unwrap_or_else(|error| error);
    let mut seen = vec![Seen::new("no answer for the client", told, answer.is_err())];
    let lines = witness.wait(1).await;
    let classes: Vec<_> = lines.iter().map(|line| text(line, "tls").to_owned()).collect();
    let suspected = |class: &String| class == "suspected_auth_failure";
    let good = !classes.is_empty() && classes.iter().all(suspected);
    let told = format!("gateway: {}", classes.join(", "));
    seen.push(Seen::new("gateway: suspected_auth_failure", told, good));
    let reason = pods_reason(world).await;
    let told = format!("the pod's sidecar: {}", reason.as_deref().unwrap_or("nothing"));
    let good = reason.is_some_and(|reason| reason.contains(NOT_OURS));
    seen.push(Seen::new("the pod's sidecar says that it is not of its roots", told, good));
    world.start_caller_sidecar("sleep", &[]).await?;
    Ok(seen)
}

/// What the sidecar of a pod gave as its reason. Its log may come after the gateway's.
async fn pods_reason(world: &World) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let refused = |pod| world.log_lines(pod, "outcome=\"handshake_failed\"");
        let lines = places::PODS.iter().flat_map(|pod| refused(pod.name));
        let mut reasons = lines
            .filter_map(|line| Some(line.split("reason=\"").nth(1)?.split('"').next()?.to_owned()));
        let reason = reasons.find(|reason| reason.contains(NOT_OURS));
        if reason.is_some() || Instant::now() > deadline {
            return reason;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// There is an entry for it in cluster 1, which opens nothing in cluster 2.
pub(super) async fn not_exported(world: &mut World) -> anyhow::Result<Vec<Seen>> {
    let mut witness = world.witness(&STABLE);
    witness.look();
    let answer = ask(world, "secret.ns2.global").await;
    let told = answer.clone().unwrap_or_else(|error| error);
    let mut seen = vec![Seen::new("no answer for the client", told, answer.is_err())];
    let lines = witness.wait(1).await;
    let reasons: Vec<_> = lines.iter().map(|line| text(line, "outcome").to_owned()).collect();
    let good = !reasons.is_empty() && reasons.iter().all(|reason| reason == "not_exported");
    let text = format!("gateway: {}", reasons.join(", "));
    seen.push(Seen::new("gateway: not_exported", text, good));
    Ok(seen)
}
