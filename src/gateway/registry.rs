//! A worker's slab of live connections, each reachable: to sweep, list, end.
//!
//! Must not know: how a connection is served; it only holds what others may see of it.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use slab::Slab;
use tokio::net::TcpStream;

use super::{
    handshake::HandshakeEnd,
    metrics::Series,
    outcome::{Outcome, Stage},
    relay::machine::{Loss, Side},
};
use crate::{
    net,
    routing::{Keepalive, Lease, Route},
};

/// One downstream TCP connection and all that is done for it, as seen by its task, the sweep and
/// the views.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) downstream: TcpStream,
    /// Set once, when an endpoint was chosen for good; boxed, since many never come so far.
    pub(super) served: OnceCell<Box<Served>>,
    /// Set once, by the route stage.
    pub(super) route: OnceCell<Arc<Route>>,
    peer: Cell<SocketAddr>,
    pub(super) accepted: Instant,
    stage: Cell<Stage>,
    received: Cell<u64>,
    sent: Cell<u64>,
    spliced: Cell<bool>,
    ended: Cell<bool>,
    /// Whom the last byte was taken from.
    spoke: Cell<Side>,
    /// How its TLS handshake ended, as soon as that is known.
    pub(super) handshake: Cell<Option<HandshakeEnd>>,
    signal: Cell<Option<Signal>>,
    waker: RefCell<Option<Waker>>,
    stuck: Cell<Stuck>,
    /// What the sweep remembers of it from one time to the next.
    pub(super) seen: Cell<Seen>,
    /// Most routes have none.
    limits: OnceCell<Box<Limits>>,
}

/// The endpoint that a connection was given.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) upstream: TcpStream,
    pub(super) lease: Lease,
    /// Where its bytes are counted.
    pub(super) series: Arc<Series>,
}

/// A word from outside to the relay.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    /// End now by FIN, for this reason.
    End(Outcome),
    /// End now by RST, for this reason.
    Cut(Outcome),
    /// End by FIN if this moment is still quiet, for this reason.
    Leave(Outcome),
    /// The sweep found this side gone.
    Lost(Side, Loss),
    /// Look at your sockets yourself: bytes wait to be read, or there is room for some, that you may
    /// not have heard of; or time has passed that matters to you.
    Look,
}

/// What keeps a relay from going on, for the sweep to look at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stuck {
    /// It is to end, and a side is being served its last bytes.
    pub(super) losing: bool,
    /// Nothing is left to do but to wait until a peer has room for its last bytes.
    pub(super) settling: bool,
    /// One direction or both do something else than wait for bytes.
    pub(super) busy: bool,
    /// Nobody reads from that side, be it that its bytes wait to be taken or that its FIN was read:
    /// so nobody would learn of its reset.
    pub(super) downstream_unread: bool,
    pub(super) upstream_unread: bool,
    /// Bytes are held for that side.
    pub(super) downstream_owed: bool,
    pub(super) upstream_owed: bool,
}

/// The sweep's memory of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) bytes: u64,
    pub(super) last_progress: Instant,
    pub(super) keepalive_set: bool,
    pub(super) published: (u64, u64),
    /// Since when downstream and upstream owe an answer, in tenths of a second after accept; 0:
    /// they do not.
    pub(super) owing_since: [u32; 2],
    /// Since when its endpoint is not among its route's any more, where that matters.
    pub(super) endpoint_gone: Option<Instant>,
}

/// Times that end a relay, and the upstream keepalive.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Limits {
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_duration: Option<Duration>,
    pub(super) upstream_keepalive: Option<Keepalive>,
}

