//! The endpoints behind one key with their policy, and the pick among them.
//!
//! A set is immutable; a change of endpoints makes a new one. Must not know: which key it is
//! behind, how an endpoint is dialled.

use std::sync::Arc;

use super::{
    Endpoint, Policy,
    balance::{self, Candidate},
};

/// What Envoy calls a cluster: endpoints and policy.
#[derive(Debug, Default)]
pub struct EndpointSet {
    endpoints: Box<[Arc<Endpoint>]>,
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
}

impl EndpointSet {
    /// A set of these endpoints; an empty one is valid and refuses.
    #[must_use]
    pub fn new(endpoints: Vec<Arc<Endpoint>>, policy: Arc<Policy>) -> Self {
        let uniform = endpoints.windows(2).all(|w| w[0].weight == w[1].weight);
        Self { endpoints: endpoints.into(), policy, uniform }
    }

    /// All endpoints, in the order of their addresses.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Picks an endpoint that was not tried and counts it as in use until the lease is dropped.
    /// Gives its index for [`Tried`]. `None` when none is left.
    #[must_use]
    pub fn pick(&self, pick: Pick<'_>) -> Option<(usize, Lease)> {
        let candidate = |i: usize| {
            let endpoint = &self.endpoints[i];
            Candidate { weight: endpoint.weight, connections: endpoint.state.connections() }
        };
        let index = balance::choose(
            self.policy.balance,
            (self.endpoints.len(), self.uniform),
            candidate,
            |i| !pick.tried.contains(&i),
            pick.turn,
            pick.random,
        )?;
        Some((index, Lease::new(Arc::clone(&self.endpoints[index]))))
    }
}

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
mod tests {
    use super::*;

    fn set(n: u8) -> EndpointSet {
        let endpoint = |i| Endpoint {
            address: ([10, 0, 0, i], 80).into(),
            weight: 1,
            locality: Arc::default(),
            workload: Arc::default(),
            instance: Arc::default(),
            state: Arc::default(),
        };
        EndpointSet::new((0..n).map(|i| Arc::new(endpoint(i))).collect(), Arc::default())
    }

    #[test]
    fn every_endpoint_is_tried_once_and_then_none_is_left() {
        let set = set(5);
        let mut tried = Tried::new();
        while let Some((index, _lease)) = set.pick(Pick { tried: &tried, turn: 3, random: 42 }) {
            assert!(!tried.contains(&index));
            tried.push(index);
        }
        assert_eq!(tried.len(), 5);
    }

    #[test]
    fn a_lease_counts_until_it_is_dropped() {
        let set = set(1);
        let (_, lease) = set.pick(Pick { tried: &[], turn: 0, random: 0 }).expect("one");
        assert_eq!(set.endpoints()[0].state.connections(), 1);
        drop(lease);
        assert_eq!(set.endpoints()[0].state.connections(), 0);
    }
}
