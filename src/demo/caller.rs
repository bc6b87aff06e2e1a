//! An ordinary client: asks DNS for a name, connects, speaks in the clear.
//!
//! Must not know: sidecars, gateways, TLS.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::Name,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

/// A call may take this long before it counts as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The client, with the search list of a pod of namespace `ns1`.
#[derive(Debug)]
pub struct Caller {
    resolver: TokioResolver,
}

impl Caller {
    /// Asks this DNS server, under `global` and `ns1.global` for a name that is not whole.
    ///
    /// # Errors
    /// Never, as it stands; the resolver might.
    pub fn new(dns: SocketAddr) -> anyhow::Result<Self> {
        let mut udp = ConnectionConfig::udp();
        udp.port = dns.port();
        let server = NameServerConfig::new(dns.ip(), true, vec![udp]);
        let search = ["global.", "ns1.global."].map(Name::from_ascii);
        let search = search.into_iter().collect::<Result<_, _>>()?;
        let config = ResolverConfig::from_parts(None, search, vec![server]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().cache_size = 0;
        builder.options_mut().ndots = 5;
        Ok(Self { resolver: builder.build()? })
    }

    /// The address of a name, whole or short.
    ///
    /// # Errors
    /// What the DNS server says instead.
    pub async fn resolve(&self, name: &str) -> anyhow::Result<IpAddr> {
        let found = self.resolver.lookup_ip(name).await?;
        found.iter().next().with_context(|| format!("{name} has no address"))
    }

    /// `GET /` over HTTP; gives the body.
    ///
    /// # Errors
    /// Whatever a client would say: no such name, refused, closed without an answer.
    pub async fn get(&self, host: &str, port: u16) -> anyhow::Result<String> {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        let exchange = async {
            let mut stream = TcpStream::connect((self.resolve(host).await?, port)).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_end(&mut answer).await?;
            anyhow::Ok(())
        };
        timeout(CALL_TIMEOUT, exchange).await.context("no answer in time")??;
        ensure!(!answer.is_empty(), "closed without an answer");
        let answer = String::from_utf8(answer).context("an answer that is not text")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{}", head.lines().next().unwrap_or_default());
        Ok(body.to_owned())
    }

    /// Says a line over TCP; gives the one that comes back.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn say(&self, host: &str, port: u16, line: &str) -> anyhow::Result<String> {
        let mut reply = String::new();
        let exchange = async {
            let mut stream =
                BufReader::new(TcpStream::connect((self.resolve(host).await?, port)).await?);
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            stream.read_line(&mut reply).await?;
            anyhow::Ok(())
        };
        timeout(CALL_TIMEOUT, exchange).await.context("no answer in time")??;
        ensure!(!reply.is_empty(), "closed without an answer");
        Ok(reply.trim_end().to_owned())
    }
}

/// The value of a line `key: value`.
#[must_use]
pub fn field<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}
