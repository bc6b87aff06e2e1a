//! Holds one side against the other, route by route.
//!
//! Must not know: where a side comes from, but for the reason of what is missing here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Difference, Dump, NameReport, Report, Verdict, ours, theirs,
    view::{Algorithm, Member, RouteSeen, SetSeen},
};
use crate::{
    discovery::{Catalog, Explanation, explain::Question},
    routing::{Balance, Keepalive, Outlier, Warmup},
};

/// Shares of connections that differ by less than this part of the smaller are equal: Istio rounds
/// them to whole numbers.
const SHARE_TOLERANCE: f64 = 0.02;

/// Compares what the catalog serves, with these ALPN names wanted, with what a dump says.
#[must_use]
pub fn compare(catalog: &Catalog, alpn: &[String], dump: &Dump) -> Report {
    let here = ours::seen(catalog, alpn);
    let there = theirs::seen(dump, catalog.table().rewrite());
    let mut report = Report { remarks: there.remarks, ..Report::default() };
    let keys: BTreeSet<&String> = here.routes.keys().chain(there.routes.keys()).collect();
    let mut also = 0;
    for key in keys {
        let name = match (here.routes.get(key), there.routes.get(key)) {
            (Some(ours), Some(theirs)) => {
                also += ours.names.keys().filter(|n| !theirs.names.contains_key(*n)).count();
                both(key, ours, theirs, catalog, alpn)
            }
            (Some(ours), None) => here_only(key, ours, there.clusters.contains(key)),
            (None, Some(theirs)) => there_only(key, theirs, catalog, alpn),
            (None, None) => continue,
        };
        report.add(name);
    }
    if also > 0 {
        let text = "names are served here that lead to a route of both and have no filter chain \
                    there: gateway.rewrite_suffix, or hosts of a Gateway";
        report.remarks.push(format!("{also} {text}"));
    }
    report
}

fn here_only(key: &str, ours: &RouteSeen, cluster: bool) -> NameReport {
    let reason = if cluster {
        "there is a cluster of this name there, but no filter chain leads to it"
    } else {
        "neither a filter chain nor a cluster of this name is there"
    };
    NameReport {
        name: key.to_owned(),
        verdict: Verdict::HereOnly,
        objects: ours.objects.clone(),
        reason: Some(reason.to_owned()),
        differences: Vec::new(),
    }
}

fn there_only(key: &str, theirs: &RouteSeen, catalog: &Catalog, alpn: &[String]) -> NameReport {
    let name = theirs.names.keys().next().map_or(key, String::as_str);
    NameReport {
        name: key.to_owned(),
        verdict: Verdict::ThereOnly,
        objects: theirs.objects.clone(),
        reason: Some(refusal(name, catalog, alpn)),
        differences: Vec::new(),
    }
}

/// Why this gateway refuses a name.
fn refusal(name: &str, catalog: &Catalog, alpn: &[String]) -> String {
    let wanted: Vec<&str> = alpn.iter().map(String::as_str).collect();
    let question = Question { server_name: name, alpn: None, alpn_wanted: &wanted };
    let explanation = Explanation::new(&question, catalog);
    match explanation.steps.iter().find(|step| !step.passed) {
        Some(step) => {
            let hints: String = step.hints.iter().map(|hint| format!("; {hint}")).collect();
            format!("refused here at {}: {}{hints}", step.gate.as_str(), step.seen)
        }
        None => "served here by another route".to_owned(),
    }
}

fn both(
    key: &str,
    ours: &RouteSeen,
    theirs: &RouteSeen,
    catalog: &Catalog,
    alpn: &[String],
) -> NameReport {
    let mut found = Found(Vec::new());
    for (name, their_alpn) in &theirs.names {
        match ours.names.get(name) {
            Some(our_alpn) => found.note("ALPN", alpn_of(our_alpn), alpn_of(their_alpn)),
            None => {
                let what = format!("server name {name}");
                found.note(&what, refusal(name, catalog, alpn), "served".to_owned());
            }
        }
    }
    let time = |time: Option<Duration>| time.map_or("none".to_owned(), |time| format!("{time:?}"));
    found.note("idle timeout", time(ours.idle_timeout), time(theirs.idle_timeout));
    found.note("longest connection", time(ours.max_duration), time(theirs.max_duration));
    match (&ours.set, &theirs.set) {
        (Some(ours), Some(theirs)) => {
            endpoints(ours, theirs, &mut found);
            policies(ours, theirs, &mut found);
        }
        (Some(_), None) => {
            let there = theirs.unread.as_ref().map(|why| format!("cannot be read: {why}"));
            let there = there.unwrap_or_else(|| "is missing".to_owned());
            found.note("cluster", "is there".to_owned(), there);
        }
        (None, _) => {}
    }
    let verdict = if found.0.is_empty() { Verdict::Equal } else { Verdict::Differs };
    let their_objects = theirs.objects.iter().filter(|_| verdict == Verdict::Differs).cloned();
    NameReport {
        name: key.to_owned(),
        verdict,
        objects: ours.objects.iter().cloned().chain(their_objects).collect(),
        reason: None,
        differences: found.0,
    }
}

