//! The data plane: a connection from accept to its last byte.
//!
//! `bind` first (every error that should stop start-up), `start` later. Must not know: YAML,
//! Kubernetes, files, keys, how the table came to be.
//!
//! A worker is a thread with a runtime of its own and its own listeners (`SO_REUSEPORT`); a
//! connection is one task on one worker, and [`connection`](self) is its spine:
//!
//! ```text
//! listener ─▶ connection ─▶ sniff ─▶ route ─▶ connect ─▶ first_flight ─▶ relay
//!                 │            └── client_hello (pure)                     ├── machine (pure)
//!                 │                                                        ├── copy
//!                 └─▶ report (guard) ─▶ metrics, access_log                └── splice, pipes
//! ```

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use self::{
    access_log::AccessLog,
    failures::Failures,
    listener::{Admission, DEFER_ACCEPT_SECONDS},
    pressure::Pressure,
    relay::pipes::PipeBudget,
    sources::Sources,
    worker::{Command, Peer, Shared, Worker},
};
use crate::{metrics as registry_of_metrics, net, routing::SharedTable};

pub mod client_hello;
pub mod outcome;
pub mod proxy_header;
pub mod refuse;
pub mod relay;

mod access_log;
mod blame;
mod config;
mod connect;
mod connection;
mod failures;
mod first_flight;
mod handshake;
mod health;
mod leave;
mod listener;
mod loops;
mod metrics;
mod pressure;
mod quiet;
mod registry;
mod report;
mod route;
mod silent;
mod sniff;
mod source_policy;
mod sources;
mod sweep;
mod view;

mod watchdog;
mod worker;

pub use access_log::{AccessLogConfig, Format, LogTo};
pub use config::{Config, LeaveConfig, LimitsConfig, OnEndpointRemoved, RelayConfig};
pub use failures::FailureView;
pub use metrics::Ourselves;
pub use quiet::QuietConfig;
pub use route::ISTIO_ALPN;
pub use sniff::SniffLimits;
pub use source_policy::{NamePattern, SourceAction, SourceRule, judge as judge_source};
pub use view::ConnectionView;

/// Why the data plane could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A listener.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as it was asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The access log.
    #[error("cannot open the access log {to}")]
    AccessLog {
        /// Where lines were to go.
        to: LogTo,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A data plane that is bound and does not accept yet.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    /// One list for each worker.
    listeners: Vec<Vec<Arc<TcpListener>>>,
    addresses: Vec<SocketAddr>,
    log: AccessLog,
}

impl Gateway {
    /// Binds every listener, once for each worker, and opens the access log.
    ///
    /// # Errors
    /// The first that fails, by address or path.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        let mut listeners = vec![Vec::new(); config.workers.max(1)];
        let mut addresses = Vec::new();
        for wanted in &config.listen {
            let mut address = *wanted;
            let failed = |source| BindError::Listen { address: *wanted, source };
            // SO_REUSEPORT would let a second gateway of the same user share the port, and the
            // kernel would deal connections to both. A socket without it finds the port taken.
            drop(TcpListener::bind(address).map_err(failed)?);
            for of_worker in &mut listeners {
                let socket = net::listen(address).map_err(failed)?;
                // Port 0: the first takes one, the others share it.
                address = socket.local_addr().map_err(failed)?;
                of_worker.push(Arc::new(socket));
            }
            addresses.push(address);
        }
        let log = AccessLog::start(&config.access_log)
            .map_err(|source| BindError::AccessLog { to: config.access_log.to.clone(), source })?;
        Ok(Self { config, listeners, addresses, log })
    }

    /// The addresses that were bound.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Starts the workers; from here on connections are accepted.
    ///
    /// # Errors
    /// When a thread cannot be started, or what it needs cannot be had: a worker that could not run
    /// would leave its listener's clients waiting for ever.
    pub fn start(self, table: Arc<SharedTable>) -> io::Result<Running> {
        let mut inboxes = Vec::new();
        let mut peers = Vec::new();
        for _ in &self.listeners {
            let (commands, inbox) = mpsc::unbounded_channel();
            inboxes.push(inbox);
            peers.push(Peer {
                commands,
                live: AtomicUsize::new(0),
                silent: AtomicUsize::new(0),
                tick_ms: AtomicU64::new(0),
                stopped: AtomicBool::new(false),
            });
        }
        let shared =
            Arc::new(Shared {
                admission: Arc::new(Admission::new(self.config.connections_max)),
                pressure: Pressure::default(),
                sources: self.config.limits.source_max.map(|max| {
                    Arc::new(Sources::new(max, self.config.limits.trusted_sources.clone()))
                }),
                pipes: Arc::new(PipeBudget::new(self.config.relay.pipes_max)),
                metrics: Arc::default(),
                waiting: Arc::default(),
                failures: Failures::default(),
                own_listeners: self.addresses.clone(),
                log: self.log,
                config: self.config,
                table,
                peers,
                started: Instant::now(),
                stopping: AtomicBool::new(false),
            });
        let mut threads = Vec::new();
        let (told, starts) = std::sync::mpsc::channel();
        let watched = self.listeners.clone();
        for (index, (listeners, inbox)) in self.listeners.into_iter().zip(inboxes).enumerate() {
            for socket in &listeners {
                // Where it is missing, a silent client reaches us at once: slower, not wrong.
                let _ = net::sys::set_defer_accept(&**socket, DEFER_ACCEPT_SECONDS);
            }
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            let told = told.clone();
            let run = move || Worker::run(told, shared, index, listeners, inbox);
            threads.push(thread.spawn(run)?);
        }
        drop(told);
        if let Err(error) = starts.into_iter().collect::<io::Result<()>>() {
            shared.peers.iter().for_each(|peer| drop(peer.commands.send(Command::Quit)));
            return Err(error);
        }
        Ok(Running { shared, threads, addresses: self.addresses, watched })
    }
}

