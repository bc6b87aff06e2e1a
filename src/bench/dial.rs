//! Opens connections of the load: from many addresses, for many names, up to the pod's greeting.
//!
//! Must not know: what the connections are for.

use std::{
    cell::Cell,
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::{net::TcpSocket, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    Mode, Plan,
    exchange::{Exchange, GREETING_BYTES},
    hello::{Hello, server_name},
    link::Link,
    material::Material,
};

/// Why an operation failed: a few words, the same for the same cause, so that they can be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

/// Opens connections, each with the next name from the next source.
#[derive(Debug)]
pub struct Dialer {
    target: SocketAddr,
    sources: Vec<IpAddr>,
    speech: Speech,
    dialed: Cell<usize>,
    timeout: Duration,
}

enum Speech {
    Opaque(Vec<Hello>),
    Mutual(TlsConnector, Vec<ServerName<'static>>),
}

impl Dialer {
    /// Prepares the hellos of all names, or the certificates.
    ///
    /// # Errors
    /// When a name cannot be a server name, or the certificates cannot be read.
    pub fn new(plan: &Plan) -> anyhow::Result<Self> {
        let speech = match plan.mode {
            Mode::Opaque => {
                let hellos = plan.names.iter().map(|name| Hello::new(name));
                Speech::Opaque(hellos.collect::<Result<_, _>>()?)
            }
            Mode::Mutual => {
                let dir = plan.certs.as_deref().unwrap_or(Path::new("."));
                let names = plan.names.iter().map(|name| server_name(name));
                let names = names.collect::<Result<_, _>>()?;
                Speech::Mutual(Material::read(dir)?.caller()?.into(), names)
            }
        };
        let (sources, dialed) = (plan.sources.clone(), Cell::new(0));
        Ok(Self { target: plan.target, sources, speech, dialed, timeout: plan.timeout })
    }

    /// Connects, says the hello (or does the whole handshake) and reads the greeting.
    ///
    /// # Errors
    /// The cause, in words to be counted.
    pub async fn dial(&self) -> Result<Link, Failure> {
        timeout(self.timeout, self.dial_slowly())
            .await
            .map_err(|_| Failure::timeout("connecting"))?
    }

    async fn dial_slowly(&self) -> Result<Link, Failure> {
        let turn = self.dialed.get();
        self.dialed.set(turn.wrapping_add(1));
        let tcp = self.connect(turn).await.map_err(|e| Failure::of("connect", &e))?;
        let mut link = match &self.speech {
            Speech::Opaque(hellos) => {
                let mut link = Link::Clear(tcp);
                let hello = hellos[turn % hellos.len()].bytes();
                link.write(&hello).await.map_err(|e| Failure::of("hello", &e))?;
                link
            }
            Speech::Mutual(connector, names) => {
                let name = names[turn % names.len()].clone();
                let connected = connector.connect(name, tcp).await;
                let tls = connected.map_err(|e| Failure::of("handshake", &e))?;
                Link::Tls(Box::new(tls.into()))
            }
        };
        read_greeting(&mut link).await?;
        Ok(link)
    }

    async fn connect(&self, turn: usize) -> io::Result<tokio::net::TcpStream> {
        let v4 = self.target.is_ipv4();
        let socket = if v4 { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_nodelay(true)?;
        if !self.sources.is_empty() {
            socket.bind((self.sources[turn % self.sources.len()], 0).into())?;
        }
        socket.connect(self.target).await
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// The cause, in words to be counted.
    pub async fn exchange(&self, link: &mut Link, exchange: Exchange) -> Result<(), Failure> {
        let work = async {
            link.write_request(exchange).await?;
            link.discard(exchange.down).await
        };
        match timeout(self.timeout, work).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(Failure::of("request", &e)),
            Err(_) => Err(Failure::timeout("request")),
        }
    }

    /// Closes our half, then waits for the other end to close its own. Nothing is owed to us by
    /// then, so a gateway that drops the pod's last words in TLS (nginx does) has lost nothing.
    ///
    /// # Errors
    /// The cause, in words to be counted.
    pub async fn close(&self, mut link: Link) -> Result<(), Failure> {
        let work = async {
            link.finish().await?;
            link.drain().await
        };
        match timeout(self.timeout, work).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Failure("close: bytes that nobody asked for".to_owned())),
            Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Ok(Err(e)) => Err(Failure::of("close", &e)),
            Err(_) => Err(Failure::timeout("close")),
        }
    }
}

/// Reads the pod's first words; a gateway that refuses says so in their place.
async fn read_greeting(link: &mut Link) -> Result<(), Failure> {
    let (mut first, mut read) = ([0; 7], 0);
    while read < GREETING_BYTES {
        let see = |bytes: &[u8]| {
            for (to, from) in first.iter_mut().skip(read).zip(bytes) {
                *to = *from;
            }
        };
        let got = link.read((GREETING_BYTES - read) as u64, see).await;
        match got.map_err(|e| Failure::of("greeting", &e))? {
            0 => break,
            n => read += n,
        }
    }
    match first {
        [22, 3, 3, 0, 95, ..] if read == GREETING_BYTES => Ok(()),
        [21, 3, _, 0, 2, _, alert] => Err(Failure(format!("refused with TLS alert {alert}"))),
        _ if read == 0 => Err(Failure("greeting: closed without a byte".to_owned())),
        _ if read < GREETING_BYTES => Err(Failure("greeting: cut off".to_owned())),
        _ => Err(Failure("greeting: not one of `bench serve`".to_owned())),
    }
}

impl Failure {
    fn timeout(stage: &str) -> Self {
        Self(format!("{stage}: timed out"))
    }

    fn of(stage: &str, error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, error.raw_os_error()) {
            (Some(rustls::Error::AlertReceived(alert)), _) => {
                Self(format!("refused with TLS alert {}", u8::from(*alert)))
            }
            (Some(other), _) => Self(format!("{stage}: {other}")),
            (None, Some(code)) => {
                let words = io::Error::from_raw_os_error(code).to_string();
                let words = words.split(" (os error").next().unwrap_or_default().to_lowercase();
                Self(format!("{stage}: {words}"))
            }
            (None, None) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self(format!("{stage}: cut off"))
            }
            (None, None) => Self(format!("{stage}: {error}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opaque(hellos) => write!(f, "opaque, {} names", hellos.len()),
            Self::Mutual(_, names) => write!(f, "mutual, {} names", names.len()),
        }
    }
}
