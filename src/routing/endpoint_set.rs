//! The endpoints behind one key with their policy, and the pick among them.
//!
//! A set is immutable; a change of endpoints makes a new one. Must not know: which key it is
//! behind, how an endpoint is dialled, what makes a connection fail.

use std::{cell::Cell, sync::Arc, time::Instant};

use super::{
    Endpoint, Fault, Place, Policy, TIERS_MAX,
    balance::{self, Candidate},
    tiers::{self, Tally},
};

/// What Envoy calls a cluster: endpoints and policy.
#[derive(Debug, Default)]
pub struct EndpointSet {
    endpoints: Box<[Arc<Endpoint>]>,
    /// Parallel to the endpoints; `None`: one tier, and each endpoint has its own weight.
    places: Option<Box<Box<[Place]>>>,
    policy: Arc<Policy>,
    uniform: bool,
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
    /// For ejections that end.
    pub now: Instant,
}

impl EndpointSet {
    /// A set of these endpoints in one tier; an empty one is valid and refuses.
    #[must_use]
    pub fn new(endpoints: Vec<Arc<Endpoint>>, policy: Arc<Policy>) -> Self {
        let uniform = endpoints.windows(2).all(|w| w[0].weight == w[1].weight);
        Self { endpoints: endpoints.into(), places: None, policy, uniform }
    }

    /// A set of endpoints in tiers, each with its weight in this set. Costs no more than
    /// [`EndpointSet::new`] when all are in one tier with their own weights.
    #[must_use]
    pub fn in_tiers(endpoints: Vec<(Arc<Endpoint>, Place)>, policy: Arc<Policy>) -> Self {
        let (endpoints, places): (Vec<_>, Vec<_>) = endpoints.into_iter().unzip();
        let tier = places.first().map_or(0, |place: &Place| place.tier);
        let plain = |(e, p): (&Arc<Endpoint>, &Place)| p.tier == tier && p.weight == e.weight;
        let is_plain = endpoints.iter().zip(&places).all(plain);
        let set = Self::new(endpoints, policy);
        Self { places: (!is_plain).then(|| Box::new(places.into())), ..set }
    }

    /// All endpoints, in the order of their addresses.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Where the endpoint at `index` stands.
    #[must_use]
    pub fn place(&self, index: usize) -> Place {
        match &self.places {
            Some(places) => places[index],
            None => Place { tier: 0, weight: self.endpoints[index].weight },
        }
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
        if self.places.is_some() {
            return Err(Troubled);
        }
        let met_one = Cell::new(false);
        let candidate = |i: usize| {
            let endpoint = &self.endpoints[i];
            Candidate { weight: endpoint.weight, connections: endpoint.state.connections() }
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

    /// With tiers, or with somebody ejected: looks at all. Weighted throughout, since a walk to
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
        let (first, panic) = tiers::choose(&tallies, balance::scale(random, 100), min_health);
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
            weight: self.place(i).weight,
            connections: self.endpoints[i].state.connections(),
        };
        let eligible = |i| !pick.tried.contains(&i) && eligible(i);
        let of = (self.endpoints.len(), false);
        balance::choose(self.policy.balance, of, candidate, eligible, pick.turn, random)
    }

    fn tier(&self, index: usize) -> usize {
        usize::from(self.place(index).tier).min(TIERS_MAX - 1)
    }
}

/// Somebody is ejected or there are tiers: all endpoints have to be looked at.
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
