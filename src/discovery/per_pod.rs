//! Names of single pods: `pod-0.kafka.ns2.svc.cluster.local` is the endpoint of the headless
//! Service `kafka` whose `hostname` is `pod-0`. Off unless `gateway.per_pod_names` asks for it.
//!
//! Pure. Made from the plan of the Service: the same endpoints with the same counters, subsets and
//! policy, exposed when a Gateway's `hosts` cover the longer name. Must not know: how the Service
//! was planned.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use super::{
    LeftOut, Place,
    build::{self, Gates, Plan, PlannedRoute},
};
use crate::routing::{Host, Service};

/// Which endpoints have which `hostname`.
pub(super) type Hostnames = Vec<(Box<str>, SocketAddr)>;

/// A plan for each pod that has a name of its own, by host.
pub(super) fn plans(of: &Plan, hostnames: &Hostnames, gates: &Gates<'_>) -> Vec<(Host, Plan)> {
    let mut addresses: BTreeMap<&str, Vec<SocketAddr>> = BTreeMap::new();
    for (hostname, address) in hostnames {
        addresses.entry(hostname).or_default().push(*address);
    }
    let plan = |(hostname, addresses): (&str, Vec<SocketAddr>)| {
        // One label: with a dot it could be the name of another Service.
        let host = Some(hostname).filter(|hostname| !hostname.contains('.'));
        let host = Host::parse(&format!("{}.{}", host?, of.service.host))?;
        Some((host.clone(), of_pod(of, host, &addresses, gates)))
    };
    addresses.into_iter().filter_map(plan).collect()
}

fn of_pod(of: &Plan, host: Host, addresses: &[SocketAddr], gates: &Gates<'_>) -> Plan {
    let service = Service { host, ..of.service.clone() };
    let (exposed, exposed_as_alias) =
        if of.visible { build::exposed(&service, gates) } else { (false, false) };
    let route = |route: &PlannedRoute| {
        let of_pod = route.endpoints.iter().filter(|(e, _)| addresses.contains(&e.address));
        PlannedRoute {
            port: route.port,
            subset: Arc::clone(&route.subset),
            endpoints: of_pod.cloned().collect(),
            policy: Arc::clone(&route.policy),
        }
    };
    let of_pod = |left_out: &&LeftOut| match &left_out.place {
        Place::Address(address) => addresses.contains(address),
        Place::Name(..) => false,
    };
    Plan {
        service,
        visible: of.visible,
        exposed,
        exposed_as_alias,
        routes: of.routes.iter().map(route).collect(),
        left_out: of.left_out.iter().filter(of_pod).cloned().collect(),
        findings: Vec::new(),
    }
}
