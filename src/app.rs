//! Assembly: builds everything from the settings, starts the threads, ends them in order.
//!
//! ```text
//! worker threads   one runtime each: connections                (gateway)
//! discovery thread files, the Kubernetes API, the table; explains (app/discovery.rs)
//! control thread   admin, probes, scrapes, the watchdog         (app/control.rs)
//! main thread      signals, the drain                           (app/shutdown.rs)
//! ```
//!
//! A slow scrape or a large change of manifests never sits in front of a connection. Must not
//! know: how any part does its work.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};

use crate::{
    config::{Settings, Sources},
    discovery::Catalog,
    gateway::{Gateway, Running},
    manifests::{Keeper, kubernetes::Health, source::SILENCE},
    metrics::Metrics,
    resolver::{self, Names},
    routing::SharedTable,
    telemetry::Level,
};

pub mod offline;
pub mod sidecar;

mod control;
mod discovery;
mod memory;
mod parts;
mod shutdown;
mod source_gate;
mod status;
mod views;

use control::Control;
use discovery::Discovery;
use status::Status;

pub use shutdown::WhileLoading;

/// What a start is given.
#[derive(Debug)]
pub struct Start {
    /// The settings in force.
    pub settings: Settings,
    /// Where they came from, to be read again on SIGHUP.
    pub sources: Sources,
    /// The log's level, to be changed while running; `None` where the log is somebody else's.
    pub level: Option<Level>,
    /// Gets a line for each connection, instead of the access log's file.
    pub lines: Option<mpsc::UnboundedSender<String>>,
}

/// Keeps signals that are about settings and statistics from ending the process before
/// [`App::run`] listens for them, and lets SIGTERM and SIGINT end it in order, with 0.
///
/// # Errors
/// When signals cannot be listened for.
pub fn listen_while_loading() -> std::io::Result<WhileLoading> {
    WhileLoading::start()
}

/// Everything at work.
#[derive(Debug)]
pub struct App {
    running: Running,
    control: Control,
    keeper: Keeper<discovery::Ask>,
    status: Arc<Status>,
    settings: Settings,
    sources: Sources,
    level: Option<Level>,
}

/// Binds every listener, loads the manifests, and only then begins to accept.
///
/// # Errors
/// What stops a start: an address that cannot be bound, a directory that cannot be read.
pub fn start(start: Start) -> anyhow::Result<App> {
    let Start { mut settings, sources, level, lines } = start;
    parts::raise_descriptor_limit();
    let gateway = Gateway::bind(parts::gateway_config(&settings, lines)?)
        .context("gateway.listen and access_log.path say where; give another, or free it")?;
    let table = Arc::new(SharedTable::new());
    let source = discovery::open(&settings)?;
    let status = Status::new(settings.gateway.require_selection, source.kubernetes());
    let status = Arc::new(status);
    let metrics = Arc::new(Metrics::new().into());
    // Where a view of the settings is asked for, the real addresses are what is of use.
    settings.gateway.listen = gateway.addresses().to_vec();

    let servers = control::bind(&settings)?;
    let operators = servers.iter().map(|(_, server)| server.address()).collect();
    let identity = parts::identity(&settings, gateway.addresses(), operators);
    let catalog = Catalog::new(identity, Arc::clone(&table));
    let (names, resolver) = resolver::new(&(&settings.resolver).into());
    let names = Arc::new(names);
    let discovery = Discovery::new(catalog, Arc::clone(&status), Arc::clone(&names));
    let keeper = Keeper::start("discovery", source, discovery)?;
    let parts = control::Parts {
        settings: settings.clone(),
        table: Arc::clone(&table),
        status: Arc::clone(&status),
        metrics: Arc::clone(&metrics),
        questions: keeper.asks(),
        names: Arc::clone(&names),
        level: level.clone(),
    };
    let control = Control::start(parts, servers)?;
    control.resolve(resolver, keeper.asks());
    first_load(&keeper, &names, &status, settings.resolver.start_wait)?;
    let mut running = gateway.start(table).context("a worker thread could not be started")?;
    control.data_plane_runs(&mut running, &metrics, &settings);
    status.accepting();
    let app = App { running, control, keeper, status, settings, sources, level };
    app.announce();
    Ok(app)
}

/// Waits until the manifests are read and in force and, not longer than `patience`, until the host
/// names in them were looked up. What takes long is told once.
fn first_load(
    keeper: &Keeper<discovery::Ask>,
    names: &Names,
    status: &Status,
    patience: Duration,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let mut loaded = keeper.loaded();
        let mut done = std::pin::pin!(loaded.wait_for(|loaded| *loaded));
        let loaded = match tokio::time::timeout(SILENCE, &mut done).await {
            Ok(loaded) => loaded.map(drop),
            Err(_) => {
                let why = status.kubernetes().map(Health::reasons).unwrap_or_default();
                tracing::warn!(?why, "still waiting for the first load");
                done.await.map(drop)
            }
        };
        loaded.context("the manifests could not be loaded")?;
        if tokio::time::timeout(patience, names.answered()).await.is_err() {
            tracing::warn!("not every host name was answered within resolver.start_wait");
        }
        let (done, when_done) = oneshot::channel();
        keeper.asks().ask(discovery::Ask::Flush(done));
        when_done.await.context("the discovery thread ended")
    })
}

impl App {
    /// The addresses of the data plane.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.running.addresses()
    }

    /// Serves until a signal or an admin's command says otherwise, and then leaves well. From here
    /// on `early` no longer listens for signals. Blocks.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub fn run(self, early: WhileLoading) -> anyhow::Result<()> {
        shutdown::serve(self, early)
    }

    /// Ends at once: what is left of connections is reset.
    pub fn stop(self) {
        self.control.stop();
        self.running.end();
        self.keeper.stop();
    }

    fn announce(&self) {
        let drain = &self.settings.drain;
        let state = self.status.snapshot();
        let summary = &state.report.summary;
        tracing::info!(
            listen = ?self.running.addresses(),
            workers = self.running.workers(),
            connections_max = self.running.connections_max(),
            services = summary.services,
            exposed = summary.exposed,
            routes = summary.routes,
            endpoints = summary.endpoints,
            problems = state.problems.len(),
            "gateway accepts connections"
        );
        let longest = drain.pause + drain.deadline + shutdown::MARGIN;
        tracing::info!(
            pause = ?drain.pause,
            deadline = ?drain.deadline,
            "SIGTERM ends within {longest:?}: set terminationGracePeriodSeconds above that"
        );
        for reason in self.status.readiness().reasons {
            tracing::warn!(%reason, "not ready");
        }
    }
}
