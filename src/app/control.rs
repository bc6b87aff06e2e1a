//! The control thread: admin, probes, scrapes, and the watchdog of the workers.
//!
//! Must not know: what the views show.

use std::{sync::Arc, thread::JoinHandle};

use anyhow::Context as _;
use tokio::sync::{oneshot, watch};

use super::{
    discovery::Ask,
    memory,
    parts::{self, Shared},
    status::Status,
    views::AppViews,
};
use crate::{
    admin::{Port, Server, Views},
    config::{Settings, types::Listen},
    gateway::{Handle, Running},
    manifests::Asks,
    metrics::Metrics,
    resolver::{Names, Resolver},
    routing::SharedTable,
    telemetry::Level,
};

/// What the control thread shows.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) table: Arc<SharedTable>,
    pub(super) status: Arc<Status>,
    pub(super) metrics: Shared<Metrics>,
    pub(super) questions: Asks<Ask>,
    pub(super) names: Arc<Names>,
    pub(super) level: Option<Level>,
}

/// What an operator asked for over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing yet.
    #[default]
    None,
    /// Drain, and go on running.
    Drain,
    /// Drain, and end.
    Quit,
}

/// The control thread.
#[derive(Debug)]
pub(super) struct Control {
    runtime: tokio::runtime::Handle,
    gateway: watch::Sender<Option<Handle>>,
    orders: watch::Receiver<Order>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts the thread, which serves the operators' ports.
    pub(super) fn start(parts: Parts, servers: Vec<(Port, Server)>) -> anyhow::Result<Self> {
        let addresses: Vec<_> = servers.iter().map(|(port, s)| (*port, s.address())).collect();
        for (port, address) in &addresses {
            tracing::info!(%port, %address, "listening");
        }
        let (gateway, when_running) = watch::channel(None);
        let (ordered, orders) = watch::channel(Order::None);
        let (stop, stopped) = oneshot::channel();
        let views = AppViews::new(parts, when_running, ordered, addresses);
        let views: Arc<dyn Views> = Arc::new(views);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || {
            runtime.block_on(async {
                for (port, server) in servers {
                    let views = Arc::clone(&views);
                    tokio::spawn(async move {
                        if let Err(error) = server.run(port, views).await {
                            tracing::error!(%error, %port, "listener ended");
                        }
                    });
                }
                let _ = stopped.await;
            });
        })?;
        Ok(Self { runtime: handle, gateway, orders, stop, thread })
    }

    /// Looks names up on this thread.
    pub(super) fn resolve(&self, resolver: Resolver, asks: Asks<Ask>) {
        self.runtime.spawn(resolver.run(move |resolved| asks.ask(Ask::Resolved(resolved))));
    }

    /// From here on the data plane is shown, counted and watched.
    pub(super) fn data_plane_runs(
        &self,
        running: &mut Running,
        metrics: &Shared<Metrics>,
        settings: &Settings,
    ) {
        let handle = running.handle();
        let mut registry = metrics.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        handle.register(&mut registry, parts::ourselves(settings));
        drop(registry);
        self.runtime.spawn(memory::watch(settings.limits.clone(), handle.clone()));
        let _ = self.gateway.send(Some(handle));
        self.runtime.spawn(running.watch());
    }

    /// What an operator asked for, as it changes.
    pub(super) fn orders(&self) -> watch::Receiver<Order> {
        self.orders.clone()
    }

    pub(super) fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Binds the operators' ports that are on.
pub(super) fn bind(settings: &Settings) -> anyhow::Result<Vec<(Port, Server)>> {
    let ports = [
        (Port::Admin, "admin.listen", settings.admin.listen),
        (Port::Health, "health.listen", settings.health.listen),
        (Port::Agent, "agent.listen", settings.agent.listen),
        (Port::Metrics, "metrics.listen", settings.metrics.listen),
    ];
    let mut servers = Vec::new();
    for (port, key, listen) in ports {
        let Listen::At(address) = listen else { continue };
        let server = Server::bind(address).with_context(|| {
            format!("cannot listen on {address} ({key}); give another address, or {key}=off")
        })?;
        servers.push((port, server));
    }
    Ok(servers)
}
