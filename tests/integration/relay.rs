//! Both directions to the end. Every case runs by copy and by splice.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use diolkos::{
    gateway::{ConnectionView, outcome::Outcome},
    net,
};

use crate::support::{Pod, World, eventually, pattern, read_to_end, reset};

/// Larger than all socket buffers of a connection together.
const BULK: usize = 12 << 20;

fn both_modes(case: impl Fn(&World, &Pod)) {
    for splice in [false, true] {
        let pod = Pod::new();
        let world = World::start(&[pod.address], |config| config.relay.splice = splice);
        case(&world, &pod);
    }
}

fn ended(world: &World, outcome: Outcome) {
    let handle = world.running().handle();
    eventually(outcome.reason(), || (handle.ended(outcome) == 1).then_some(()));
    eventually("no connection is live", || (handle.live() == 0).then_some(()));
}

fn connections(world: &World) -> Vec<ConnectionView> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(world.running().handle().connections())
}

/// Writes `bytes` on a thread of its own, so that the caller can read meanwhile.
fn write_aside(stream: &TcpStream, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    let mut stream = stream.try_clone().expect("clone");
    thread::spawn(move || stream.write_all(&bytes).expect("write"))
}

#[test]
fn bytes_go_both_ways_unchanged() {
    both_modes(|world, pod| {
        let mut client = world.dial();
        let mut server = pod.accept();
        let (up, down) = (pattern(1, BULK), pattern(2, BULK));
        let writers = [write_aside(&client, up.clone()), write_aside(&server, down.clone())];
        let (mut at_server, mut at_client) = (vec![0; BULK], vec![0; BULK]);
        thread::scope(|scope| {
            scope.spawn(|| server.read_exact(&mut at_server).expect("up"));
            scope.spawn(|| client.read_exact(&mut at_client).expect("down"));
        });
        writers.into_iter().for_each(|w| w.join().expect("writer"));
        assert!(at_server == up && at_client == down);
        let views = connections(world);
        let config = world.splices;
        assert!(views.iter().all(|c| c.spliced == config), "the mode asked for is the mode used");
        client.shutdown(Shutdown::Both).expect("shutdown");
        server.shutdown(Shutdown::Both).expect("shutdown");
        ended(world, Outcome::Finished);
    });
}

#[test]
fn a_client_that_half_closes_gets_the_whole_answer() {
    both_modes(|world, pod| {
        let mut client = world.dial();
        let mut server = pod.accept();
        client.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(read_to_end(&mut server), (vec![], true));
        let answer = pattern(3, BULK);
        let writer = write_aside(&server, answer.clone());
        let mut got = vec![0; BULK];
        client.read_exact(&mut got).expect("answer");
        writer.join().expect("writer");
        assert!(got == answer);
        drop(server);
        assert_eq!(read_to_end(&mut client), (vec![], true));
        ended(world, Outcome::Finished);
    });
}

#[test]
fn an_endpoint_that_half_closes_gets_everything_after() {
    both_modes(|world, pod| {
        let mut client = world.dial();
        let mut server = pod.accept();
        server.write_all(b"hello").expect("write");
        server.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(read_to_end(&mut client), (b"hello".to_vec(), true));
        let request = pattern(4, BULK);
        let writer = write_aside(&client, request.clone());
        let mut got = vec![0; BULK];
        server.read_exact(&mut got).expect("request");
        writer.join().expect("writer");
        assert!(got == request);
        drop(client);
        assert_eq!(read_to_end(&mut server), (vec![], true));
        ended(world, Outcome::Finished);
    });
}

#[test]
fn an_endpoint_reset_reaches_the_client_as_reset_after_its_bytes() {
    both_modes(|world, pod| {
        let mut client = world.dial();
        let mut server = pod.accept();
        let bytes = pattern(5, 100_000);
        server.write_all(&bytes).expect("write");
        reset(server);
        let (got, fin) = read_to_end(&mut client);
        assert!(!fin, "RST is passed as RST");
        assert!(bytes.starts_with(&got), "{} bytes, in order", got.len());
        ended(world, Outcome::EndpointReset);
    });
}

