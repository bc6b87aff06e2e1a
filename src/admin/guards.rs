//! Who may ask: commands only by POST, from where they may come, and not through a browser that
//! follows somebody else's page.
//!
//! Must not know: what a path does.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::Request,
    http::{Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Lets commands through that come from this machine.
pub(super) async fn only_from_loopback(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    if peer.is_some_and(|peer| peer.0.ip().to_canonical().is_loopback()) {
        return next.run(request).await;
    }
    refuse(StatusCode::FORBIDDEN, "only from this machine (loopback)\n")
}

/// On a loopback listener: the Host must be an address or `localhost`. A name that a stranger's
/// DNS points at 127.0.0.1 would let a page in a browser here read what we answer.
pub(super) async fn only_by_loopback_name(request: Request, next: Next) -> Response {
    let host = header_text(&request, header::HOST).map(host_of);
    let by_address = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    match host {
        Some(host) if !by_address(host) && !host.eq_ignore_ascii_case("localhost") => {
            refuse(StatusCode::FORBIDDEN, "ask for localhost or an address, not for a name\n")
        }
        _ => next.run(request).await,
    }
}

/// A browser names the page that a request comes from: for a command it must be our own.
pub(super) async fn only_from_own_page(request: Request, next: Next) -> Response {
    let origin = header_text(&request, header::ORIGIN);
    let host = header_text(&request, header::HOST);
    let own = match origin {
        None => true,
        Some(origin) => origin.strip_prefix("http://").is_some_and(|page| Some(page) == host),
    };
    if own || request.method() != Method::POST {
        return next.run(request).await;
    }
    refuse(StatusCode::FORBIDDEN, "commands are not taken from other sites' pages\n")
}

/// The answer to a command that did not come by POST.
pub(super) async fn post_only(uri: Uri) -> Response {
    let hint = format!(
        "{} changes something and is taken by POST only, such as: curl -X POST http://ADDRESS{}\n",
        uri.path(),
        uri.path()
    );
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], hint).into_response()
}

fn refuse(status: StatusCode, why: &'static str) -> Response {
    (status, why).into_response()
}

fn header_text(request: &Request, name: header::HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}

/// `host:port` without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_the_host() {
        for (authority, host) in [
            ("localhost", "localhost"),
            ("localhost:15000", "localhost"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:15000", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }
}
