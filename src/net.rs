//! Sockets: options, listeners and non-blocking reads and writes, in one place.
//!
//! Must not know: TLS, names, routes, or what a connection is for.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::AsFd,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvFlags, SendFlags},
};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};
use tokio::{io::Interest, net::TcpStream};

use crate::routing::Keepalive;

pub mod cidr;
#[allow(unsafe_code)]
pub mod sys;

/// The longest time to a keepalive probe that the kernel takes.
pub const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
/// The most keepalive probes that the kernel takes.
pub const KEEPALIVE_PROBES_MAX: u32 = 127;

/// Binds a listener that shares its port with others of this process (`SO_REUSEPORT`) and does
/// not block. `[::]` takes IPv4 too. `TCP_NODELAY` is set here because accepted sockets inherit
/// it, which saves a system call for each of them.
///
/// # Errors
/// Whatever the kernel says: address in use, no permission, no such address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = fresh(address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    // The kernel caps this at net.core.somaxconn (4,096 by default since Linux 5.4).
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Binds a listener that shares its port with nobody and does not block. `[::]` takes IPv4 too, and
/// is `0.0.0.0` where the kernel has no IPv6. Accepted sockets have `TCP_NODELAY`.
///
/// # Errors
/// Whatever the kernel says.
pub fn listen_alone(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match (fresh(address), address) {
        (Err(e), SocketAddr::V6(v6))
            if v6.ip().is_unspecified() && e.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            return listen_alone((std::net::Ipv4Addr::UNSPECIFIED, v6.port()).into());
        }
        (socket, _) => socket?,
    };
    // Connections of an earlier process that linger in TIME_WAIT do not hold the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

/// A TCP socket that does not block, by one system call.
fn fresh(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

/// From now on nobody begins to connect here: a SYN is dropped as if it were lost, and comes again
/// in a second. Whoever is connecting already goes on, as does who is connected; that they inherit
/// the filter harms them nothing, since no SYN comes there.
///
/// # Errors
/// What `setsockopt(2)` says of `SO_ATTACH_FILTER` (socket(7)): some kernels want `CAP_NET_ADMIN`
/// for it (seen with a 6.18).
pub fn drop_newcomers(listener: &TcpListener) -> io::Result<()> {
    // The filter of a TCP socket sees the TCP header first (RFC 9293 §3.1): its flags are byte 13,
    // SYN is 2 and ACK is 16.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, 16 | 2),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, 2),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Accepts one connection, non-blocking and close-on-exec.
///
/// # Errors
/// `WouldBlock` when none waits; otherwise what `accept4(2)` says.
pub fn accept(listener: &TcpListener) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    use rustix::net::SocketFlags;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (fd, peer) = rustix::net::acceptfrom_with(listener, flags)?;
    let peer = peer.and_then(|any| SocketAddr::try_from(any).ok());
    let peer = peer.ok_or_else(|| io::Error::other("accept gave no IP address"))?;
    Ok((fd.into(), unmapped(peer)))
}

/// Begins to connect, and sends what the socket takes of `first` at once: a peer on this host or
/// node may have answered before `connect(2)` returns, which saves a wait. Gives the socket and how
/// much was sent; with 0 it is the next write that tells how the connect went, which saves the
/// `getsockopt(SO_ERROR)` that a connect otherwise costs. It is asked for only when nothing could be
/// sent: a router or firewall of this very host answers inside `connect(2)`, and the kernel then
/// tells nobody who does not ask until the SYN is repeated after a second.
///
/// # Errors
/// What `socket(2)`, `connect(2)` and `send(2)` say at once: no file descriptor, no route, no port
/// left, refused.
pub fn start_connect(address: SocketAddr, first: &[u8]) -> io::Result<(TcpStream, usize)> {
    let socket = fresh(address)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(e) => return Err(e),
    }
    let sent = match send(&socket, first) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => match socket.take_error()? {
            Some(refused) => return Err(refused),
            None => 0,
        },
        sent => sent?,
    };
    Ok((TcpStream::from_std(socket.into())?, sent))
}

/// Sets keepalive; what is `None` keeps the kernel's value, and what it does not take is the nearest
/// that it does: 1 to 32,767 whole seconds, 1 to 127 probes (`MAX_TCP_KEEPIDLE` and the next two).
///
/// # Errors
/// What `setsockopt(2)` says.
pub fn set_keepalive(stream: &TcpStream, keepalive: Keepalive) -> io::Result<()> {
    let within = |time: Duration| time.clamp(Duration::from_secs(1), KEEPALIVE_MAX);
    let mut options = TcpKeepalive::new();
    if let Some(time) = keepalive.time {
        options = options.with_time(within(time));
    }
    if let Some(interval) = keepalive.interval {
        options = options.with_interval(within(interval));
    }
    if let Some(probes) = keepalive.probes {
        options = options.with_retries(probes.clamp(1, KEEPALIVE_PROBES_MAX));
    }
    SockRef::from(stream).set_tcp_keepalive(&options)
}