/// A data plane at work.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    watched: Vec<Vec<Arc<TcpListener>>>,
}

impl Running {
    /// The addresses that were bound.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Live connections.
    #[must_use]
    pub fn live(&self) -> usize {
        self.shared.admission.live()
    }

    /// Worker threads.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.peers.len()
    }

    /// Connections that may be live at once.
    #[must_use]
    pub fn connections_max(&self) -> usize {
        self.shared.admission.max()
    }

    /// What is asked of it while it runs, by others than its owner.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Accepts in the place of a worker that does not come round to it. Runs until dropped.
    pub fn watch(&mut self) -> impl Future<Output = ()> + use<> {
        let watched = self.watched.iter().map(|of| of.iter().map(Arc::downgrade).collect());
        watchdog::watch(Arc::clone(&self.shared), watched.collect())
    }

    /// Stops accepting: what already waits in a backlog is served, and then the listeners close.
    pub async fn stop_accepting(&mut self) {
        self.watched.clear();
        self.shared.stop_accepting().await;
    }

    /// From now on connections are ended at quiet moments, spread over `window`. None is cut here.
    /// Where the caller `cuts` what is left then, a long silence in the last third is a quiet
    /// moment too, whoever spoke last.
    pub fn drain(&self, window: Duration, cuts: bool) {
        self.handle().drain(window, cuts);
    }

    /// Waits until no connection is live, at most until `deadline`. Gives how many were left.
    pub async fn finished(&self, deadline: Duration) -> usize {
        let until = Instant::now() + deadline;
        while self.live() > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.live()
    }

    /// Ends what is left and the threads.
    pub fn end(self) {
        for peer in &self.shared.peers {
            let _ = peer.commands.send(Command::Quit);
        }
        for thread in self.threads {
            // A worker that panicked has said so.
            let _ = thread.join();
        }
        self.shared.log.flush();
    }
}

/// Questions to a data plane at work.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// The live connections of all workers. A worker that does not answer within a second is left
    /// out.
    pub async fn connections(&self) -> Vec<ConnectionView> {
        let mut all = Vec::new();
        for peer in &self.0.peers {
            let (reply, answer) = oneshot::channel();
            if peer.commands.send(Command::List(reply)).is_ok()
                && let Ok(Ok(list)) = tokio::time::timeout(Duration::from_secs(1), answer).await
            {
                all.extend(list);
            }
        }
        all
    }

    /// Connections that have not ended. A little later their descriptors are free too, and they
    /// are not [`Handle::live`] any more.
    #[must_use]
    pub fn active(&self) -> usize {
        self.0.admission.active()
    }

    /// Connections that hold descriptors.
    #[must_use]
    pub fn live(&self) -> usize {
        self.0.admission.live()
    }

    /// Connections that may be live at once.
    #[must_use]
    pub fn connections_max(&self) -> usize {
        self.0.admission.max()
    }

    /// Connections that may be without a whole ClientHello at once.
    #[must_use]
    pub fn hellos_max(&self) -> usize {
        self.0.hellos_max()
    }

    /// Whether new connections are shed for want of memory.
    #[must_use]
    pub fn is_memory_short(&self) -> bool {
        self.0.pressure.memory_is_short()
    }

    /// Registers what a scrape reads of the data plane.
    pub fn register(&self, registry: &mut registry_of_metrics::Metrics, us: Ourselves) {
        metrics::register(&self.0, registry, us);
    }

    /// Ends connections at quiet moments, as [`Running::drain`].
    pub fn drain(&self, window: Duration, cuts: bool) {
        for peer in &self.0.peers {
            let _ = peer.commands.send(Command::Drain { length: window, cuts });
        }
    }

    /// Says whether memory is short: from then on new connections are shed, and such as have sent
    /// no ClientHello, newest first.
    pub fn memory_is_short(&self, is_short: bool) {
        self.0.pressure.memory(is_short);
    }

    /// How many connections ended with this outcome.
    #[must_use]
    pub fn ended(&self, outcome: outcome::Outcome) -> u64 {
        self.0.metrics.ended(outcome)
    }

    /// The last connections that failed: those that had a route first, each kind from the newest.
    #[must_use]
    pub fn failures(&self) -> Vec<FailureView> {
        self.0.failures.list()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.metrics.accepted()
    }
}

impl Shared {
    async fn stop_accepting(&self) {
        self.stopping.store(true, Ordering::Release);
        let mut stopped = Vec::new();
        for peer in &self.peers {
            let (done, when_done) = oneshot::channel();
            let _ = peer.commands.send(Command::StopAccepting(done));
            stopped.push(when_done);
        }
        for when_done in stopped {
            // The worker drops the sender when its listeners are closed.
            let _ = when_done.await;
        }
    }
}
