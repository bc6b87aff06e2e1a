//! The pods of a load test: they greet, then answer requests of any length with answers of any
//! length.
//!
//! Must not know: which scenario is played, or what stands between them and the load.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinSet, LocalSet},
};
use tokio_rustls::TlsAcceptor;

use super::{
    exchange::{Exchange, GREETING, HEAD_BYTES},
    link::Link,
};

/// A ClientHello in one record is no longer than this.
const HELLO_BYTES_MAX: usize = 5 + (1 << 14);
/// Tries to find one port for all addresses.
const PORT_TRIES: usize = 20;

/// Bound pods that do not accept yet.
#[derive(Debug)]
pub struct Pods {
    listeners: Vec<std::net::TcpListener>,
    tls: Option<Arc<ServerConfig>>,
}

impl Pods {
    /// Binds. Addresses with port 0 share one free port. With `tls` the pods demand mutual TLS;
    /// without, they read past the ClientHello and speak in clear.
    ///
    /// # Errors
    /// When an address cannot be had.
    pub fn bind(listen: &[SocketAddr], tls: Option<Arc<ServerConfig>>) -> anyhow::Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            match bind_all(listen) {
                Ok(listeners) => return Ok(Self { listeners, tls }),
                Err((_, e)) if e.kind() == io::ErrorKind::AddrInUse && tries < PORT_TRIES => {}
                Err((at, e)) => {
                    return Err(e).with_context(|| format!("a pod cannot listen on {at}"));
                }
            }
        }
    }

    /// Where they listen, with the real ports.
    ///
    /// # Errors
    /// What `getsockname(2)` says.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(std::net::TcpListener::local_addr).collect()
    }

    /// Serves on this thread until the process ends.
    ///
    /// # Errors
    /// When the runtime cannot be had.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tls = self.tls.map(TlsAcceptor::from);
        LocalSet::new().block_on(&runtime, async {
            let mut pods = JoinSet::new();
            for listener in self.listeners {
                let listener = TcpListener::from_std(listener)?;
                pods.spawn_local(accept_for_ever(listener, tls.clone()));
            }
            while pods.join_next().await.is_some() {}
            Ok(())
        })
    }
}

type Bound = Result<Vec<std::net::TcpListener>, (SocketAddr, io::Error)>;

fn bind_all(listen: &[SocketAddr]) -> Bound {
    let mut port = 0;
    let mut listeners = Vec::new();
    for address in listen {
        let mut address = *address;
        if address.port() == 0 {
            address.set_port(port);
        }
        let listener = bind_one(address).map_err(|e| (address, e))?;
        port = listener.local_addr().map_err(|e| (address, e))?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

fn bind_one(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

async fn accept_for_ever(listener: TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => {
                let tls = tls.clone();
                // What goes wrong here is the load's to see and count.
                tokio::task::spawn_local(async move { play(tcp, tls).await.ok() });
            }
            // Out of descriptors: the backlog holds until there are some.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn play(tcp: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<()> {
    let mut link = match tls {
        Some(acceptor) => Link::Tls(Box::new(acceptor.accept(tcp).await?.into())),
        None => {
            let mut link = Link::Clear(tcp);
            read_hello(&mut link).await?;
            link
        }
    };
    link.write(&GREETING).await?;
    while let Some((exchange, came)) = next_request(&mut link).await? {
        let rest = exchange.up.checked_sub(came).ok_or(io::ErrorKind::InvalidData)?;
        link.discard(rest).await?;
        link.fill(exchange.down).await?;
    }
    link.finish().await
}

/// Reads past one record. The load says nothing more before it was greeted.
async fn read_hello(link: &mut Link) -> io::Result<()> {
    let (mut length, mut read) = ([0; 2], 0);
    loop {
        let see = |bytes: &[u8]| {
            for (at, byte) in bytes.iter().enumerate() {
                if let 3 | 4 = read + at {
                    length[read + at - 3] = *byte;
                }
            }
        };
        match link.read(HELLO_BYTES_MAX as u64, see).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => read += n,
        }
        let whole = 5 + usize::from(u16::from_be_bytes(length));
        if read >= 5 && read >= whole {
            return if read == whole { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) };
        }
    }
}

/// The next request's head, and how much of the request came with it; `None` at the end.
async fn next_request(link: &mut Link) -> io::Result<Option<(Exchange, u64)>> {
    let (mut head, mut read) = ([0; HEAD_BYTES], 0);
    while read < HEAD_BYTES {
        let see = |bytes: &[u8]| {
            for (to, from) in head.iter_mut().skip(read).zip(bytes) {
                *to = *from;
            }
        };
        match link.read(u64::MAX, see).await? {
            0 if read == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => read += n,
        }
    }
    let exchange = Exchange::parse(head).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some((exchange, read as u64)))
}
