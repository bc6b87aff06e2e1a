//! The form that both sides come to: names that are let in, and what is behind each.
//!
//! Must not know: which side it is of, what differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::routing::{Balance, Keepalive, Outlier, Warmup};

/// One side, by route: the key under the service's own host.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) routes: BTreeMap<String, RouteSeen>,
    /// Names of clusters, in lower case, that some or no route leads to; only Envoy has them.
    pub(super) clusters: BTreeSet<String>,
    /// What could not be taken in, or is no difference and worth a word.
    pub(super) remarks: Vec<String>,
}

/// One route.
#[derive(Debug, Default)]
pub(super) struct RouteSeen {
    /// The server names by which it is asked for, and for each the ALPN names of which one is
    /// wanted; empty: any, or none.
    pub(super) names: BTreeMap<String, BTreeSet<String>>,
    /// `None`: it leads nowhere.
    pub(super) set: Option<SetSeen>,
    /// Why what it leads to could not be read.
    pub(super) unread: Option<String>,
    /// Limits of a connection, which Envoy has beside the filter chain.
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_duration: Option<Duration>,
    /// Objects that it was made of, as people write them.
    pub(super) objects: Vec<String>,
}

/// What Envoy calls a cluster.
#[derive(Debug)]
pub(super) struct SetSeen {
    pub(super) members: BTreeMap<String, Member>,
    /// Endpoints that are named and get nothing, and why.
    pub(super) idle: BTreeMap<String, String>,
    /// Weights are shares of a whole: compared by proportion.
    pub(super) by_share: bool,
    pub(super) balance: Algorithm,
    pub(super) warmup: Option<Warmup>,
    pub(super) connect_timeout: Duration,
    pub(super) max_connections: Option<u32>,
    /// `None` where nobody asks for it: a default of one side alone is no difference.
    pub(super) outlier: Option<Outlier>,
    pub(super) keepalive: Option<Keepalive>,
}

/// How one of the members is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// In a way that this gateway has too.
    Known(Balance),
    /// In some other way, as it is written there.
    Other(String),
}

/// One endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) weight: f64,
    pub(super) tier: u64,
}

impl SetSeen {
    /// Makes the tiers consecutive from 0, which is all that Envoy minds of them.
    pub(super) fn compact(&mut self) {
        let used: BTreeSet<u64> = self.members.values().map(|member| member.tier).collect();
        for member in self.members.values_mut() {
            member.tier = used.range(..member.tier).count() as u64;
        }
    }

    /// The part of its tier that each endpoint gets.
    pub(super) fn shares(&self) -> BTreeMap<&str, f64> {
        let sum = |tier| -> f64 {
            self.members.values().filter(|m| m.tier == tier).map(|m| m.weight).sum()
        };
        let mut sums = BTreeMap::new();
        let share = |(address, member): (&'_ String, &Member)| {
            let sum = *sums.entry(member.tier).or_insert_with(|| sum(member.tier));
            (address.clone(), member.weight / sum)
        };
        let shares: Vec<(String, f64)> = self.members.iter().map(share).collect();
        let keys = self.members.keys().map(String::as_str);
        keys.zip(shares.into_iter().map(|(_, share)| share)).collect()
    }
}
