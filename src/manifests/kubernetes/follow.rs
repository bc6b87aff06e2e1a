//! Follows one kind for ever: lists it, watches it from there on, and starts over when it must.
//!
//! Must not know: other kinds, what the objects mean.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{
    Told,
    api::{Api, Status, Trouble},
    backoff::Backoff,
    health::{Pen, State},
    lines::Lines,
};
use crate::manifests::{News, ObjectRef, kinds::scalar, parse_single, store::Part};

/// Waits between tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Waits between questions whether a kind is there by now, and whether we may read it.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// A kind that was there is not believed to be gone before the API has said so for this long: after
/// a restart it may say so for a moment.
const GONE_FOR_GOOD: Duration = Duration::from_secs(30);
/// Objects of one answer, so that a list of 100,000 is never in memory as a whole.
const PAGE: usize = 500;
/// The API ends a watch after this long and up to a quarter more, so that a dead one is noticed in
/// the end and that many do not end at once.
const WATCH: Duration = Duration::from_secs(240);
/// A watch that ends in order sooner than this is none.
const WATCH_MIN: Duration = Duration::from_secs(1);

/// The task.
#[derive(Debug)]
pub(super) struct Follower {
    api: Api,
    scope: Part,
    source: Arc<Path>,
    tell: mpsc::Sender<Told>,
    health: Pen,
    /// Where the kind is in this API, and the version up to which it is known.
    position: Option<(String, Box<str>)>,
    retry: Backoff,
    ask_again: Backoff,
    /// Its owner knows that there is no more to wait for.
    is_told: bool,
    absent_since: Option<Instant>,
}

/// One page of a list.
#[derive(Deserialize)]
struct Page<'a> {
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: Box<str>,
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

/// One line of a watch.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    what: What,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum What {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
    #[serde(other)]
    Unknown,
}

/// As much of an object as names it.
#[derive(Deserialize)]
struct Named {
    metadata: NamedMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamedMeta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    resource_version: Box<str>,
}

