//! The spine: one function runs the stages in order and holds every branch of the path.
//!
//! Read this to know what happens to a connection. Each stage is a leaf in a file named after it:
//! it takes what it needs and gives a value, or the outcome that ends the connection. Must not
//! know: how any stage does its work.

use std::{rc::Rc, sync::Arc};

use super::{
    blame::Court,
    client_hello::{ClientHello, ServerName},
    connect::Dialer,
    first_flight::{Answer, Failure, FirstFlight},
    handshake::HandshakeEnd,
    outcome::{Outcome, Stage},
    refuse::{alert_for, dismiss, refuse},
    registry::{Connection, Limits},
    relay::{
        self, Opening, Relay, RelayEnd,
        machine::{Loss, Side},
    },
    report::Report,
    route::route,
    sniff::{Sniffed, sniff},
    source_policy::judge,
    worker::Worker,
};
use crate::routing::{Fault, Route, SubsetKey};

/// Serves one accepted connection to its end.
///
/// Each part is boxed, and freed before the next begins: a silent client does not pay for the stages
/// to come, nor an idle connection for those behind it. An `async fn` would hold `report` twice, and
/// those 8 bytes would double the task (the runtime rounds it up to 128).
#[allow(clippy::manual_async_fn)]
pub(super) fn run(mut report: Box<Report>) -> impl Future<Output = ()> {
    async move {
        let heard = Box::pin(sniff(&mut report)).await;
        let Some(relay) = Box::pin(reach(&mut report, heard)).await else { return };
        let end = relay.await;
        Box::pin(close(&mut report, end)).await;
    }
}

/// Everything between the hello and the relay; `None` when it does not come to one, and then all is
/// said.
async fn reach(report: &mut Report, heard: Result<Sniffed, Outcome>) -> Option<Box<Relay>> {
    let worker = Rc::clone(report.worker());
    let opened = match heard {
        Ok(sniffed) => open(&worker, report, sniffed).await,
        Err(outcome) => Err(outcome.into()),
    };
    match opened {
        Ok(opening) => Some(Box::new(Relay::new(worker, Rc::clone(report.connection()), opening))),
        Err(end) => {
            turn_away(&worker, report, end).await;
            None
        }
    }
}

/// How a connection ends that never reached the relay.
enum End {
    /// By a word of ours and a FIN.
    Refused(Outcome),
    /// By the word of an endpoint that is gone, and a FIN.
    Alerted(Vec<u8>),
    /// By RST: as the endpoint ended it, or under pressure.
    Reset(Outcome),
}

impl From<Outcome> for End {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::ShedMemory | Outcome::ShedHellos | Outcome::ShedSource | Outcome::Drained => {
                Self::Reset(outcome)
            }
            outcome => Self::Refused(outcome),
        }
    }
}

/// Route, connect, first flight.
async fn open(worker: &Worker, report: &mut Report, sniffed: Sniffed) -> Result<Opening, End> {
    let connection = Rc::clone(report.connection());
    let Sniffed { hello, wire } = sniffed;
    connection.enter(Stage::Route);
    let found = find(worker, &connection, &hello);
    let mut flight = FirstFlight::new(wire, &hello);
    let random = hello.random;
    report.heard(*hello);
    let route = found?;
    let set = route.endpoints.load_full();
    let permit = route.state.admit(set.policy().max_connections).ok_or(Outcome::ConnectionLimit)?;
    report.routed(&route, permit);
    connection.set_limits(limits(worker, set.policy()));
    if worker.config().endpoints_are_gateways {
        let waiting = &worker.shared().waiting;
        report.waits(waiting.enter(random).ok_or(Outcome::Loop)?);
    }
    let dialer = &mut Dialer::new(worker, set, route);

    loop {
        connection.enter(Stage::Connect);
        let dialled = match dialer.dial(worker, report, flight.wire()).await {
            Ok(dialled) => dialled,
            // There is no other to ask after all, so the alert that we have is the answer.
            Err(outcome) => return Err(flight.take_alert().map_or(outcome.into(), End::Alerted)),
        };
        connection.enter(Stage::FirstFlight);
        let (upstream, endpoint) = (dialled.stream, dialled.lease.endpoint());
        // With the alert of another in hand a silent endpoint is not waited for without end.
        let leaves = flight.asked_another() || dialer.has_better(endpoint);
        let patience = worker.config().server_hello_timeout.filter(|_| leaves);
        let answer = flight.run(worker, &connection, &upstream, dialled.written, patience).await;
        dialer.judge(worker, endpoint, &answer);
        connection.handshake.set(answer.handshake_end());
        match answer {
            Answer::Failed(failure, opening) if may_replay(worker, &flight, failure, dialer) => {
                report.try_failed(failure.as_str());
                worker.shared().metrics.replayed();
                if failure == Failure::Alert {
                    flight.ask_another(opening.to_downstream);
                }
            }
            Answer::Failed(failure @ (Failure::Reset | Failure::Closed | Failure::Silent), _)
                if flight.asked_another() || failure == Failure::Reset =>
            {
                report.try_failed(failure.as_str());
                // The alert of the endpoint before says more than no word.
                let reset = End::Reset(Outcome::FirstFlightFailed);
                return Err(flight.take_alert().map_or(reset, End::Alerted));
            }
            // A FIN or an alert that nobody else could better is relayed like any other word.
            Answer::Failed(_, opening) | Answer::Settled(opening) => {
                if !opening.to_downstream.is_empty() {
                    report.answered();
                }
                report.settled(upstream, dialled.lease);
                connection.enter(Stage::Relay);
                return Ok(opening);
            }
            Answer::Ended(outcome) => {
                // The client reset before anything was settled: the endpoint is told by RST.
                crate::net::reset_on_close(&upstream);
                return Err(End::Reset(outcome));
            }
        }
    }
}

