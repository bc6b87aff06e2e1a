//! How well the API is followed, for those who ask: each kind's state, and how old what is known
//! may be.
//!
//! Written by the tasks that follow, read by operators' views. Must not know: HTTP, metrics.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::reasons;
use crate::manifests::{Kind, store::Part};

/// The state of everything that is followed.
#[derive(Debug)]
pub struct Health {
    server: String,
    /// What said that it is there.
    whence: String,
    scopes: Mutex<Vec<Followed>>,
    changes: watch::Sender<()>,
    returns: watch::Sender<u64>,
    events: AtomicU64,
    lists: AtomicU64,
}

/// One kind, in one namespace or in all.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The kind.
    pub kind: Kind,
    /// `None`: all namespaces.
    pub namespace: Option<Arc<str>>,
    /// How it is.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// It was listed at least once.
    pub is_listed: bool,
    /// It is lost, and to ask again will not help.
    pub is_hopeless: bool,
}

/// How it is with one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not listed yet.
    Loading,
    /// A watch is open.
    Live,
    /// There is no watch, and this is why: what was known stays in use.
    Lost(String),
    /// The API has no such kind; it is asked again and again.
    Absent,
    /// We may not read it, as the API says here.
    Forbidden(String),
}

impl State {
    /// Every [`Self::as_str`].
    pub const ALL: [&str; 5] = ["loading", "live", "lost", "absent", "forbidden"];

    /// In a word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Live => "live",
            Self::Lost(_) => "lost",
            Self::Absent => "absent",
            Self::Forbidden(_) => "forbidden",
        }
    }

    /// Why it is not live, in the words of the API or the system; empty where nobody said.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Lost(why) | Self::Forbidden(why) => why,
            Self::Loading | Self::Live | Self::Absent => "",
        }
    }
}

impl Health {
    pub(super) fn new(server: String, whence: String, scopes: &[Part]) -> Self {
        let followed = |scope: &Part| Followed {
            kind: scope.kind,
            namespace: scope.namespace.clone(),
            state: State::Loading,
            since: Instant::now(),
            is_listed: false,
            is_hopeless: false,
        };
        let scopes = Mutex::new(scopes.iter().map(followed).collect());
        Self {
            server,
            whence,
            scopes,
            changes: watch::Sender::default(),
            returns: watch::Sender::default(),
            events: AtomicU64::new(0),
            lists: AtomicU64::new(0),
        }
    }

    /// The address of the API.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Everything that is followed, by kind and namespace.
    #[must_use]
    pub fn followed(&self) -> Vec<Followed> {
        self.lock().clone()
    }

    /// True when the API has no such kind, or had none when it was asked last.
    #[must_use]
    pub fn is_absent(&self, kind: Kind) -> bool {
        let scopes = self.lock();
        scopes.iter().any(|followed| followed.kind == kind && followed.state == State::Absent)
    }

    /// How long the oldest of what is known has been without contact; zero while all is well.
    #[must_use]
    pub fn age(&self) -> Duration {
        let scopes = self.lock();
        let lost = scopes.iter().filter(|followed| matches!(followed.state, State::Lost(_)));
        lost.map(|followed| followed.since.elapsed()).max().unwrap_or_default()
    }

    /// Events that arrived.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Lists that were read to their end.
    #[must_use]
    pub fn lists(&self) -> u64 {
        self.lists.load(Ordering::Relaxed)
    }

