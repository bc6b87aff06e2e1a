//! Asking endpoints for their ServerHello from time to time, so that a bad one is known before a
//! client meets it, and one that is well again returns without a client as its probe.
//!
//! Off unless told. The ClientHello is for the route's own name; the answer is read as far as the
//! first record's type, and the connection reset. What counts against whom is as for clients. Must
//! not know: what ejection leads to.

use std::{
    future::poll_fn, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, sync::atomic::Ordering,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    ISTIO_ALPN,
    blame::{Blame, Court},
    client_hello::compose,
    connect::{DialError, connect},
    first_flight::Failure,
    handshake,
    worker::{TICK, Worker},
};
use crate::{net, routing::Route};

/// Routes that are asked at once; of each one endpoint at a time.
const AT_ONCE: usize = 16;

/// Asks all endpoints, then rests for `interval`, and so on until the gateway stops accepting.
pub(super) async fn check_for_ever(worker: Rc<Worker>, interval: Duration) {
    while !worker.shared().stopping.load(Ordering::Acquire) {
        sleep(interval).await;
        let mut asked = JoinSet::new();
        for route in whole_ports(&worker) {
            if asked.len() >= AT_ONCE {
                asked.join_next().await;
            }
            asked.spawn_local(check(Rc::clone(&worker), route));
        }
        while asked.join_next().await.is_some() {}
    }
}

/// The routes that clients can reach. A subset's endpoints are endpoints of the whole port.
fn whole_ports(worker: &Worker) -> Vec<Arc<Route>> {
    let table = worker.shared().table.load();
    let exposed = table.services().filter(|s| s.exposed || s.exposed_as_alias);
    let routes = exposed.flat_map(|service| &service.routes);
    routes.filter(|route| route.subset.is_empty()).cloned().collect()
}

async fn check(worker: Rc<Worker>, route: Arc<Route>) {
    let set = route.endpoints.load_full();
    let metrics = &*worker.shared().metrics;
    let court = Court { set: &set, route: &route, metrics };
    let Some(hello) = compose(&route.to_string(), alpn(&worker), random(&worker)) else { return };
    let (mut blame, mut answered) = (Blame::default(), Vec::new());
    for endpoint in set.endpoints() {
        // Left alone means by us too. When its time is over, this is its probe.
        let left_alone = endpoint.state.is_ejected(std::time::Instant::now());
        if left_alone || set.policy().outlier.is_none() {
            continue;
        }
        let answer = ask(&worker, endpoint.address, &hello).await;
        metrics.checked(matches!(answer, Ok(None)));
        match answer {
            Ok(None) => answered.push(endpoint),
            Ok(Some(failure)) => blame.failed(court, endpoint, failure),
            Err(error) => court.unreachable(endpoint, &error),
        }
    }
    // Whoever answered, before or after, speaks for the hello.
    answered.into_iter().for_each(|endpoint| blame.answered(court, endpoint));
}

/// Connects, says the hello and waits for the first byte of the answer. `None` is a ServerHello.
async fn ask(
    worker: &Worker,
    address: SocketAddr,
    hello: &[u8],
) -> Result<Option<Failure>, DialError> {
    let patience = worker.config().server_hello_timeout.unwrap_or(handshake::PATIENCE);
    let patience = Instant::now() + patience;
    let (stream, mut written) = connect(worker, address, patience, hello).await?;
    net::reset_on_close(&stream);
    let mut talk = pin!(async {
        while let Some(rest) = hello.get(written..).filter(|rest| !rest.is_empty()) {
            written += poll_fn(|context| net::poll_send(&stream, context, rest)).await?;
        }
        let mut head = [0; 2];
        let read = poll_fn(|context| net::poll_recv(&stream, context, &mut head)).await?;
        Ok::<_, std::io::Error>(head.get(..read).map(<[u8]>::to_vec).unwrap_or_default())
    });
    let answer = match timeout_at(patience, &mut talk).await {
        // It came while we stood still: the reactor is about to tell.
        Err(_) if net::has_unread(&stream) => timeout(TICK, talk).await,
        answer => answer,
    };
    Ok(match answer {
        Err(_) => Some(Failure::Silent),
        Ok(Err(_)) => Some(Failure::Reset),
        Ok(Ok(head)) => match head[..] {
            [] => Some(Failure::Closed),
            [22, ..] => None,
            _ => Some(Failure::Alert),
        },
    })
}

/// One that passes a gateway of our kind too.
fn alpn(worker: &Worker) -> &[u8] {
    worker.config().alpn.first().map_or(ISTIO_ALPN[0].as_bytes(), |alpn| alpn)
}

fn random(worker: &Worker) -> [u8; 32] {
    let mut bytes = [0; 32];
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&worker.random().to_le_bytes());
    }
    bytes
}
