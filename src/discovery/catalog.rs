//! The one writer: owns the objects, plans the services that a change bears on, publishes.
//!
//! A change of endpoints alone swaps the cells of the routes concerned; a change of names, ports,
//! subsets, exposure or policy publishes a table that shares everything else with the one before.
//! Counters of routes and endpoints are taken over by identity. Must not know: where objects come
//! from, connections.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use ahash::RandomState;

use super::{
    Change, Exposure, Finding, Identity, LeftOut,
    build::{self, Gates, Plan},
    change::Affected,
    destination_rule::Rules,
    kubernetes,
    peer_authentication::PeerRules,
    per_pod, pods,
    pool::Pools,
    routes::{routes, same_shape, swap},
    service_entry,
    world::{Definition, World},
};
use crate::{
    manifests::{Kind, kinds::ServiceEntry},
    routing::{Host, Locality, RouteTable, ServiceRoutes, SharedTable},
};

mod answers;

/// All that is known, and the table made of it.
#[derive(Debug)]
pub struct Catalog {
    identity: Identity,
    /// Where the gateway runs: as set, or else its node's.
    locality: Locality,
    world: World,
    exposure: Exposure,
    rules: Rules,
    peers: PeerRules,
    pools: Pools,
    shared: Arc<SharedTable>,
    table: Arc<RouteTable>,
    /// Tables that a connection may still hold. They end here, not on a worker: to drop one of
    /// 100,000 services takes milliseconds.
    retired: Vec<Arc<RouteTable>>,
    /// The time of the last changes.
    now: Instant,
    /// Names of single pods, by the host of their Service.
    pods: HashMap<Host, Vec<Host>, RandomState>,
    left_out: HashMap<Host, Box<[LeftOut]>, RandomState>,
    findings: HashMap<Host, Box<[Finding]>, RandomState>,
}

/// What a change came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Services that were looked at.
    pub services: usize,
    /// Routes whose endpoints were swapped in place.
    pub swapped: usize,
    /// A new table was published.
    pub published: bool,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Services in the table.
    pub services: usize,
    /// Those that a client can reach, under their own name or their alias.
    pub exposed: usize,
    /// Their ports and subsets.
    pub routes: usize,
    /// Distinct endpoints: one address of one port of one service.
    pub endpoints: usize,
    /// Endpoints that objects name and nobody can reach.
    pub left_out: usize,
    /// Remarks about objects.
    pub findings: usize,
}

/// What is to become of the table.
#[derive(Default)]
struct Work {
    applied: Applied,
    changes: Vec<(Host, Option<ServiceRoutes>)>,
}

impl Catalog {
    /// A catalog without objects, which writes to `shared`. It publishes at once: the empty table
    /// refuses every name, but knows the rewrite.
    #[must_use]
    pub fn new(identity: Identity, shared: Arc<SharedTable>) -> Self {
        let mut catalog = Self {
            world: World::new(&identity),
            exposure: Exposure::default(),
            rules: Rules::default(),
            peers: PeerRules::default(),
            pools: Pools::default(),
            table: shared.load(),
            shared,
            retired: Vec::new(),
            now: Instant::now(),
            pods: HashMap::default(),
            left_out: HashMap::default(),
            findings: HashMap::default(),
            locality: identity.locality.clone(),
            identity,
        };
        catalog.read_policies(&Affected {
            exposure: true,
            rules: true,
            peers: true,
            ..Affected::default()
        });
        catalog.publish(RouteTable::new(Vec::new(), catalog.identity.rewrite(), 1));
        catalog
    }

