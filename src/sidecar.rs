//! Gives an unmodified application its mesh mutual TLS, on either end.
//!
//! ```text
//! outbound  application ─▶ 127.255.0.2:8080 ─▶ route ─▶ dial (TCP, TLS) ─▶ relay ─▶ report
//! inbound   peer ─▶ :15006 ─▶ handshake ─▶ connect to the application ─▶ relay ─▶ report
//!
//! thread sidecar-manifests  files ─▶ objects ─▶ table, plan of listeners     (follow, plan)
//! thread sidecar            listeners, connections, certificates             (all the rest)
//! ```
//!
//! Outbound it listens on the virtual addresses of ServiceEntries, and asks a gateway for the
//! service by SNI, as Istio's sidecar does. It offers ALPN `istio` and never
//! `istio-peer-exchange`, which promises Istio's metadata header on the wire. `outbound.rs` and
//! `inbound.rs` hold every branch of the two paths. Must not know: the gateway, DNS, the command
//! line.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::{
    certs::{CertsError, NamePattern},
    discovery::{Catalog, Identity},
    manifests::{Asks, Directories, Keeper, OpenError},
    metrics::Metrics,
    net,
    resolver::{self, Resolved, Resolver},
    routing::{Host, SharedTable},
};

pub mod plan;

mod accept;
mod dial;
mod ending;
mod follow;
mod handshake;
mod inbound;
mod keyring;
mod listeners;
mod metrics;
mod outbound;
mod outcome;
mod relay;
mod report;
mod state;
mod way;

pub use outcome::{Direction, Outcome};
pub use state::State;
pub use way::Inbound;

use follow::Follow;
use keyring::Keyring;
use listeners::Listeners;
use metrics::Counters;
use plan::Plan;

/// What a sidecar is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the key and the certificates of the workload are.
    pub certs: PathBuf,
    /// Where peers come in, and where the application is.
    pub inbound: Vec<Inbound>,
    /// Who may come in; empty: everyone whose certificate leads to our root.
    pub allowed: Vec<NamePattern>,
    /// The subset that is asked for, in lower case, by host.
    pub subsets: BTreeMap<Host, Arc<str>>,
    /// For a TLS handshake, while another endpoint is left; and for a peer's.
    pub handshake_timeout: Duration,
    /// For a TCP connect, while another endpoint is left.
    pub try_timeout: Duration,
    /// Live connections; more wait to be accepted.
    pub connections_max: usize,
    /// Addresses of ServiceEntries listened on; the rest are left out, so that descriptors are left
    /// for connections.
    pub listeners_max: usize,
    /// What live connections have to finish in when it ends.
    pub drain: Duration,
    /// How endpoints that are host names are looked up.
    pub resolver: resolver::Config,
}

