//! What peers seldom do with bytes, and may: urgent ones, one at a time, in the first packet, a
//! second hello; and both ends that reset at once.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use diolkos::{gateway::outcome::Outcome, routing::Policy};
use rustix::net::{SendFlags, send, sendto};

use super::net::Net;
use crate::support::{
    HELLO, PATIENCE, Pod, World, eventually,
    hello::Hello,
    mesh::{Files, Service, gateway},
    pattern,
    process::Process,
    read_to_end, reset,
};

/// Enough that a flow is spliced, where it may be.
const BULK: usize = 1 << 20;

/// A connection on which a byte came back, without delay at either end.
fn served(world: &World, pod: &Pod) -> (TcpStream, TcpStream) {
    let mut client = world.dial();
    let mut server = pod.accept();
    server.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("served");
    client.set_nodelay(true).expect("nodelay");
    server.set_nodelay(true).expect("nodelay");
    (client, server)
}

#[test]
fn two_sides_that_reset_at_once_are_one_end() {
    const TIMES: u64 = 30;
    let pod = Pod::new();
    let world = World::start(&[pod.address], |_| {});
    for _ in 0..TIMES {
        let (client, server) = served(&world, &pod);
        let both = Barrier::new(2);
        thread::scope(|scope| {
            for end in [client, server] {
                let both = &both;
                scope.spawn(move || {
                    both.wait();
                    reset(end);
                });
            }
        });
    }
    let handle = world.running().handle();
    let ended = |outcome| handle.ended(outcome);
    eventually("each has ended", || {
        let resets = ended(Outcome::ClientReset) + ended(Outcome::EndpointReset);
        (resets == TIMES && handle.live() == 0).then_some(())
    });
    assert_eq!(Outcome::ALL.iter().map(|outcome| ended(*outcome)).sum::<u64>(), TIMES);
}

