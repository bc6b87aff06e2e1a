//! Counters of the data plane: relaxed atomics on the path, read at each scrape.
//!
//! Istio's TCP series are found once for each connection and then only added to. Labels come from
//! the table, never from the network. Must not know: the text format.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ahash::RandomState;

use super::{handshake::HandshakeEnd, outcome::Outcome, worker::Shared};
use crate::{
    metrics::{self, Samples, names},
    routing::{Endpoint, Route, RouteTable, Service, Workload},
};

/// Everything that the workers count.
#[derive(Debug)]
pub(super) struct Metrics {
    accepted: AtomicU64,
    accept_errors: AtomicU64,
    accept_pauses: AtomicU64,
    handed_over: AtomicU64,
    ended: [AtomicU64; Outcome::ALL.len()],
    dials_ok: AtomicU64,
    dials_failed: AtomicU64,
    replays: AtomicU64,
    replays_denied: AtomicU64,
    ejections: AtomicU64,
    checks_ok: AtomicU64,
    checks_failed: AtomicU64,
    returns: AtomicU64,
    policy_dry_runs: AtomicU64,
    splice_fallbacks: AtomicU64,
    series: Mutex<HashMap<SeriesKey, Arc<Series>, RandomState>>,
    /// Those that did not end well; the others are counted in their series.
    handshakes: Mutex<HashMap<(Arc<Service>, HandshakeEnd), u64, RandomState>>,
}

/// A series is one service reached at one workload.
type SeriesKey = (Arc<Service>, Arc<Workload>);

/// Istio's TCP counters of one service at one workload.
#[derive(Debug)]
pub(super) struct Series {
    service: Arc<Service>,
    workload: Arc<Workload>,
    opened: AtomicU64,
    handshakes: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    closed: [AtomicU64; Outcome::ALL.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            accepted: AtomicU64::default(),
            accept_errors: AtomicU64::default(),
            accept_pauses: AtomicU64::default(),
            handed_over: AtomicU64::default(),
            ended: [const { AtomicU64::new(0) }; Outcome::ALL.len()],
            dials_ok: AtomicU64::default(),
            dials_failed: AtomicU64::default(),
            replays: AtomicU64::default(),
            replays_denied: AtomicU64::default(),
            ejections: AtomicU64::default(),
            checks_ok: AtomicU64::default(),
            checks_failed: AtomicU64::default(),
            returns: AtomicU64::default(),
            policy_dry_runs: AtomicU64::default(),
            splice_fallbacks: AtomicU64::default(),
            series: Mutex::default(),
            handshakes: Mutex::default(),
        }
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Metrics {
    pub(super) fn accept(&self) {
        add(&self.accepted, 1);
    }

    pub(super) fn accepted(&self) -> u64 {
        read(&self.accepted)
    }

    pub(super) fn accept_failed(&self) {
        add(&self.accept_errors, 1);
    }

    pub(super) fn accept_paused(&self) {
        add(&self.accept_pauses, 1);
    }

    pub(super) fn handed_over(&self) {
        add(&self.handed_over, 1);
    }

    pub(super) fn end(&self, outcome: Outcome) {
        if let Some(counter) = self.ended.get(outcome.index()) {
            add(counter, 1);
        }
    }

    /// Connections that ended so.
    pub(super) fn ended(&self, outcome: Outcome) -> u64 {
        self.ended.get(outcome.index()).map_or(0, read)
    }

    pub(super) fn dialled(&self, ok: bool) {
        add(if ok { &self.dials_ok } else { &self.dials_failed }, 1);
    }

    pub(super) fn replayed(&self) {
        add(&self.replays, 1);
    }

    pub(super) fn replay_denied(&self) {
        add(&self.replays_denied, 1);
    }

    pub(super) fn ejected(&self) {
        add(&self.ejections, 1);
    }

    pub(super) fn checked(&self, ok: bool) {
        add(if ok { &self.checks_ok } else { &self.checks_failed }, 1);
    }

    pub(super) fn returned(&self) {
        add(&self.returns, 1);
    }

    pub(super) fn policy_dry_run(&self) {
        add(&self.policy_dry_runs, 1);
    }

    pub(super) fn splice_fallback(&self) {
        add(&self.splice_fallbacks, 1);
    }

    /// A handshake that did not end well.
    pub(super) fn handshake_failed(&self, service: &Arc<Service>, end: HandshakeEnd) {
        let mut all = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry((Arc::clone(service), end)).or_default() += 1;
    }

    /// The series of a route at an endpoint, made when it is new.
    pub(super) fn series(&self, route: &Route, endpoint: &Endpoint) -> Arc<Series> {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(&route.service), Arc::clone(&endpoint.workload));
        Arc::clone(all.entry(key).or_insert_with_key(|(service, workload)| {
            Arc::new(Series {
                service: Arc::clone(service),
                workload: Arc::clone(workload),
                opened: AtomicU64::default(),
                handshakes: AtomicU64::default(),
                received: AtomicU64::default(),
                sent: AtomicU64::default(),
                closed: [const { AtomicU64::new(0) }; Outcome::ALL.len()],
            })
        }))
    }