/// The route that the hello asks for, if its source may have it.
fn find(
    worker: &Worker,
    connection: &Connection,
    hello: &ClientHello,
) -> Result<Arc<Route>, Outcome> {
    let route = route(hello, &worker.config().alpn, &worker.shared().table.load())?;
    check_source(worker, connection, hello, &route)?;
    Ok(route)
}

/// The operator's rules about sources, which know a service by the name asked for and its own.
fn check_source(
    worker: &Worker,
    connection: &Connection,
    hello: &ClientHello,
    route: &Route,
) -> Result<(), Outcome> {
    let rules = &worker.config().limits.policy;
    let asked = match &hello.server_name {
        Some(ServerName::Name(name)) if !rules.is_empty() => SubsetKey::parse(name),
        _ => None,
    };
    let Some(asked) = asked else { return Ok(()) };
    let hosts = [asked.host, route.service.host.as_str()];
    let judged = judge(rules, connection.peer().ip(), hosts);
    if judged.dry_denied {
        worker.shared().metrics.policy_dry_run();
    }
    if judged.denied { Err(Outcome::SourceDenied) } else { Ok(()) }
}

/// Another endpoint is asked while there is one and the route's budget allows; because of an alert
/// only once, since the client may well deserve it.
fn may_replay(
    worker: &Worker,
    flight: &FirstFlight,
    failure: Failure,
    dialer: &mut Dialer,
) -> bool {
    let asked_enough = failure == Failure::Alert && flight.asked_another();
    !asked_enough && dialer.may_replay(worker)
}

/// Records how a connection ended that never reached the relay, and ends it so.
async fn turn_away(worker: &Worker, report: &mut Report, end: End) {
    let connection = Rc::clone(report.connection());
    match end {
        End::Refused(outcome) => {
            report.end(outcome);
            let word = alert_for(outcome).map(|alert| alert.record().to_vec());
            refuse(worker, &connection.downstream, word).await;
        }
        End::Alerted(alert) => {
            let description = alert.get(6).copied().unwrap_or_default();
            connection.handshake.set(Some(HandshakeEnd::Alert(Side::Upstream, description)));
            // The endpoint's word, unlike one of ours.
            connection.note_delivered(Side::Downstream, alert.len());
            report.end(Outcome::FirstFlightFailed);
            refuse(worker, &connection.downstream, Some(alert)).await;
        }
        End::Reset(outcome) => {
            report.end(outcome);
            crate::net::reset_on_close(&connection.downstream);
        }
    }
}

/// Ends both sockets as the relay ended, and records it.
async fn close(report: &mut Report, end: RelayEnd) {
    let worker = &*Rc::clone(report.worker());
    let connection = Rc::clone(report.connection());
    let Some(served) = connection.served.get() else { return };
    let (downstream, upstream) = (&connection.downstream, &served.upstream);
    let is_reset = matches!(end, RelayEnd::Lost(Side::Upstream, Loss::Reset, _));
    if let (true, (_, 0), Some(route)) = (is_reset, connection.bytes(), connection.route.get()) {
        // A reset before any byte counts wherever it comes.
        let (set, metrics) = (route.endpoints.load(), &*worker.shared().metrics);
        Court { set: &set, route, metrics }.count(served.lease.endpoint(), Fault::Connection);
    }
    let outcome = match end {
        RelayEnd::Finished => Outcome::Finished,
        RelayEnd::Lost(side, loss, linger) => {
            let (lost, other) = match side {
                Side::Downstream => (downstream, upstream),
                Side::Upstream => (upstream, downstream),
            };
            relay::pass_reset(other, lost, linger).await;
            match (side, loss) {
                (Side::Downstream, Loss::Reset) => Outcome::ClientReset,
                (Side::Downstream, Loss::Vanished) => Outcome::ClientVanished,
                (Side::Upstream, Loss::Reset) => Outcome::EndpointReset,
                (Side::Upstream, Loss::Vanished) => Outcome::EndpointVanished,
            }
        }
        RelayEnd::Cut(outcome) => {
            // Cut in the middle: a FIN would say that this was all.
            crate::net::reset_on_close(downstream);
            crate::net::reset_on_close(upstream);
            outcome
        }
        RelayEnd::Ordered(outcome) => {
            // FIN to both; what was in flight is in the kernel's hands.
            let _ = crate::net::shutdown_write(downstream);
            let _ = crate::net::shutdown_write(upstream);
            outcome
        }
        RelayEnd::Left(outcome) => {
            report.end(outcome);
            dismiss(worker, downstream, upstream).await;
            outcome
        }
    };
    report.end(outcome);
}

/// Times of the route's policy, or else of the settings.
fn limits(worker: &Worker, policy: &crate::routing::Policy) -> Limits {
    let relay = &worker.config().relay;
    Limits {
        idle_timeout: policy.idle_timeout.or(relay.idle_timeout).filter(|t| !t.is_zero()),
        max_duration: policy.max_duration.or(relay.max_duration).filter(|t| !t.is_zero()),
        upstream_keepalive: policy.keepalive,
    }
}
