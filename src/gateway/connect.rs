//! Stage 4, connect: pick an endpoint, dial it, try another.
//!
//! `connectTimeout` bounds the stage. A try is cut short only while another candidate is left; the
//! last has the rest of the time. The result of a connect is learned from the first write, so the
//! ClientHello is written here: at once if the kernel takes it, or when it says so. Must not know: what a ClientHello is, or what counts as an answer.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use tokio::{io::Interest, net::TcpStream, time::Instant};

use super::{
    blame::{Blame, Court},
    first_flight::Answer,
    outcome::Outcome,
    report::Report,
    worker::Worker,
};
use crate::{
    net,
    routing::{Endpoint, EndpointSet, Lease, Pick, Route, Tried},
};

/// The endpoints of one connection, each tried once at most.
#[derive(Debug)]
pub(super) struct Dialer {
    route: Arc<Route>,
    set: Arc<EndpointSet>,
    /// One for the connection, not for each try: with two endpoints, tries that took turns would
    /// bring each connection to the same dead one first.
    turn: u64,
    tried: Tried,
    blame: Blame,
    deadline: Instant,
    try_timeout: Duration,
}

/// Why no endpoint was connected. The last try speaks for all.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// What the kernel said.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nobody answered.
    #[error("connect timeout")]
    Timeout,
    /// The endpoint is this gateway.
    #[error("loop: the endpoint is this gateway's own listener")]
    Ourselves,
}

impl Dialer {
    /// Prepares to dial; the connect timeout runs from now.
    pub(super) fn new(worker: &Worker, set: Arc<EndpointSet>, route: Arc<Route>) -> Self {
        let deadline = Instant::now() + set.policy().connect_timeout;
        let try_timeout = worker.config().try_timeout;
        let turn = route.state.next_turn();
        let (tried, blame) = (Tried::new(), Blame::default());
        Self { route, set, turn, tried, blame, deadline, try_timeout }
    }

    /// Takes over what changed while others were tried: an endpoint that was removed meanwhile is
    /// not dialled, since its address may be another pod's by now, and one that joined may be the
    /// only one that is left. Those that were tried stay tried. False when the route is gone.
    fn follow(&mut self, worker: &Worker) -> bool {
        let Some(present) = self.present(worker) else { return false };
        if !Arc::ptr_eq(&present, &self.set) {
            let tried = self.tried.iter().filter_map(|index| self.set.endpoints().get(*index));
            let tried: Vec<SocketAddr> = tried.map(|endpoint| endpoint.address).collect();
            let endpoints = present.endpoints().iter().enumerate();
            let tried = endpoints.filter(|(_, endpoint)| tried.contains(&endpoint.address));
            self.tried = tried.map(|(index, _)| index).collect();
            self.set = present;
        }
        true
    }

    /// The route's endpoints as they are now.
    fn present(&self, worker: &Worker) -> Option<Arc<EndpointSet>> {
        let table = worker.shared().table.load();
        let service = table.service(self.route.service.host.as_str())?;
        let same = |r: &&Arc<Route>| r.port == self.route.port && r.subset == self.route.subset;
        Some(service.routes.iter().find(same)?.endpoints.load_full())
    }

    /// True while there is an endpoint that was not tried.
    fn has_next(&self) -> bool {
        self.tried.len() < self.set.endpoints().len()
    }

    /// True while there is one that was not tried and is no worse than this one: an ejected
    /// endpoint is worth no hurry at one in service.
    pub(super) fn has_better(&self, endpoint: &Endpoint) -> bool {
        let now = Instant::now().into_std();
        self.set.has_good(&self.tried, now)
            || (self.has_next() && endpoint.state.ejection().is_some())
    }

    /// Takes note of how an endpoint answered the hello, for those who come after.
    pub(super) fn judge(&mut self, worker: &Worker, endpoint: &Arc<Endpoint>, answer: &Answer) {
        let mut blame = std::mem::take(&mut self.blame);
        match answer {
            Answer::Failed(failure, _) => blame.failed(self.court(worker), endpoint, *failure),
            Answer::Settled(_) if answer.is_server_hello() => {
                blame.answered(self.court(worker), endpoint);
            }
            Answer::Settled(_) | Answer::Ended(_) => {}
        }
        self.blame = blame;
    }

    fn court<'a>(&'a self, worker: &'a Worker) -> Court<'a> {
        let metrics = &*worker.shared().metrics;
        Court { set: &self.set, route: &self.route, metrics }
    }

    /// True when the hello may be sent to another endpoint: there is one, and the route's budget
    /// has a replay left, which is then taken.
    pub(super) fn may_replay(&mut self, worker: &Worker) -> bool {
        if !self.follow(worker) || !self.has_next() {
            return false;
        }
        let granted = self.route.state.may_replay(Instant::now().into_std());
        if !granted {
            worker.shared().metrics.replay_denied();
        }
        granted
    }

