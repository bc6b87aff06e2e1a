//! Accepts in the place of a worker that is stuck.
//!
//! With `SO_REUSEPORT` the kernel chooses a listener for each new connection, and would go on
//! choosing that of a worker that never comes back to it. Runs on the control thread. Must not
//! know: what workers do with a socket.

use std::{
    net::TcpListener,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::worker::{Command, Shared};
use crate::net;

/// A worker ticks every 100 ms; one that has not for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// From one backlog at one look.
const BATCH: usize = 256;

/// Looks at every worker until dropped.
pub(super) async fn watch(shared: Arc<Shared>, listeners: Vec<Vec<Weak<TcpListener>>>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        for (index, of_worker) in listeners.iter().enumerate() {
            if !is_stuck(&shared, index) {
                continue;
            }
            let sockets = of_worker.iter().filter_map(Weak::upgrade);
            for socket in sockets.filter(|s| is_readable(s)) {
                rescue(&shared, index, &socket);
            }
        }
    }
}

/// Whether a worker has not said for long that it lives.
pub(super) fn is_stuck(shared: &Shared, index: usize) -> bool {
    let Some(peer) = shared.peers.get(index) else { return false };
    let tick = peer.tick_ms.load(Ordering::Relaxed);
    let now = u64::try_from(shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let since = Duration::from_millis(now.saturating_sub(tick));
    tick > 0 && since > STUCK_AFTER && !peer.stopped.load(Ordering::Acquire)
}

fn is_readable(socket: &TcpListener) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
}

/// Hands what waits there to the others in turn.
fn rescue(shared: &Shared, stuck: usize, socket: &TcpListener) {
    let others: Vec<_> =
        (0..shared.peers.len()).filter(|i| *i != stuck && !is_stuck(shared, *i)).collect();
    for i in others.iter().cycle().take(BATCH.min(others.len() * BATCH)) {
        let Some(peer) = shared.peers.get(*i) else { return };
        if !shared.admission.enter() {
            return;
        }
        let Ok((stream, from)) = net::accept(socket) else {
            shared.admission.leave();
            return;
        };
        peer.live.fetch_add(1, Ordering::Relaxed);
        let _ = peer.commands.send(Command::Adopt(stream, from));
    }
}