/// Differences so far; one that repeats itself is told once.
struct Found(Vec<Difference>);

impl Found {
    fn note(&mut self, what: &str, here: String, there: String) {
        let difference = Difference { what: what.to_owned(), here, there };
        if difference.here != difference.there && self.0.last() != Some(&difference) {
            self.0.push(difference);
        }
    }
}

fn alpn_of(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "any, or none".to_owned();
    }
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn endpoints(ours: &SetSeen, theirs: &SetSeen, found: &mut Found) {
    let absent = |set: &SetSeen, address: &str| match set.idle.get(address) {
        Some(reason) => format!("left out: {reason}"),
        None => "is not there".to_owned(),
    };
    let addresses: BTreeSet<&String> = ours.members.keys().chain(theirs.members.keys()).collect();
    let by_share = ours.by_share || theirs.by_share;
    let (our_shares, their_shares) = (ours.shares(), theirs.shares());
    for address in addresses {
        let what = format!("endpoint {address}");
        match (ours.members.get(address), theirs.members.get(address)) {
            (Some(_), None) => found.note(&what, "served".into(), absent(theirs, address)),
            (None, Some(_)) => found.note(&what, absent(ours, address), "served".into()),
            (Some(our), Some(their)) => {
                let tier = |member: &Member| member.tier.to_string();
                found.note(&format!("tier of {address}"), tier(our), tier(their));
                let what = format!("weight of {address}");
                if by_share {
                    shares(&what, (&our_shares, &their_shares), address, found);
                } else {
                    found.note(&what, our.weight.to_string(), their.weight.to_string());
                }
            }
            (None, None) => {}
        }
    }
}

fn shares(
    what: &str,
    (ours, theirs): (&BTreeMap<&str, f64>, &BTreeMap<&str, f64>),
    address: &str,
    found: &mut Found,
) {
    let (Some(our), Some(their)) = (ours.get(address), theirs.get(address)) else { return };
    // Weights of zero make no share at all, which is never equal.
    let is_equal = (our - their).abs() <= our.min(*their) * SHARE_TOLERANCE;
    if !is_equal {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        found.note(what, percent(*our), percent(*their));
    }
}

fn policies(ours: &SetSeen, theirs: &SetSeen, found: &mut Found) {
    // A table whose size nobody wrote has another size here, and the same meaning.
    let unsized_here = ours.balance == Algorithm::Known(Balance::Maglev { table_size: None });
    let balance = |set: &SetSeen| match &set.balance {
        Algorithm::Known(Balance::Maglev { table_size: Some(size) }) if !unsized_here => {
            format!("MAGLEV, {size} slots")
        }
        Algorithm::Known(Balance::RingHash { minimum }) => format!("RING_HASH, {minimum} points"),
        Algorithm::Known(balance) => balance.as_str().to_owned(),
        // In quotes, so that it is never equal to one of ours.
        Algorithm::Other(written) => format!("`{written}`, which is none of this gateway's"),
    };
    found.note("load balancing", balance(ours), balance(theirs));
    found.note("warm-up", warmup(ours.warmup), warmup(theirs.warmup));
    let timeout = |set: &SetSeen| format!("{:?}", set.connect_timeout);
    found.note("connect timeout", timeout(ours), timeout(theirs));
    let most = |set: &SetSeen| set.max_connections.map_or("no limit".to_owned(), |n| n.to_string());
    found.note("most connections", most(ours), most(theirs));
    let outlier = |set: &SetSeen| set.outlier.as_ref().map_or("off".to_owned(), outlier);
    found.note("outlier detection", outlier(ours), outlier(theirs));
    found.note("keepalive", keepalive(ours.keepalive), keepalive(theirs.keepalive));
}

fn warmup(warmup: Option<Warmup>) -> String {
    warmup.map_or("none".to_owned(), |Warmup { window, minimum_percent, aggression_percent }| {
        format!("{window:?} from {minimum_percent} %, aggression {aggression_percent} %")
    })
}

fn outlier(outlier: &Outlier) -> String {
    let Outlier { consecutive, consecutive_local, interval, base_ejection_time, .. } = outlier;
    let local = consecutive_local.map(|n| format!(", {n} of connections")).unwrap_or_default();
    format!(
        "{consecutive} in a row{local}, looked at each {interval:?}, out for {base_ejection_time:?}, \
         at most {} %, panic below {} %",
        outlier.max_ejection_percent, outlier.min_health_percent
    )
}

fn keepalive(keepalive: Option<Keepalive>) -> String {
    let Some(Keepalive { time, interval, probes }) = keepalive else { return "unset".to_owned() };
    let part = |time: Option<Duration>| time.map_or("unset".to_owned(), |time| format!("{time:?}"));
    let probes = probes.map_or("unset".to_owned(), |probes| probes.to_string());
    format!("time {}, interval {}, probes {probes}", part(time), part(interval))
}
