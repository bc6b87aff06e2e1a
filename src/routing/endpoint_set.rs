//! The endpoints behind one key with their policy, and the pick among them.
//!
//! A set is immutable; a change of endpoints makes a new one. Must not know: which key it is
//! behind, how an endpoint is dialled, what makes a connection fail.

use std::{cell::Cell, net::IpAddr, sync::Arc, time::Instant};

use super::{
    Endpoint, Fault, Place, Policy, TIERS_MAX,
    affinity::{Affinity, key_of},
    balance::{self, Candidate},
    tiers::{self, Tally},
    warmup,
};

/// What Envoy calls a cluster: endpoints and policy.
#[derive(Debug, Default)]
pub struct EndpointSet {
    endpoints: Box<[Arc<Endpoint>]>,
    /// What few sets have.
    extras: Option<Box<Extras>>,
    policy: Arc<Policy>,
    uniform: bool,
}

/// What makes a pick look at more than connections and weights.
#[derive(Debug, Default)]
struct Extras {
    /// Parallel to the endpoints; `None`: one tier, and each endpoint has its own weight.
    places: Option<Box<[Place]>>,
    /// Where sources belong.
    affinity: Option<Affinity>,
    /// When the last new endpoint is warm.
    warm_at: Option<Instant>,
}

/// The endpoints of a set that this connection tried, by index. One connection works on one
/// snapshot of the set, so an index stays true.
pub type Tried = Vec<usize>;

/// What a pick depends on besides the set.
#[derive(Clone, Copy, Debug)]
pub struct Pick<'a> {
    /// Not these again.
    pub tried: &'a [usize],
    /// How many picks this route has seen.
    pub turn: u64,
    /// Uniform over all of u64.
    pub random: u64,
    /// Who asks, where that is known: what consistent hashing goes by.
    pub source: Option<IpAddr>,
    /// For ejections that end.
    pub now: Instant,
}

impl EndpointSet {
    /// A set of these endpoints in one tier; an empty one is valid and refuses.
    #[must_use]
    pub fn new(endpoints: Vec<Arc<Endpoint>>, policy: Arc<Policy>) -> Self {
        Self::with(endpoints, None, policy)
    }

    /// A set of endpoints in tiers, each with its weight in this set. Costs no more than
    /// [`EndpointSet::new`] when all are in one tier with their own weights.
    #[must_use]
    pub fn in_tiers(endpoints: Vec<(Arc<Endpoint>, Place)>, policy: Arc<Policy>) -> Self {
        let (endpoints, places): (Vec<_>, Vec<_>) = endpoints.into_iter().unzip();
        let tier = places.first().map_or(0, |place: &Place| place.tier);
        let plain = |(e, p): (&Arc<Endpoint>, &Place)| p.tier == tier && p.weight == e.weight;
        let is_plain = endpoints.iter().zip(&places).all(plain);
        Self::with(endpoints, (!is_plain).then(|| places.into()), policy)
    }

    fn with(
        endpoints: Vec<Arc<Endpoint>>,
        places: Option<Box<[Place]>>,
        policy: Arc<Policy>,
    ) -> Self {
        let uniform = endpoints.windows(2).all(|w| w[0].weight == w[1].weight);
        let weight = |i: usize, e: &Endpoint| places.as_ref().map_or(e.weight, |p| p[i].weight);
        let affinity = if policy.balance.is_by_source() {
            let named = endpoints.iter().enumerate().map(|(i, e)| (e.address, weight(i, e)));
            Affinity::new(policy.balance, &named.collect::<Vec<_>>())
        } else {
            None
        };
        let last = || endpoints.iter().filter_map(|endpoint| endpoint.added).max();
        let warm_at = policy.warmup.and_then(|warmup| last()?.checked_add(warmup.window));
        let any = places.is_some() || affinity.is_some() || warm_at.is_some();
        let extras = any.then(|| Box::new(Extras { places, affinity, warm_at }));
        Self { endpoints: endpoints.into(), extras, policy, uniform }
    }

