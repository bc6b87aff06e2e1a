//! Host names that somebody wants kept resolved: looked up, looked up again when they grow old, and
//! kept as they were last known when that fails.
//!
//! Every name is absolute: no search list is tried. An answer lives as long as its TTL says, within
//! a floor and a ceiling, and up to a tenth less, so that names that were resolved together do not
//! stay together. Must not know: what a name or an address is for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};
use tokio::{sync::watch, task::JoinSet};

/// How names are looked up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Asked by UDP, and by TCP for long answers; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// An answer is used at least this long.
    pub ttl_min: Duration,
    /// And at most this long.
    pub ttl_max: Duration,
    /// Patience with one server for one question.
    pub timeout: Duration,
}

/// The addresses of a name are others than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// As it was wanted.
    pub name: Arc<str>,
    /// Sorted and distinct, at least one.
    pub addresses: Arc<[IpAddr]>,
}

/// What is known of one name.
#[derive(Clone, Debug, Default)]
pub struct NameStatus {
    /// As last resolved; empty when it never was.
    pub addresses: Arc<[IpAddr]>,
    /// When that was.
    pub resolved: Option<Instant>,
    /// What went wrong since; `None` while the last lookup went well.
    pub error: Option<String>,
}

impl NameStatus {
    /// Every [`Self::state`].
    pub const STATES: [&str; 3] = ["fresh", "stale", "unresolved"];

    /// In a word: `fresh`, `stale` (the last lookup failed, old addresses are kept), `unresolved`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (self.resolved, &self.error) {
            (Some(_), None) => "fresh",
            (Some(_), Some(_)) => "stale",
            (None, _) => "unresolved",
        }
    }
}

/// Says which names are wanted, and shows what is known of them.
#[derive(Debug)]
pub struct Names {
    wanted: watch::Sender<BTreeSet<Arc<str>>>,
    known: Arc<Known>,
}

/// Looks names up, in a task of its owner's choice.
#[derive(Debug)]
pub struct Resolver {
    resolver: Result<TokioResolver, Arc<str>>,
    wanted: watch::Receiver<BTreeSet<Arc<str>>>,
    known: Arc<Known>,
    ttl: (Duration, Duration),
    random: ahash::RandomState,
}

#[derive(Debug)]
struct Known {
    names: Mutex<BTreeMap<Arc<str>, NameStatus>>,
    /// Counts lookups that ended.
    answers: watch::Sender<u64>,
}

type Answer = Result<(Arc<[IpAddr]>, Instant), String>;

/// A resolver that looks nothing up until its [`Resolver::run`] is polled. Where no servers are
/// given and `/etc/resolv.conf` cannot be read, every lookup fails and says so.
#[must_use]
pub fn new(config: &Config) -> (Names, Resolver) {
    let resolver = build(config).map_err(|error| format!("no DNS server is known: {error}").into());
    let known = Arc::new(Known { names: Mutex::default(), answers: watch::Sender::new(0) });
    let names = Names { wanted: watch::Sender::default(), known: Arc::clone(&known) };
    let wanted = names.wanted.subscribe();
    let ttl = (config.ttl_min, config.ttl_max.max(config.ttl_min));
    (names, Resolver { resolver, wanted, known, ttl, random: ahash::RandomState::new() })
}

fn build(config: &Config) -> Result<TokioResolver, NetError> {
    let mut builder = if config.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = config.servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = config.timeout;
    // The catalog is the cache, and it must see every change.
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    NameServerConfig::new(address.ip(), true, connections.into())
}

impl Names {
    /// From now on these, and only these.
    pub fn want(&self, names: BTreeSet<Arc<str>>) {
        self.wanted.send_if_modified(|wanted| {
            let is_news = *wanted != names;
            *wanted = names;
            is_news
        });
    }

    /// What is known, by name.
    #[must_use]
    pub fn known(&self) -> BTreeMap<Arc<str>, NameStatus> {
        self.known.lock().clone()
    }

    /// Waits until every name that is wanted was answered once, well or badly.
    pub async fn answered(&self) {
        let mut answers = self.known.answers.subscribe();
        let _ = answers
            .wait_for(|_| {
                let known = self.known.lock();
                let asked =
                    |status: &NameStatus| status.resolved.is_some() || status.error.is_some();
                self.wanted.borrow().iter().all(|name| known.get(name).is_some_and(asked))
            })
            .await;
    }
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, NameStatus>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver {
    /// Keeps the names resolved and tells of each change; ends when [`Names`] is dropped.
    pub async fn run(mut self, tell: impl Fn(Resolved)) {
        let mut due: BTreeMap<Arc<str>, Due> = BTreeMap::new();
        let mut lookups: JoinSet<(Arc<str>, Answer)> = JoinSet::new();
        loop {
            self.follow_wanted(&mut due);
            let now = Instant::now();
            for (name, due) in due.iter_mut().filter(|(_, due)| due.at.is_some_and(|at| at <= now))
            {
                due.at = None;
                lookups.spawn(look_up(self.resolver.clone(), Arc::clone(name)));
            }
            let next = due.values().filter_map(|due| due.at).min();
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = sleep_until(next) => {}
                Some(Ok((name, answer))) = lookups.join_next() => {
                    // It may be unwanted by now.
                    if let Some(due) = due.get_mut(&name) {
                        self.take(&name, answer, due, &tell);
                    }
                }
            }
        }
    }

