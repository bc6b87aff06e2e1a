//! The listeners of ServiceEntries: bound, told of a new target, closed, as the plan says.
//!
//! What cannot be bound is told once and tried again; the rest serve. Connections that live go on
//! whatever becomes of their listener. Must not know: manifests, what becomes of a connection.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    sync::{Notify, oneshot, watch},
};

use super::{
    Shared, accept, outbound,
    plan::{Plan, Target},
};
use crate::net;

/// Between two tries to bind what could not be bound.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// The listeners; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    planned: bool,
    /// Ways in that are open, and those that ended.
    ways_in: (usize, Vec<SocketAddr>),
    /// How many were left out for want of descriptors, as told last.
    left_out: usize,
    by_address: BTreeMap<SocketAddr, Slot>,
}

#[derive(Debug)]
enum Slot {
    /// The accept loop ends when the sender is dropped.
    Bound { target: Arc<ArcSwap<Target>>, _stop: oneshot::Sender<()> },
    /// It could not be bound.
    Failed { entry: Arc<str>, why: String },
    /// One more would take a descriptor that connections need.
    LeftOut,
}

impl Listeners {
    /// True once a plan was carried out.
    pub(super) fn planned(&self) -> bool {
        self.slots().planned
    }

    /// True when we listen on this very address.
    pub(super) fn serves(&self, address: SocketAddr) -> bool {
        matches!(self.slots().by_address.get(&address), Some(Slot::Bound { .. }))
    }

    /// How many are bound, and how many could not be.
    pub(super) fn counts(&self) -> (usize, usize) {
        let slots = self.slots();
        let is_bound = |slot: &&Slot| matches!(slot, Slot::Bound { .. });
        let bound = slots.by_address.values().filter(is_bound).count();
        (bound, slots.by_address.len() - bound)
    }

    /// How many ways in are open, and how many ended.
    pub(super) fn ways_in(&self) -> (usize, usize) {
        let slots = self.slots();
        (slots.ways_in.0, slots.ways_in.1.len())
    }

    /// Notes that a way in is open, or that it ended.
    pub(super) fn way_in(&self, address: SocketAddr, is_open: bool) {
        let (open, ended) = &mut self.slots().ways_in;
        if is_open {
            *open += 1;
        } else {
            ended.push(address);
        }
    }

    /// Why nobody is served: what comes in, or what goes out.
    pub(super) fn obstacles(&self) -> Vec<String> {
        let (bound, failed) = self.counts();
        let none = (bound == 0 && failed > 0).then(|| {
            format!("none of the {failed} addresses of ServiceEntries could be listened on")
        });
        let slots = self.slots();
        let ended = slots.ways_in.1.iter();
        let ended = ended.map(|address| format!("{address} is not listened on for inbound"));
        ended.chain(none).collect()
    }

    /// What could not be bound, and why.
    pub(super) fn failures(&self) -> Vec<String> {
        let failed = |slot: &Slot| match slot {
            Slot::Bound { .. } | Slot::LeftOut => None,
            Slot::Failed { entry, why } => Some(format!("ServiceEntry {entry}: {why}")),
        };
        let slots = self.slots();
        let left_out = (slots.left_out > 0).then(|| too_many(slots.left_out));
        slots.by_address.values().filter_map(failed).chain(left_out).collect()
    }

    /// Carries out plans, for ever. Dropped, it closes nothing: [`Self::close`] does.
    pub(super) async fn run(
        &self,
        shared: &Arc<Shared>,
        mut plans: watch::Receiver<Option<Arc<Plan>>>,
        again: &Notify,
        served: &watch::Sender<bool>,
    ) {
        loop {
            let plan = plans.borrow_and_update().clone();
            if let Some(plan) = plan {
                self.carry_out(&plan, shared);
                served.send_replace(true);
            }
            tokio::select! {
                Ok(()) = plans.changed() => {}
                () = again.notified() => {}
                () = tokio::time::sleep(RETRY_EVERY) => {}
            }
        }
    }

    /// Ends every accept loop.
    pub(super) fn close(&self) {
        self.slots().by_address.clear();
    }