impl Follower {
    pub(super) fn new(
        api: Api,
        scope: Part,
        source: Arc<Path>,
        tell: mpsc::Sender<Told>,
        health: Pen,
    ) -> Self {
        Self {
            api,
            scope,
            source,
            tell,
            health,
            position: None,
            retry: Backoff::new(RETRY.0, RETRY.1),
            ask_again: Backoff::new(ASK_AGAIN.0, ASK_AGAIN.1),
            is_told: false,
            absent_since: None,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let ended = match self.position.take() {
                None => self.list().await,
                Some((path, version)) => self.watch(path, version).await,
            };
            if let Err(trouble) = ended {
                let pause = self.take(trouble).await;
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Lists everything, page by page: what was known and is not among it is gone.
    async fn list(&mut self) -> Result<(), Trouble> {
        let path = self.api.locate(&self.scope).await?;
        let mut listed = BTreeSet::new();
        let mut next: Option<String> = None;
        let version = loop {
            let from = next.map(|token| format!("&continue={token}")).unwrap_or_default();
            let query = format!("{path}?limit={PAGE}{}{from}", self.scope.selector());
            let bytes = self.api.whole(&query).await?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|e| Trouble::of_error(&e))?;
            self.health.is_there();
            for object in page.items.into_iter().flatten() {
                let (reference, _) = self.name(object)?;
                listed.insert(reference.clone());
                self.news(self.object(reference, object)).await;
            }
            next = page.metadata.next.filter(|token| !token.is_empty());
            if next.is_none() {
                break page.metadata.resource_version;
            }
        };
        self.only(listed).await;
        self.health.listed();
        self.nothing_to_wait_for().await;
        self.absent_since = None;
        self.position = Some((path, version));
        Ok(())
    }

    /// Watches from a version on, until the API ends it in order.
    async fn watch(&mut self, path: String, version: Box<str>) -> Result<(), Trouble> {
        let seconds = self.retry.jittered(WATCH).as_secs();
        let query = format!(
            "{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}\
             &resourceVersion={version}{}",
            self.scope.selector()
        );
        // Unless the API says that it is too old, the version stays good.
        self.position = Some((path, version));
        let body = self.api.open(&query).await?;
        self.health.is(State::Live);
        self.ask_again.reset();
        let begun = Instant::now();
        let mut lines = Lines::new(body, WATCH * 3 / 2);
        while let Some(line) = lines.next().await? {
            self.event(line).await?;
            self.retry.reset();
        }
        if begun.elapsed() < WATCH_MIN {
            return Err(Trouble::Other("the API ended the watch at once".into()));
        }
        self.retry.reset();
        Ok(())
    }

    async fn event(&mut self, line: &[u8]) -> Result<(), Trouble> {
        let event: Event = serde_json::from_slice(line).map_err(|e| Trouble::of_error(&e))?;
        if event.what == What::Error {
            let status: Status = serde_json::from_str(event.object.get()).unwrap_or_default();
            return Err(status.into());
        }
        let (reference, version) = self.name(event.object)?;
        match event.what {
            What::Added | What::Modified => {
                self.health.event();
                self.news(self.object(reference, event.object)).await;
            }
            What::Deleted => {
                self.health.event();
                self.news(News::Gone(Arc::clone(&self.source), reference)).await;
            }
            What::Bookmark | What::Error | What::Unknown => {}
        }
        if let Some((_, known)) = &mut self.position
            && !version.is_empty()
        {
            *known = version;
        }
        Ok(())
    }

    /// What to make of trouble, and how long to wait.
    async fn take(&mut self, trouble: Trouble) -> Duration {
        match trouble {
            // Known is then what was known: only the list can say what was missed.
            Trouble::Expired => {
                self.position = None;
                self.retry.pause()
            }
            Trouble::Absent => {
                self.position = None;
                let since = *self.absent_since.get_or_insert_with(Instant::now);
                if self.is_told && since.elapsed() >= GONE_FOR_GOOD {
                    self.only(BTreeSet::new()).await;
                }
                self.health.is(State::Absent);
                self.nothing_to_wait_for().await;
                self.ask_again.pause()
            }
            Trouble::Forbidden(why) => {
                self.health.is(State::Forbidden(why));
                if self.scope.is_dispensable() {
                    self.nothing_to_wait_for().await;
                }
                self.ask_again.pause()
            }
            Trouble::Hopeless(why) => {
                self.health.is_hopeless(why);
                self.retry.pause()
            }
            Trouble::Other(why) => {
                self.health.is(State::Lost(why));
                self.retry.pause()
            }
        }
    }

    /// Who the object is, and its version.
    fn name(&self, object: &RawValue) -> Result<(ObjectRef, Box<str>), Trouble> {
        let named: Named =
            serde_json::from_str(object.get()).map_err(|error| Trouble::of_error(&error))?;
        let Named { metadata: NamedMeta { name, namespace, resource_version } } = named;
        let namespace = scalar::shared(&namespace);
        let reference = ObjectRef { kind: self.scope.kind, namespace, name: name.into() };
        Ok((reference, resource_version))
    }

    fn object(&self, reference: ObjectRef, object: &RawValue) -> News {
        let single = parse_single(&self.source, reference, object.get());
        News::Object(Arc::clone(&self.source), single)
    }

    /// There is nothing but these.
    async fn only(&self, listed: BTreeSet<ObjectRef>) {
        self.news(News::Only(Arc::clone(&self.source), self.scope.clone(), listed)).await;
    }

    async fn nothing_to_wait_for(&mut self) {
        if !std::mem::replace(&mut self.is_told, true) {
            self.send(Told::Listed).await;
        }
    }

    async fn news(&self, news: News) {
        self.send(Told::News(news)).await;
    }

    /// Where nobody listens any more, this task is about to be ended.
    async fn send(&self, told: Told) {
        let _ = self.tell.send(told).await;
    }
}
