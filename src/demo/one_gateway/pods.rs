//! The pods of the demo: small HTTP servers on loopback that say who they are and who asked.
//!
//! Each stands for a pod *with* its sidecar: it demands a client certificate. One has no sidecar
//! and counts who reaches it. Must not know: the gateway, the manifests.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::certs::verify;

/// What one pod is called and where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodName {
    /// `metadata.name`.
    pub name: &'static str,
    /// Label `version`; empty when it has none.
    pub version: &'static str,
    /// `status.podIP`.
    pub ip: Ipv4Addr,
}

/// The pods of service `bar`, as in the manifests.
pub const BAR: [PodName; 3] =
    [pod("bar-v1-a", "v1", 11), pod("bar-v1-b", "v1", 12), pod("bar-v2-a", "v2", 13)];
/// The pod of a service that is not exported.
pub const SECRET: PodName = pod("secret-a", "", 14);
/// The pod without a sidecar.
pub const PLAIN: PodName = pod("plain-a", "", 15);

/// The port in the manifests.
pub const PORT: u16 = 28080;

/// Connections to a pod end after this, whatever they are doing.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
const HEAD_BYTES_MAX: usize = 16 << 10;
const BODY_BYTES_MAX: u64 = 16 << 20;

const fn pod(name: &'static str, version: &'static str, last: u8) -> PodName {
    PodName { name, version, ip: Ipv4Addr::new(127, 20, 0, last) }
}

/// The running pods; dropping them stops them.
#[derive(Debug)]
pub struct Pods {
    port: u16,
    plain_connections: Arc<AtomicUsize>,
    _servers: JoinSet<()>,
}

impl Pods {
    /// Starts all pods on one port: [`PORT`], or any other that is free on all their addresses.
    pub async fn start(bar: Arc<ServerConfig>, secret: Arc<ServerConfig>) -> anyhow::Result<Self> {
        let (port, listeners) = bind_all(&[&BAR[..], &[SECRET, PLAIN]].concat()).await?;
        let plain_connections = Arc::new(AtomicUsize::new(0));
        let mut servers = JoinSet::new();
        for (pod, listener) in listeners {
            if pod == PLAIN {
                servers.spawn(serve_plain(listener, plain_connections.clone()));
            } else {
                let tls = if pod == SECRET { &secret } else { &bar };
                servers.spawn(serve(listener, pod, tls.clone()));
            }
        }
        Ok(Self { port, plain_connections, _servers: servers })
    }

    /// The port that all pods listen on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a pod listens.
    #[must_use]
    pub fn address(&self, pod: PodName) -> SocketAddr {
        (pod.ip, self.port).into()
    }

    /// How many connections the pod without a sidecar has seen.
    #[must_use]
    pub fn plain_connections(&self) -> usize {
        self.plain_connections.load(Ordering::Relaxed)
    }
}

async fn bind_all(pods: &[PodName]) -> anyhow::Result<(u16, Vec<(PodName, TcpListener)>)> {
    let mut wanted = PORT;
    // A port that is free on the first address is mostly free on the others too.
    for _ in 0..10 {
        match try_bind(pods, wanted).await {
            Ok(bound) => return Ok(bound),
            Err((_, error)) if error.kind() == io::ErrorKind::AddrInUse => wanted = 0,
            Err((ip, error)) => {
                return Err(error).with_context(|| cannot_listen(ip));
            }
        }
    }
    anyhow::bail!("no port is free on all of 127.20.0.11 to 127.20.0.15: stop what holds them")
}

async fn try_bind(
    pods: &[PodName],
    wanted: u16,
) -> Result<(u16, Vec<(PodName, TcpListener)>), (IpAddr, io::Error)> {
    let mut port = wanted;
    let mut listeners = Vec::new();
    for pod in pods {
        let failed = |error| (IpAddr::V4(pod.ip), error);
        let listener = TcpListener::bind((pod.ip, port)).await.map_err(failed)?;
        port = listener.local_addr().map_err(failed)?.port();
        listeners.push((*pod, listener));
    }
    Ok((port, listeners))
}

fn cannot_listen(ip: IpAddr) -> String {
    format!(
        "a pod of the demo cannot listen on {ip}: Linux has all of 127.0.0.0/8 on loopback; on \
         another system give lo0 the aliases 127.20.0.11 to 127.20.0.15"
    )
}

async fn serve(listener: TcpListener, pod: PodName, tls: Arc<ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        let Some(tcp) = accept(&listener, &mut connections).await else { continue };
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // What goes wrong here is the caller's to see: it got an alert, or no answer.
            let _ = timeout(CONNECTION_TIMEOUT, async {
                match acceptor.accept(tcp).into_fallible().await {
                    Ok(tls) => answer(tls, pod).await,
                    Err((_, tcp)) => leave(tcp).await,
                }
            })
            .await;
        });
    }
}

async fn serve_plain(listener: TcpListener, seen: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    loop {
        let Some(mut tcp) = accept(&listener, &mut connections).await else { continue };
        seen.fetch_add(1, Ordering::Relaxed);
        connections.spawn(async move {
            let text = http_answer("pod: plain-a\nno certificate was asked for\n".as_bytes());
            let _ = timeout(CONNECTION_TIMEOUT, tcp.write_all(&text)).await;
        });
    }
}

/// The next connection; `None` after an error, which a moment later may be gone.
async fn accept(listener: &TcpListener, connections: &mut JoinSet<()>) -> Option<TcpStream> {
    while connections.try_join_next().is_some() {}
    match listener.accept().await {
        Ok((tcp, _)) => Some(tcp),
        Err(_) => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// One request, one answer. `POST /echo` reads to the end of the stream (so the caller must close
/// its half) and gives everything back; anything else is told who asked whom.
async fn answer(mut tls: TlsStream<TcpStream>, pod: PodName) -> io::Result<()> {
    let (head, mut body) = read_head(&mut tls).await?;
    let request = head.lines().next().unwrap_or_default();
    let answer = if request.starts_with("POST /echo ") {
        (&mut tls).take(BODY_BYTES_MAX).read_to_end(&mut body).await?;
        http_answer(&body)
    } else {
        http_answer(introduction(request, pod, &tls).as_bytes())
    };
    tls.write_all(&answer).await?;
    leave(tls).await
}

/// Closes our half, and the rest only when the peer has closed its own: closing with its bytes
/// unread would send a reset, which can overtake the answer or the alert.
async fn leave(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = stream.take(BODY_BYTES_MAX);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

fn introduction(request: &str, pod: PodName, tls: &TlsStream<TcpStream>) -> String {
    let session = tls.get_ref().1;
    let caller = session.peer_certificates().and_then(<[_]>::first).map(verify::identities);
    let caller = caller.and_then(|ids| ids.into_iter().next());
    let alpn = session.alpn_protocol().map(String::from_utf8_lossy);
    format!(
        "pod: {}\nversion: {}\nrequest: {request}\nserver name: {}\nalpn: {}\ncaller: {}\n",
        pod.name,
        pod.version,
        session.server_name().unwrap_or("none"),
        alpn.as_deref().unwrap_or("none"),
        caller.as_deref().unwrap_or("none"),
    )
}

/// The request's head, and what followed it in the same reads.
async fn read_head(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), body));
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if from.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn http_answer(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