    /// Takes changes in, all at once, and publishes what they come to.
    pub fn apply<'c>(&mut self, changes: impl IntoIterator<Item = &'c Change>) -> Applied {
        self.apply_at(changes, Instant::now())
    }

    /// The same at another time than now: endpoints that join are new from then on.
    pub fn apply_at<'c>(
        &mut self,
        changes: impl IntoIterator<Item = &'c Change>,
        now: Instant,
    ) -> Applied {
        self.now = now;
        self.retired.retain(|table| Arc::strong_count(table) > 1);
        let mut affected = Affected::default();
        for change in changes {
            self.world.apply(change, &mut affected);
        }
        if affected.mesh && self.world.read_mesh(&self.identity) {
            affected.all = true;
            affected.rules = true;
            affected.peers = true;
        }
        let locality = self.own_locality();
        affected.all |= std::mem::replace(&mut self.locality, locality) != self.locality;
        if affected.is_nothing() {
            return Applied::default();
        }
        self.world.affected_by_hosts(&mut affected);
        self.read_policies(&affected);
        let mut work = Work::default();
        if affected.all || affected.exposure {
            self.plan_all(&mut work);
        } else {
            for host in &affected.hosts {
                self.plan(host, &mut work);
            }
            if !work.changes.is_empty() {
                let changes = std::mem::take(&mut work.changes);
                self.publish(self.table.with(changes, self.table.generation + 1));
                work.applied.published = true;
            }
        }
        work.applied
    }

    fn own_locality(&self) -> Locality {
        let set = &self.identity.locality;
        let node = self.identity.node.as_deref().filter(|_| set.region.is_empty());
        let node = node.and_then(|node| self.world.nodes.get("", node));
        node.map_or_else(|| set.clone(), |node| pods::node_locality(node))
    }

    /// Plans every host, and builds the table anew.
    fn plan_all(&mut self, work: &mut Work) {
        let hosts = self.world.hosts();
        let gone: Vec<Host> = {
            let pods: HashSet<&Host, RandomState> = self.pods.values().flatten().collect();
            let known = |host: &Host| hosts.binary_search(host).is_ok() || pods.contains(host);
            let table = self.table.services().map(|routes| &routes.service.host);
            table.filter(|host| !known(host)).cloned().collect()
        };
        for host in gone.iter().chain(&hosts) {
            self.plan(host, work);
        }
        if !work.changes.is_empty() {
            let changes = std::mem::take(&mut work.changes);
            self.publish(self.table.with(changes, self.table.generation + 1));
            work.applied.published = true;
        }
        self.pools.prune();
    }

    /// Plans one host: swaps what can be swapped, and notes what needs a new table.
    fn plan(&mut self, host: &Host, work: &mut Work) {
        work.applied.services += 1;
        let current = self.table.service(host.as_str());
        let definition = self.world.definition(host.as_str(), &self.identity.namespace);
        let facts = definition.and_then(|definition| {
            let at = (&self.world, &self.identity);
            match definition {
                Definition::Service(service, shaded) => {
                    let mut facts = kubernetes::facts(service, host, at, &mut self.pools);
                    facts.findings.extend(shaded.into_iter().map(|entry| shade(entry, host)));
                    Some(facts)
                }
                Definition::Entry(entry, shaded) => {
                    let mut facts = service_entry::facts(entry, host, at, &mut self.pools)?;
                    facts.findings.extend(shaded.into_iter().map(|entry| shade(entry, host)));
                    Some(facts)
                }
            }
        });
        let Some(mut facts) = facts else {
            self.forget(host, work);
            return self.plan_pods(host, Vec::new(), work);
        };
        let hostnames = std::mem::take(&mut facts.hostnames);
        let gates = Gates {
            identity: &self.identity,
            exposure: &self.exposure,
            rules: &self.rules,
            peers: &self.peers,
            locality: &self.locality,
            mesh: &self.world.mesh,
            now: self.now,
        };
        let plan = build::plan(facts, &gates, &mut self.pools, current);
        let pods = per_pod::plans(&plan, &hostnames, &gates);
        self.settle(host, plan, work);
        self.plan_pods(host, pods, work);
    }

    /// Swaps the routes of one host, or has them replaced with the next table.
    fn settle(&mut self, host: &Host, mut plan: Plan, work: &mut Work) {
        note(&mut self.left_out, host, std::mem::take(&mut plan.left_out));
        note(&mut self.findings, host, std::mem::take(&mut plan.findings));
        let current = self.table.service(host.as_str());
        match current {
            Some(current) if same_shape(&plan, current) => {
                for (route, planned) in current.routes.iter().zip(plan.routes) {
                    work.applied.swapped += usize::from(swap(route, planned));
                }
            }
            _ => work.changes.push((host.clone(), Some(routes(plan, current)))),
        }
    }

    /// Takes a host out.
    fn forget(&mut self, host: &Host, work: &mut Work) {
        let current = self.table.service(host.as_str());
        work.changes.extend(current.map(|_| (host.clone(), None)));
        self.left_out.remove(host);
        self.findings.remove(host);
    }

    /// The names of a Service's single pods. What has another definition is none of them.
    fn plan_pods(&mut self, service: &Host, mut pods: Vec<(Host, Plan)>, work: &mut Work) {
        pods.retain(|(host, _)| self.world.entries_of(host.as_str()).is_empty());
        let hosts: Vec<Host> = pods.iter().map(|(host, _)| host.clone()).collect();
        for host in self.pods.remove(service).unwrap_or_default() {
            if !hosts.contains(&host) && self.world.entries_of(host.as_str()).is_empty() {
                self.forget(&host, work);
            }
        }
        for (host, plan) in pods {
            self.settle(&host, plan, work);
        }
        if !hosts.is_empty() {
            self.pods.insert(service.clone(), hosts);
        }
    }

    /// Reads again what is judged by, where it changed.
    fn read_policies(&mut self, affected: &Affected) {
        let Self { identity, world, .. } = self;
        if affected.exposure {
            let gateways = world.gateways.oldest_first(|gateway| &gateway.meta);
            self.exposure = Exposure::new(gateways.into_iter().map(|g| &**g), identity);
        }
        if affected.rules {
            let rules = world.destination_rules.oldest_first(|rule| &rule.meta);
            self.rules = Rules::new(rules.into_iter().map(|rule| &**rule), identity, &world.mesh);
        }
        if affected.peers {
            let peers = world.peer_authentications.oldest_first(|policy| &policy.meta);
            let peers = peers.into_iter().map(|policy| &**policy);
            self.peers = PeerRules::new(peers, &world.mesh.root_namespace);
        }
    }

    fn publish(&mut self, table: RouteTable) {
        self.shared.publish(table);
        let old = std::mem::replace(&mut self.table, self.shared.load());
        self.retired.push(old);
        self.retired.retain(|table| Arc::strong_count(table) > 1);
    }
}

fn note<T>(map: &mut HashMap<Host, Box<[T]>, RandomState>, host: &Host, list: Vec<T>) {
    if list.is_empty() {
        map.remove(host);
    } else {
        map.insert(host.clone(), list.into());
    }
}

/// A ServiceEntry that another definition of its host goes before.
fn shade(entry: &ServiceEntry, host: &Host) -> Finding {
    let message = format!("{host} is defined by another object, which is used: this one is not");
    Finding::new(Kind::ServiceEntry, &entry.meta, "spec.hosts", message)
}
