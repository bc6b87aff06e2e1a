//! Which live connections should move to another endpoint: theirs was removed, or carries more
//! than its share.
//!
//! A worker looks once a second at the connections of each route and at the endpoints that it has
//! now, and only where the operator asked for it. Must not know: how an endpoint comes or goes.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::RandomState;

use super::quiet_of;
use crate::{
    gateway::{
        config::OnEndpointRemoved,
        outcome::Outcome,
        quiet::Window,
        registry::{Connection, Signal},
        worker::Worker,
    },
    routing::{EndpointSet, Route, RouteState, RouteTable},
};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// A new endpoint may have less than its share for so long; one that still has none is no
/// endpoint that connections could move to.
const JOINING: Duration = Duration::from_secs(300);
/// An endpoint with more than so many times the mean carries too much; one that joined and has
/// less than the mean divided by this, too little.
const UNEVEN: f64 = 1.5;

/// What one worker remembers from one look to the next.
#[derive(Debug)]
pub(in crate::gateway) struct Census {
    next: Cell<Instant>,
    sets: RefCell<HashMap<usize, Remembered, RandomState>>,
}

/// Of one route.
#[derive(Debug)]
struct Remembered {
    /// Kept, so that its address is nobody else's.
    _state: Arc<RouteState>,
    /// Connections that may be ended, in parts of one.
    credit: f64,
    /// Since when each endpoint is there; `None`: since before we looked.
    since: HashMap<SocketAddr, Option<Instant>, RandomState>,
}

/// The connections of one route on this worker.
type Members = Vec<Rc<Connection>>;

impl Census {
    pub(in crate::gateway) fn new(now: Instant) -> Self {
        Self { next: Cell::new(now + EVERY), sets: RefCell::default() }
    }
}

/// Looks, if it is time and the operator asked for anything of it.
pub(in crate::gateway) fn look(worker: &Worker, census: &Census) {
    let config = &worker.config().leave;
    let now = worker.now();
    let is_wanted =
        config.rebalance.is_some() || config.on_endpoint_removed != OnEndpointRemoved::Keep;
    if !is_wanted || now < census.next.get() {
        return;
    }
    census.next.set(now + EVERY);
    let mut routes: HashMap<usize, (Arc<Route>, Members), RandomState> = HashMap::default();
    worker.registry().each(|_, connection| {
        if let (Some(route), Some(_), false) =
            (connection.route.get(), connection.served.get(), connection.has_ended())
        {
            let of_route = routes
                .entry(Arc::as_ptr(&route.state).addr())
                .or_insert_with(|| (Arc::clone(route), Vec::new()));
            of_route.1.push(Rc::clone(connection));
        }
    });
    let table = worker.shared().table.load();
    let mut sets = census.sets.borrow_mut();
    sets.retain(|key, _| routes.contains_key(key));
    for (key, (route, members)) in routes {
        let set = present(&table, &route);
        let (here, gone) = parted(members, set.as_deref());
        part_with(worker, gone, now);
        if let (Some(set), Some(share)) = (set, config.rebalance) {
            let remembered = sets.entry(key).or_insert_with(|| Remembered::first(&route, &set));
            remembered.credit += share * f64::from(u32::try_from(here.len()).unwrap_or(u32::MAX));
            rebalance(worker, here, &set, remembered, now);
        }
    }
}

/// The endpoints that the route has now; `None` when it is gone.
fn present(table: &RouteTable, route: &Route) -> Option<Arc<EndpointSet>> {
    let service = table.service(route.service.host.as_str())?;
    let same = |r: &&Arc<Route>| r.port == route.port && r.subset == route.subset;
    service.routes.iter().find(same).map(|route| route.endpoints.load_full())
}

/// Those whose endpoint is still there, and those whose is not.
fn parted(members: Members, set: Option<&EndpointSet>) -> (Members, Members) {
    let endpoints = set.map_or(&[][..], EndpointSet::endpoints);
    let there: std::collections::HashSet<SocketAddr, RandomState> =
        endpoints.iter().map(|e| e.address).collect();
    members.into_iter().partition(|c| address(c).is_some_and(|at| there.contains(&at)))
}

fn address(connection: &Connection) -> Option<SocketAddr> {
    connection.served.get().map(|served| served.lease.endpoint().address)
}

/// Ends the connections of endpoints that were removed, as the operator wants it.
fn part_with(worker: &Worker, gone: Members, now: Instant) {
    let config = &worker.config().leave;
    match config.on_endpoint_removed {
        OnEndpointRemoved::Keep => {}
        OnEndpointRemoved::Reset => {
            gone.iter().for_each(|c| c.signal(Signal::Cut(Outcome::EndpointRemoved)));
        }
        OnEndpointRemoved::Drain => {
            let mut by_window: HashMap<Instant, Members> = HashMap::new();
            for connection in gone {
                let mut seen = connection.seen.get();
                let begun = *seen.endpoint_gone.get_or_insert(now);
                connection.seen.set(seen);
                by_window.entry(begun).or_default().push(connection);
            }
            for (begun, members) in by_window {
                let window = Window { begun, length: config.window, cuts: true };
                if window.is_over(now) {
                    members.iter().for_each(|c| c.signal(Signal::Cut(Outcome::EndpointRemoved)));
                    continue;
                }
                let quota = window.quota(members.len(), EVERY, now);
                let quiet = quiet_of(members, config.quiet, window.is_late(now), now);
                quiet.take(quota).for_each(|c| c.signal(Signal::Leave(Outcome::EndpointRemoved)));
            }
        }
    }
}