    /// What an operator should know, a line for each cause; empty while all is well.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let causes = reasons::causes(&self.lock());
        let line = |cause| format!("kubernetes {}: {cause}", self.server);
        causes.into_iter().map(line).collect()
    }

    /// As [`Self::reasons`], in one line that also says who said where the API is.
    #[must_use]
    pub fn told(&self) -> String {
        format!("the Kubernetes API {}: {}", self.place(), reasons::causes(&self.lock()).join("; "))
    }

    /// Why something is missing, without the kinds.
    pub(in crate::manifests) fn whys(&self) -> String {
        reasons::whys(&self.lock())
    }

    /// The address of the API, and what names it.
    pub(in crate::manifests) fn place(&self) -> String {
        format!("{} ({})", self.server, self.whence)
    }

    /// True when waiting does not help, once every kind was asked for: the API or its certificate
    /// is not the one that was meant, it does not know us, or we may read nothing at all.
    pub(in crate::manifests) fn is_hopeless(&self) -> bool {
        let scopes = self.lock();
        if scopes.iter().any(|followed| followed.state == State::Loading) {
            return false;
        }
        let mut there = scopes.iter().filter(|followed| followed.state != State::Absent).peekable();
        let is_forbidden = |followed: &Followed| matches!(followed.state, State::Forbidden(_));
        scopes.iter().any(|followed| followed.is_hopeless)
            || there.peek().is_some() && there.all(is_forbidden)
    }

    /// Tells of each change of a state.
    pub(in crate::manifests) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Counts how often the API was followed again after it was away.
    #[must_use]
    pub fn returns(&self) -> watch::Receiver<u64> {
        self.returns.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Followed>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what is known of one of them.
#[derive(Debug)]
pub(super) struct Pen {
    health: Arc<Health>,
    place: usize,
}

impl Pen {
    pub(super) fn new(health: Arc<Health>, place: usize) -> Self {
        Self { health, place }
    }

    /// It is in this state now. The first that is lost and the last that is well again are news.
    pub(super) fn is(&self, state: State) {
        self.set(state, false);
    }

    /// It is lost, and to ask again will not help, unless somebody changes something there.
    pub(super) fn is_hopeless(&self, why: String) {
        self.set(State::Lost(why), true);
    }

    fn set(&self, state: State, is_hopeless: bool) {
        let mut scopes = self.health.lock();
        let Some(followed) = scopes.get_mut(self.place) else { return };
        followed.is_hopeless = is_hopeless;
        if followed.state == state {
            return;
        }
        let goes_on = matches!((&followed.state, &state), (State::Lost(_), State::Lost(_)));
        let kind = followed.kind;
        let before = std::mem::replace(&mut followed.state, state.clone());
        let lasted = followed.since.elapsed();
        if !goes_on {
            followed.since = Instant::now();
        }
        let lost = scopes.iter().filter(|f| matches!(f.state, State::Lost(_))).count();
        drop(scopes);
        self.health.changes.send_replace(());
        let server = &self.health.server;
        match (&before, &state) {
            (State::Lost(_), State::Lost(why)) => tracing::debug!(%kind, %why, "still lost"),
            (_, State::Lost(why)) if lost == 1 => {
                tracing::warn!(%server, %why, "no contact with the Kubernetes API: what is known \
                     stays in use");
            }
            (State::Lost(_), _) if lost == 0 => {
                tracing::info!(%server, away = ?lasted, "the Kubernetes API is followed again");
                self.health.returns.send_modify(|returns| *returns += 1);
            }
            (_, State::Absent) => tracing::info!(%kind, "the Kubernetes API has no such kind yet"),
            (State::Absent, _) => tracing::info!(%kind, "the Kubernetes API has this kind now"),
            (_, State::Forbidden(why)) => {
                tracing::error!(%server, %kind, %why, "may not be read");
            }
            (_, _) => tracing::debug!(%kind, state = state.as_str(), "followed"),
        }
    }

    /// What was absent is there: said before anybody hears of its objects.
    pub(super) fn is_there(&self) {
        let absent = |followed: &Followed| followed.state == State::Absent;
        if self.health.lock().get(self.place).is_some_and(absent) {
            self.is(State::Loading);
        }
    }

    /// It was listed to the end.
    pub(super) fn listed(&self) {
        self.health.lists.fetch_add(1, Ordering::Relaxed);
        if let Some(followed) = self.health.lock().get_mut(self.place) {
            followed.is_listed = true;
        }
    }

    /// An event arrived.
    pub(super) fn event(&self) {
        self.health.events.fetch_add(1, Ordering::Relaxed);
    }
}

/// What nobody follows any more, because its task panicked, must not look live.
impl Drop for Pen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.is(State::Lost("the task that follows it has panicked: restart".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_leaves_alone_is_lost() {
        let scopes = [Part { kind: Kind::Pod, namespace: None, name: None }];
        let health = Arc::new(Health::new("https://a/".into(), "b".into(), &scopes));
        let pen = Pen::new(Arc::clone(&health), 0);
        pen.is(State::Live);
        let followed = std::thread::spawn(move || {
            let _pen = pen;
            panic!("on purpose");
        });
        assert!(followed.join().is_err());
        assert_eq!(health.followed()[0].state.as_str(), "lost");
        let pen = Pen::new(Arc::clone(&health), 0);
        pen.is(State::Live);
        drop(pen);
        assert_eq!(health.followed()[0].state, State::Live, "an end in order is no loss");
    }

    #[test]
    fn what_is_lost_has_an_age_and_one_line_for_each_cause() {
        let scope = |kind| Part { kind, namespace: None, name: None };
        let scopes = [scope(Kind::Pod), scope(Kind::Service), scope(Kind::Gateway)];
        let health = Arc::new(Health::new("https://a/".into(), "b".into(), &scopes));
        let pens: Vec<_> = (0..3).map(|place| Pen::new(Arc::clone(&health), place)).collect();
        for pen in &pens {
            pen.listed();
            pen.is(State::Live);
        }
        assert_eq!((health.age(), health.reasons()), (Duration::ZERO, Vec::new()));
        pens[0].is(State::Lost("refused".into()));
        pens[1].is(State::Lost("refused".into()));
        pens[2].is(State::Absent);
        let since = health.followed()[0].since;
        pens[0].is(State::Lost("refused".into()));
        assert_eq!(health.followed()[0].since, since, "the first loss counts");
        let reasons = health.reasons();
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert!(reasons[0].ends_with("(refused): what is known of Service, Pod stays in use"));
        assert!(reasons[0].starts_with("kubernetes https://a/: no contact for "));
        pens[1].is(State::Forbidden("no".into()));
        assert_eq!(health.reasons().len(), 2);
    }

    #[test]
    fn to_wait_is_hopeless_when_all_were_asked_and_one_is_or_none_may_be_read() {
        let scope = |kind| Part { kind, namespace: None, name: None };
        let scopes = [scope(Kind::Pod), scope(Kind::Service)];
        let health = Arc::new(Health::new("https://a/".into(), "b".into(), &scopes));
        let pens: Vec<_> = (0..2).map(|place| Pen::new(Arc::clone(&health), place)).collect();
        pens[0].is_hopeless("401".into());
        assert!(!health.is_hopeless(), "the other was not asked for");
        pens[1].is(State::Lost("refused".into()));
        assert!(health.is_hopeless());
        pens[0].is(State::Lost("401".into()));
        assert!(!health.is_hopeless(), "it may come");
        pens[0].is(State::Forbidden("no".into()));
        assert!(!health.is_hopeless());
        pens[1].is(State::Forbidden("no".into()));
        assert!(health.is_hopeless());
        pens[1].is(State::Absent);
        assert!(health.is_hopeless());
        pens[0].is(State::Absent);
        assert!(!health.is_hopeless(), "kinds that are not there may come");
        let expected = "the Kubernetes API https://a/ (b): Service cannot be listed: x";
        pens[1].is(State::Lost("x".into()));
        assert_eq!(health.told(), expected);
    }

    #[test]
    fn a_return_is_counted_when_the_last_is_well_again() {
        let scope = |kind| Part { kind, namespace: None, name: None };
        let scopes = [scope(Kind::Pod), scope(Kind::Service)];
        let health = Arc::new(Health::new("https://a/".into(), "b".into(), &scopes));
        let pens: Vec<_> = (0..2).map(|place| Pen::new(Arc::clone(&health), place)).collect();
        let returns = health.returns();
        pens.iter().for_each(|pen| pen.is(State::Live));
        pens.iter().for_each(|pen| pen.is(State::Lost("refused".into())));
        pens[0].is(State::Live);
        assert_eq!(*returns.borrow(), 0);
        pens[1].is(State::Live);
        assert_eq!(*returns.borrow(), 1);
    }
}
