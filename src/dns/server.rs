//! The sockets: datagrams, and messages in streams.
//!
//! Must not know: what an answer is made of, where zones come from.
//!
//! One task per UDP socket, one per TCP connection, all on one thread: an answer takes a few
//! microseconds and waits for nothing. A stranger who holds connections open keeps nobody else
//! out: when all places are taken, the one that is silent for longest makes room.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::JoinSet,
    time,
};

use super::{
    metrics::Counters,
    places::{Place, Places},
    wire::{self, Transport},
    zone::Zones,
};

/// A longer datagram is no query of one question: it is cut here and then malformed.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// After an error of accept or receive, so that a lack of descriptors does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// One address, by UDP and TCP.
#[derive(Debug)]
pub(super) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    pub(super) address: SocketAddr,
}

/// What every task of the server holds.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) zones: Arc<ArcSwap<Zones>>,
    pub(super) counters: Counters,
    /// Of every record, in seconds.
    pub(super) ttl: u32,
    /// For the next whole message of a connection, and for the answer to be taken.
    pub(super) tcp_timeout: Duration,
    pub(super) tcp_connections_max: usize,
}

impl Sockets {
    /// Takes the address; port 0 takes a port that is free for both.
    ///
    /// # Errors
    /// When the address cannot be taken.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        // Somebody else may hold the same port for TCP.
        let tries = if address.port() == 0 { 16 } else { 1 };
        let mut failed = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..tries {
            let udp: UdpSocket = open(address, Type::DGRAM, Protocol::UDP)?.into();
            let taken = udp.local_addr()?;
            match open(taken, Type::STREAM, Protocol::TCP) {
                Ok(tcp) => {
                    tcp.listen(128)?;
                    return Ok(Self { udp, tcp: tcp.into(), address: taken });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Serves until dropped. Runs on a tokio runtime.
    ///
    /// # Errors
    /// When the runtime cannot take the sockets.
    pub(super) async fn run(self, shared: Arc<Shared>) -> io::Result<()> {
        let udp = tokio::net::UdpSocket::from_std(self.udp)?;
        let tcp = tokio::net::TcpListener::from_std(self.tcp)?;
        tokio::join!(datagrams(&udp, &shared), connections(&tcp, &shared));
        Ok(())
    }
}

async fn datagrams(socket: &tokio::net::UdpSocket, shared: &Shared) {
    let mut query = vec![0; DATAGRAM_BYTES_MAX];
    let mut reply = Vec::with_capacity(DATAGRAM_BYTES_MAX);
    loop {
        let (length, peer) = match socket.recv_from(&mut query).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "receiving failed");
                time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let query = query.get(..length).unwrap_or_default();
        shared.answer(query, Transport::Udp, &mut reply);
        if !reply.is_empty()
            && let Err(error) = socket.send_to(&reply, peer).await
        {
            tracing::debug!(%peer, %error, "sending failed");
        }
    }
}

async fn connections(listener: &tokio::net::TcpListener, shared: &Arc<Shared>) {
    let mut tasks = JoinSet::new();
    let places = Places::new(shared.tcp_connections_max);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let place = places.take();
        let gauge = Live::new(&shared.counters);
        let shared = Arc::clone(shared);
        tasks.spawn(async move {
            let _gauge = gauge;
            let ended = tokio::select! {
                ended = messages(stream, &shared, &place) => ended,
                () = place.lost() => Err(io::ErrorKind::ConnectionAborted.into()),
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection ended");
            }
        });
    }
}

/// Answers message after message, in order, until the client has no more or is silent too long.
/// What UDP would drop ends the connection: the peer is no DNS client.
async fn messages(mut stream: TcpStream, shared: &Shared, place: &Place) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading);
    let (mut query, mut reply) = (Vec::new(), Vec::new());
    loop {
        match time::timeout(shared.tcp_timeout, read_message(&mut reading, &mut query)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
        place.used();
        shared.answer(&query, Transport::Tcp, &mut reply);
        let Ok(length @ 1..) = u16::try_from(reply.len()) else { return Ok(()) };
        // In one write: in two, it could be two segments.
        reply.splice(..0, length.to_be_bytes());
        time::timeout(shared.tcp_timeout, writing.write_all(&reply)).await??;
    }
}

/// Reads a message with its length before it; false at the end of the stream. Memory follows the
/// bytes that came, not the length that was promised.
async fn read_message(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    message: &mut Vec<u8>,
) -> io::Result<bool> {
    message.clear();
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    };
    let read = stream.take(length.into()).read_to_end(message).await?;
    Ok(read == usize::from(length))
}

impl Shared {
    fn answer(&self, query: &[u8], transport: Transport, reply: &mut Vec<u8>) {
        let outcome = wire::answer(query, transport, &self.zones.load(), self.ttl, reply);
        self.counters.count(transport, outcome);
    }
}

/// Counts one live connection.
struct Live(crate::metrics::Gauge);

impl Live {
    fn new(counters: &Counters) -> Self {
        counters.connections.inc();
        Self(counters.connections.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        // A restart must not wait for connections of its predecessor to be forgotten.
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
