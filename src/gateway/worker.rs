//! One worker thread: its runtime, scratch buffer, pipes, live connections and clock.
//!
//! Nothing here is shared with another worker but by [`Shared`]. Must not know: what happens to a
//! connection after it was handed to its task.

use std::{
    cell::{Cell, RefCell, RefMut},
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    runtime::{Builder, LocalOptions},
    sync::mpsc,
};

use super::{
    Config,
    access_log::AccessLog,
    connection,
    failures::Failures,
    health,
    leave::{
        self,
        census::{self, Census},
    },
    listener::{self, Admission},
    loops::Waiting,
    metrics::Metrics,
    outcome::Outcome,
    pressure::{Pressure, is_crowded},
    quiet::Window,
    registry::{Connection, Registry, Signal},
    relay::pipes::{PipeBudget, PipePool},
    report::Report,
    silent::{self, Silent},
    sources::Sources,
    sweep,
    view::{self, ConnectionView},
    watchdog,
};
use crate::routing::SharedTable;

/// The worker says that it lives, and looks at its clock, this often.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// When a drain is over, what is left has so many looks, so far apart, to be cut between an answer
/// and the next request: half a second. Requests that are shorter are all answered.
const LAST_LOOKS: u32 = 50;
const LOOK: Duration = Duration::from_millis(10);
/// One read takes at most so much. 64 KiB is what a pipe and a GRO packet hold.
const SCRATCH_BYTES: usize = 64 * 1024;

/// What all workers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) table: Arc<SharedTable>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) log: AccessLog,
    pub(super) failures: Failures,
    pub(super) admission: Arc<Admission>,
    pub(super) pressure: Pressure,
    /// Where sources are limited.
    pub(super) sources: Option<Arc<Sources>>,
    pub(super) pipes: Arc<PipeBudget>,
    pub(super) waiting: Arc<Waiting>,
    /// Our own listeners, which are nobody's endpoints.
    pub(super) own_listeners: Vec<SocketAddr>,
    pub(super) peers: Vec<Peer>,
    pub(super) started: Instant,
    /// Set when the listeners are being closed.
    pub(super) stopping: AtomicBool,
}

impl Shared {
    /// Connections that may be without a whole ClientHello, over all workers.
    pub(super) fn hellos_max(&self) -> usize {
        let three_quarters = (self.admission.max() - self.admission.max() / 4).max(1);
        self.config.limits.hellos_max.unwrap_or(three_quarters)
    }

    /// Connections or memory are running out.
    pub(super) fn is_pressed(&self) -> bool {
        let admission = &self.admission;
        self.pressure.memory_is_short() || is_crowded(admission.live(), admission.max())
    }
}

/// What others know of a worker.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    /// Live connections, handed over ones included.
    pub(super) live: AtomicUsize,
    /// Of these, without a whole ClientHello at its last tick.
    pub(super) silent: AtomicUsize,
    /// Milliseconds since the start, at its last tick.
    pub(super) tick_ms: AtomicU64,
    pub(super) stopped: AtomicBool,
}

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve this socket, which another thread accepted.
    Adopt(std::net::TcpStream, SocketAddr),
    /// Stop accepting; the sender is dropped when the last waiting socket was taken.
    StopAccepting(tokio::sync::oneshot::Sender<()>),
    /// End connections at quiet moments over so long a time.
    Drain { length: Duration, cuts: bool },
    /// Describe the live connections.
    List(tokio::sync::oneshot::Sender<Vec<ConnectionView>>),
    /// End every connection and then the thread.
    Quit,
}

/// One worker, on its own thread.
#[derive(Debug)]
pub(super) struct Worker {
    index: usize,
    shared: Arc<Shared>,
    scratch: RefCell<Box<[u8]>>,
    pipes: Rc<PipePool>,
    splice_unsupported: Cell<bool>,
    registry: Registry,
    now: Cell<Instant>,
    random: Cell<u64>,
    rounds: sweep::Rounds,
    draining: Cell<Option<Window>>,
    census: Census,
    silent: Silent,
}

impl Worker {
    /// Runs a worker on this thread until it is told to quit. Tells first whether it has what it
    /// runs on: that belongs to the thread that makes it, and a failure still ends the start.
    pub(super) fn run(
        started: std::sync::mpsc::Sender<io::Result<()>>,
        shared: Arc<Shared>,
        index: usize,
        listeners: Vec<Arc<TcpListener>>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) {
        let mut builder = Builder::new_current_thread();
        let runtime = match builder.enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        let _ = started.send(Ok(()));
        drop(started);
        let pipes = Rc::new(PipePool::new(Arc::clone(&shared.pipes)));
        let seed = ahash::RandomState::new().hash_one(index);
        let worker = Rc::new(Self {
            index,
            shared,
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            pipes,
            splice_unsupported: Cell::new(false),
            registry: Registry::default(),
            now: Cell::new(Instant::now()),
            random: Cell::new(seed | 1),
            rounds: sweep::Rounds::new(Instant::now()),
            draining: Cell::new(None),
            census: Census::new(Instant::now()),
            silent: Silent::default(),
        });
        runtime.block_on(worker.serve(listeners, commands));
    }

