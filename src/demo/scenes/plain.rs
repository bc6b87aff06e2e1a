//! A call as anybody would make it, and the way that it took.
//!
//! Must not know: how a part is started.

use super::{Seen, Tally, World, ask};
use crate::demo::{application, places, witness::text};

const HOST: &str = "bar.ns2.global";
/// Every pod should have answered after so many calls: by chance alone, one of three stays away
/// that long once in 10^10 runs.
const CALLS_MAX: usize = 60;

/// Name, calls, and the way.
pub(super) async fn http(world: &mut World) -> anyhow::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let address = places::BAR_ADDRESS.to_string();
    for name in [HOST, "bar.ns2"] {
        let found = match world.caller.resolve(name).await {
            Ok(found) => found.to_string(),
            Err(error) => format!("{error:#}"),
        };
        let good = found == address;
        seen.push(Seen::new(
            format!("DNS: {name} is {address}"),
            format!("DNS: {name} is {found}"),
            good,
        ));
    }
    let mut witness = world.witness(&places::STABLE);
    witness.look();
    let pods = ["bar-beta-a", "bar-stable-a", "bar-stable-b"];
    let mut tally = Tally::default();
    while tally.pods() != pods && tally.total() < CALLS_MAX {
        let host = if tally.total() % 2 == 0 { HOST } else { "bar.ns2" };
        tally.count(ask(world, host).await);
    }
    let good = tally.pods() == pods && tally.failures.is_empty();
    seen.push(Seen::new("all three pods answer, no call fails", tally.to_string(), good));
    seen.push(way(&witness.wait(tally.total()).await, tally.total()));
    Ok(seen)
}

/// One connection for each call, all of this server name, each to a pod's sidecar.
fn way(lines: &[serde_json::Value], calls: usize) -> Seen {
    let name = format!("outbound_.{}_._.{HOST}", application::HTTP);
    let expected = format!("{calls} connections through cluster 2's gateway, server name {name}");
    let as_asked = |line: &&serde_json::Value| {
        text(line, "requested_server_name") == name
            && text(line, "upstream_host").starts_with("127.2.0.1")
    };
    let through = lines.iter().filter(as_asked).count();
    let last = lines.last().map(|line| {
        format!(
            "client -> {}:{} -> its sidecar -> {} -> {}",
            places::BAR_ADDRESS,
            application::HTTP,
            text(line, "downstream_local_address"),
            text(line, "upstream_host"),
        )
    });
    let seen = format!("{through} of {} such; the last: {}", lines.len(), last.unwrap_or_default());
    Seen::new(expected, seen, through == calls && lines.len() == calls)
}

/// A line there, a line back.
pub(super) async fn tcp(world: &mut World) -> anyhow::Result<Vec<Seen>> {
    let reply = match world.caller.say(HOST, application::TCP, "hello").await {
        Ok(reply) => reply,
        Err(error) => format!("{error:#}"),
    };
    let good = reply.starts_with("bar-") && reply.ends_with(" heard: hello");
    Ok(vec![Seen::new("a pod of bar heard: hello", reply, good)])
}
