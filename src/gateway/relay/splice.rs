//! Linux: socket to pipe to socket, without touching user memory.
//!
//! Must not know: flows, when to splice and when to copy, what an error means for the relay.

use std::{
    io,
    task::{Context, Poll, ready},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
    pipe::{SpliceFlags, splice},
};
use tokio::{io::Interest, net::TcpStream};

use super::pipes::Pipe;

/// As much as one call may move; a pipe's slots usually allow less.
const CALL_MAX: usize = 1 << 20;

/// Moves bytes from the socket into the pipe, which must be empty: with bytes in it, `EAGAIN`
/// would not say whether the socket is empty or the pipe is full. 0 is the end of the stream;
/// `None` is a place that splice does not pass, and `recv` does.
pub(super) fn poll_fill(
    source: &TcpStream,
    context: &mut Context<'_>,
    pipe: &mut Pipe,
) -> Poll<io::Result<Option<usize>>> {
    debug_assert!(pipe.is_empty());
    loop {
        ready!(source.poll_read_ready(context))?;
        let call = || {
            let into = pipe.write_end()?;
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            let n = rustix::io::retry_on_intr(|| splice(source, None, into, None, CALL_MAX, flags));
            Ok(if n? == 0 && has_more(source)? { None } else { Some(n?) })
        };
        match source.try_io(Interest::READABLE, call) {
            Ok(n) => {
                pipe.filled(n.unwrap_or(0));
                return Poll::Ready(Ok(n));
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Poll::Ready(Err(e)),
        }
    }
}

/// Whether there are bytes where splice says that the stream has ended: before urgent ones, with
/// the FIN behind them, it says so too.
fn has_more(source: &TcpStream) -> Result<bool, Errno> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match rustix::io::retry_on_intr(|| recv(source, &mut [0_u8], flags)) {
        Ok((n, _)) => Ok(n > 0),
        Err(Errno::AGAIN) => Ok(false),
        // A reset is told once, and here it was.
        Err(error) => Err(error),
    }
}

/// Moves bytes from the pipe, which holds some, into the socket. `unheard`: there may be room that
/// the reactor does not know of.
pub(super) fn poll_drain(
    sink: &TcpStream,
    context: &mut Context<'_>,
    pipe: &mut Pipe,
    unheard: bool,
) -> Poll<io::Result<usize>> {
    let call = |pipe: &Pipe| -> io::Result<usize> {
        let from = pipe.read_end()?;
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let held = pipe.held();
        Ok(rustix::io::retry_on_intr(|| splice(from, None, sink, None, held, flags))?)
    };
    if unheard {
        match call(pipe) {
            Ok(n) => {
                pipe.emptied(n);
                return Poll::Ready(Ok(n));
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            // A reset is told once: what is dropped here would look like a FIN to the next read.
            Err(e) => return Poll::Ready(Err(e)),
        }
    }
    loop {
        ready!(sink.poll_write_ready(context))?;
        let call = || call(pipe);
        match sink.try_io(Interest::WRITABLE, call) {
            Ok(n) => {
                pipe.emptied(n);
                return Poll::Ready(Ok(n));
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Poll::Ready(Err(e)),
        }
    }
}

/// True for errors that say that splice cannot be had here, rather than that a peer is gone:
/// an old or filtered kernel, or a socket that does not support it.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    let Some(errno) = Errno::from_io_error(error) else { return false };
    matches!(errno, Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::NOMEM)
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, sync::Arc, time::Duration};

    use super::*;
    use crate::gateway::relay::pipes::{PipeBudget, PipePool};

    #[test]
    fn a_reset_that_the_reactor_has_not_heard_of_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let ours = std::net::TcpStream::connect(listener.local_addr().expect("address"));
        let ours = ours.expect("connect");
        let (theirs, _) = listener.accept().expect("accept");
        ours.set_nonblocking(true).expect("nonblocking");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.expect("a runtime");
        let _entered = runtime.enter();
        let ours = TcpStream::from_std(ours).expect("a stream");
        let pool = Rc::new(PipePool::new(Arc::new(PipeBudget::new(1))));
        let mut pipe = pool.borrow().expect("a pipe");
        let written = rustix::io::write(pipe.write_end().expect("an end"), b"byte");
        pipe.filled(written.expect("room for it"));
        socket2::SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).expect("linger");
        drop(theirs);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let told = poll_drain(&ours, &mut context, &mut pipe, true);
        assert!(matches!(told, Poll::Ready(Err(_))), "{told:?}");
    }
}
