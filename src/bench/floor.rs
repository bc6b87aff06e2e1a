//! A bare relay: accepts, connects, moves bytes, half-closes, closes. One thread, epoll, no
//! runtime.
//!
//! It is what every gateway is measured against: nobody who moves bytes between two sockets does
//! less. Must not know: names, TLS, routes, timeouts, statistics. Do not put it in front of
//! anything: it sends whoever connects to its one list of endpoints.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt},
};
use slab::Slab;

use crate::net;

mod flow;

use flow::{Flow, Moved, Tools};

/// One event names a connection and which of its two sockets it is about; this is the listener.
const LISTENER: u64 = u64::MAX;
const EVENTS_PER_WAIT: usize = 256;

/// A bound floor that does not accept yet.
#[derive(Debug)]
pub struct Floor {
    listener: TcpListener,
    endpoints: Vec<SocketAddr>,
}

impl Floor {
    /// Binds; connections will go to `endpoints` in turn.
    ///
    /// # Errors
    /// When there is no endpoint, or the address cannot be had.
    pub fn bind(listen: SocketAddr, endpoints: Vec<SocketAddr>) -> io::Result<Self> {
        if endpoints.is_empty() {
            return Err(io::Error::other("a floor needs an endpoint to connect to"));
        }
        let listener = net::listen(listen)?;
        // Wakes us with the first bytes there, as it does in any gateway that uses it.
        net::sys::set_defer_accept(&listener, 1)?;
        Ok(Self { listener, endpoints })
    }

    /// Where it listens, with the real port.
    ///
    /// # Errors
    /// What `getsockname(2)` says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Relays until the process ends.
    ///
    /// # Errors
    /// When accepting or waiting fails: out of descriptors, mostly.
    pub fn run(self) -> io::Result<()> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&poll, &self.listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let mut relay = Relay { poll, live: Slab::new(), again: Vec::new(), tools: Tools::new() };
        let mut events = Vec::<Event>::with_capacity(EVENTS_PER_WAIT);
        let mut endpoints = self.endpoints.iter().cycle();
        loop {
            events.clear();
            let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            let timeout = (!relay.again.is_empty()).then_some(&at_once);
            match epoll::wait(&relay.poll, rustix::buffer::spare_capacity(&mut events), timeout) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
            for slot in std::mem::take(&mut relay.again) {
                relay.pump(slot);
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => relay.accept_all(&self.listener, &mut endpoints)?,
                    name => relay.wake(name, event.flags),
                }
            }
        }
    }
}

/// The two sockets of a connection, client first.
struct Pair {
    sockets: [OwnedFd; 2],
    /// From the client, and back.
    flows: [Flow; 2],
}

struct Relay {
    poll: OwnedFd,
    live: Slab<Pair>,
    /// Had more to move than one turn allows.
    again: Vec<usize>,
    tools: Tools,
}

impl Relay {
    fn accept_all<'a>(
        &mut self,
        listener: &TcpListener,
        endpoints: &mut impl Iterator<Item = &'a SocketAddr>,
    ) -> io::Result<()> {
        loop {
            let client = match net::accept(listener) {
                Ok((client, _)) => OwnedFd::from(client),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            let Some(endpoint) = endpoints.next() else { return Ok(()) };
            // No endpoint: the client sees its connection closed, and the load test counts it.
            let Ok(upstream) = start_connect(*endpoint) else { continue };
            let slot = self
                .live
                .insert(Pair { sockets: [client, upstream], flows: [Flow::new(), Flow::new()] });
            self.watch(slot)?;
            self.pump(slot);
        }
    }

    /// Edge-triggered and both ways, once: no further system call to change what is waited for.
    fn watch(&self, slot: usize) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        for (side, socket) in self.live[slot].sockets.iter().enumerate() {
            let name = EventData::new_u64((slot as u64) << 1 | side as u64);
            epoll::add(&self.poll, socket, name, flags)?;
        }
        Ok(())
    }

    fn wake(&mut self, name: u64, flags: EventFlags) {
        let side = usize::from(name & 1 == 1);
        let Some(slot) = usize::try_from(name >> 1).ok() else { return };
        // Closed by an earlier event of the same wait. If the slot is in use again, the new
        // connection looks once in vain.
        let Some(pair) = self.live.get_mut(slot) else { return };
        let gone = EventFlags::HUP | EventFlags::ERR;
        pair.flows[side].ending |= flags.intersects(EventFlags::RDHUP | gone);
        pair.flows[side].readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | gone);
        pair.flows[1 - side].writable |= flags.intersects(EventFlags::OUT | gone);
        self.pump(slot);
    }

    fn pump(&mut self, slot: usize) {
        let Some(pair) = self.live.get_mut(slot) else { return };
        let [client, upstream] = &pair.sockets;
        let [up, down] = &mut pair.flows;
        let moved = [
            up.advance(client, upstream, &mut self.tools),
            down.advance(upstream, client, &mut self.tools),
        ];
        if moved.contains(&Moved::Broken) || moved == [Moved::Done; 2] {
            let pair = self.live.remove(slot);
            pair.flows.into_iter().for_each(|flow| flow.end(&mut self.tools));
        } else if moved.contains(&Moved::More) {
            self.again.push(slot);
        }
    }
}

fn start_connect(endpoint: SocketAddr) -> io::Result<OwnedFd> {
    let family = if endpoint.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &endpoint) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Shutdown, TcpStream},
        thread,
    };

    use super::*;

    fn floor(endpoint: SocketAddr) -> SocketAddr {
        let floor = Floor::bind("127.0.0.1:0".parse().unwrap(), vec![endpoint]).unwrap();
        let address = floor.address().unwrap();
        thread::spawn(move || floor.run());
        address
    }

    /// Small and bulk, both ways at once, and the end of each direction on its own.
    #[test]
    fn bytes_and_both_ends_arrive() {
        let pod = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = floor(pod.local_addr().unwrap());
        for size in [1, 100, 70_000, 12 << 20] {
            let sent: Vec<u8> = (0..=250).cycle().take(size).collect();
            let mut client = TcpStream::connect(address).unwrap();
            let mut writer = client.try_clone().unwrap();
            let bytes = sent.clone();
            let writing = thread::spawn(move || {
                writer.write_all(&bytes).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let (mut server, _) = pod.accept().unwrap();
            let mut got = Vec::new();
            server.read_to_end(&mut got).unwrap();
            assert!(got == sent, "{size} bytes up");
            writing.join().unwrap();
            let answering = thread::spawn(move || server.write_all(&got).unwrap());
            let mut back = Vec::new();
            client.read_to_end(&mut back).unwrap();
            answering.join().unwrap();
            assert!(back == sent, "{size} bytes down");
        }
    }

    #[test]
    fn an_endpoint_that_refuses_closes_the_client() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut client = TcpStream::connect(floor(gone)).unwrap();
        client.write_all(b"hello").unwrap();
        let mut rest = Vec::new();
        let end = client.read_to_end(&mut rest);
        let reset = |e: io::Error| e.kind() == io::ErrorKind::ConnectionReset;
        assert!(rest.is_empty() && end.map_or_else(reset, |n| n == 0));
    }
}