    fn carry_out(&self, plan: &Plan, shared: &Arc<Shared>) {
        let mut slots = self.slots();
        slots.by_address.retain(|address, slot| {
            let stays = plan.listeners.contains_key(address);
            if !stays && matches!(slot, Slot::Bound { .. }) {
                tracing::info!(%address, "no longer listening");
            }
            stays
        });
        let is_bound = |slot: &&Slot| matches!(slot, Slot::Bound { .. });
        let mut bound = slots.by_address.values().filter(is_bound).count();
        for (address, wanted) in &plan.listeners {
            let before = match slots.by_address.get(address) {
                Some(Slot::Bound { target, .. }) => {
                    target.store(Arc::clone(wanted));
                    continue;
                }
                Some(Slot::Failed { why, .. }) => Some(why.clone()),
                Some(Slot::LeftOut) | None => None,
            };
            if bound >= shared.config.listeners_max {
                slots.by_address.insert(*address, Slot::LeftOut);
                continue;
            }
            let slot = match open(*address, wanted, shared) {
                Ok(slot) => {
                    bound += 1;
                    tracing::info!(%address, server_name = %wanted.key(), "listening");
                    slot
                }
                Err(error) => {
                    let (entry, why) = (Arc::clone(&wanted.entry), cannot_listen(*address, &error));
                    if before.as_ref() != Some(&why) {
                        tracing::warn!(%entry, "{why}");
                    }
                    Slot::Failed { entry, why }
                }
            };
            slots.by_address.insert(*address, slot);
        }
        slots.count_left_out();
        slots.planned = true;
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Tells of those left out when they are more or fewer than before: once for all of them.
    fn count_left_out(&mut self) {
        let is_left_out = |slot: &&Slot| matches!(slot, Slot::LeftOut);
        let left_out = self.by_address.values().filter(is_left_out).count();
        if left_out != self.left_out {
            match left_out {
                0 => tracing::info!("no more: descriptors do for every address"),
                _ => tracing::warn!("{}", too_many(left_out)),
            }
        }
        self.left_out = left_out;
    }
}

/// What becomes of addresses beyond the budget, and what to do.
fn too_many(left_out: usize) -> String {
    format!(
        "{left_out} addresses of ServiceEntries are not listened on: the descriptors left are kept \
         for connections; raise the limit of open files (ulimit -n, LimitNOFILE=)"
    )
}

/// Binds one and starts its accept loop.
fn open(address: SocketAddr, wanted: &Arc<Target>, shared: &Arc<Shared>) -> io::Result<Slot> {
    let listener = TcpListener::from_std(net::listen_alone(address)?)?;
    let target = Arc::new(ArcSwap::new(Arc::clone(wanted)));
    let (stop, stopped) = oneshot::channel();
    let (current, everybody) = (Arc::clone(&target), Arc::clone(shared));
    let serve = move |stream, from, place| {
        let (shared, target) = (Arc::clone(&everybody), current.load_full());
        tokio::spawn(async move {
            outbound::serve(shared, target, stream, (from, address)).await;
            drop(place);
        });
    };
    tokio::spawn(accept::run(listener, Arc::clone(shared), stopped, serve));
    Ok(Slot::Bound { target, _stop: stop })
}

/// What the system says, and what to do.
fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let hint = match (error.kind(), address.ip()) {
        (io::ErrorKind::AddrInUse, _) => {
            format!(
                ": another program listens there, or on port {} of every address",
                address.port()
            )
        }
        (io::ErrorKind::AddrNotAvailable, IpAddr::V4(ip)) => {
            // Of class E nobody else has an address; a wider route elsewhere may hide a network.
            let [a, b, ..] = ip.octets();
            let local = if a >= 240 { format!("{a}.{b}.0.0/16") } else { format!("{ip}/32") };
            format!(
                ": {ip} is no address of this machine; make it local: ip route add local {local} \
                 dev lo"
            )
        }
        (io::ErrorKind::AddrNotAvailable, IpAddr::V6(ip)) => {
            format!(": {ip} is no address of this machine: ip -6 addr add {ip}/128 dev lo")
        }
        (io::ErrorKind::PermissionDenied, _) => {
            ": ports below 1024 want CAP_NET_BIND_SERVICE, or a lower \
             net.ipv4.ip_unprivileged_port_start"
                .to_owned()
        }
        _ => String::new(),
    };
    format!("cannot listen on {address}: {error}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, error: io::ErrorKind, expected: &str) {
        let said = cannot_listen(address.parse().expect("an address"), &error.into());
        assert!(said.ends_with(expected), "{said}");
    }

    #[test]
    fn what_cannot_be_bound_says_what_to_do() {
        let (in_use, away) = (io::ErrorKind::AddrInUse, io::ErrorKind::AddrNotAvailable);
        check("127.255.0.2:8080", in_use, "or on port 8080 of every address");
        check("240.240.3.4:80", away, "ip route add local 240.240.0.0/16 dev lo");
        check("192.0.2.7:80", away, "ip route add local 192.0.2.7/32 dev lo");
        check("[fd00::1]:80", away, "ip -6 addr add fd00::1/128 dev lo");
        check("127.255.0.2:80", io::ErrorKind::PermissionDenied, "ip_unprivileged_port_start");
    }
}
