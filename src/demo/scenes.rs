//! The scenes of the demo: each makes something happen between the clusters and holds what is seen
//! against what should be.
//!
//! A scene leaves the world as it found it, so that any of them can be played alone. Must not
//! know: how a part is started.

use super::{caller::field, world::World};

mod automation;
mod canary;
mod failures;
mod plain;
mod refusals;
mod ways;

/// One scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// HTTP to a service of another cluster.
    Plain,
    /// Lines over TCP to the same one.
    Tcp,
    /// A subset, through the gateway with its label.
    Subset,
    /// By way of the egress gateway.
    Egress,
    /// Envoy's gateway and ours, 9:1.
    Canary,
    /// A pod dies.
    PodDies,
    /// A gateway dies, and another cluster has the service too.
    ClusterDies,
    /// A new service is there by automation.
    Automation,
    /// A certificate of another root.
    WrongRoot,
    /// A name that is not exported.
    NotExported,
}

/// One thing that was to be seen, and what was.
#[derive(Debug)]
pub struct Seen {
    /// What should be.
    pub expected: String,
    /// What is.
    pub seen: String,
    /// Whether they agree.
    pub good: bool,
}

impl Seen {
    fn new(expected: impl Into<String>, seen: impl Into<String>, good: bool) -> Self {
        Self { expected: expected.into(), seen: seen.into(), good }
    }
}

impl Scene {
    /// All, in the order of the story.
    pub const ALL: [Self; 10] = [
        Self::Plain,
        Self::Tcp,
        Self::Subset,
        Self::Egress,
        Self::Canary,
        Self::PodDies,
        Self::ClusterDies,
        Self::Automation,
        Self::WrongRoot,
        Self::NotExported,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tcp => "tcp",
            Self::Subset => "subset",
            Self::Egress => "egress",
            Self::Canary => "canary",
            Self::PodDies => "pod-dies",
            Self::ClusterDies => "cluster-dies",
            Self::Automation => "automation",
            Self::WrongRoot => "wrong-root",
            Self::NotExported => "not-exported",
        }
    }

    /// What it is about.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Plain => "a client in cluster 1 calls http://bar.ns2.global:8080 and bar.ns2",
            Self::Tcp => "the same service by TCP, port 9999",
            Self::Subset => "two gateways with labels: subset beta takes the beta one, and its pod",
            Self::Egress => "by way of the egress gateway: the client never talks to cluster 2",
            Self::Canary => "Envoy and diolkos as gateways of cluster 2, 9:1, and back",
            Self::PodDies => "a pod dies during 40 calls, and nobody notices",
            Self::ClusterDies => {
                "shop is in clusters 2 and 3; the gateway of 2 dies during 40 calls"
            }
            Self::Automation => {
                "cluster 2 gets a service; nobody but the automation tells cluster 1"
            }
            Self::WrongRoot => "a client whose certificate is of another root",
            Self::NotExported => "a service that cluster 2 keeps to itself",
        }
    }

    /// Plays it.
    ///
    /// # Errors
    /// When the scene cannot be set; what went otherwise than it should is in what was seen.
    pub async fn play(self, world: &mut World) -> anyhow::Result<Vec<Seen>> {
        match self {
            Self::Plain => plain::http(world).await,
            Self::Tcp => plain::tcp(world).await,
            Self::Subset => ways::subset(world).await,
            Self::Egress => ways::egress(world).await,
            Self::Canary => canary::play(world).await,
            Self::PodDies => failures::pod(world).await,
            Self::ClusterDies => failures::cluster(world).await,
            Self::Automation => automation::play(world).await,
            Self::WrongRoot => refusals::wrong_root(world).await,
            Self::NotExported => refusals::not_exported(world).await,
        }
    }
}

/// One call over HTTP: the pod that answered, or what went wrong.
async fn ask(world: &World, host: &str) -> Result<String, String> {
    match world.caller.get(host, super::application::HTTP).await {
        Ok(body) => field(&body, "pod").map(str::to_owned).ok_or(body),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// A sum of calls: how many each pod answered, and what went wrong with the rest.
#[derive(Debug, Default)]
struct Tally {
    answers: std::collections::BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Tally {
    fn count(&mut self, result: Result<String, String>) {
        match result {
            Ok(pod) => *self.answers.entry(pod).or_default() += 1,
            Err(error) => self.failures.push(error),
        }
    }

    fn total(&self) -> usize {
        self.answers.values().sum::<usize>() + self.failures.len()
    }

    fn pods(&self) -> Vec<&str> {
        self.answers.keys().map(String::as_str).collect()
    }
}

/// `bar-a 3, bar-b 4; 1 failed: …`
impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let answers: Vec<_> = self.answers.iter().map(|(pod, n)| format!("{pod} {n}")).collect();
        f.write_str(&answers.join(", "))?;
        match self.failures.first() {
            None => write!(f, "; 0 of {} failed", self.total()),
            Some(first) => {
                write!(f, "; {} of {} failed: {first}", self.failures.len(), self.total())
            }
        }
    }
}
