//! A connection of the load test, in clear or in TLS, that needs no memory while it is quiet.
//!
//! All links of a thread read into one buffer. Must not know: who listens at the other end.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead as _, AsyncWriteExt as _, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

use super::exchange::{Exchange, HEAD_BYTES};

/// Read and written at once, at most.
const CHUNK_BYTES: usize = 256 << 10;

/// A request up to this size goes out in one write.
const SMALL_BYTES: usize = 512;

/// What is sent: its content does not matter.
static PAYLOAD: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK_BYTES].into());
}

/// One end of a connection.
#[derive(Debug)]
pub enum Link {
    /// Bytes as they are.
    Clear(TcpStream),
    /// Inside TLS, the handshake done.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Link {
    /// Reads once, at most `most` bytes, and shows them to `see`; 0 is the end of the stream.
    ///
    /// # Errors
    /// What the socket or TLS says.
    pub async fn read(&mut self, most: u64, mut see: impl FnMut(&[u8])) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(context, most, &mut see)).await
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        most: u64,
        see: &mut impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let most = usize::try_from(most).unwrap_or(CHUNK_BYTES).min(scratch.len());
            let mut buffer = ReadBuf::new(&mut scratch[..most]);
            ready!(match self {
                Self::Clear(tcp) => Pin::new(tcp).poll_read(context, &mut buffer),
                Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(context, &mut buffer),
            })?;
            see(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Reads exactly `bytes` and drops them.
    ///
    /// # Errors
    /// `UnexpectedEof` when the stream ends before; otherwise what the socket or TLS says.
    pub async fn discard(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let read = match self {
                Self::Clear(tcp) if bytes > 64 << 10 => drop_bulk(tcp, bytes).await?,
                _ => self.read(bytes, |_| ()).await?,
            };
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes -= read as u64;
        }
        Ok(())
    }

    /// Writes `bytes` of anything.
    ///
    /// # Errors
    /// What the socket or TLS says.
    pub async fn fill(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let chunk = usize::try_from(bytes).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            self.write(&PAYLOAD[..chunk]).await?;
            bytes -= chunk as u64;
        }
        Ok(())
    }

    /// Writes a request: its head and what is left of its length, in one call when it is small.
    ///
    /// # Errors
    /// What the socket or TLS says.
    pub async fn write_request(&mut self, exchange: Exchange) -> io::Result<()> {
        let mut first = [0; SMALL_BYTES];
        first[..HEAD_BYTES].copy_from_slice(&exchange.head());
        let small = usize::try_from(exchange.up).unwrap_or(SMALL_BYTES).min(SMALL_BYTES);
        self.write(&first[..small]).await?;
        self.fill(exchange.up - small as u64).await
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// What the socket or TLS says.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Clear(tcp) => tcp.write_all(bytes).await,
            Self::Tls(tls) => {
                tls.write_all(bytes).await?;
                tls.flush().await
            }
        }
    }

    /// Ends our half.
    ///
    /// # Errors
    /// What the socket or TLS says.
    pub async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(tcp) => tcp.shutdown().await,
            Self::Tls(tls) => tls.shutdown().await,
        }
    }

    /// Reads to the end of the stream; true when nothing came before it.
    ///
    /// # Errors
    /// What the socket or TLS says.
    pub async fn drain(&mut self) -> io::Result<bool> {
        let mut seen = 0;
        loop {
            match self.read(u64::MAX, |_| ()).await? {
                0 => return Ok(seen == 0),
                n => seen += n,
            }
        }
    }
}

/// Takes bytes off a socket without copying them to us (`MSG_TRUNC` on TCP): the load test has to
/// share its core with the pods.
async fn drop_bulk(tcp: &TcpStream, bytes: u64) -> io::Result<usize> {
    tcp.async_io(Interest::READABLE, || {
        SCRATCH.with_borrow_mut(|scratch| {
            let most = usize::try_from(bytes).unwrap_or(CHUNK_BYTES).min(scratch.len());
            let (_, read) = rustix::net::recv(tcp, &mut scratch[..most], RecvFlags::TRUNC)?;
            Ok(read)
        })
    })
    .await
}