    async fn serve(
        self: Rc<Self>,
        listeners: Vec<Arc<TcpListener>>,
        mut commands: mpsc::UnboundedReceiver<Command>,
    ) {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut accepting = tokio::task::JoinSet::new();
        for socket in listeners {
            let worker = Rc::clone(&self);
            accepting.spawn_local(listener::accept_all(worker, socket, stopped.clone()));
        }
        if let (0, Some(interval)) = (self.index, self.config().check_interval) {
            tokio::task::spawn_local(health::check_for_ever(Rc::clone(&self), interval));
        }
        tokio::task::spawn_local(silent::end_late(Rc::clone(&self)));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = tick.tick() => self.tick(),
                command = commands.recv() => match command {
                    Some(Command::Adopt(stream, peer)) => self.adopt(stream, peer),
                    Some(Command::StopAccepting(done)) => {
                        let _ = stop.send(true);
                        while accepting.join_next().await.is_some() {}
                        drop(done);
                    }
                    Some(Command::Drain { length, cuts }) => {
                        self.draining.set(Some(Window { begun: Instant::now(), length, cuts }));
                    }
                    Some(Command::List(reply)) => {
                        let _ = reply.send(self.list());
                    }
                    Some(Command::Quit) | None => break,
                },
            }
        }
        self.end_all().await;
        self.me().stopped.store(true, Ordering::Release);
    }

    fn tick(&self) {
        let now = Instant::now();
        self.now.set(now);
        let since = now.duration_since(self.shared.started);
        let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.me().tick_ms.store(ms.max(1), Ordering::Relaxed);
        sweep::sweep(self, &self.rounds);
        silent::relieve(self);
        self.me().silent.store(self.silent.len(), Ordering::Relaxed);
        match self.draining.get() {
            Some(window) => leave::drain(self, window, TICK),
            None => census::look(self, &self.census),
        }
    }

    /// Ends all and gives their tasks a moment to pass the end on.
    async fn end_all(&self) {
        // Its time is over: nobody is in a greater hurry than half a second.
        if self.draining.get().is_some_and(|window| window.is_over(Instant::now() + TICK)) {
            for _ in 0..LAST_LOOKS {
                if self.registry.len() == 0 {
                    return;
                }
                leave::cut_resting(self);
                tokio::time::sleep(LOOK).await;
            }
        }
        self.registry.each(|_, c| c.signal(Signal::Cut(Outcome::Drained)));
        for _ in 0..20 {
            if self.registry.len() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Those that no endpoint answered yet: a FIN could be taken for an answer. Whoever was
        // told of an end already may still be reading it.
        self.registry.each(|_, c| {
            if !c.has_ended() {
                crate::net::reset_on_close(&c.downstream);
            }
        });
    }

    /// Takes a fresh socket: serves it here, or hands it to a worker that has clearly fewer.
    pub(super) fn take(self: &Rc<Self>, stream: std::net::TcpStream, peer: SocketAddr) {
        match self.lighter_peer() {
            None => {
                self.me().live.fetch_add(1, Ordering::Relaxed);
                self.adopt(stream, peer);
            }
            Some(other) => {
                other.live.fetch_add(1, Ordering::Relaxed);
                self.shared.metrics.handed_over();
                // Fails only when that worker is gone, and then so is the process.
                let _ = other.commands.send(Command::Adopt(stream, peer));
            }
        }
    }

    /// Another worker with at least 10 % and 4 connections fewer than this one. Below that a hand
    /// over costs more than the imbalance. One that is stuck takes nothing, and so has the fewest.
    fn lighter_peer(&self) -> Option<&Peer> {
        if self.shared.peers.len() < 2 {
            return None;
        }
        let mine = self.me().live.load(Ordering::Relaxed);
        let peers = self.shared.peers.iter().enumerate();
        let running = peers.filter(|(index, _)| !watchdog::is_stuck(&self.shared, *index));
        let lightest = running.map(|(_, peer)| peer).min_by_key(|p| p.live.load(Ordering::Relaxed));
        let lightest = lightest?;
        let least = lightest.live.load(Ordering::Relaxed);
        (mine > least + least / 10 + 4).then_some(lightest)
    }

    fn adopt(self: &Rc<Self>, stream: std::net::TcpStream, peer: SocketAddr) {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "socket could not be registered; it is closed");
                self.shared.metrics.accept_failed();
                self.me().live.fetch_sub(1, Ordering::Relaxed);
                self.shared.admission.leave();
                return;
            }
        };
        let accepted = Instant::now();
        let report = Report::open(self, Connection::new(stream, peer, accepted));
        tokio::task::spawn_local(connection::run(report));
    }

    fn list(&self) -> Vec<ConnectionView> {
        let mut list = Vec::with_capacity(self.registry.len());
        self.registry
            .each(|key, connection| list.push(view::describe(self.index, key, connection)));
        list
    }

    fn me(&self) -> &Peer {
        &self.shared.peers[self.index]
    }

    /// One connection fewer. Called by the report guard.
    pub(super) fn leave(&self) {
        self.me().live.fetch_sub(1, Ordering::Relaxed);
        self.shared.admission.leave_at_last();
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Those of its connections that have sent no whole ClientHello yet.
    pub(super) fn silent(&self) -> &Silent {
        &self.silent
    }

    /// This worker's part of the limit on them.
    pub(super) fn hellos_max(&self) -> usize {
        self.shared.hellos_max().div_ceil(self.shared.peers.len().max(1))
    }

    /// The time of the last tick: right to a tenth of a second, and free.
    pub(super) fn now(&self) -> Instant {
        self.now.get()
    }

    /// The one buffer that every read of this thread goes through. Never held across an await.
    pub(super) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    pub(super) fn pipes(&self) -> &Rc<PipePool> {
        &self.pipes
    }

    pub(super) fn splice_unsupported(&self) -> bool {
        self.splice_unsupported.get()
    }

    /// Copies from now on. Said once for each worker.
    pub(super) fn note_splice_unsupported(&self, error: &io::Error) {
        if !self.splice_unsupported.replace(true) {
            tracing::warn!(%error, "splice cannot be had; bytes are copied");
            self.shared.metrics.splice_fallback();
        }
    }

    /// A pseudo-random number, uniform over all of u64 (xorshift64*), for picking endpoints.
    pub(super) fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
