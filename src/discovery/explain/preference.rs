//! What says which endpoints of a route are near.
//!
//! Must not know: which are.

use super::Catalog;
use crate::{
    discovery::{facts::Distribution, locality::Written, policy, world::Definition},
    routing::Route,
};

/// In words (`None`: nothing says anything), and whether the rule itself has `outlierDetection`.
pub(super) fn preference(
    route: &Route,
    defined: &str,
    catalog: &Catalog,
) -> (Option<String>, bool) {
    let (world, identity) = (catalog.world(), catalog.identity());
    let rule = catalog.rule_of(defined, &route.service.namespace);
    let subset = rule.and_then(|rule| rule.subset(&route.subset));
    let defaults = policy::Defaults {
        connect_timeout: world.mesh.connect_timeout,
        keepalive: world.mesh.keepalive,
        outlier: identity.outlier.as_ref(),
    };
    let merged = policy::merge(rule, subset, route.port, defaults);
    let of_service = match world.definition(defined, &identity.namespace) {
        Some(Definition::Service(service, _)) => {
            let field = service.spec.traffic_distribution.as_deref();
            Distribution::read(field, &service.meta)
        }
        Some(Definition::Entry(entry, _)) => Distribution::read(None, &entry.meta),
        None => None,
    };
    let written =
        Written { of_rule: merged.locality, of_service, of_mesh: world.mesh.locality.as_ref() };
    let forced = merged.locality.is_none() && of_service.is_some();
    let mut settings = merged.locality.into_iter().chain(&world.mesh.locality);
    let shares = settings.next().is_some_and(|setting| !setting.distribute.is_empty());
    let works = merged.detects || forced || shares;
    let words = written.source().map(|source| {
        let idle = ", which makes no tiers: the DestinationRule has no outlierDetection";
        source + if works { "" } else { idle }
    });
    (words, merged.detects)
}