impl Connection {
    pub(super) fn new(downstream: TcpStream, peer: SocketAddr, now: Instant) -> Self {
        Self {
            downstream,
            served: OnceCell::new(),
            route: OnceCell::new(),
            peer: Cell::new(peer),
            accepted: now,
            stage: Cell::new(Stage::Sniff),
            received: Cell::new(0),
            sent: Cell::new(0),
            spliced: Cell::new(false),
            ended: Cell::new(false),
            spoke: Cell::new(Side::Downstream),
            handshake: Cell::new(None),
            signal: Cell::new(None),
            waker: RefCell::new(None),
            stuck: Cell::default(),
            seen: Cell::new(Seen {
                bytes: 0,
                last_progress: now,
                keepalive_set: false,
                published: (0, 0),
                owing_since: [0, 0],
                endpoint_gone: None,
            }),
            limits: OnceCell::new(),
        }
    }

    /// Who dialled us; behind a trusted proxy, who dialled that.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer.get()
    }

    /// A trusted proxy named its client.
    pub(super) fn is_for(&self, client: SocketAddr) {
        self.peer.set(client);
    }

    /// Limits of its route, once that is known.
    pub(super) fn limits(&self) -> Limits {
        self.limits.get().map_or_else(Limits::default, |limits| **limits)
    }

    /// Set once, by the route stage.
    pub(super) fn set_limits(&self, limits: Limits) {
        if limits != Limits::default() {
            let _ = self.limits.set(Box::new(limits));
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.set(stage);
    }

    /// Bytes taken from downstream, and bytes delivered to it.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.received.get(), self.sent.get())
    }

    pub(super) fn note_taken(&self, from: Side, n: usize) {
        self.spoke.set(from);
        if from == Side::Downstream {
            self.received.set(self.received.get() + n as u64);
        }
    }

    pub(super) fn note_delivered(&self, to: Side, n: usize) {
        if to == Side::Downstream {
            self.sent.set(self.sent.get() + n as u64);
        }
    }

    pub(super) fn note_spliced(&self, n: usize) {
        if n > 0 {
            self.spliced.set(true);
        }
    }

    /// Whom the last byte was taken from.
    pub(super) fn spoke_last(&self) -> Side {
        self.spoke.get()
    }

    /// True when some of its bytes went by splice.
    pub(super) fn spliced(&self) -> bool {
        self.spliced.get()
    }

    /// Its outcome is recorded; what is left is to wait for the peers to close.
    pub(super) fn note_ended(&self) {
        self.ended.set(true);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    pub(super) fn take_signal(&self) -> Option<Signal> {
        self.signal.take()
    }

    /// Leaves word for the relay and wakes it. An order to end is never overwritten.
    pub(super) fn signal(&self, signal: Signal) {
        match self.signal.get() {
            Some(Signal::End(_) | Signal::Cut(_)) => {}
            Some(_) | None => self.signal.set(Some(signal)),
        }
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The relay sleeps; this wakes it.
    pub(super) fn park(&self, waker: &Waker) {
        let mut parked = self.waker.borrow_mut();
        if !parked.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *parked = Some(waker.clone());
        }
    }

    pub(super) fn stuck(&self) -> Stuck {
        self.stuck.get()
    }

    pub(super) fn set_stuck(&self, stuck: Stuck) {
        self.stuck.set(stuck);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A bug must not look like an orderly end to the peers.
        if std::thread::panicking() {
            net::reset_on_close(&self.downstream);
            if let Some(served) = self.served.get() {
                net::reset_on_close(&served.upstream);
            }
        }
    }
}

/// The live connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Registry {
    slab: RefCell<Slab<Rc<Connection>>>,
}

impl Registry {
    /// Adds a connection; the key takes it out again.
    pub(super) fn insert(&self, connection: Rc<Connection>) -> usize {
        self.slab.borrow_mut().insert(connection)
    }

    pub(super) fn remove(&self, key: usize) {
        drop(self.slab.borrow_mut().try_remove(key));
    }

    pub(super) fn len(&self) -> usize {
        self.slab.borrow().len()
    }

    /// Calls `look` for each. It must not add or remove one.
    pub(super) fn each(&self, mut look: impl FnMut(usize, &Rc<Connection>)) {
        for (key, connection) in self.slab.borrow().iter() {
            look(key, connection);
        }
    }
}
