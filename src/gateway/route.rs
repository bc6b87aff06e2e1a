//! Stage 3, route: the gates in their order, on one snapshot of the table.
//!
//! Form, ALPN, name. Pure but for the table it is given. Must not know: how exposure was decided.

use std::sync::Arc;

use super::{
    client_hello::{Alpn, ClientHello, ServerName},
    outcome::Outcome,
};
use crate::routing::{Miss, Route, RouteTable, SubsetKey};

/// What Istio's gateways demand of the ALPN, so that a plain TLS client cannot reach a sidecar's
/// pass-through port (CVE-2021-31921): `builtAutoPassthroughFilterChains`.
pub const ISTIO_ALPN: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// Finds the route that a ClientHello asks for.
///
/// `alpn` lists what must have been offered, any of them; empty opens the gate.
///
/// # Errors
/// The outcome of the first gate that is closed.
pub(super) fn route(
    hello: &ClientHello,
    alpn: &[Box<[u8]>],
    table: &RouteTable,
) -> Result<Arc<Route>, Outcome> {
    let name = match &hello.server_name {
        None => return Err(Outcome::NoServerName),
        Some(ServerName::BadName(_)) => return Err(Outcome::BadName),
        Some(ServerName::Name(name)) => name,
    };
    let key = SubsetKey::parse(name).ok_or(Outcome::BadName)?;
    if !alpn_is_admitted(&hello.alpn, alpn) {
        return Err(Outcome::AlpnRefused);
    }
    table.find(&key).map(Arc::clone).map_err(|miss| match miss {
        Miss::UnknownHost => Outcome::UnknownName,
        Miss::NotExported => Outcome::NotExported,
        Miss::NoSuchPort => Outcome::NoSuchPort,
        Miss::NoSuchSubset => Outcome::NoSuchSubset,
    })
}

fn alpn_is_admitted(offered: &Alpn, admitted: &[Box<[u8]>]) -> bool {
    admitted.is_empty() || offered.iter().any(|name| admitted.iter().any(|a| &**a == name))
}
