//! The only unsafe code: socket options and calls that no crate offers safely.
//!
//! `TCP_DEFER_ACCEPT`, `TCP_INFO`, `SIOCOUTQ` and `SIOCOUTQNSD` of Linux, and readiness of a shared listener. Must not know: why they are asked for.

use std::{
    io, mem,
    net::TcpListener,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    ptr,
    sync::Arc,
};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers a listener with this thread's reactor. It stays shared with the thread that accepts
/// in the place of a stuck worker, which is why it is not tokio's own listener.
///
/// # Errors
/// What `epoll_ctl(2)` says.
pub fn watch_listener(listener: Arc<TcpListener>) -> io::Result<AsyncFd<Arc<TcpListener>>> {
    // SAFETY: the Arc keeps the descriptor open for as long as the registration lives, and a
    // TcpListener gives the same descriptor each time it is asked.
    Ok(unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }?)
}

/// Registers a kernel timer with this thread's reactor.
///
/// # Errors
/// What `epoll_ctl(2)` says.
pub fn watch_timer(timer: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the registration, and an OwnedFd gives the same one each
    // time it is asked.
    Ok(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?)
}

/// Sets `TCP_DEFER_ACCEPT`: `accept` wakes only when data is there, or after `seconds`. 0 clears.
///
/// # Errors
/// What `setsockopt(2)` says.
pub fn set_defer_accept(listener: impl AsFd, seconds: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call (borrowed), and the option
    // value is a c_int of the length given.
    let status = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            ptr::from_ref(&seconds).cast(),
            socklen::<libc::c_int>(),
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the kernel says of a TCP connection (`TCP_INFO`), the part that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    /// True when the connection is in no state any more: it was reset, it timed out, or we said
    /// FIN first and the peer has said it too.
    pub closed: bool,
    /// Retransmissions of the segment in flight, not yet answered.
    pub retransmits: u8,
    /// Window or keepalive probes, not yet answered.
    pub probes: u8,
    /// Milliseconds since anything came from the peer, be it an acknowledgement only.
    pub silent_ms: u32,
    /// Smoothed round trip in microseconds.
    pub rtt_us: u32,
}

/// Reads `TCP_INFO`.
///
/// # Errors
/// What `getsockopt(2)` says.
pub fn tcp_info(socket: impl AsFd) -> io::Result<TcpInfo> {
    // State 7 of `enum` in the kernel's include/net/tcp_states.h.
    const TCP_CLOSE: u8 = 7;
    // SAFETY: tcp_info is plain integers, for which all-zero is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = socklen::<libc::tcp_info>();
    // SAFETY: the descriptor is borrowed and so open; the kernel writes at most `length` bytes
    // into `info`, which is that long.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            ptr::from_mut(&mut info).cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpInfo {
        closed: info.tcpi_state == TCP_CLOSE,
        retransmits: info.tcpi_retransmits,
        probes: info.tcpi_probes,
        silent_ms: info.tcpi_last_data_recv.min(info.tcpi_last_ack_recv),
        rtt_us: info.tcpi_rtt,
    })
}

/// Bytes written to the socket that the peer has not acknowledged yet (`SIOCOUTQ`).
///
/// # Errors
/// What `ioctl(2)` says.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<usize> {
    // The same number as SIOCOUTQ.
    queued(socket, libc::TIOCOUTQ)
}

/// Bytes written to the socket that were not even sent yet (`SIOCOUTQNSD`): the peer's window has
/// no room for them, or the network.
///
/// # Errors
/// What `ioctl(2)` says.
pub fn unsent(socket: impl AsFd) -> io::Result<usize> {
    /// From linux/sockios.h.
    const SIOCOUTQNSD: libc::Ioctl = 0x894B;
    queued(socket, SIOCOUTQNSD)
}

fn queued(socket: impl AsFd, which: libc::Ioctl) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed and so open; SIOCOUTQ and SIOCOUTQNSD write one c_int
    // through the pointer.
    let status =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), which, ptr::from_mut(&mut bytes)) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

fn socklen<T>() -> libc::socklen_t {
    // A few hundred bytes at most.
    libc::socklen_t::try_from(mem::size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        (client, listener.accept().expect("accept").0)
    }

    #[test]
    fn what_the_peer_did_not_acknowledge_is_counted() {
        let (mut client, mut server) = pair();
        assert_eq!(unacknowledged(&client).expect("ioctl"), 0);
        client.write_all(b"hello").expect("write");
        server.read_exact(&mut [0; 5]).expect("read");
        while unacknowledged(&client).expect("ioctl") > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_reset_connection_is_closed() {
        let (client, server) = pair();
        assert!(!tcp_info(&client).expect("info").closed);
        socket2::SockRef::from(&server)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("linger");
        drop(server);
        while !tcp_info(&client).expect("info").closed {
            std::thread::yield_now();
        }
    }

    #[test]
    fn defer_accept_can_be_set_and_cleared() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        set_defer_accept(&listener, 1).expect("set");
        set_defer_accept(&listener, 0).expect("clear");
    }
}