/// Why a sidecar cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An inbound address is taken, or is none of this machine's.
    #[error("cannot listen on {address} for inbound connections: give another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error("the certificates of this workload cannot be used")]
    Certs(#[from] CertsError),
    /// The manifests cannot be opened.
    #[error(transparent)]
    Manifests(#[from] OpenError),
    /// No thread, or no runtime for it.
    #[error("a thread could not be started")]
    Thread(#[from] io::Error),
}

/// What all connections share.
struct Shared {
    config: Config,
    table: Arc<SharedTable>,
    keyring: Arc<Keyring>,
    listeners: Listeners,
    counters: Counters,
    places: Arc<tokio::sync::Semaphore>,
    /// Turns true when live connections are to be cut.
    cut: watch::Receiver<bool>,
    /// Dropped with the last accept loop and the last connection, which then is known.
    _alive: mpsc::Sender<()>,
    hasher: ahash::RandomState,
    drawn: AtomicU64,
}

impl Shared {
    /// A number that nobody outside can foresee, uniform over all of u64.
    fn random(&self) -> u64 {
        self.hasher.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}

/// A sidecar at work.
#[derive(Debug)]
pub struct Running {
    inbound: Vec<SocketAddr>,
    keyring: Arc<Keyring>,
    keeper: Keeper<Resolved>,
    listeners: Listeners,
    served: watch::Receiver<bool>,
    again: Arc<Notify>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Reads the certificates, binds the inbound addresses, and begins to read `manifests`. Those of
/// ServiceEntries are bound when they are read; one that cannot be is told and left out.
///
/// `identity` is who we are; an empty namespace becomes that of the certificate.
///
/// # Errors
/// What stops a start.
pub fn start(
    config: Config,
    mut identity: Identity,
    manifests: &[PathBuf],
    metrics: &mut Metrics,
) -> Result<Running, StartError> {
    let keyring = Arc::new(Keyring::open(&config.certs)?);
    if identity.namespace.is_empty() {
        keyring.current().id().namespace().clone_into(&mut identity.namespace);
    }
    let bound = inbound::bind(&config.inbound)?;
    let addresses: Vec<SocketAddr> =
        bound.iter().map(|(listener, _)| listener.local_addr()).collect::<Result<_, _>>()?;
    let directories = Directories::open(manifests)?;
    let table = Arc::new(SharedTable::new());
    let (plans, plan) = watch::channel(None);
    let (names, resolver) = resolver::new(&config.resolver);
    let catalog = Catalog::new(identity, Arc::clone(&table));
    let follow = Follow::new(catalog, config.subsets.clone(), plans, names);
    let keeper = Keeper::start("sidecar-manifests", directories, follow)?;
    let listeners = Listeners::default();
    let counters = Counters::register(metrics, &keyring, &listeners);
    let (stop, stopped) = oneshot::channel();
    let (cut, on_cut) = watch::channel(false);
    let (alive, gone) = mpsc::channel(1);
    let again = Arc::new(Notify::new());
    let (on_served, served) = watch::channel(false);
    let shared = Arc::new(Shared {
        places: Arc::new(tokio::sync::Semaphore::new(config.connections_max)),
        config,
        table,
        keyring: Arc::clone(&keyring),
        listeners: listeners.clone(),
        counters,
        cut: on_cut,
        _alive: alive,
        hasher: ahash::RandomState::new(),
        drawn: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let parts = Parts {
        shared,
        bound,
        inbound: addresses.clone(),
        plans: plan,
        again: Arc::clone(&again),
        stopped,
        cut,
        gone,
        resolver,
        asks: keeper.asks(),
        on_served,
    };
    let thread = std::thread::Builder::new()
        .name("sidecar".into())
        .spawn(move || runtime.block_on(parts.run()))?;
    Ok(Running { inbound: addresses, keyring, keeper, listeners, served, again, stop, thread })
}

impl Running {
    /// The inbound addresses taken, with their real ports.
    #[must_use]
    pub fn inbound(&self) -> &[SocketAddr] {
        &self.inbound
    }

    /// Whose certificate it shows.
    #[must_use]
    pub fn identity(&self) -> String {
        self.keyring.current().id().to_string()
    }

    /// What stands in the way of being ready, and what is worth knowing.
    #[must_use]
    pub fn state(&self) -> State {
        State::new(self.listeners.clone(), Arc::clone(&self.keyring))
    }

    /// Turns true when the manifests were read and all that can be bound is bound; closed when the
    /// sidecar ended.
    #[must_use]
    pub fn served(&self) -> watch::Receiver<bool> {
        self.served.clone()
    }

    /// Looks at every manifest and certificate again, and tries to bind what could not be bound.
    pub async fn rescan(&self) {
        self.keeper.rescan().await;
        self.keyring.look_again();
        self.again.notify_one();
    }

    /// Stops accepting, lets live connections finish for the time set, and ends. Blocks.
    pub fn stop(self) {
        let _ = self.stop.send(());
        // Neither has anything to lose: a panic there was said by the panic hook.
        let _ = self.thread.join();
        self.keeper.stop();
    }
}

/// What the thread is made of.
struct Parts {
    shared: Arc<Shared>,
    bound: Vec<(std::net::TcpListener, SocketAddr)>,
    inbound: Vec<SocketAddr>,
    plans: watch::Receiver<Option<Arc<Plan>>>,
    again: Arc<Notify>,
    stopped: oneshot::Receiver<()>,
    cut: watch::Sender<bool>,
    gone: mpsc::Receiver<()>,
    resolver: Resolver,
    asks: Asks<Resolved>,
    on_served: watch::Sender<bool>,
}

impl Parts {
    async fn run(self) {
        let Self {
            shared,
            bound,
            inbound,
            plans,
            again,
            stopped,
            cut,
            mut gone,
            resolver,
            asks,
            on_served,
        } = self;
        tokio::spawn(resolver.run(move |resolved| asks.ask(resolved)));
        let mut open = Vec::new();
        for ((listener, to), at) in bound.into_iter().zip(inbound) {
            let stop = accept_inbound(listener, to, &shared);
            shared.listeners.way_in(at, stop.is_ok());
            match stop {
                Ok(stop) => open.push(stop),
                Err(error) => tracing::error!(%error, address = %at, "an inbound listener ended"),
            }
        }
        tokio::select! {
            () = shared.listeners.run(&shared, plans, &again, &on_served) => {}
            () = shared.keyring.watch() => {}
            _ = stopped => {}
        }
        drop(open);
        shared.listeners.close();
        let drain = shared.config.drain;
        // Each accept loop ends at its next turn, each connection when it is over.
        drop(shared);
        if tokio::time::timeout(drain, gone.recv()).await.is_err() {
            let _ = cut.send(true);
            let _ = tokio::time::timeout(LAST, gone.recv()).await;
        }
    }
}

/// What a connection that is cut has left, to reset and to be told.
const LAST: Duration = Duration::from_secs(1);

/// Starts the accept loop of one way in, which ends when what it gives is dropped.
fn accept_inbound(
    listener: std::net::TcpListener,
    to: SocketAddr,
    shared: &Arc<Shared>,
) -> io::Result<oneshot::Sender<()>> {
    let at = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (stop, stopped) = oneshot::channel();
    let everybody = Arc::clone(shared);
    let serve = move |stream: tokio::net::TcpStream, from, place| {
        let shared = Arc::clone(&everybody);
        let at = stream.local_addr().map_or(at, net::unmapped);
        tokio::spawn(async move {
            inbound::serve(shared, to, stream, (from, at)).await;
            drop(place);
        });
    };
    tokio::spawn(accept::run(listener, Arc::clone(shared), stopped, serve));
    Ok(stop)
}