/// Makes the close of `stream` send RST and drop what is still queued.
pub fn reset_on_close(stream: &TcpStream) {
    // It fails only on a descriptor that is no socket.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Closes so that what was written last, mostly an alert, is read: FIN, then what comes is read and
/// dropped for a second, or up to 64 KiB. A close with bytes unread would send a reset, which can
/// overtake it.
pub async fn leave(stream: TcpStream) {
    let _ = shutdown_write(&stream);
    let mut left = 64 * 1024;
    let drop_all = async {
        let mut chunk = [0; 1024];
        while left > 0 && stream.readable().await.is_ok() {
            match stream.try_read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => left -= n.min(left),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), drop_all).await;
}

/// True when nothing that came is unread, and all that was sent is acknowledged.
pub fn is_settled(stream: &TcpStream) -> bool {
    // Neither fails on a socket that is open.
    rustix::io::ioctl_fionread(stream).is_ok_and(|unread| unread == 0)
        && sys::unacknowledged(stream).is_ok_and(|bytes| bytes == 0)
}

/// True when something waits to be read, whatever the reactor has heard.
pub fn has_unread(stream: &TcpStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// True when the socket takes bytes, whatever the reactor has heard.
pub fn has_room(stream: &TcpStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// True when the next call on the socket will tell an error. The error stays there to be told.
pub fn has_failed(stream: &TcpStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default())).is_ok()
        && fds.iter().any(|fd| fd.revents().contains(PollFlags::ERR))
}

/// Ends the sending direction: FIN after what was written.
///
/// # Errors
/// `NotConnected` when the peer has reset the connection.
pub fn shutdown_write(stream: &TcpStream) -> io::Result<()> {
    rustix::net::shutdown(stream, rustix::net::Shutdown::Write).map_err(Into::into)
}

/// Reads at once, without asking the reactor whether there is anything: on a fresh socket of a
/// listener with `TCP_DEFER_ACCEPT` there is. 0 is the end of the stream.
///
/// # Errors
/// `WouldBlock`, or what `recv(2)` says.
pub fn recv_now(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let n = recv(stream, buffer)?;
    if n > 0 && n < buffer.len() {
        // The reactor may have heard of these very bytes: it is told that they are gone.
        let _ = stream.try_io(Interest::READABLE, || io::Result::<()>::Err(would_block()));
    }
    Ok(n)
}

/// Writes at once, without asking the reactor whether there is room.
///
/// # Errors
/// `WouldBlock`, also while the socket is still connecting, or what `send(2)` says.
pub fn send_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    send(stream, bytes)
}

/// As [`poll_recv`], when the reactor may have missed something.
pub fn poll_recv_unheard(
    stream: &TcpStream,
    context: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    match recv(stream, buffer) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => poll_recv(stream, context, buffer),
        read => Poll::Ready(read),
    }
}

fn recv(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::net::recv(stream, &mut *buffer, RecvFlags::empty()))?.0)
}

fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let call = || rustix::net::send(&socket, bytes, SendFlags::NOSIGNAL);
    Ok(rustix::io::retry_on_intr(call)?)
}

fn would_block() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}

/// Reads once when there is something; 0 is the end of the stream.
///
/// A read that did not fill the buffer has emptied the socket, so readiness is cleared without a
/// second call to be told `EAGAIN` (with edge-triggered epoll a later byte makes a new event).
pub fn poll_recv(
    stream: &TcpStream,
    context: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(context))?;
        let len = buffer.len();
        let done = attempt(stream, Interest::READABLE, len, || recv(stream, buffer));
        if let Some(result) = done {
            return Poll::Ready(result);
        }
    }
}

/// Writes once when there is room. A short write clears readiness, as in [`poll_recv`].
pub fn poll_send(
    stream: &TcpStream,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        let call = || send(stream, bytes);
        if let Some(result) = attempt(stream, Interest::WRITABLE, bytes.len(), call) {
            return Poll::Ready(result);
        }
    }
}

/// One call on a socket that is said to be ready; `None` when it was not. What moved less than
/// `wanted`, but something, clears readiness.
fn attempt(
    stream: &TcpStream,
    interest: Interest,
    wanted: usize,
    call: impl FnOnce() -> io::Result<usize>,
) -> Option<io::Result<usize>> {
    let mut short = None;
    let result = stream.try_io(interest, || {
        let n = call()?;
        if n == 0 || n == wanted {
            return Ok(n);
        }
        short = Some(n);
        Err(would_block())
    });
    match (short, result) {
        (Some(n), _) => Some(Ok(n)),
        (None, Err(e)) if e.kind() == io::ErrorKind::WouldBlock => None,
        (None, result) => Some(result),
    }
}

/// As [`poll_send`], when the reactor may have missed something.
pub fn poll_send_unheard(
    stream: &TcpStream,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match send(stream, bytes) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => poll_send(stream, context, bytes),
        sent => Poll::Ready(sent),
    }
}

/// An IPv4 address that came through a dual-stack socket, as IPv4.
#[must_use]
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The addresses of this host, as the kernel's routing tables list them; empty where there is no
/// `/proc`. Loopback is not among them.
#[must_use]
pub fn own_addresses() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut found = local_of_fib_trie(&read("/proc/net/fib_trie"));
    found.extend(local_of_if_inet6(&read("/proc/net/if_inet6")));
    found.retain(|address| !address.is_loopback());
    found.sort_unstable();
    found.dedup();
    found
}

/// `|-- 10.0.0.7` and on the next line `/32 host LOCAL`.
fn local_of_fib_trie(text: &str) -> Vec<IpAddr> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let local = |pair: &[&str]| match pair {
        [address, kind] if *kind == "/32 host LOCAL" => {
            address.strip_prefix("|-- ").and_then(|a| a.parse().ok())
        }
        _ => None,
    };
    lines.windows(2).filter_map(local).collect()
}

/// 32 hexadecimal digits at the start of each line.
fn local_of_if_inet6(text: &str) -> Vec<IpAddr> {
    let bits = text.lines().filter_map(|line| u128::from_str_radix(line.get(..32)?, 16).ok());
    bits.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))).collect()
}

#[cfg(test)]
mod tests;
