//! From a plan to routes: what of the published ones is kept, and what is swapped in place.
//!
//! Counters and cells are taken over by identity. Must not know: objects, gates, when a table is
//! published.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::build::{Plan, PlannedRoute};
use crate::routing::{EndpointSet, Route, ServiceRoutes};

/// True when nothing but endpoints differs.
pub(super) fn same_shape(plan: &Plan, current: &ServiceRoutes) -> bool {
    let routes = plan.routes.iter().zip(&current.routes);
    plan.service == *current.service
        && (plan.exposed, plan.exposed_as_alias) == (current.exposed, current.exposed_as_alias)
        && plan.routes.len() == current.routes.len()
        && routes.into_iter().all(|(planned, route)| {
            planned.port == route.port
                && planned.subset == route.subset
                && *planned.policy == *route.endpoints.load().policy()
        })
}

/// Puts new endpoints into a route's cell; false when they are the old ones.
pub(super) fn swap(route: &Route, planned: PlannedRoute) -> bool {
    let present = route.endpoints.load();
    let same = present.endpoints().len() == planned.endpoints.len()
        && planned.endpoints.iter().enumerate().all(|(i, (endpoint, place))| {
            Arc::ptr_eq(&present.endpoints()[i], endpoint) && present.place(i) == *place
        });
    if !same {
        route.endpoints.store(Arc::new(EndpointSet::in_tiers(planned.endpoints, planned.policy)));
    }
    !same
}

/// The routes of a plan, with the counters of those that are there now.
pub(super) fn routes(plan: Plan, current: Option<&ServiceRoutes>) -> ServiceRoutes {
    let service = match current {
        Some(current) if *current.service == plan.service => Arc::clone(&current.service),
        _ => Arc::new(plan.service),
    };
    let present = |planned: &PlannedRoute| {
        let routes = &current?.routes;
        let at = routes.binary_search_by(|route| {
            (route.port, &*route.subset).cmp(&(planned.port, &*planned.subset))
        });
        at.ok().map(|at| &routes[at])
    };
    let route = |planned: PlannedRoute| {
        let present = present(&planned);
        Arc::new(Route {
            service: Arc::clone(&service),
            port: planned.port,
            state: present.map(|route| Arc::clone(&route.state)).unwrap_or_default(),
            subset: planned.subset,
            endpoints: ArcSwap::from_pointee(EndpointSet::in_tiers(
                planned.endpoints,
                planned.policy,
            )),
        })
    };
    let routes = plan.routes.into_iter().map(route).collect();
    let Plan { exposed, exposed_as_alias, .. } = plan;
    ServiceRoutes { service, exposed, exposed_as_alias, routes }
}