#[test]
fn bytes_that_were_taken_before_a_reset_are_delivered() {
    both_modes(|world, pod| {
        let mut client = world.dial();
        let mut server = pod.accept();
        let bytes = pattern(6, 100_000);
        server.write_all(&bytes).expect("write");
        // The gateway has taken all of it when the kernel here has nothing unacknowledged and
        // the client can see it all.
        let mut seen = vec![0; bytes.len()];
        eventually("all bytes are at the client", || {
            let n = client.peek(&mut seen).expect("peek");
            (n == bytes.len()).then_some(())
        });
        reset(server);
        let (got, fin) = read_to_end(&mut client);
        assert!(!fin && got == bytes);
        ended(world, Outcome::EndpointReset);
    });
}

#[test]
fn a_client_reset_reaches_the_endpoint_as_reset() {
    both_modes(|world, pod| {
        let client = world.dial();
        let mut server = pod.accept();
        server.write_all(b"first byte").expect("write");
        (&client).read_exact(&mut [0; 10]).expect("read");
        reset(client);
        assert_eq!(read_to_end(&mut server), (vec![], false));
        ended(world, Outcome::ClientReset);
    });
}

#[test]
fn a_reader_that_stops_loses_nothing() {
    both_modes(|world, pod| {
        let mut client = world.dial();
        let server = pod.accept();
        let bytes = pattern(7, BULK);
        let writer = write_aside(&server, bytes.clone());
        // Stopped until nothing moves any more: every buffer on the way is full.
        let mut last = 0;
        eventually("the way is full", || {
            let now = connections(world).first().map_or(0, |c| c.sent);
            thread::park_timeout(Duration::from_millis(50));
            let same = now == last && now > 0;
            last = now;
            same.then_some(())
        });
        let mut got = vec![0; BULK];
        client.read_exact(&mut got).expect("read");
        writer.join().expect("writer");
        drop(server);
        assert!(got == bytes);
        assert_eq!(read_to_end(&mut client), (vec![], true));
    });
}

#[test]
fn what_follows_the_hello_in_one_write_keeps_its_order() {
    both_modes(|world, pod| {
        let mut client = TcpStream::connect(world.address).expect("connect");
        let more = pattern(8, 64 * 1024);
        let wire = [crate::support::HELLO, &more].concat();
        let writer = write_aside(&client, wire);
        let mut server = pod.accept();
        let mut got = vec![0; more.len()];
        server.read_exact(&mut got).expect("read");
        writer.join().expect("writer");
        assert!(got == more);
        server.write_all(b"x").expect("write");
        client.read_exact(&mut [0]).expect("read");
    });
}

#[test]
fn an_endpoint_reset_is_noticed_while_the_client_does_not_read() {
    both_modes(|world, pod| {
        let mut client = world.dial();
        let server = pod.accept();
        server.set_nonblocking(true).expect("nonblocking");
        let chunk = pattern(9, 64 * 1024);
        eventually("the way is full", || {
            let blocked = (&server).write(&chunk).is_err();
            thread::park_timeout(Duration::from_millis(20));
            (blocked && (&server).write(&chunk).is_err()).then_some(())
        });
        reset(server);
        let handle = world.running().handle();
        eventually("the connection ends", || (handle.live() == 0).then_some(()));
        let (_, fin) = read_to_end(&mut client);
        assert!(!fin);
    });
}

/// Fills the way to `reader`, which does not read. Gives how much went in.
fn fill(writer: &TcpStream) -> usize {
    writer.set_nonblocking(true).expect("nonblocking");
    let chunk = pattern(11, 64 * 1024);
    let mut sent = 0;
    eventually("the way is full", || {
        let before = sent;
        while let Ok(n) = (&*writer).write(&chunk[sent % chunk.len()..]) {
            sent += n;
        }
        thread::park_timeout(Duration::from_millis(50));
        (before == sent && sent > 0).then_some(())
    });
    writer.set_nonblocking(false).expect("blocking");
    sent
}

