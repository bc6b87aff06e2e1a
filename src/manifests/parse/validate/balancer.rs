//! Rules of a DestinationRule's `consistentHash` and `warmup`.
//!
//! Must not know: how a source finds its endpoint, how an endpoint warms up.

use super::super::fault::Fault;
use crate::manifests::kinds::destination_rule::LoadBalancer;

/// Envoy takes no larger table, and no larger ring.
const TABLE_MAX: u32 = 5_000_011;
const RING_MAX: u32 = 8_388_608;

/// Adds a fault for every number that Envoy, or Istio before it, would refuse.
pub(super) fn check(balancer: &LoadBalancer, path: &str, faults: &mut Vec<Fault>) {
    let mut wrong = |field: &str, message: String| {
        faults.push(Fault::new(message).field(format!("{path}.{field}")));
    };
    if let Some(hash) = &balancer.consistent_hash {
        if hash.ring_hash.is_some() && hash.maglev.is_some() {
            let message = "has both ringHash and maglev: keep one of them";
            wrong("consistentHash", message.to_owned());
        }
        let size = hash.maglev.and_then(|maglev| maglev.table_size).filter(|size| *size != 0);
        if let Some(size) = size.filter(|size| *size > TABLE_MAX || !is_prime(*size)) {
            let message = format!("{size} is not a prime number up to {TABLE_MAX}: try 65537");
            wrong("consistentHash.maglev.tableSize", message);
        }
        let ring = hash.ring_hash.and_then(|ring| ring.minimum_ring_size);
        for (field, size) in [
            ("consistentHash.minimumRingSize", hash.minimum_ring_size),
            ("consistentHash.ringHash.minimumRingSize", ring),
        ] {
            if let Some(size) = size.filter(|size| *size > RING_MAX) {
                wrong(field, format!("{size} is more than {RING_MAX}: lower it"));
            }
        }
    }
    if let Some(warmup) = &balancer.warmup {
        if warmup.duration.is_none() {
            wrong("warmup.duration", "is missing: say how long an endpoint is new".to_owned());
        }
        let percent = warmup.minimum_percent.unwrap_or(0.0);
        if !(0.0..=100.0).contains(&percent) {
            wrong("warmup.minimumPercent", format!("{percent} is not 0 to 100 per cent"));
        }
        let aggression = warmup.aggression.unwrap_or(1.0);
        if !(1.0..=1e6).contains(&aggression) {
            wrong("warmup.aggression", format!("{aggression} is not 1 or more: 1 is even"));
        }
    }
}

fn is_prime(n: u32) -> bool {
    n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}
