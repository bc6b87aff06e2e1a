//! A call the way a sidecar makes it: mutual TLS, the service in the server name.
//!
//! Must not know: which answer is right.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{AlertDescription, ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::certs::explain;

/// A call may take this long before it counts as unanswered.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A pod answered.
    Answer(Answer),
    /// TLS was ended with this alert, by the gateway or by the pod.
    Alert(AlertDescription),
    /// Anything else, in words.
    Failed(String),
}

/// What a pod said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The body, as it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a line `key: value`.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&str> {
        let text = std::str::from_utf8(&self.body).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => match answer.field("pod") {
                Some(pod) => f.write_str(pod),
                None => write!(f, "{} bytes", answer.body.len()),
            },
            Self::Alert(alert) => f.write_str(&alert_name(*alert)),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// An alert as the RFCs write it, with its number.
#[must_use]
pub fn alert_name(alert: AlertDescription) -> String {
    let name = match alert {
        AlertDescription::UnrecognisedName => "unrecognized_name",
        AlertDescription::NoApplicationProtocol => "no_application_protocol",
        AlertDescription::InternalError => "internal_error",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::DecodeError => "decode_error",
        AlertDescription::ProtocolVersion => "protocol_version",
        _ => return format!("alert {} ({alert:?})", u8::from(alert)),
    };
    format!("alert {} {name}", u8::from(alert))
}

/// Asks for `/`, in HTTP.
#[must_use]
pub fn get() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nhost: bar.ns2.global\r\nconnection: close\r\n\r\n".to_vec()
}

/// Sends `body` to be sent back once our half of the connection is closed.
#[must_use]
pub fn echo(body: &[u8]) -> Vec<u8> {
    let head = "POST /echo HTTP/1.1\r\nhost: bar.ns2.global\r\nconnection: close\r\n";
    let head = format!("{head}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Connects to `address`, asks for `server_name` (`None`: sends none), sends `request`, closes its
/// half, and reads what comes back.
pub async fn call(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    server_name: Option<&str>,
    request: &[u8],
) -> Seen {
    match timeout(CALL_TIMEOUT, exchange(address, tls, server_name, request)).await {
        Ok(Ok(answer)) => Seen::Answer(answer),
        Ok(Err(seen)) => seen,
        Err(_) => Seen::Failed(format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
    }
}

async fn exchange(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    server_name: Option<&str>,
    request: &[u8],
) -> Result<Answer, Seen> {
    let mut config = tls.clone();
    // Without a name rustls still wants one to call the peer by; it is not sent.
    Arc::make_mut(&mut config).enable_sni = server_name.is_some();
    let name = ServerName::try_from(server_name.unwrap_or("unnamed").to_owned())
        .map_err(|e| Seen::Failed(format!("not a server name: {e}")))?;
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|e| Seen::Failed(format!("cannot connect to {address}: {e}")))?;
    let mut stream = TlsConnector::from(config).connect(name, tcp).await.map_err(seen_error)?;
    // A pod that refuses our certificate says so after the handshake is over for us: an error of
    // this write may hide the alert that the read then finds.
    let sent = send(&mut stream, request).await;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.map_err(seen_error)?;
    sent.map_err(seen_error)?;
    body_of(bytes)
}

async fn send(stream: &mut TlsStream<TcpStream>, request: &[u8]) -> std::io::Result<()> {
    stream.write_all(request).await?;
    stream.shutdown().await
}

fn seen_error(error: std::io::Error) -> Seen {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Seen::Alert(*alert),
        Some(other) => Seen::Failed(explain(other)),
        None => Seen::Failed(format!("the connection broke: {error}")),
    }
}

fn body_of(mut bytes: Vec<u8>) -> Result<Answer, Seen> {
    if !bytes.starts_with(b"HTTP/1.1 200 ") {
        return Err(Seen::Failed(format!("{} bytes that are not HTTP's 200", bytes.len())));
    }
    match bytes.windows(4).position(|w| w == b"\r\n\r\n") {
        Some(end) => Ok(Answer { body: bytes.split_off(end + 4) }),
        None => Err(Seen::Failed("an answer that ends in its head".to_owned())),
    }
}
