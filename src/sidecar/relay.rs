//! Moves bytes between a plain and a TLS end until both are done.
//!
//! FIN on the plain side is close_notify and FIN on the other, either half on its own; a reset, a
//! TLS failure and an end without close_notify (somebody cut the connection) are a reset on the
//! other side, after the bytes that came before it. An idle connection holds no buffer of ours.
//! Must not know: which side dialled, who is connected, why.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout_at},
};
use tokio_rustls::TlsStream;

use crate::{
    certs,
    net::{self, sys},
};

/// The payload of one TLS record, so that what is read at once becomes one.
const CHUNK: usize = 16 * 1024;

/// Bytes taken before a reset get this long to reach the other side.
const ABORT_LINGER: Duration = Duration::from_secs(1);

/// Between two looks at what the kernel knows of both ends.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An end whose host acknowledges nothing for as long, while something waits to be, is gone. The
/// kernel would take a quarter of an hour; a reader that only pauses acknowledges all the time.
const VANISHED_AFTER: Duration = Duration::from_secs(30);

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Plain,
    Tls,
}

/// Which end broke the connection, and how. The reset was passed on.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) side: Side,
    pub(super) how: How,
}

/// How an end broke.
#[derive(Debug)]
pub(super) enum How {
    /// TCP was reset, or its host is gone.
    Reset(io::Error),
    /// FIN without close_notify.
    Truncated,
    /// TLS failed: an alert, or bytes that are none of the session's.
    Tls(rustls::Error),
}

/// What was moved so far.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// From the plain end.
    pub(super) from_plain: AtomicU64,
    /// From the TLS end.
    pub(super) from_tls: AtomicU64,
}

impl Traffic {
    /// Bytes in both directions: it rises while anything moves.
    pub(super) fn total(&self) -> u64 {
        self.from_plain.load(Ordering::Relaxed) + self.from_tls.load(Ordering::Relaxed)
    }
}

/// Moves bytes until both ends have closed by FIN.
///
/// # Errors
/// Which end broke; the other one will be reset when it is dropped.
pub(super) async fn relay(
    plain: &mut TcpStream,
    tls: &mut TlsStream<TcpStream>,
    traffic: &Traffic,
) -> Result<(), Broken> {
    let (mut up, mut down) = (Flow::default(), Flow::default());
    let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let fault = poll_fn(|context| {
        let ends = (Pin::new(&mut *plain), Pin::new(&mut *tls));
        match poll_both((&mut up, &mut down), context, ends.0, ends.1, traffic) {
            Poll::Ready(Ok(())) => return Poll::Ready(None),
            Poll::Ready(Err(fault)) => return Poll::Ready(Some(fault)),
            Poll::Pending => {}
        }
        while looks.poll_tick(context).is_ready() {
            if let Some(error) = gone(plain, (&up, &down)) {
                return Poll::Ready(Some((Side::Plain, error)));
            }
            if let Some(error) = gone(tls.get_ref().0, (&down, &up)) {
                return Poll::Ready(Some((Side::Tls, error)));
            }
        }
        Poll::Pending
    })
    .await;
    let Some((side, error)) = fault else { return Ok(()) };
    let deadline = Instant::now() + ABORT_LINGER;
    // What the broken end had sent before still goes to the other one, which is then reset. An
    // error of that one makes no difference any more.
    match side {
        Side::Plain => {
            up.end_without_fin();
            let rest = poll_fn(|context| {
                let (from, to) = (Pin::new(&mut *plain), Pin::new(&mut *tls));
                up.poll(context, from, to, &traffic.from_plain)
            });
            let _ = timeout_at(deadline, rest).await;
            reset(tls.get_ref().0, deadline).await;
        }
        Side::Tls => {
            down.hold_rest(tls, &traffic.from_tls);
            down.end_without_fin();
            let rest = poll_fn(|context| {
                let (from, to) = (Pin::new(&mut *tls), Pin::new(&mut *plain));
                down.poll(context, from, to, &traffic.from_tls)
            });
            let _ = timeout_at(deadline, rest).await;
            reset(plain, deadline).await;
        }
    }
    Err(Broken { side, how: how(error) })
}

/// Both directions once; the error says which end it is of.
fn poll_both(
    (up, down): (&mut Flow, &mut Flow),
    context: &mut Context<'_>,
    mut plain: Pin<&mut TcpStream>,
    mut tls: Pin<&mut TlsStream<TcpStream>>,
    traffic: &Traffic,
) -> Poll<Result<(), (Side, io::Error)>> {
    let sided = |fault, (from, to)| match fault {
        Fault::Read(error) => (from, error),
        Fault::Write(error) => (to, error),
    };
    let up = up.poll(context, plain.as_mut(), tls.as_mut(), &traffic.from_plain);
    if let Poll::Ready(Err(fault)) = up {
        return Poll::Ready(Err(sided(fault, (Side::Plain, Side::Tls))));
    }
    let down = down.poll(context, tls, plain, &traffic.from_tls);
    match down {
        Poll::Ready(Err(fault)) => Poll::Ready(Err(sided(fault, (Side::Tls, Side::Plain)))),
        Poll::Ready(Ok(())) if up.is_ready() => Poll::Ready(Ok(())),
        _ => Poll::Pending,
    }
}