    fn follow_wanted(&mut self, due: &mut BTreeMap<Arc<str>, Due>) {
        let wanted = self.wanted.borrow_and_update();
        due.retain(|name, _| wanted.contains(name));
        self.known.lock().retain(|name, _| wanted.contains(name));
        for name in
            wanted.iter().filter(|name| !due.contains_key(*name)).cloned().collect::<Vec<_>>()
        {
            due.insert(name, Due { at: Some(Instant::now()), failures: 0 });
        }
    }

    fn take(&self, name: &Arc<str>, answer: Answer, due: &mut Due, tell: &impl Fn(Resolved)) {
        let now = Instant::now();
        let mut names = self.known.lock();
        let status = names.entry(Arc::clone(name)).or_default();
        let lives = match answer {
            Ok((addresses, until)) => {
                due.failures = 0;
                let is_news = status.addresses != addresses;
                let was = std::mem::replace(&mut status.addresses, Arc::clone(&addresses));
                if is_news {
                    tracing::info!(%name, ?addresses, before = ?was, "resolved");
                    tell(Resolved { name: Arc::clone(name), addresses });
                } else if status.error.is_some() {
                    tracing::info!(%name, "resolved again, to the same addresses");
                }
                status.resolved = Some(now);
                status.error = None;
                lives(until.saturating_duration_since(now), self.ttl, self.draw(now))
            }
            Err(error) => {
                if status.error.as_deref() != Some(&*error) {
                    let kept = status.addresses.len();
                    tracing::warn!(%name, %error, kept, "cannot be resolved: what was known is kept");
                }
                status.error = Some(error);
                due.failures += 1;
                retry_after(due.failures, self.ttl)
            }
        };
        due.at = Some(now + lives);
        drop(names);
        self.known.answers.send_modify(|answers| *answers += 1);
    }

    fn draw(&self, now: Instant) -> u64 {
        self.random.hash_one(now)
    }
}

/// When a name is to be looked up again.
struct Due {
    /// `None` while that is being done.
    at: Option<Instant>,
    failures: u32,
}

/// How long an answer lives that has `ttl` left: within the bounds, less up to a tenth by chance.
fn lives(ttl: Duration, (min, max): (Duration, Duration), random: u64) -> Duration {
    let ttl = ttl.clamp(min, max);
    let tenth = u32::try_from(random % 1_000).unwrap_or(0);
    ttl - ttl / 10 * tenth / 1_000
}

/// A failure is tried again after 1, 2, 4 … s, but neither faster nor slower than answers are
/// renewed at most.
fn retry_after(failures: u32, (min, max): (Duration, Duration)) -> Duration {
    let doubled = Duration::from_secs(1) * 2u32.pow(failures.saturating_sub(1).min(16));
    doubled.clamp(min.min(Duration::from_secs(1)), max)
}

async fn look_up(resolver: Result<TokioResolver, Arc<str>>, name: Arc<str>) -> (Arc<str>, Answer) {
    let resolver = match resolver {
        Ok(resolver) => resolver,
        Err(error) => return (name, Err(error.to_string())),
    };
    // The dot keeps the search list of this host out of it.
    let absolute = [name.trim_end_matches('.'), "."].concat();
    let answer = match resolver.lookup_ip(absolute).await {
        Ok(found) => {
            let addresses: BTreeSet<IpAddr> = found.iter().collect();
            let until = found.valid_until();
            if addresses.is_empty() {
                Err("the name has no address".to_owned())
            } else {
                Ok((addresses.into_iter().collect(), until))
            }
        }
        Err(error) => Err(error.to_string()),
    };
    (name, answer)
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BOUNDS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

    #[test]
    fn an_answer_lives_within_the_bounds_and_up_to_a_tenth_less() {
        for (ttl, expected) in [(0, 5), (4, 5), (30, 30), (86_400, 300)] {
            let whole = lives(SECOND * ttl, BOUNDS, 0);
            assert_eq!(whole, SECOND * expected, "{ttl} s");
            for random in [1, 500, 999, u64::MAX] {
                let some = lives(SECOND * ttl, BOUNDS, random);
                assert!(some <= whole && some >= whole * 9 / 10, "{ttl} s, {random}: {some:?}");
            }
        }
    }

    #[test]
    fn a_failure_is_tried_again_more_and_more_slowly() {
        let waits: Vec<_> = [1, 2, 3, 9, 10, 99].map(|n| retry_after(n, BOUNDS).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 256, 300, 300]);
        assert_eq!(retry_after(1, (SECOND / 10, SECOND)), SECOND, "never above the ceiling");
    }
}