#[test]
fn a_limit_that_ends_a_stalled_connection_delivers_what_was_sent_or_resets() {
    for splice in [false, true] {
        for reads_on in [true, false] {
            let pod = Pod::new();
            let world = World::start(&[pod.address], |config| {
                config.relay.splice = splice;
                config.relay.idle_timeout = Some(Duration::from_secs(1));
                config.relay.abort_linger = Duration::from_secs(if reads_on { 60 } else { 1 });
            });
            let client = world.dial();
            let mut server = pod.accept();
            let sent = fill(&client) - net::sys::unacknowledged(&client).expect("a count");
            let handle = world.running().handle();
            let how = format!("splice {splice}, reads on {reads_on}");
            if reads_on {
                // The limit is long over, and the sweep has said so more than once.
                thread::park_timeout(Duration::from_millis(2500));
                let (got, fin) = read_to_end(&mut server);
                assert!(fin && got.len() >= sent, "{how}: {} of {sent}, FIN {fin}", got.len());
            } else {
                eventually("it ends", || (handle.live() == 0).then_some(()));
                let (got, fin) = read_to_end(&mut server);
                assert!(!fin, "{how}: a FIN would say that {} of {sent} were all", got.len());
            }
            ended(&world, Outcome::IdleTimeout);
        }
    }
}

#[test]
fn a_reset_waits_for_a_reader_that_stopped_no_longer_than_the_linger() {
    let linger = Duration::from_secs(5);
    thread::scope(|scope| {
        for splice in [false, true] {
            scope.spawn(move || {
                let pod = Pod::new();
                let world = World::start(&[pod.address], |config| {
                    config.relay.splice = splice;
                    config.relay.abort_linger = linger;
                });
                let (client, _server) = (world.dial(), pod.accept());
                fill(&client);
                reset(client);
                let begun = std::time::Instant::now();
                let handle = world.running().handle();
                eventually("it ends", || (handle.live() == 0).then_some(()));
                let took = begun.elapsed();
                assert!(took >= linger && took < linger * 2, "splice {splice}: {took:?}");
                ended(&world, Outcome::ClientReset);
            });
        }
    });
}

/// The last of what a client sent waits in the gateway while the endpoint does not read, and both
/// FINs of the client's side are through: to the kernel that socket is closed, but nobody reset.
#[test]
fn a_client_that_closed_after_the_endpoint_half_closed_loses_nothing() {
    both_modes(|world, pod| {
        let mut client = world.dial();
        let mut server = pod.accept();
        server.write_all(b"x").expect("write");
        server.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(read_to_end(&mut client), (b"x".to_vec(), true));
        let chunk = pattern(10, 16 * 1024);
        let mut sent = crate::support::HELLO.len();
        let taken =
            || connections(world).first().map_or_else(Default::default, |c| (c.received, c.idle));
        eventually("the gateway takes no more", || {
            let (received, idle) = taken();
            if received == sent as u64 {
                client.write_all(&chunk).expect("write");
                sent += chunk.len();
                return None;
            }
            (idle > Duration::from_secs(1)).then_some(())
        });
        client.shutdown(Shutdown::Write).expect("shutdown");
        // The sweep has looked at it some times more, and the linger is over.
        let since = taken().1;
        eventually("it is looked at", || {
            let (_, idle) = taken();
            (idle > since + Duration::from_millis(2500)).then_some(())
        });
        let (got, fin) = read_to_end(&mut server);
        assert!(fin, "FIN is passed as FIN, after {} of {sent} bytes", got.len());
        assert_eq!(got.len() + crate::support::HELLO.len(), sent);
        assert!(got.chunks(chunk.len()).all(|got| got == chunk));
        ended(world, Outcome::Finished);
    });
}
