//! A listener and its HTTP/1.1 connections, bounded in number, time and bytes.
//!
//! Must not know: which paths exist.
//!
//! A stranger who holds connections open keeps nobody else out: when all places are taken, the
//! oldest connection makes room for the new one.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpStream, task::JoinSet, time};

use super::{Port, Views, guards::Peer, routes};

/// A request's head, in bytes and lines. No path of ours needs a tenth of it.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEAD_LINES_MAX: usize = 64;
/// After an error of accept, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener that does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    pub(super) limits: Limits,
}

/// What a peer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once. Operators, a probe and two scrapers need five.
    pub connections_max: usize,
    /// For a request's head, and between two requests.
    pub head_timeout: Duration,
    /// For an answer that workers are asked for.
    pub answer_timeout: Duration,
    /// For a connection from accept to close, however it is used. Scrapers connect anew.
    pub lifetime_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16,
            head_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(5),
            lifetime_max: Duration::from_secs(60),
        }
    }
}

impl Server {
    /// Takes the address; port 0 takes any free one. `[::]` takes IPv4 too, and is `0.0.0.0` where
    /// the kernel has no IPv6. Needs no runtime.
    ///
    /// # Errors
    /// When the address cannot be taken.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = listen(address).or_else(|error| match address {
            SocketAddr::V6(v6)
                if v6.ip().is_unspecified() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                listen((Ipv4Addr::UNSPECIFIED, v6.port()).into())
            }
            _ => Err(error),
        })?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, limits: Limits::default() })
    }

    /// The address taken, with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped, which closes every connection. Runs on a tokio runtime.
    ///
    /// # Errors
    /// When the runtime cannot take the listener.
    pub async fn run(self, port: Port, views: Arc<dyn Views>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let limits = self.limits;
        let app = routes::App { views, answer_timeout: limits.answer_timeout };
        let loopback = self.address.ip().to_canonical().is_loopback();
        let router = routes::router(port, app, loopback);
        let mut connections = JoinSet::new();
        let mut places = VecDeque::with_capacity(limits.connections_max);
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%port, %error, "accept failed");
                    time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            places.retain(|place: &tokio::task::AbortHandle| !place.is_finished());
            if places.len() >= limits.connections_max
                && let Some(oldest) = places.pop_front()
            {
                oldest.abort();
            }
            places.push_back(connections.spawn(serve(stream, peer, router.clone(), limits)));
        }
    }
}

/// One connection. How it ends is the peer's affair.
async fn serve(stream: TcpStream, peer: SocketAddr, router: Router, limits: Limits) {
    let service = TowerToHyperService::new(router.layer(Extension(Peer(peer))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_LINES_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    match time::timeout(limits.lifetime_max, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "admin connection failed"),
        Err(_) => tracing::debug!(%peer, "admin connection outlived its time"),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(64)?;
    Ok(socket.into())
}
