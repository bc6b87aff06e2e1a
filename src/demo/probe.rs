//! One HTTP request to an operators' port, and its answer. Must not know: whose port it is.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Whoever does not answer in this time does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// True when a kubelet that asks `/healthz/ready` would be content.
pub async fn is_ready(status: SocketAddr) -> bool {
    ask(status, "GET", "/healthz/ready").await.is_ok_and(|(code, _)| code == 200)
}

/// The status and the body of an answer.
///
/// # Errors
/// When nobody is there, or it is no HTTP that comes back.
pub async fn ask(to: SocketAddr, method: &str, path: &str) -> io::Result<(u16, String)> {
    timeout(PATIENCE, exchange(to, method, path)).await.map_err(io::Error::from)?
}

async fn exchange(to: SocketAddr, method: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(to).await?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\n");
    let request = format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no HTTP from {to}")))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}
