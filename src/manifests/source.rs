//! Where objects come from: watched directories, the Kubernetes API, or both.
//!
//! Must not know: what is made of the objects.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use super::{
    Directories, Kind, OpenError, Update,
    kubernetes::{self, AccessError, Health, Kubernetes},
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

/// Why a source tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A directory that cannot be opened.
    #[error(transparent)]
    Directories(#[from] OpenError),
    /// No credentials for the API.
    #[error(transparent)]
    Kubernetes(#[from] AccessError),
    /// The API does not tell everything in time.
    #[error("the Kubernetes API {place} has not told everything in {patience:?}: {why}")]
    Silent {
        /// The address of the API, and what names it.
        place: String,
        /// How long it had.
        patience: Duration,
        /// What is missing.
        why: String,
    },
    /// The API will not tell anything, however long one waits.
    #[error("{told}")]
    Hopeless {
        /// Which API, and why.
        told: String,
    },
    /// The process can do nothing more.
    #[error("cannot wait for the Kubernetes API")]
    Runtime(#[from] std::io::Error),
}

/// How long a program that does not stay waits for the API.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// After this long it is said what is waited for.
pub const SILENCE: Duration = Duration::from_secs(3);

/// Directories, and the API of a cluster where it is asked for.
#[derive(Debug)]
pub struct Sources {
    directories: Directories,
    kubernetes: Option<Kubernetes>,
    /// What the directories held, until the API has told everything too.
    loaded: Option<Update>,
}

impl Sources {
    /// Opens both, which together are one source of every kind.
    ///
    /// # Errors
    /// When a directory, or the credentials for the API, cannot be read.
    pub fn open<P: AsRef<Path>>(
        directories: &[P],
        kubernetes: Option<&kubernetes::Config>,
    ) -> Result<Self, SourceError> {
        Self::open_kinds(directories, kubernetes, Kind::ALL)
    }

    /// As [`Self::open`], and of the API only these kinds.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_kinds<P: AsRef<Path>>(
        directories: &[P],
        kubernetes: Option<&kubernetes::Config>,
        kinds: &[Kind],
    ) -> Result<Self, SourceError> {
        let directories = Directories::open(directories)?;
        let kubernetes = kubernetes.map(|config| Kubernetes::open(config, kinds)).transpose()?;
        Ok(Self { directories, kubernetes, loaded: None })
    }

    /// Everything there is, once, for a program that does not stay. Blocks. What takes long is told
    /// once to `tell`.
    ///
    /// # Errors
    /// When the API has not told everything in time, or never will.
    pub fn load_once(
        mut self,
        patience: Duration,
        tell: impl FnOnce(&str),
    ) -> Result<Update, SourceError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let health = self.kubernetes();
        runtime.block_on(async {
            let Some(health) = health else { return Ok(self.load().await) };
            let mut changes = health.changes();
            let hopeless = async {
                while !health.is_hopeless() {
                    if changes.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                }
            };
            let quiet = SILENCE.min(patience);
            let silent = async {
                tokio::time::sleep(quiet).await;
                tell(&health.told());
                tokio::time::sleep(patience - quiet).await;
            };
            tokio::select! {
                biased;
                update = self.load() => Ok(update),
                () = hopeless => Err(SourceError::Hopeless { told: health.told() }),
                // The kinds were told.
                () = silent => Err(SourceError::Silent {
                    place: health.place(),
                    patience,
                    why: health.whys(),
                }),
            }
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody listens at port 1.
    const AWAY: &str = "
apiVersion: v1
kind: Config
current-context: a
clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: a, context: {cluster: a, user: ''}}]
users: []
";

    #[test]
    fn an_api_that_is_away_is_an_error_that_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, AWAY).expect("written");
        let config =
            kubernetes::Config { kubeconfig: Some(kubeconfig), ..kubernetes::Config::default() };
        let source = Sources::open::<&Path>(&[], Some(&config)).expect("opened");
        let mut told = String::new();
        let error = source.load_once(Duration::from_millis(300), |text| told = text.to_owned());
        let error = error.expect_err("away").to_string();
        let place = format!(
            "the Kubernetes API http://127.0.0.1:1/ (the kubeconfig {}, context a)",
            directory.path().join("kubeconfig").display()
        );
        assert!(told.starts_with(&format!("{place}: Service, ")), "{told}");
        assert_eq!(told.matches("refused").count(), 1, "{told}");
        let silent = format!("{place} has not told everything in 300ms: ");
        assert!(error.starts_with(&silent) && error.contains("refused"), "{error}");
        assert!(!error.contains("Service"), "the kinds were told: {error}");
    }
}