    /// Frees the series of services that left the table, unless a connection still holds one.
    pub(super) fn forget_absent(&self, table: &RouteTable) {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(service, _), series| {
            table.service(service.host.as_str()).is_some() || Arc::strong_count(series) > 1
        });
        let mut failed = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|(service, _), _| table.service(service.host.as_str()).is_some());
    }

    /// Handshakes by service, class and who ended them, summed.
    fn handshakes(&self) -> BTreeMap<(Arc<str>, &'static str, &'static str), u64> {
        let mut sums = BTreeMap::new();
        let mut add = |service: &Service, end: HandshakeEnd, n| {
            let key = (Arc::from(service.host.as_str()), end.class(), end.ended_by());
            *sums.entry(key).or_default() += n;
        };
        self.each_series(|series| add(&series.service, HandshakeEnd::Ok, read(&series.handshakes)));
        let failed = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        failed.iter().for_each(|((service, end), n)| add(service, *end, *n));
        sums
    }

    fn each_series(&self, mut look: impl FnMut(&Series)) {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().for_each(|series| look(series));
    }
}

impl Series {
    pub(super) fn opened(&self) {
        add(&self.opened, 1);
    }

    /// A handshake is through.
    pub(super) fn handshake(&self) {
        add(&self.handshakes, 1);
    }

    pub(super) fn closed(&self, outcome: Outcome) {
        if let Some(counter) = self.closed.get(outcome.index()) {
            add(counter, 1);
        }
    }

    pub(super) fn bytes(&self, received: u64, sent: u64) {
        add(&self.received, received);
        add(&self.sent, sent);
    }

    /// The values of [`names::ISTIO_TCP_LABELS`]. `source_*` is the gateway itself, as in Istio;
    /// it does not see who is behind it.
    fn labels<'a>(&'a self, us: &'a Ourselves, flags: &'a str) -> [&'a str; 23] {
        let or =
            |value: &'a str, absent: &'static str| if value.is_empty() { absent } else { value };
        let unknown = |value: &'a str| or(value, "unknown");
        let (service, workload) = (&self.service, &self.workload);
        [
            "source",
            unknown(&us.workload),
            unknown(&us.canonical_service),
            "latest",
            unknown(&us.namespace),
            "unknown",
            unknown(&us.app),
            "unknown",
            unknown(&us.cluster),
            unknown(&workload.name),
            unknown(&workload.namespace),
            "unknown",
            unknown(&workload.app),
            unknown(&workload.version),
            service.host.as_str(),
            unknown(&workload.canonical_name),
            or(&workload.canonical_revision, "latest"),
            &service.name,
            &service.namespace,
            unknown(&us.cluster),
            "tcp",
            flags,
            "unknown",
        ]
    }
}

/// The gateway, as Istio's metrics name their source.
#[derive(Clone, Debug, Default)]
pub struct Ourselves {
    /// Our Deployment.
    pub workload: String,
    /// Our namespace.
    pub namespace: String,
    /// Our label `app`.
    pub app: String,
    /// Our canonical service.
    pub canonical_service: String,
    /// Our Kubernetes cluster.
    pub cluster: String,
}

/// Registers what a scrape reads of the data plane.
pub(super) fn register(shared: &Arc<Shared>, registry: &mut metrics::Metrics, us: Ourselves) {
    register_counts(shared, registry);
    register_series(shared, registry, us);
}

