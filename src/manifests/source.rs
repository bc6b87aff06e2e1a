//! Where objects come from: watched directories, the Kubernetes API, or both.
//!
//! Must not know: what is made of the objects.

use std::{future::Future, sync::Arc};

use super::{
    Directories, Update,
    kubernetes::{Health, Kubernetes},
};

/// Tells of objects and of their changes. Cancelling any of these loses nothing.
pub trait Source: Send + 'static {
    /// Everything there is. Called first, until it returned.
    fn load(&mut self) -> impl Future<Output = Update> + Send;

    /// Waits until something has changed.
    fn changed(&mut self) -> impl Future<Output = Update> + Send;

    /// Looks again at what may have changed unnoticed.
    fn rescan(&mut self) -> impl Future<Output = Update> + Send;
}

impl Source for Directories {
    async fn load(&mut self) -> Update {
        Self::load(self)
    }

    fn changed(&mut self) -> impl Future<Output = Update> + Send {
        Self::changed(self)
    }

    async fn rescan(&mut self) -> Update {
        Self::rescan(self)
    }
}

/// Directories, and the API of a cluster where it is asked for.
#[derive(Debug)]
pub struct Sources {
    directories: Directories,
    kubernetes: Option<Kubernetes>,
    /// What the directories held, until the API has told everything too.
    loaded: Option<Update>,
}

impl Sources {
    /// Both together are one source.
    #[must_use]
    pub fn new(directories: Directories, kubernetes: Option<Kubernetes>) -> Self {
        Self { directories, kubernetes, loaded: None }
    }

    /// How well the API is followed; `None` where it is not asked for.
    #[must_use]
    pub fn kubernetes(&self) -> Option<Arc<Health>> {
        self.kubernetes.as_ref().map(Kubernetes::health)
    }
}

impl Source for Sources {
    async fn load(&mut self) -> Update {
        let Some(kubernetes) = &mut self.kubernetes else { return self.directories.load() };
        if self.loaded.is_none() {
            self.loaded = Some(self.directories.load());
        }
        let more = kubernetes.load().await;
        let mut update = self.loaded.take().unwrap_or_default();
        update.extend(more);
        update
    }

    async fn changed(&mut self) -> Update {
        let Some(kubernetes) = &mut self.kubernetes else {
            return self.directories.changed().await;
        };
        tokio::select! {
            update = self.directories.changed() => update,
            update = kubernetes.changed() => update,
        }
    }

    async fn rescan(&mut self) -> Update {
        self.directories.rescan()
    }
}
