//! The relay with what may end it from outside: idle time, age, the end of the sidecar.
//!
//! Must not know: who is connected.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until},
};
use tokio_rustls::TlsStream;

use super::{
    Shared,
    handshake::Cause,
    outcome::{Direction, Outcome},
    relay::{self, Broken, How, Side, Traffic},
    report::Report,
};
use crate::net;

/// Relays to the end, whichever it is. What ends it from outside resets both sides: bytes may be
/// missing.
pub(super) async fn relay(
    shared: &Arc<Shared>,
    direction: Direction,
    plain: &mut TcpStream,
    tls: &mut TlsStream<TcpStream>,
    (idle_timeout, max_duration): (Option<Duration>, Option<Duration>),
    report: &mut Report,
) -> Outcome {
    let traffic = &report.traffic;
    let outcome = tokio::select! {
        biased;
        relayed = relay::relay(plain, tls, traffic) => match relayed {
            Ok(()) => return Outcome::Ok,
            Err(broken) => {
                report.reason = Some(broken.how.to_string());
                if is_late_refusal(&broken, traffic) {
                    shared.counters.of(direction).handshake_failed(Cause::Alert);
                    return Outcome::HandshakeFailed;
                }
                return outcome(direction, &broken);
            }
        },
        () = idle(traffic, idle_timeout) => Outcome::IdleTimeout,
        () = older_than(max_duration) => Outcome::MaxDuration,
        () = told(shared) => Outcome::Drained,
    };
    net::reset_on_close(plain);
    net::reset_on_close(tls.get_ref().0);
    outcome
}

/// Returns when live connections are to be cut.
pub(super) async fn told(shared: &Shared) {
    let mut cut = shared.cut.clone();
    if cut.wait_for(|cut| *cut).await.is_err() {
        std::future::pending().await
    }
}

async fn older_than(age: Option<Duration>) {
    match age {
        Some(age) => sleep(age).await,
        None => std::future::pending().await,
    }
}

/// Returns when nothing has moved for as long. Looks four times as often, which makes an end late
/// by a quarter at most and costs a busy connection nothing.
async fn idle(traffic: &Traffic, timeout: Option<Duration>) {
    let Some(timeout) = timeout else { return std::future::pending().await };
    let (mut seen, mut since) = (traffic.total(), Instant::now());
    loop {
        let next = (since + timeout).min(Instant::now() + timeout / 4);
        sleep_until(next).await;
        let now = traffic.total();
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if Instant::now() >= since + timeout {
            return;
        }
    }
}

/// In TLS 1.3 a client is done before the server has looked at its certificate: an alert instead
/// of the first byte is the server's verdict.
fn is_late_refusal(broken: &Broken, traffic: &Traffic) -> bool {
    let alert = matches!(broken.how, How::Tls(rustls::Error::AlertReceived(_)));
    alert && traffic.from_tls.load(Ordering::Relaxed) == 0
}

fn outcome(direction: Direction, broken: &Broken) -> Outcome {
    match (&broken.how, broken.side, direction) {
        (How::Truncated, ..) => Outcome::Truncated,
        (How::Tls(_), ..) => Outcome::TlsFailed,
        (How::Reset(_), Side::Plain, Direction::Outbound)
        | (How::Reset(_), Side::Tls, Direction::Inbound) => Outcome::DownstreamReset,
        (How::Reset(_), Side::Tls, Direction::Outbound)
        | (How::Reset(_), Side::Plain, Direction::Inbound) => Outcome::UpstreamReset,
    }
}
