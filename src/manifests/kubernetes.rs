//! The Kubernetes API as a source: the same kinds as in files, listed once and then watched.
//!
//! One task for each kind and namespace follows the API; all of them live on the thread of whoever
//! asks this source, never on one that relays. What is known stays in use while the API is away,
//! and [`Health`] says for how long. Needs the rights to get, list and watch, and no others; who
//! writes objects has a [`Client`] of its own. Must not know: what the objects mean. kube brings credentials, their renewal and TLS; the loop of
//! list and watch is our own, because its watcher does not tell when a watch is well again, and
//! without that nobody can say how old the last good state is.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{sync::mpsc, task::JoinSet};

use super::{Kind, News, Source, Update, store::Part};

mod access;
mod api;
mod backoff;
mod client;
mod follow;
mod health;
mod lines;
mod reasons;
mod resource;

pub use access::AccessError;
pub use backoff::Backoff;
pub use client::{Client, Missing, Refusal};
pub use health::{Followed, Health, State};

use api::Api;
use follow::Follower;

/// Which API, and what of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// A kubeconfig file. `None`: the pod's service account when there is one, else `$KUBECONFIG`,
    /// else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; `None`: its current one.
    pub context: Option<String>,
    /// Only objects of these namespaces; empty: of all.
    pub namespaces: BTreeSet<String>,
    /// Namespace and name of the mesh's ConfigMap, the only one that is asked for.
    pub mesh: Option<(String, String)>,
}

/// Objects that wait to be taken over: enough that a list never waits for each one.
const WAITING_MAX: usize = 2_048;

/// Follows the API of one cluster.
#[derive(Debug)]
pub struct Kubernetes {
    /// Stands for the file in problems.
    source: Arc<Path>,
    api: Api,
    health: Arc<Health>,
    /// What is to be followed; taken when it begins.
    scopes: Vec<Part>,
    told: mpsc::Receiver<Told>,
    tell: mpsc::Sender<Told>,
    tasks: JoinSet<()>,
    inbox: Vec<Told>,
    /// What came before everything was listed once.
    gathered: Update,
    unlisted: usize,
}

/// What a task tells.
#[derive(Debug)]
enum Told {
    News(News),
    /// Its first list is whole, or there is nothing to list.
    Listed,
}

impl Kubernetes {
    /// Reads credentials and prepares to follow these kinds. The API is not asked yet: it may come
    /// up later than we do.
    ///
    /// # Errors
    /// Credentials that cannot be read.
    pub fn open(config: &Config, kinds: &[Kind]) -> Result<Self, AccessError> {
        let found = access::find(config)?;
        let source: Arc<Path> = Path::new("kubernetes").into();
        let api = Api::new(&found)?;
        let scopes = resource::scopes(kinds, config);
        let server = found.access.cluster_url.to_string();
        let health = Arc::new(Health::new(server, found.whence, &scopes));
        let (tell, told) = mpsc::channel(WAITING_MAX);
        Ok(Self {
            source,
            api,
            health,
            unlisted: scopes.len(),
            scopes,
            told,
            tell,
            tasks: JoinSet::new(),
            inbox: Vec::new(),
            gathered: Update::new(),
        })
    }

    /// How well the API is followed.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Starts what follows, once.
    fn begin(&mut self) {
        for (place, scope) in std::mem::take(&mut self.scopes).into_iter().enumerate() {
            let (source, tell) = (Arc::clone(&self.source), self.tell.clone());
            let health = health::Pen::new(Arc::clone(&self.health), place);
            let follower = Follower::new(self.api.clone(), scope, source, tell, health);
            self.tasks.spawn(follower.run());
        }
    }

    /// Waits for something, and takes all there is.
    async fn take(&mut self) -> Update {
        self.told.recv_many(&mut self.inbox, WAITING_MAX).await;
        let mut update = Update::new();
        for told in self.inbox.drain(..) {
            match told {
                Told::News(news) => update.push(news),
                Told::Listed => self.unlisted -= 1,
            }
        }
        update
    }
}

impl Source for Kubernetes {
    async fn load(&mut self) -> Update {
        self.begin();
        while self.unlisted > 0 {
            let update = self.take().await;
            self.gathered.extend(update);
        }
        std::mem::take(&mut self.gathered)
    }

    async fn changed(&mut self) -> Update {
        self.take().await
    }

    /// Nothing changes unnoticed here.
    async fn rescan(&mut self) -> Update {
        Update::new()
    }
}
