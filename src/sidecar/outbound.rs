//! The path of an outbound connection, and every branch of it.
//!
//! Must not know: how an endpoint is reached, how bytes move.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{io::Interest, net::TcpStream};
use tokio_rustls::TlsStream;

use super::{
    Shared,
    dial::{self, Dialled},
    ending,
    outcome::{Direction, Outcome},
    plan::Target,
    report::Report,
};
use crate::{
    net,
    routing::{Keepalive, Miss},
};

/// Towards a peer that sits behind a network, where no DestinationRule says otherwise; as the
/// gateway has it.
pub(super) const KEEPALIVE: Keepalive = Keepalive {
    time: Some(Duration::from_secs(30)),
    interval: Some(Duration::from_secs(10)),
    probes: Some(3),
};

/// Serves one connection of the application to the end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    target: Arc<Target>,
    mut application: TcpStream,
    addresses: (SocketAddr, SocketAddr),
) {
    let way = shared.counters.of(Direction::Outbound);
    let mut report = Report::new(Direction::Outbound, way, addresses, Some(Arc::clone(&target)));
    let outcome = run(&shared, &target, &mut application, &mut report).await;
    if outcome != Outcome::Ok {
        // Also where nothing was connected: a FIN would say that all is well.
        net::reset_on_close(&application);
    }
    report.end(outcome);
}

async fn run(
    shared: &Arc<Shared>,
    target: &Target,
    application: &mut TcpStream,
    report: &mut Report,
) -> Outcome {
    let table = shared.table.load();
    let route = match table.find(&target.key()) {
        Ok(route) => Arc::clone(route),
        Err(miss) => {
            report.reason = Some(why(miss).to_owned());
            return Outcome::NoRoute;
        }
    };
    // A table may be large: nobody holds an old one for the life of a connection.
    drop(table);
    let set = route.endpoints.load_full();
    let Some(_permit) = route.state.admit(set.policy().max_connections) else {
        return Outcome::ConnectionLimit;
    };
    let dialled = tokio::select! {
        biased;
        dialled = dial::dial(shared, target, (&route, &set), report) => dialled,
        () = reset(application) => Err(Outcome::DownstreamReset),
        () = ending::told(shared) => Err(Outcome::Drained),
    };
    let Dialled { stream, lease: _lease } = match dialled {
        Ok(dialled) => dialled,
        Err(outcome) => return outcome,
    };
    let keepalive = set.policy().keepalive.unwrap_or(KEEPALIVE);
    // It fails on a connection that is gone, which the relay finds out too.
    let _ = net::set_keepalive(stream.get_ref().0, keepalive);
    let limits = (set.policy().idle_timeout, set.policy().max_duration);
    let mut tls = TlsStream::Client(stream);
    ending::relay(shared, Direction::Outbound, application, &mut tls, limits, report).await
}

fn why(miss: Miss) -> &'static str {
    match miss {
        Miss::UnknownHost | Miss::NotExported => "the ServiceEntry is gone",
        Miss::NoSuchPort => "the ServiceEntry has no such port any more",
        Miss::NoSuchSubset => "no DestinationRule has the subset",
    }
}

/// Returns when the application has reset. Its bytes and its FIN are left for later.
async fn reset(application: &TcpStream) {
    // It fails only when the runtime is going away.
    let _ = application.ready(Interest::ERROR).await;
}
