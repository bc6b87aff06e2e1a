//! An ordinary HTTP/1.1 client with a kept connection, and one of lines over TCP.
//!
//! Must not know: sidecars, gateways.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

/// Whoever gets nothing for so long gives up: longer than anything that answers takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps its connection as long as it can.
#[derive(Debug)]
pub struct Http {
    to: SocketAddr,
    kept: Option<BufReader<TcpStream>>,
}

/// How a request went wrong.
#[derive(Debug)]
pub struct Failure {
    /// In words.
    pub why: String,
    /// Whether a part of a good answer had come.
    pub begun: bool,
}

impl Http {
    /// To this address.
    #[must_use]
    pub fn new(to: SocketAddr) -> Self {
        Self { to, kept: None }
    }

    /// `GET`, the answer to its last byte.
    ///
    /// # Errors
    /// Any status but 200, and an answer that breaks off or does not come.
    pub async fn get(&mut self, path: &str) -> Result<(), Failure> {
        let mut stream = match self.kept.take() {
            Some(kept) => kept,
            None => match TcpStream::connect(self.to).await {
                Ok(stream) => BufReader::new(stream),
                Err(e) => return Err(Failure { why: e.to_string(), begun: false }),
            },
        };
        let mut begun = false;
        match exchange(&mut stream, path, &mut begun).await {
            Ok(()) => {
                self.kept = Some(stream);
                Ok(())
            }
            Err(e) => Err(Failure { why: e.to_string(), begun }),
        }
    }
}

async fn exchange(
    stream: &mut BufReader<TcpStream>,
    path: &str,
    begun: &mut bool,
) -> io::Result<()> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: bar\r\n\r\n").as_bytes()).await?;
    let status = line(stream).await?;
    let (mut length, mut chunked) = (0, false);
    loop {
        let header = line(stream).await?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    if status != "HTTP/1.1 200 OK" {
        let mut said = vec![0; length];
        stream.read_exact(&mut said).await?;
        let said = String::from_utf8_lossy(&said).into_owned();
        return Err(io::Error::other(format!("{status}: {said}")));
    }
    *begun = true;
    if !chunked {
        return stream.read_exact(&mut vec![0; length]).await.map(|_| ());
    }
    loop {
        let size = usize::from_str_radix(&line(stream).await?, 16).map_err(io::Error::other)?;
        stream.read_exact(&mut vec![0; size]).await?;
        line(stream).await?;
        if size == 0 {
            return Ok(());
        }
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    match timeout(PATIENCE, stream.read_line(&mut line)).await?? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

/// A connection on which each line comes back.
#[derive(Debug)]
pub struct Lines(BufReader<TcpStream>);

impl Lines {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(to).await.map(BufReader::new).map(Self)
    }

    /// Says a line and hears it.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn say(&mut self) -> io::Result<()> {
        self.0.write_all(b"a line\n").await?;
        let back = line(&mut self.0).await?;
        if back == "a line" { Ok(()) } else { Err(io::Error::other(format!("{back:?} came back"))) }
    }

    /// Says nothing for so long; false when the connection has ended meanwhile.
    pub async fn rest(&mut self, time: Duration) -> bool {
        timeout(time, self.0.fill_buf()).await.is_err()
    }
}
