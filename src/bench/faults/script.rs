//! Scripted ends around a gateway: a client that has said its hello, a pod that is only a listener.
//! Must not know: which gateway, or what the script is for.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use super::front::Front;
use crate::bench::{exchange::GREETING, hello::Hello};

/// What must happen is waited for this long.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const CHUNK: usize = 64 << 10;

/// A pod that this program plays itself.
pub(super) struct Pod {
    listener: TcpListener,
    pub(super) address: SocketAddr,
}

impl Pod {
    pub(super) fn new() -> anyhow::Result<Self> {
        Self::at(Ipv4Addr::new(127, 30, 1, 1).into())
    }

    pub(super) fn at(ip: IpAddr) -> anyhow::Result<Self> {
        let address = SocketAddr::new(ip, 0);
        let listener = TcpListener::bind(address).with_context(|| format!("{ip}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// A connection that waits to be accepted.
    pub(super) fn waiting(&self) -> io::Result<Option<TcpStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Some(stream))
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// How many connections wait; they are ended.
    pub(super) fn refuse_all(&self) -> usize {
        std::iter::from_fn(|| self.waiting().ok().flatten()).count()
    }

    /// Accepts, reads the hello and greets.
    fn greet(&self, until: Instant) -> anyhow::Result<Option<TcpStream>> {
        let mut stream = loop {
            match self.waiting()? {
                Some(stream) => break stream,
                None if Instant::now() > until => return Ok(None),
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        read_record(&mut stream).context("the pod reads the hello")?;
        stream.write_all(&GREETING)?;
        Ok(Some(stream))
    }
}

fn read_record(stream: &mut TcpStream) -> io::Result<()> {
    let mut header = [0; 5];
    stream.read_exact(&mut header)?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut body)
}

/// A connection through a gateway: its client's end and its pod's.
pub(super) type Pair = (TcpStream, TcpStream);

/// Clients of one name.
pub(super) struct Clients {
    target: SocketAddr,
    hello: Hello,
}

impl Clients {
    pub(super) fn of(front: &Front) -> anyhow::Result<Self> {
        Ok(Self { target: front.target, hello: Hello::new(&front.name())? })
    }

    /// The gateway.
    pub(super) fn target(&self) -> SocketAddr {
        self.target
    }

    /// A hello, with a random of its own.
    pub(super) fn hello(&self) -> Vec<u8> {
        self.hello.bytes()
    }

    /// Connects and says this.
    pub(super) fn say(&self, bytes: &[u8]) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&self.target, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(bytes)?;
        Ok(stream)
    }

    /// Connects and says the hello.
    pub(super) fn dial(&self) -> io::Result<TcpStream> {
        self.say(&self.hello())
    }

    /// A whole connection, greeted.
    pub(super) fn pair(&self, pod: &Pod) -> anyhow::Result<Pair> {
        let mut client = self.dial()?;
        let server = pod.greet(Instant::now() + PATIENCE)?.context("no pod is dialled")?;
        client.read_exact(&mut [0; GREETING.len()]).context("the client is greeted")?;
        Ok((client, server))
    }

    /// As many as that.
    pub(super) fn pairs(&self, pod: &Pod, count: usize) -> anyhow::Result<Vec<Pair>> {
        (0..count).map(|_| self.pair(pod)).collect()
    }

    /// A whole connection, or `None` when it is refused; and how long that took.
    pub(super) fn try_pair(&self, pod: &Pod) -> anyhow::Result<(Option<Pair>, Duration)> {
        let begun = Instant::now();
        let mut client = self.dial()?;
        client.set_nonblocking(true)?;
        loop {
            if let Some(server) = pod.greet(begun)? {
                client.set_nonblocking(false)?;
                client.read_exact(&mut [0; GREETING.len()]).context("the client is greeted")?;
                return Ok((Some((client, server)), begun.elapsed()));
            }
            match client.read(&mut [0; 16]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                // An alert, FIN or RST.
                Ok(_) | Err(_) => return Ok((None, begun.elapsed())),
            }
            ensure!(begun.elapsed() < 2 * PATIENCE, "neither served nor refused");
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    Rst,
    /// It has not, in the time given.
    Open,
}

/// Reads to the end: how many bytes came, and what then.
pub(super) fn drain(stream: &mut TcpStream, patience: Duration) -> anyhow::Result<(u64, End)> {
    let (mut chunk, mut heard) = (vec![0; CHUNK], 0);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(patience))?;
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok((heard, End::Fin)),
            Ok(n) => heard += n as u64,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok((heard, End::Rst)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok((heard, End::Open));
            }
            Err(e) => bail!("neither FIN nor RST: {e}"),
        }
    }
}

/// Says as much as the gateway takes until nothing moved for `quiet`.
pub(super) fn fill(stream: &mut TcpStream, quiet: Duration) -> anyhow::Result<u64> {
    stream.set_nonblocking(true)?;
    let (chunk, mut said, mut moved) = (vec![7; CHUNK], 0, Instant::now());
    while moved.elapsed() < quiet {
        match stream.write(&chunk) {
            Ok(n) => (said, moved) = (said + n as u64, Instant::now()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(e) => bail!("it does not take all: {e}"),
        }
        ensure!(said < 1 << 30, "never full: 1 GiB, and nobody reads");
    }
    stream.set_nonblocking(false)?;
    Ok(said)
}

/// Closes by RST.
pub(super) fn reset(stream: TcpStream) -> io::Result<()> {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

/// Ends our half of it; it may be over.
pub(super) fn fin(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
}
