//! Answers `<name>.<namespace>.global` from ServiceEntries.
//!
//! ```text
//! thread dns-manifests   files ─▶ objects ─▶ names ─▶ zones      (publisher, entries)
//!                                                       │ published whole
//! thread dns             bytes ─▶ question ─▶ answer ─▶ bytes    (server, wire, zone)
//! ```
//!
//! Authoritative for its suffixes and for nothing else: it forwards nothing, caches nothing and
//! transfers nothing. A cluster's DNS sends it the suffixes ([`stub`]). Must not know: the
//! gateway, the sidecar, a client's connection.
//!
//! A short name such as `bar.ns2` reaches it through the client's own search list: a pod that has
//! `search ns1.svc.cluster.local svc.cluster.local cluster.local global ns1.global` asks for
//! `bar.ns2` under each in turn, and finds `bar.ns2.global`. The misses before it that end in
//! another suffix are the cluster DNS's to answer, those under ours are answered with NXDOMAIN at
//! once.

use std::{
    convert::Infallible, io, net::SocketAddr, path::PathBuf, sync::Arc, thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};

use crate::{
    manifests::{Directories, Keeper, OpenError},
    metrics::Metrics,
};

pub mod entries;
pub mod name;
pub mod stub;
pub mod wire;
pub mod zone;

mod metrics;
mod places;
mod publisher;
mod server;

pub use name::DnsName;
pub use stub::Stub;
pub use zone::Zones;

use publisher::Publisher;
use server::{Shared, Sockets};

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it answers, each by UDP and TCP; port 0 takes any that is free for both.
    pub listen: Vec<SocketAddr>,
    /// What it answers for.
    pub suffixes: Vec<DnsName>,
    /// How long others may keep an answer, whole seconds.
    pub ttl: Duration,
    /// Connections over TCP on each address; the one silent for longest makes room for the next.
    pub tcp_connections_max: usize,
    /// A connection without a whole message for this long is closed.
    pub tcp_timeout: Duration,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or is none of this machine's.
    #[error("cannot listen on {address} for DNS, by UDP and TCP: give another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The manifests cannot be opened.
    #[error(transparent)]
    Manifests(#[from] OpenError),
    /// No thread, or no runtime for it.
    #[error("a thread could not be started")]
    Thread(#[from] io::Error),
}

/// A server at work.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<SocketAddr>,
    keeper: Keeper<Infallible>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Binds every address, answers SERVFAIL at once, and reads `manifests`.
///
/// # Errors
/// What stops a start.
pub fn start(
    config: &Config,
    manifests: &[PathBuf],
    metrics: &mut Metrics,
) -> Result<Running, StartError> {
    let bind = |address: &SocketAddr| {
        Sockets::bind(*address).map_err(|source| StartError::Bind { address: *address, source })
    };
    let sockets = config.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    let addresses = sockets.iter().map(|sockets| sockets.address).collect();
    let directories = Directories::open(manifests)?;
    let zones = Arc::new(ArcSwap::from_pointee(Zones::unloaded(&config.suffixes)));
    let counters = metrics::Counters::register(metrics);
    let names = counters.names.clone();
    let shared = Arc::new(Shared {
        zones: Arc::clone(&zones),
        counters,
        ttl: u32::try_from(config.ttl.as_secs()).unwrap_or(u32::MAX),
        tcp_timeout: config.tcp_timeout,
        tcp_connections_max: config.tcp_connections_max,
    });
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("dns".into()).spawn(move || {
        runtime.block_on(async {
            for sockets in sockets {
                tokio::spawn(serve(sockets, Arc::clone(&shared)));
            }
            let _ = stopped.await;
        });
    })?;
    let publisher = Publisher::new(config.suffixes.clone(), zones, names);
    let keeper = Keeper::start("dns-manifests", directories, publisher)?;
    Ok(Running { addresses, keeper, stop, thread })
}

async fn serve(sockets: Sockets, shared: Arc<Shared>) {
    let address = sockets.address;
    if let Err(error) = sockets.run(shared).await {
        tracing::error!(%error, %address, "DNS ended");
    }
}

impl Running {
    /// The addresses taken, with their real ports.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Turns true with the first load; before it, answers are SERVFAIL.
    #[must_use]
    pub fn loaded(&self) -> watch::Receiver<bool> {
        self.keeper.loaded()
    }

    /// Looks at every manifest again, and waits until that is done.
    pub async fn rescan(&self) {
        self.keeper.rescan().await;
    }

    /// Ends at once.
    pub fn stop(self) {
        let _ = self.stop.send(());
        // Neither has anything to lose: a panic there was said by the panic hook.
        let _ = self.thread.join();
        self.keeper.stop();
    }
}
