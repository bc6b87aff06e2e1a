//! A client that speaks no TLS after its ClientHello, so that it sees what a gateway does to the
//! bytes, and the pods that it reaches.
//!
//! Must not know: gateways.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use crate::{bench::hello::Hello, net};

/// A client waits so long for what does not come.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a pod says first.
pub const GREETING: &[u8] = b"hello\n";

/// How what came ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// As from a peer that has said all.
    Fin,
    /// As from a peer that broke off.
    Reset,
    /// Not at all, in the time that a client waits.
    Open,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fin => "closed (FIN)",
            Self::Reset => "reset (RST)",
            Self::Open => "still open",
        })
    }
}

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Every byte.
    pub bytes: Vec<u8>,
    /// And then.
    pub end: End,
}

/// In words: the alert, where TLS has one for it.
impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bytes[..] {
            [] => write!(f, "not one byte, then {}", self.end),
            [21, 3, _, 0, 2, 2, 112] => {
                write!(f, "TLS alert 112 unrecognized_name, then {}", self.end)
            }
            [21, 3, _, 0, 2, _, alert] => write!(f, "TLS alert {alert}, then {}", self.end),
            bytes => write!(f, "{} bytes, then {}", bytes.len(), self.end),
        }
    }
}

/// Connects and asks for a name.
///
/// # Errors
/// When nobody listens.
pub async fn ask(to: SocketAddr, name: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(&Hello::new(name)?.bytes()).await?;
    Ok(stream)
}

/// Reads until the end, at most as long as a client waits.
pub async fn hear(stream: &mut TcpStream) -> Heard {
    let mut bytes = Vec::new();
    let end = match timeout(PATIENCE, stream.read_to_end(&mut bytes)).await {
        Ok(Ok(_)) => End::Fin,
        Ok(Err(_)) => End::Reset,
        Err(_) => End::Open,
    };
    Heard { bytes, end }
}

/// Waits for the greeting; what came instead, otherwise.
///
/// # Errors
/// What was heard until the connection ended.
pub async fn greeted(stream: &mut TcpStream) -> Result<(), Heard> {
    let mut greeting = [0; GREETING.len()];
    match timeout(PATIENCE, stream.read_exact(&mut greeting)).await {
        Ok(Ok(_)) if greeting == GREETING => Ok(()),
        Ok(Ok(_)) => Err(Heard { bytes: greeting.to_vec(), end: End::Open }),
        Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Heard { bytes: Vec::new(), end: End::Fin })
        }
        Ok(Err(_)) => Err(Heard { bytes: Vec::new(), end: End::Reset }),
        Err(_) => Err(Heard { bytes: Vec::new(), end: End::Open }),
    }
}

/// True when a byte sent now comes back.
pub async fn is_alive(stream: &mut TcpStream) -> bool {
    let mut back = [0];
    let exchange = async {
        stream.write_all(b"x").await?;
        stream.read_exact(&mut back).await
    };
    matches!(timeout(PATIENCE, exchange).await, Ok(Ok(_)))
}

/// What a pod does with a connection once it has read the ClientHello.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Greets, and says back every byte.
    Live,
    /// Is gone, as a process that was killed: the kernel closes.
    Die,
    /// Sends so many bytes and, once the other side has them, breaks off by RST.
    Break(usize),
}

/// A pod. Ends when dropped.
#[derive(Debug)]
pub struct Pod {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Pod {
    /// Starts one at this address of loopback, at any port.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(ip: Ipv4Addr, act: Act) -> io::Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // What goes wrong here is what the client sees.
                    let _ = timeout(Duration::from_secs(60), play(stream, act)).await;
                });
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn play(mut stream: TcpStream, act: Act) -> io::Result<()> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
    stream.read_exact(&mut vec![0; length]).await?;
    match act {
        Act::Die => Ok(()),
        Act::Live => {
            stream.write_all(GREETING).await?;
            let mut chunk = [0; 4096];
            loop {
                let n = stream.read(&mut chunk).await?;
                if n == 0 {
                    return stream.shutdown().await;
                }
                stream.write_all(&chunk[..n]).await?;
            }
        }
        Act::Break(bytes) => {
            stream.write_all(&vec![b'b'; bytes]).await?;
            while !net::is_settled(&stream) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            net::reset_on_close(&stream);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_said_in_words() {
        let heard = |bytes: &[u8], end| Heard { bytes: bytes.to_vec(), end }.to_string();
        assert_eq!(heard(b"", End::Reset), "not one byte, then reset (RST)");
        let alert = heard(&[21, 3, 3, 0, 2, 2, 112], End::Fin);
        assert_eq!(alert, "TLS alert 112 unrecognized_name, then closed (FIN)");
        assert_eq!(heard(&[21, 3, 1, 0, 2, 2, 80], End::Fin), "TLS alert 80, then closed (FIN)");
        assert_eq!(heard(b"some bytes", End::Open), "10 bytes, then still open");
    }
}
