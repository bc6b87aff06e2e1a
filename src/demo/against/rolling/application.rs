//! An application that answers soon, late or for ever: HTTP/1.1 with kept connections, and lines
//! over TCP. Must not know: meshes.

use std::{io, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Where it speaks HTTP.
pub const HTTP: u16 = 8080;
/// Where it says lines back.
pub const TCP: u16 = 9999;
/// How long `/slow` takes.
pub const SLOW: Duration = Duration::from_secs(6);
/// How long `/work` takes.
pub const WORK: Duration = Duration::from_millis(300);
/// Between two pieces of `/stream/N`.
pub const EVERY: Duration = Duration::from_millis(100);

/// Ends when dropped.
#[derive(Debug)]
pub struct Application([JoinHandle<()>; 2]);

impl Application {
    /// Starts it on this address.
    ///
    /// # Errors
    /// When a port is taken.
    pub async fn start(ip: Ipv4Addr) -> io::Result<Self> {
        let (http, tcp) =
            (TcpListener::bind((ip, HTTP)).await?, TcpListener::bind((ip, TCP)).await?);
        Ok(Self([tokio::spawn(accept(http, answer)), tokio::spawn(accept(tcp, echo))]))
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn accept<F>(listener: TcpListener, serve: fn(TcpStream) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream));
    }
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        stream.write_all(line.as_bytes()).await?;
        line.clear();
    }
    stream.shutdown().await
}

/// Answers one request after the other.
async fn answer(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(path) = request(&mut stream).await? {
        if let Some(pieces) = path.strip_prefix("/stream/").and_then(|n| n.parse().ok()) {
            pour(&mut stream, pieces).await?;
            continue;
        }
        match &*path {
            "/slow" => tokio::time::sleep(SLOW).await,
            "/work" => tokio::time::sleep(WORK).await,
            _ => {}
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
    }
    Ok(())
}

/// The path of the next request; `None` when there is none.
async fn request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut path = None;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            return Ok(path);
        }
        path = path.or_else(|| line.split(' ').nth(1).map(str::to_owned));
    }
}

async fn pour(stream: &mut BufReader<TcpStream>, pieces: u32) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    for _ in 0..pieces {
        stream.write_all(b"6\r\npiece\n\r\n").await?;
        tokio::time::sleep(EVERY).await;
    }
    stream.write_all(b"0\r\n\r\n").await
}
