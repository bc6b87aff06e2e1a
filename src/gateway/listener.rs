//! Stage 1, accept: sockets off the backlog, as many as there is room for.
//!
//! Must not know: what a connection is for.

use std::{
    io,
    net::TcpListener,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::worker::Worker;
use crate::net;

/// A client that sends nothing reaches us this much later; everybody else costs one wake less
/// (measured: 10 % of a short connection).
pub(super) const DEFER_ACCEPT_SECONDS: i32 = 1;
/// After so many, other tasks get a turn.
const BATCH: usize = 64;
/// How long a full gateway waits before it looks again. The backlog holds meanwhile.
const FULL_PAUSE: Duration = Duration::from_millis(20);
/// When leaving: accept until nothing came for this long, at most [`LAST_MAX`].
const LAST_QUIET: Duration = Duration::from_millis(200);
const LAST_MAX: Duration = Duration::from_secs(1);

/// The limit on live connections, over all workers. Two descriptors each.
#[derive(Debug)]
pub(super) struct Admission {
    live: AtomicUsize,
    /// Of these, such as have ended and only wait for their peer to close.
    lingering: AtomicUsize,
    max: usize,
}

impl Admission {
    pub(super) fn new(max: usize) -> Self {
        Self { live: AtomicUsize::new(0), lingering: AtomicUsize::new(0), max }
    }

    /// Room for one more? Then it is taken.
    pub(super) fn enter(&self) -> bool {
        if self.live.fetch_add(1, Ordering::Relaxed) < self.max {
            return true;
        }
        self.leave();
        false
    }

    pub(super) fn leave(&self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    /// One has ended, and holds its descriptors a little longer.
    pub(super) fn linger(&self) {
        self.lingering.fetch_add(1, Ordering::Relaxed);
    }

    /// One that lingered is gone, descriptors and all.
    pub(super) fn leave_at_last(&self) {
        self.lingering.fetch_sub(1, Ordering::Relaxed);
        self.leave();
    }

    /// Those that hold descriptors.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Those that have not ended.
    pub(super) fn active(&self) -> usize {
        self.live().saturating_sub(self.lingering.load(Ordering::Relaxed))
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }
}

/// Accepts on one listener until told to stop, and then what still waits there.
pub(super) async fn accept_all(
    worker: Rc<Worker>,
    listener: Arc<TcpListener>,
    mut stop: watch::Receiver<bool>,
) {
    let socket = match net::sys::watch_listener(listener) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "listener could not be registered; it accepts nothing");
            return;
        }
    };
    let mut pause = Backoff::new();
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            ready = socket.readable() => {
                let Ok(mut ready) = ready else { return };
                match accept_batch(&worker, socket.get_ref()) {
                    Batch::Empty => {
                        ready.clear_ready();
                        pause.reset();
                    }
                    Batch::More => tokio::task::yield_now().await,
                    Batch::Full => tokio::time::sleep(FULL_PAUSE).await,
                    Batch::Failed(error) => {
                        tracing::warn!(%error, "accept failed; pausing");
                        worker.shared().metrics.accept_failed();
                        tokio::time::sleep(pause.next()).await;
                    }
                }
            }
        }
    }
    accept_the_last(&worker, socket.get_ref()).await;
}

enum Batch {
    Empty,
    More,
    Full,
    Failed(io::Error),
}

fn accept_batch(worker: &Rc<Worker>, listener: &TcpListener) -> Batch {
    for _ in 0..BATCH {
        if !worker.shared().admission.enter() {
            worker.shared().metrics.accept_paused();
            return Batch::Full;
        }
        match net::accept(listener) {
            Ok((stream, peer)) => worker.take(stream, peer),
            Err(error) => {
                worker.shared().admission.leave();
                match error.kind() {
                    io::ErrorKind::WouldBlock => return Batch::Empty,
                    _ if is_of_the_peer(&error) => {}
                    _ => return Batch::Failed(error),
                }
            }
        }
    }
    Batch::More
}

/// Errors of the one connection that was to be accepted: the next may be well. accept(2) passes
/// errors of the network on, and firewalls give `EPERM`.
fn is_of_the_peer(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let Some(errno) = Errno::from_io_error(error) else { return false };
    matches!(
        errno,
        Errno::CONNABORTED
            | Errno::PROTO
            | Errno::PERM
            | Errno::INTR
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
    )
}

/// Closing a listener resets the clients that wait in it and those that are about to. So nobody
/// else is let in, the deferring of silent ones is cleared, and all that come out are served.
///
/// Where newcomers cannot be kept out, and keep coming, those who connect in the last round trip
/// are reset: that is for the load balancer to prevent, in the pause before.
async fn accept_the_last(worker: &Rc<Worker>, listener: &TcpListener) {
    if let Err(error) = net::drop_newcomers(listener) {
        tracing::debug!(%error, "no filter could be attached: clients that come now may be reset");
    }
    if let Err(error) = net::sys::set_defer_accept(listener, 0) {
        tracing::debug!(%error, "TCP_DEFER_ACCEPT could not be cleared");
    }
    let begun = Instant::now();
    let mut quiet_since = begun;
    while begun.elapsed() < LAST_MAX && quiet_since.elapsed() < LAST_QUIET {
        let before = worker.shared().metrics.accepted();
        let _ = accept_batch(worker, listener);
        if worker.shared().metrics.accepted() != before {
            quiet_since = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Those of the last pause.
    while matches!(accept_batch(worker, listener), Batch::More) {}
}

/// 10, 20, 40, 80, 100, 100 … ms.
struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_millis(100);

    fn new() -> Self {
        Self(Self::FIRST)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (self.0 * 2).min(Self::MAX);
        pause
    }

    fn reset(&mut self) {
        self.0 = Self::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admission_is_full_at_its_limit_and_has_room_again() {
        let admission = Admission::new(2);
        assert!(admission.enter() && admission.enter() && !admission.enter());
        admission.leave();
        assert!(admission.enter());
        assert_eq!((admission.live(), admission.active()), (2, 2));
        admission.linger();
        assert!(!admission.enter(), "descriptors are held still");
        assert_eq!((admission.live(), admission.active()), (2, 1));
        admission.leave_at_last();
        assert_eq!((admission.live(), admission.active()), (1, 1));
    }

    #[test]
    fn the_pause_after_a_failed_accept_grows_to_a_tenth_of_a_second() {
        let mut pause = Backoff::new();
        let pauses: Vec<u128> = (0..6).map(|_| pause.next().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 100, 100]);
        pause.reset();
        assert_eq!(pause.next().as_millis(), 10);
    }
}