    /// Connects to an endpoint that was not tried yet and writes what it takes of `first`, at
    /// once: one that is up, if there is any.
    ///
    /// # Errors
    /// The outcome, when none could be connected to in time, or the client reset meanwhile.
    pub(super) async fn dial(
        &mut self,
        worker: &Worker,
        report: &mut Report,
        first: &[u8],
    ) -> Result<Dialled, Outcome> {
        let mut last = Outcome::NoEndpoint;
        loop {
            let source = report.connection().peer().ip();
            let Some(lease) = self.pick(worker, source) else { return Err(last) };
            report.trying(lease.endpoint());
            let patience = if self.has_better(lease.endpoint()) {
                self.deadline.min(Instant::now() + self.try_timeout)
            } else {
                self.deadline
            };
            let connected = tokio::select! {
                biased;
                connected = connect(worker, lease.endpoint().address, patience, first) => connected,
                () = client_reset(&report.connection().downstream) => {
                    return Err(Outcome::ClientGoneBeforeConnect);
                }
            };
            worker.shared().metrics.dialled(connected.is_ok());
            match connected {
                Ok((stream, written)) => return Ok(Dialled { stream, lease, written }),
                Err(error) => {
                    self.court(worker).unreachable(lease.endpoint(), &error);
                    report.try_failed(&error);
                    last = match error {
                        DialError::Timeout => Outcome::ConnectTimeout,
                        DialError::Io(_) | DialError::Ourselves => Outcome::ConnectFailed,
                    };
                }
            }
            if Instant::now() >= self.deadline {
                return Err(Outcome::ConnectTimeout);
            }
        }
    }

    fn pick(&mut self, worker: &Worker, source: IpAddr) -> Option<Lease> {
        // The first pick follows the look at the set; the next may come seconds later.
        let is_first = self.tried.is_empty();
        if !is_first && !self.follow(worker) {
            return None;
        }
        let (tried, turn, random) = (&*self.tried, self.turn, worker.random());
        let now = Instant::now().into_std();
        let pick = Pick { tried, turn, random, source: Some(source), now };
        let (index, lease) = self.set.pick(pick)?;
        self.tried.push(index);
        Some(lease)
    }
}

/// A connected endpoint.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) stream: TcpStream,
    pub(super) lease: Lease,
    /// How much of the first bytes was written.
    pub(super) written: usize,
}

/// Dials one address and writes the first bytes to it.
pub(super) async fn connect(
    worker: &Worker,
    address: SocketAddr,
    patience: Instant,
    first: &[u8],
) -> Result<(TcpStream, usize), DialError> {
    if is_ours(&worker.shared().own_listeners, address) {
        return Err(DialError::Ourselves);
    }
    let (stream, written) = net::start_connect(address, first)?;
    if written > 0 {
        return Ok((stream, written));
    }
    let write = poll_fn(|context| net::poll_send(&stream, context, first));
    match tokio::time::timeout_at(patience, write).await {
        Ok(written) => {
            let written = written?;
            Ok((stream, written))
        }
        // Behind a standstill a timer may be heard before the sockets are, of which the reactor
        // takes 1,024 at a time.
        Err(_) => match net::send_now(&stream, first) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(DialError::Timeout),
            written => Ok((stream, written?)),
        },
    }
}

/// True when a connection to `address` would come back to us.
fn is_ours(listeners: &[SocketAddr], address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    // Only an address of this host can be bound to. That is asked for our own ports alone.
    let is_local = || UdpSocket::bind((ip, 0)).is_ok();
    listeners.iter().filter(|own| own.port() == address.port()).any(|own| {
        let own = own.ip().to_canonical();
        own == ip || ip.is_unspecified() || (own.is_unspecified() && is_local())
    })
}

/// Returns when the client has reset. Further bytes and a FIN are left for later: they do not end
/// a dial, and a reset may still come behind them, which is why this does not wait for readable.
async fn client_reset(stream: &TcpStream) {
    // It fails only when the runtime is going away.
    let _ = stream.ready(Interest::ERROR).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listener: &str, address: &str, expected: bool) {
        let listeners = [listener.parse().expect("a listener")];
        let found = is_ours(&listeners, address.parse().expect("an address"));
        assert_eq!(found, expected, "{address} while listening on {listener}");
    }

    #[test]
    fn a_listener_on_every_address_is_reached_by_every_address_of_the_host() {
        check("0.0.0.0:15443", "127.0.0.1:15443", true);
        // The kernel dials it from 127.0.0.1, so that the local address tells nothing.
        check("0.0.0.0:15443", "127.0.0.2:15443", true);
        check("[::]:15443", "127.0.0.1:15443", true);
        check("[::]:15443", "[::1]:15443", true);
        check("0.0.0.0:15443", "192.0.2.1:15443", false);
        check("0.0.0.0:15443", "127.0.0.1:15444", false);
    }

    #[test]
    fn a_listener_on_one_address_is_reached_by_that_one() {
        check("127.0.0.1:15443", "127.0.0.1:15443", true);
        check("127.0.0.1:15443", "[::ffff:127.0.0.1]:15443", true);
        check("127.0.0.1:15443", "127.0.0.2:15443", false);
        check("127.0.0.1:15443", "0.0.0.0:15443", true);
    }
}