fn register_counts(shared: &Arc<Shared>, registry: &mut metrics::Metrics) {
    let mut plain = |metric, value: fn(&Shared) -> u64| {
        let shared = Arc::clone(shared);
        registry.collect(metric, move |samples: &mut Samples| samples.put(&[], value(&shared)));
    };
    plain(&names::ACCEPTED, |s| read(&s.metrics.accepted));
    plain(&names::ACCEPT_ERRORS, |s| read(&s.metrics.accept_errors));
    plain(&names::ACCEPT_PAUSES, |s| read(&s.metrics.accept_pauses));
    plain(&names::HANDED_OVER, |s| read(&s.metrics.handed_over));
    plain(&names::CONNECTIONS_ACTIVE, |s| s.admission.active() as u64);
    plain(&names::CONNECTIONS_MAX, |s| s.admission.max() as u64);
    plain(&names::REPLAYS, |s| read(&s.metrics.replays));
    plain(&names::REPLAYS_DENIED, |s| read(&s.metrics.replays_denied));
    plain(&names::EJECTIONS, |s| read(&s.metrics.ejections));
    plain(&names::EJECTIONS_ENDED, |s| read(&s.metrics.returns));
    plain(&names::HELLOS_WAITING, |s| {
        s.peers.iter().map(|peer| peer.silent.load(Ordering::Relaxed) as u64).sum()
    });
    plain(&names::POLICY_DRY_RUNS, |s| read(&s.metrics.policy_dry_runs));
    plain(&names::SOURCES, |s| s.sources.as_ref().map_or(0, |all| all.size().0 as u64));
    plain(&names::SOURCE_LARGEST, |s| s.sources.as_ref().map_or(0, |all| all.size().1.into()));
    plain(&names::MEMORY_SHORT, |s| u64::from(s.pressure.memory_is_short()));
    plain(&names::SPLICE_FALLBACKS, |s| read(&s.metrics.splice_fallbacks));
    plain(&names::PIPES_OPEN, |s| s.pipes.made() as u64);
    plain(&names::PIPE_SHORTAGES, |s| s.pipes.denied());
    plain(&names::WORKERS, |s| s.peers.len() as u64);
    plain(&names::PANICS, |s| s.metrics.ended(Outcome::Panicked));
    plain(&names::LOG_LINES_DROPPED, |s| s.log.dropped());
    let of = Arc::clone(shared);
    registry.collect(&names::CONNECTIONS, move |samples| {
        for outcome in Outcome::ALL {
            samples.put(&[outcome.reason()], of.metrics.ended(outcome));
        }
    });
    let of = Arc::clone(shared);
    registry.collect(&names::HANDSHAKES, move |samples| {
        for ((service, class, by), n) in of.metrics.handshakes() {
            samples.put(&[&service, class, by], n);
        }
    });
    let of = Arc::clone(shared);
    registry.collect(&names::HEALTH_CHECKS, move |samples| {
        samples.put(&["ok"], read(&of.metrics.checks_ok));
        samples.put(&["failed"], read(&of.metrics.checks_failed));
    });
    let of = Arc::clone(shared);
    registry.collect(&names::CONNECT_ATTEMPTS, move |samples| {
        samples.put(&["ok"], read(&of.metrics.dials_ok));
        samples.put(&["failed"], read(&of.metrics.dials_failed));
    });
}

fn register_series(shared: &Arc<Shared>, registry: &mut metrics::Metrics, us: Ourselves) {
    let us = Arc::new(us);
    let mut each = |metric, value: fn(&Series) -> u64| {
        let (shared, us) = (Arc::clone(shared), Arc::clone(&us));
        registry.collect(metric, move |samples: &mut Samples| {
            shared.metrics.each_series(|series| {
                samples.put(&series.labels(&us, "-"), value(series));
            });
        });
    };
    each(&names::ISTIO_TCP_CONNECTIONS_OPENED, |series| read(&series.opened));
    each(&names::ISTIO_TCP_SENT_BYTES, |series| read(&series.sent));
    each(&names::ISTIO_TCP_RECEIVED_BYTES, |series| read(&series.received));
    let (shared, us) = (Arc::clone(shared), Arc::clone(&us));
    registry.collect(&names::ISTIO_TCP_CONNECTIONS_CLOSED, move |samples| {
        shared.metrics.forget_absent(&shared.table.load());
        shared.metrics.each_series(|series| {
            // Several outcomes share a flag: one sample for each flag that was seen.
            let mut by_flag: Vec<(&str, u64)> = Vec::new();
            for outcome in Outcome::ALL {
                let n = series.closed.get(outcome.index()).map_or(0, read);
                match by_flag.iter_mut().find(|(flag, _)| *flag == outcome.flags()) {
                    Some((_, sum)) => *sum += n,
                    None => by_flag.push((outcome.flags(), n)),
                }
            }
            for (flags, n) in by_flag.into_iter().filter(|(_, n)| *n > 0) {
                samples.put(&series.labels(&us, flags), n);
            }
        });
    });
}