    /// All endpoints, in the order of their addresses.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Where the endpoint at `index` stands.
    #[must_use]
    pub fn place(&self, index: usize) -> Place {
        match self.extras.as_ref().and_then(|extras| extras.places.as_ref()) {
            Some(places) => places[index],
            None => Place { tier: 0, weight: self.endpoints[index].weight },
        }
    }

    /// True while the endpoint at `index` has less than its share, being new.
    #[must_use]
    pub fn is_warming(&self, index: usize, now: Instant) -> bool {
        self.share(index, now) < warmup::WHOLE
    }

    /// The endpoint that this source belongs to, whatever its tier and health; `None` where the
    /// source does not decide.
    #[must_use]
    pub fn of_source(&self, source: IpAddr) -> Option<usize> {
        self.extras.as_ref()?.affinity.as_ref()?.walk(key_of(source)).next()
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Picks an endpoint that was not tried and counts it as in use until the lease is dropped.
    /// Gives its index for [`Tried`]. `None` when none is left.
    ///
    /// Ejected ones come last, after all others were tried: while there is an endpoint, somebody
    /// is asked.
    #[must_use]
    pub fn pick(&self, pick: Pick<'_>) -> Option<(usize, Lease)> {
        let index = match self.pick_in_service(&pick) {
            Ok(index) => index?,
            Err(Troubled) => self.pick_in_trouble(&pick)?,
        };
        Some((index, Lease::new(Arc::clone(&self.endpoints[index]))))
    }

    /// True while an endpoint that was not tried is in service: the next pick is as good as the
    /// last.
    #[must_use]
    pub fn has_good(&self, tried: &[usize], now: Instant) -> bool {
        let good =
            |(i, e): (usize, &Arc<Endpoint>)| !tried.contains(&i) && !e.state.is_ejected(now);
        self.endpoints.iter().enumerate().any(good)
    }

    /// Counts a failure of an endpoint of this set; true when that ejected it. Nothing is counted
    /// without [`Policy::outlier`].
    pub fn failed(&self, endpoint: &Endpoint, fault: Fault, now: Instant) -> bool {
        let Some(outlier) = &self.policy.outlier else { return false };
        let may_eject = || {
            let out = self.endpoints.iter().filter(|e| e.state.is_marked()).count();
            let most = self.endpoints.len() * usize::from(outlier.max_ejection_percent) / 100;
            out < most.max(1)
        };
        endpoint.state.failed(fault, now, outlier, may_eject)
    }

    /// The usual case, in which nobody who is looked at is ejected: then no ejection elsewhere
    /// would change the answer.
    #[inline]
    fn pick_in_service(&self, pick: &Pick<'_>) -> Result<Option<usize>, Troubled> {
        if self.extras.as_ref().is_some_and(|extras| extras.matter(pick.now)) {
            return Err(Troubled);
        }
        let met_one = Cell::new(false);
        let candidate = |i: usize| {
            let endpoint = &self.endpoints[i];
            let weight = u64::from(endpoint.weight);
            Candidate { weight, connections: endpoint.state.connections() }
        };
        let eligible = |i: usize| {
            if pick.tried.contains(&i) {
                return false;
            }
            let out = self.endpoints[i].state.is_marked();
            if out {
                met_one.set(true);
            }
            !out
        };
        let of = (self.endpoints.len(), self.uniform);
        let index =
            balance::choose(self.policy.balance, of, candidate, eligible, pick.turn, pick.random);
        if met_one.get() { Err(Troubled) } else { Ok(index) }
    }

    /// With tiers, sources or new endpoints, or with somebody ejected: looks at all. Weighted throughout, since a walk to
    /// the next eligible one would load the neighbours of those that are out.
    #[cold]
    #[inline(never)]
    fn pick_in_trouble(&self, pick: &Pick<'_>) -> Option<usize> {
        let mut tallies = [Tally::default(); TIERS_MAX];
        for (i, endpoint) in self.endpoints.iter().enumerate() {
            let tally = &mut tallies[self.tier(i)];
            tally.total += 1;
            tally.open += u32::from(!endpoint.state.is_ejected(pick.now));
        }
        // Part of the randomness was used up by finding one that is out.
        let random = pick.random.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        let min_health = self.policy.outlier.as_ref().map_or(0, |o| o.min_health_percent);
        // A source belongs to a tier as well, else it would have an endpoint in each.
        let draw = match self.belongs(pick) {
            Some((_, key)) => key % 100,
            None => balance::scale(random, 100),
        };
        let (first, panic) = tiers::choose(&tallies, draw, min_health);
        let random = random.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let in_service = |tier| self.pick_claimed(tier, pick, random);
        let anyone = |tier| self.pick_of(pick, random, &|i| self.tier(i) == tier);
        let in_first = if panic { anyone(first) } else { in_service(first) };
        in_first
            .or_else(|| (0..TIERS_MAX).find_map(in_service))
            .or_else(|| (0..TIERS_MAX).find_map(anyone))
    }

    /// One of a tier that is in service, or whose probe this connection has become.
    fn pick_claimed(&self, tier: usize, pick: &Pick<'_>, random: u64) -> Option<usize> {
        let open = |i: usize| self.tier(i) == tier && !self.endpoints[i].state.is_ejected(pick.now);
        // Another worker may claim the same probe first: then it is not open any more.
        (0..=self.endpoints.len()).find_map(|_| {
            let index = self.pick_of(pick, random, &open);
            match index {
                Some(i) if !self.endpoints[i].state.claim(pick.now) => None,
                index => Some(index),
            }
        })?
    }

    fn pick_of(
        &self,
        pick: &Pick<'_>,
        random: u64,
        eligible: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let candidate = |i: usize| Candidate {
            weight: u64::from(self.place(i).weight) * self.share(i, pick.now),
            connections: self.endpoints[i].state.connections(),
        };
        let eligible = |i| !pick.tried.contains(&i) && eligible(i);
        if let Some((affinity, key)) = self.belongs(pick) {
            let any = (0..self.endpoints.len()).any(eligible);
            return any.then(|| affinity.walk(key).find(|i| eligible(*i))).flatten();
        }
        let of = (self.endpoints.len(), false);
        balance::choose(self.policy.balance, of, candidate, eligible, pick.turn, random)
    }

    /// The parts of its weight that an endpoint has at its age.
    fn share(&self, index: usize, now: Instant) -> u64 {
        match (self.policy.warmup, self.endpoints[index].added) {
            (Some(warmup), Some(added)) => warmup.share(now.saturating_duration_since(added)),
            _ => warmup::WHOLE,
        }
    }

    /// Where the source of this pick belongs, and its key.
    fn belongs(&self, pick: &Pick<'_>) -> Option<(&Affinity, u64)> {
        let affinity = self.extras.as_ref()?.affinity.as_ref()?;
        Some((affinity, key_of(pick.source?)))
    }

    fn tier(&self, index: usize) -> usize {
        usize::from(self.place(index).tier).min(TIERS_MAX - 1)
    }
}

impl Extras {
    /// False when all that is left of them is an endpoint that was new once.
    fn matter(&self, now: Instant) -> bool {
        self.places.is_some()
            || self.affinity.is_some()
            || self.warm_at.is_some_and(|warm_at| now < warm_at)
    }
}

/// Somebody is ejected, or there are extras that matter: all endpoints have to be looked at.
struct Troubled;

/// An endpoint in use: counts one connection on it until dropped.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
}

impl Lease {
    fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.state.acquire();
        Self { endpoint }
    }

    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.state.release();
    }
}

#[cfg(test)]
mod tests;