/// Whether an end is gone and nobody has noticed: it was reset while nothing could be read from it,
/// because the other end takes nothing; or its host acknowledges nothing any more. `from` and
/// `into` are the flows out of it and into it.
fn gone(end: &TcpStream, (from, into): (&Flow, &Flow)) -> Option<io::Error> {
    let info = sys::tcp_info(end).ok()?;
    // Closed by FIN both ways is closed too.
    if info.closed && from.stage == Stage::Open && into.stage != Stage::Closed {
        return Some(io::ErrorKind::ConnectionReset.into());
    }
    let is_asked = info.retransmits > 0 || info.probes >= 3;
    let silent = Duration::from_millis(info.silent_ms.into());
    (is_asked && silent >= VANISHED_AFTER).then(|| io::ErrorKind::TimedOut.into())
}

fn how(error: io::Error) -> How {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return How::Truncated;
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => How::Tls(tls.clone()),
        None => How::Reset(error),
    }
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reset(error) => write!(f, "{error}"),
            Self::Truncated => f.write_str("closed without TLS's close_notify: cut on the way"),
            Self::Tls(rustls::Error::AlertReceived(alert)) => {
                f.write_str(&super::handshake::text(&rustls::Error::AlertReceived(*alert)))
            }
            Self::Tls(error) => f.write_str(&certs::explain(error)),
        }
    }
}

/// Waits until the peer has acknowledged what was written, then lets the close be a reset.
/// SIOCOUTQ has no event, so it is looked at after 1, 2, 4 … 64 ms; where it is refused, the peer
/// has until the deadline.
async fn reset(stream: &TcpStream, deadline: Instant) {
    let mut pause = Duration::from_millis(1);
    while sys::unacknowledged(stream).map_or(true, |bytes| bytes > 0) && Instant::now() < deadline {
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(64));
    }
    net::reset_on_close(stream);
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// Read and not yet written; usually empty, and then nothing is allocated.
    held: Vec<u8>,
    written: usize,
    stage: Stage,
    without_fin: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The end of what is to be read was seen.
    Ending,
    Closed,
}

/// Which call failed.
enum Fault {
    Read(io::Error),
    Write(io::Error),
}

impl Flow {
    /// Ready when the end was passed on.
    fn poll<R: AsyncRead, W: AsyncWrite>(
        &mut self,
        context: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
        count: &AtomicU64,
    ) -> Poll<Result<(), Fault>> {
        loop {
            while self.written < self.held.len() {
                let rest = &self.held[self.written..];
                self.written += ready!(poll_write(to.as_mut(), context, rest))?;
            }
            (self.held, self.written) = (Vec::new(), 0);
            match self.stage {
                Stage::Open => {
                    let mut space = [MaybeUninit::uninit(); CHUNK];
                    let mut chunk = ReadBuf::uninit(&mut space);
                    let Poll::Ready(read) = from.as_mut().poll_read(context, &mut chunk) else {
                        // TLS may hold bytes that it took and could not send yet.
                        if let Poll::Ready(flushed) = to.as_mut().poll_flush(context) {
                            flushed.map_err(Fault::Write)?;
                        }
                        return Poll::Pending;
                    };
                    match read.map_err(Fault::Read) {
                        Ok(()) if chunk.filled().is_empty() => self.stage = Stage::Ending,
                        Ok(()) => self.take(context, chunk.filled(), to.as_mut(), count)?,
                        Err(_) if self.without_fin => self.stage = Stage::Ending,
                        Err(fault) => return Poll::Ready(Err(fault)),
                    }
                }
                Stage::Ending => {
                    let ended = match self.without_fin {
                        true => to.as_mut().poll_flush(context),
                        false => to.as_mut().poll_shutdown(context),
                    };
                    ready!(ended).map_err(Fault::Write)?;
                    self.stage = Stage::Closed;
                }
                Stage::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes what goes at once and holds the rest.
    fn take<W: AsyncWrite>(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
        to: Pin<&mut W>,
        count: &AtomicU64,
    ) -> Result<(), Fault> {
        count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let written = match poll_write(to, context, bytes) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        if written < bytes.len() {
            self.held = bytes[written..].to_vec();
        }
        Ok(())
    }

    /// From here on the end of what is to be read is not passed on.
    fn end_without_fin(&mut self) {
        self.without_fin = true;
    }

    /// Takes over what TLS had decrypted before it failed.
    fn hold_rest(&mut self, tls: &mut TlsStream<TcpStream>, count: &AtomicU64) {
        use std::io::Read as _;
        if self.stage != Stage::Open {
            return;
        }
        let mut chunk = [0; CHUNK];
        loop {
            let read = match tls {
                TlsStream::Client(tls) => tls.get_mut().1.reader().read(&mut chunk),
                TlsStream::Server(tls) => tls.get_mut().1.reader().read(&mut chunk),
            };
            match read {
                Ok(n) if n > 0 => {
                    count.fetch_add(n as u64, Ordering::Relaxed);
                    self.held.extend_from_slice(&chunk[..n]);
                }
                _ => return,
            }
        }
    }
}

fn poll_write<W: AsyncWrite>(
    to: Pin<&mut W>,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<Result<usize, Fault>> {
    match ready!(to.poll_write(context, bytes)) {
        Ok(0) => Poll::Ready(Err(Fault::Write(io::ErrorKind::WriteZero.into()))),
        Ok(n) => Poll::Ready(Ok(n)),
        Err(error) => Poll::Ready(Err(Fault::Write(error))),
    }
}

#[cfg(test)]
mod tests;