impl Remembered {
    fn first(route: &Route, set: &EndpointSet) -> Self {
        let since = set.endpoints().iter().map(|e| (e.address, None)).collect();
        Self { _state: Arc::clone(&route.state), credit: 0.0, since }
    }

    /// Whether the endpoint came a short while ago.
    fn is_joining(&mut self, address: SocketAddr, now: Instant) -> bool {
        let since = *self.since.entry(address).or_insert(Some(now));
        since.is_some_and(|since| now.saturating_duration_since(since) < JOINING)
    }
}

/// Ends quiet connections of endpoints that carry too much, as far as the credit goes.
fn rebalance(
    worker: &Worker,
    members: Members,
    set: &EndpointSet,
    remembered: &mut Remembered,
    now: Instant,
) {
    let endpoints = set.endpoints();
    remembered.since.retain(|address, _| endpoints.iter().any(|e| e.address == *address));
    let load = |e: &Arc<crate::routing::Endpoint>| Load {
        connections: e.state.connections(),
        weight: e.weight,
        joining: remembered.is_joining(e.address, now),
    };
    let loads: Vec<Load> = endpoints.iter().map(load).collect();
    let heavy = heavy(&loads);
    if heavy.is_empty() {
        remembered.credit = 0.0;
        return;
    }
    let quota = (0..members.len()).take_while(|_| spend(&mut remembered.credit)).count();
    let from: Vec<SocketAddr> = heavy.iter().map(|i| endpoints[*i].address).collect();
    let on_heavy = |c: &Rc<Connection>| address(c).is_some_and(|at| from.contains(&at));
    let movable = members.into_iter().filter(on_heavy).collect();
    let quiet = quiet_of(movable, worker.config().leave.quiet, false, now);
    quiet.take(quota).for_each(|c| c.signal(Signal::Leave(Outcome::Rebalanced)));
}

fn spend(credit: &mut f64) -> bool {
    let has = *credit >= 1.0;
    if has {
        *credit -= 1.0;
    }
    has
}

/// What an endpoint carries.
#[derive(Clone, Copy, Debug)]
struct Load {
    connections: u32,
    weight: u32,
    joining: bool,
}

/// The endpoints, by index, that should carry less; empty when the set is even enough.
///
/// An endpoint without a connection counts only while it joins: one that takes none would
/// otherwise have the others' connections ended for ever.
fn heavy(loads: &[Load]) -> Vec<usize> {
    let counts = |load: &&Load| load.connections > 0 || load.joining;
    let (connections, weight) = loads.iter().filter(counts).fold((0, 0), |(c, w), load| {
        (c + u64::from(load.connections), w + u64::from(load.weight.max(1)))
    });
    // Exact for any number of connections that a machine can hold.
    #[allow(clippy::cast_precision_loss)]
    let mean = connections as f64 / weight.max(1) as f64;
    let relative = |load: &Load| f64::from(load.connections) / f64::from(load.weight.max(1)) / mean;
    // Below one connection for each endpoint there is nothing to spread.
    if mean < 1.0 {
        return Vec::new();
    }
    let too_little = loads.iter().any(|load| load.joining && relative(load) < 1.0 / UNEVEN);
    let limit = if too_little { 1.0 } else { UNEVEN };
    (0..loads.len()).filter(|i| relative(&loads[*i]) > limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(loads: &[(u32, u32, bool)], expected: &[usize]) {
        let load = |&(connections, weight, joining): &_| Load { connections, weight, joining };
        let found: Vec<Load> = loads.iter().map(load).collect();
        assert_eq!(heavy(&found), expected, "{loads:?}");
    }

    #[test]
    fn an_even_set_is_left_alone() {
        check(&[], &[]);
        check(&[(10, 1, false)], &[]);
        check(&[(10, 1, false), (10, 1, false), (14, 1, false)], &[]);
        check(&[(10, 1, false), (20, 2, false)], &[]);
    }

    #[test]
    fn one_with_more_than_half_again_the_mean_is_relieved() {
        check(&[(10, 1, false), (10, 1, false), (40, 1, false)], &[2]);
        check(&[(40, 4, false), (10, 1, false), (30, 1, false)], &[2]);
    }

    #[test]
    fn a_new_endpoint_gets_its_share_from_all_above_the_mean() {
        check(&[(50, 1, false), (50, 1, false), (0, 1, true)], &[0, 1]);
        check(&[(40, 1, false), (35, 1, false), (25, 1, true)], &[]);
    }

    #[test]
    fn one_that_takes_no_connection_moves_nobody_for_ever() {
        check(&[(50, 1, false), (0, 1, false)], &[]);
        check(&[(1, 1, false), (0, 1, true)], &[]);
    }

    #[test]
    fn one_in_a_hundred_is_spent_each_second() {
        let mut credit = 0.0;
        let mut spent = 0;
        for _ in 0..100 {
            credit += 0.01 * 30.0;
            while spend(&mut credit) {
                spent += 1;
            }
        }
        assert!((29..=30).contains(&spent), "{spent}");
    }
}
