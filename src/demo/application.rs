//! An ordinary application: HTTP on port 8080 and lines over TCP on port 9999, both in the clear.
//!
//! It knows nothing of meshes, which is the point. Must not know: sidecars, gateways, TLS.

use std::{io, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// Where it speaks HTTP.
pub const HTTP: u16 = 8080;
/// Where it answers line by line.
pub const TCP: u16 = 9999;

const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
const HEAD_BYTES_MAX: usize = 16 << 10;

/// A running application; ends, connections and all, when dropped.
#[derive(Debug)]
pub struct Application(Vec<JoinHandle<()>>);

impl Application {
    /// Starts it on this address, under this name.
    ///
    /// # Errors
    /// When a port is taken.
    pub async fn start(name: &'static str, ip: Ipv4Addr) -> io::Result<Self> {
        let http = TcpListener::bind((ip, HTTP)).await?;
        let tcp = TcpListener::bind((ip, TCP)).await?;
        let http = tokio::spawn(accept(http, move |stream| answer(stream, name)));
        let tcp = tokio::spawn(accept(tcp, move |stream| talk(stream, name)));
        Ok(Self(vec![http, tcp]))
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        let served = serve(stream);
        tokio::spawn(async move {
            let _ = timeout(CONNECTION_TIMEOUT, served).await;
        });
    }
}

/// One request, one answer that says who gave it and what was asked.
async fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        let mut byte = [0; 512];
        let n = stream.read(&mut byte).await?;
        if n == 0 {
            return Ok(());
        }
        head.extend_from_slice(&byte[..n]);
    }
    let head = String::from_utf8_lossy(&head);
    let request = head.lines().next().unwrap_or_default();
    let host = head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    let host = host.unwrap_or_default();
    let body = format!("pod: {name}\nrequest: {request}\nhost: {host}\n");
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}

/// Says back each line, with a name before it.
async fn talk(stream: TcpStream, name: &str) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let reply = format!("{name} heard: {line}");
        stream.write_all(reply.as_bytes()).await?;
        line.clear();
    }
    stream.shutdown().await
}