/// Two bytes in two packets, and an answer to both: whoever held the second back until the first
/// was acknowledged would lose 40 ms each time, 20 s in all.
#[test]
fn a_byte_at_a_time_waits_for_nobody() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], |_| {});
    let (mut client, mut server) = served(&world, &pod);
    let begun = Instant::now();
    for n in 0..500_u32 {
        let byte = n.to_le_bytes()[0];
        client.write_all(&[byte]).expect("write");
        client.write_all(&[byte]).expect("write");
        let mut got = [0; 2];
        server.read_exact(&mut got).expect("read");
        assert_eq!(got, [byte; 2]);
        server.write_all(&[byte]).expect("write");
        server.write_all(&[byte]).expect("write");
        client.read_exact(&mut got).expect("read");
        assert_eq!(got, [byte; 2]);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn single_bytes_for_a_reader_that_stopped_take_no_memory_of_ours() {
    const MOST: usize = 150_000;
    let pod = Pod::new();
    let bar = Service::new("bar", &[pod.address]);
    let files =
        Files::with(&[("gateway.yaml", &gateway(&["*.global"])[..]), ("bar.yaml", &bar.yaml())]);
    let process = Process::start(files.path(), &["gateway.workers=1"]);
    let mut client = process.ask(&bar.key());
    socket2::SockRef::from(&client).set_recv_buffer_size(4096).expect("a small buffer");
    let mut server = pod.accept_hello(&Hello::new(&bar.key()).wire());
    server.set_nodelay(true).expect("nodelay");
    let memory = || process.sample("process_resident_memory_bytes").expect("a sample");
    // What a first scrape takes is there.
    memory();
    let before = memory();
    server.set_nonblocking(true).expect("nonblocking");
    let bytes = pattern(1, MOST);
    let (mut sent, mut moved) = (0, Instant::now());
    while sent < MOST && moved.elapsed() < Duration::from_millis(500) {
        match server.write(&bytes[sent..=sent]) {
            Ok(n) => (sent, moved) = (sent + n, Instant::now()),
            Err(_) => thread::park_timeout(Duration::from_millis(5)),
        }
    }
    let grown = memory() - before;
    assert!(grown < 1_500_000.0, "{grown} bytes for {sent}");
    server.shutdown(Shutdown::Write).expect("shutdown");
    let (got, fin) = read_to_end(&mut client);
    assert!(fin && got == bytes[..sent], "{} of {sent}", got.len());
}

/// The kernel keeps urgent bytes out of the stream; a splice that comes to one says that all is
/// over, once the FIN is there. (What follows one comes with the next packet: reads stop there too.)
#[test]
fn what_comes_before_and_after_urgent_bytes_is_not_lost() {
    for splice in [false, true] {
        let pod = Pod::new();
        let world = World::start(&[pod.address], |config| config.relay.splice = splice);
        let (client, server) = served(&world, &pod);
        thread::scope(|scope| {
            for (mut from, to, seed) in [(&client, &server, 1), (&server, &client, 2)] {
                let (before, after) = (pattern(seed, BULK), pattern(seed + 10, 1000));
                let expected = [&before[..], &after].concat();
                scope.spawn(move || {
                    from.write_all(&before).expect("write");
                    assert_eq!(send(from, b"!", SendFlags::OOB), Ok(1));
                    from.write_all(&after).expect("write");
                    from.shutdown(Shutdown::Write).expect("shutdown");
                });
                scope.spawn(move || {
                    let (mut got, fin) = read_to_end(to);
                    if got.len() > expected.len() {
                        assert_eq!(got.remove(BULK), b'!');
                    }
                    assert!(fin && got == expected, "splice {splice}: {} bytes", got.len());
                });
            }
        });
        drop((client, server));
        world.ended(Outcome::Finished);
    }
}

/// A read stops short of an urgent byte, and what is behind it may have come already.
#[test]
fn what_is_behind_an_urgent_byte_does_not_wait_for_more() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], |_| {});
    let (mut client, mut server) = served(&world, &pod);
    let (before, after) = ([1; 5000], [2; 5000]);
    for round in 0..30 {
        client.write_all(&before).expect("write");
        assert_eq!(send(&client, b"!", SendFlags::OOB), Ok(1));
        client.write_all(&after).expect("write");
        // Where the mark came too late to be one, the byte is like any other.
        let (mut got, mut twos) = ([0; 4096], 0);
        while twos < after.len() {
            let n = server.read(&mut got).expect("all comes in time");
            assert!(n > 0, "round {round}");
            twos += got[..n].iter().filter(|byte| **byte == 2).count();
        }
    }
}

#[test]
fn a_second_hello_is_bytes_like_any_other() {
    let pod = Pod::new();
    let world = World::start(&[pod.address], |_| {});
    // As after a HelloRetryRequest: another hello, with another name in it.
    let (mut client, mut server) = served(&world, &pod);
    let other = Hello::new("outbound_.8080_._.other.ns2.global").wire();
    client.write_all(&other).expect("write");
    let mut got = vec![0; other.len()];
    server.read_exact(&mut got).expect("read");
    assert_eq!(got, other);
    assert!(pod.waiting().is_none(), "nobody else is dialled for it");
}

#[test]
fn a_hello_in_the_first_packet_is_served() {
    // Client; then server, without cookies, for every listener.
    const CLIENT: &str = "5";
    const EVERY_LISTENER: &str = "1538";
    let Some(net) = Net::new(1) else { return };
    net.client.tune("ipv4/tcp_fastopen", CLIENT);
    net.gateway.tune("ipv4/tcp_fastopen", EVERY_LISTENER);
    let pod = net.listeners().remove(0);
    let world = net.serve(&[pod.address], Policy::default(), |_| {});
    let dialled = net.client.within(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        // MSG_FASTOPEN: connects, and sends with the SYN.
        let flags = SendFlags::from_bits_retain(0x2000_0000);
        assert_eq!(sendto(&socket, HELLO, flags, &world.address), Ok(HELLO.len()));
        TcpStream::from(socket)
    });
    dialled.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut server = pod.accept();
    server.write_all(b"x").expect("write");
    (&dialled).read_exact(&mut [0]).expect("served");
    assert!(net.gateway.counted("TCPFastOpenPassive") > 0, "it was in the SYN");
}
