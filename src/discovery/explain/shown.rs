//! Where a name leads, for people: endpoints, what is left out, and every part of the policy.
//!
//! Must not know: how it was decided.

use std::{fmt, time::Instant};

use super::Reached;
use crate::routing::{Balance, Endpoint, Keepalive, Outlier, Place, Policy, Warmup};

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (endpoint, place) in &self.endpoints {
            endpoint_line(f, endpoint, *place, self.policy.warmup)?;
        }
        for left_out in &self.left_out {
            writeln!(f, "    out  {}  {}", left_out.place, left_out.reason)?;
        }
        write!(f, "  policy    ")?;
        policy(f, &self.policy)?;
        match &self.rule {
            Some(rule) => writeln!(f, " (DestinationRule {rule})")?,
            None => writeln!(f, " (no DestinationRule)")?,
        }
        // The gateway's own, which holds everywhere, is not told everywhere.
        let of_rule = self.policy.outlier.as_ref().filter(|_| self.detects);
        if let Some(outlier) = of_rule {
            write!(f, "  outliers  ")?;
            outliers(f, outlier)?;
        }
        if let Some(preference) = &self.preference {
            writeln!(f, "  near      {preference}")?;
        }
        if let Some(mesh) = &self.mesh {
            writeln!(f, "  mesh      defaults of ConfigMap {mesh}")?;
        }
        Ok(())
    }
}

fn endpoint_line(
    f: &mut fmt::Formatter<'_>,
    endpoint: &Endpoint,
    place: Place,
    warmup: Option<Warmup>,
) -> fmt::Result {
    let Endpoint { address, locality, workload, instance, added, state, .. } = endpoint;
    write!(f, "    in   {address}  weight {}", place.weight)?;
    if place.tier > 0 {
        write!(f, "  tier {}", place.tier)?;
    }
    if !locality.region.is_empty() {
        write!(f, "  {locality}")?;
    }
    if !instance.is_empty() {
        write!(f, "  {}/{}", workload.namespace, instance)?;
    }
    write!(f, "  {} connections", state.connections())?;
    if let (Some(warmup), Some(added)) = (warmup, added) {
        let age = Instant::now().saturating_duration_since(*added);
        if age < warmup.window {
            write!(f, "  warming up for {} s", age.as_secs())?;
        }
    }
    match state.ejection() {
        Some((_, times)) => writeln!(f, "  ejected ({times} times)"),
        None => writeln!(f),
    }
}

fn policy(f: &mut fmt::Formatter<'_>, policy: &Policy) -> fmt::Result {
    write!(f, "{}", policy.balance.as_str())?;
    match policy.balance {
        Balance::Maglev { .. } => write!(f, " by source address")?,
        Balance::RingHash { minimum } => {
            write!(f, " by source address, at least {minimum} points")?;
        }
        Balance::LeastRequest | Balance::RoundRobin | Balance::Random => {}
    }
    if let Some(Warmup { window, minimum_percent, aggression_percent }) = policy.warmup {
        write!(f, ", warm-up {window:?} from {minimum_percent} %")?;
        if aggression_percent != 100 {
            write!(f, ", aggression {}", f64::from(aggression_percent) / 100.0)?;
        }
    }
    write!(f, ", connect timeout {:?}", policy.connect_timeout)?;
    if let Some(max) = policy.max_connections {
        write!(f, ", at most {max} connections")?;
    }
    if let Some(idle) = policy.idle_timeout {
        write!(f, ", idle timeout {idle:?}")?;
    }
    if let Some(max) = policy.max_duration {
        write!(f, ", at most {max:?} long")?;
    }
    if let Some(Keepalive { time, interval, probes }) = policy.keepalive {
        write!(f, ", keepalive")?;
        time.map_or(Ok(()), |time| write!(f, " after {time:?}"))?;
        interval.map_or(Ok(()), |interval| write!(f, " every {interval:?}"))?;
        probes.map_or(Ok(()), |probes| write!(f, " {probes} probes"))?;
    }
    Ok(())
}

fn outliers(f: &mut fmt::Formatter<'_>, outlier: &Outlier) -> fmt::Result {
    let Outlier { consecutive, base_ejection_time, max_ejection_percent, .. } = outlier;
    writeln!(
        f,
        "ejected after {consecutive} failures in a row, for {base_ejection_time:?} and longer, at \
         most {max_ejection_percent} %"
    )
}
