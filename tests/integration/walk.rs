//! Peers that do anything in any order: seeded scripts over real sockets, by copy and by splice.
//!
//! Each side of each connection sends its own key-stream, so a byte that is lost, doubled, out of
//! place or somebody else's is noticed where it stands. Must not know: how bytes are moved.
//!
//! `DIOLKOS_WALK_SCRIPTS=100000` walks on; a failure names the `DIOLKOS_WALK_SEED` that begins
//! with its script.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diolkos::gateway::outcome::Outcome;

use crate::support::{PATIENCE, Pod, World, eventually, reset};

/// At once, so that pipes and worker are shared.
const TOGETHER: usize = 8;
/// Enough to fill every buffer on the way, and few enough to be quick.
const SCRIPTS: u64 = 100;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn walk(splice: bool) {
    let (first, scripts) =
        (setting("DIOLKOS_WALK_SEED", 1), setting("DIOLKOS_WALK_SCRIPTS", SCRIPTS));
    let pod = Pod::new();
    let world = World::start(&[pod.address], |config| config.relay.splice = splice);
    let (next, dialling) = (AtomicU64::new(first), Mutex::new(()));
    thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + scripts {
                        return;
                    }
                    // One after the other, so that it is known whose connection reaches the pod.
                    let pair = {
                        let _one = dialling.lock().expect("a script failed");
                        let client = world.dial();
                        (client, pod.accept())
                    };
                    let mut script = Script::new(seed, pair);
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| script.run())) {
                        eprintln!("splice {splice}: {script:#?}");
                        eprintln!("again: DIOLKOS_WALK_SEED={seed} DIOLKOS_WALK_SCRIPTS=1");
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                        resume_unwind(panic);
                    }
                }
            });
        }
    });
    let handle = world.running().handle();
    eventually("no connection is live", || (handle.live() == 0).then_some(()));
    let ended: u64 = Outcome::ALL.iter().map(|outcome| handle.ended(*outcome)).sum();
    assert_eq!((handle.accepted(), ended), (scripts, scripts), "each is counted once");
}

#[test]
fn peers_that_do_anything_in_any_order_see_each_other_truly_by_copy() {
    walk(false);
}

#[test]
fn peers_that_do_anything_in_any_order_see_each_other_truly_by_splice() {
    walk(true);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Send(usize),
    HalfClose,
    Reset,
    Stall,
    Resume,
    /// Both move bytes for so many rounds.
    Move(usize),
}

/// How a peer's reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fin,
    Rst,
}

#[derive(Debug)]
struct Peer {
    /// `None` once it has reset.
    stream: Option<TcpStream>,
    key: u64,
    /// Bytes that it means to send, and has sent.
    wanted: u64,
    sent: u64,
    received: u64,
    reads: bool,
    closes: bool,
    sent_fin: bool,
    /// A write told of a reset, which the kernel tells once.
    broken: bool,
    end: Option<End>,
}

#[derive(Debug)]
struct Script {
    random: u64,
    /// What was done, for whoever reads of a failure.
    done: Vec<(usize, Step)>,
    /// Client and endpoint.
    peers: [Peer; 2],
}

impl Script {
    fn new(seed: u64, (client, server): (TcpStream, TcpStream)) -> Self {
        let peer = |stream: TcpStream, key| {
            stream.set_nonblocking(true).expect("nonblocking");
            Peer {
                stream: Some(stream),
                key,
                wanted: 0,
                sent: 0,
                received: 0,
                reads: true,
                closes: false,
                sent_fin: false,
                broken: false,
                end: None,
            }
        };
        let peers = [peer(client, seed * 2), peer(server, seed * 2 + 1)];
        Self { random: mix(seed), done: Vec::new(), peers }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random = mix(self.random);
        self.random % end
    }

    fn run(&mut self) {
        for _ in 0..=self.below(14) {
            let side = usize::from(self.below(2) == 1);
            let step = self.step();
            self.done.push((side, step));
            self.act(side, step);
        }
        for peer in &mut self.peers {
            (peer.reads, peer.closes) = (true, true);
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.peers.iter().all(Peer::is_over) {
            if !self.move_bytes() {
                assert!(Instant::now() < deadline, "it does not end");
                thread::park_timeout(Duration::from_millis(1));
            }
        }
        self.check();
    }

    fn step(&mut self) -> Step {
        match self.below(20) {
            0..=3 => Step::Send(1 + usize::try_from(self.below(100)).expect("small")),
            4..=6 => Step::Send(1 + usize::try_from(self.below(70_000)).expect("small")),
            7..=8 => Step::Send(usize::try_from(self.below(3 << 20)).expect("small")),
            9..=10 => Step::Stall,
            11 => Step::Resume,
            12 => Step::HalfClose,
            13 => Step::Reset,
            _ => Step::Move(1 + usize::try_from(self.below(30)).expect("small")),
        }
    }

    fn act(&mut self, side: usize, step: Step) {
        let peer = &mut self.peers[side];
        match step {
            Step::Send(n) if !peer.closes => peer.wanted += n as u64,
            Step::Send(_) => {}
            Step::HalfClose => peer.closes = true,
            Step::Stall => peer.reads = false,
            Step::Resume => peer.reads = true,
            // Whoever has said and heard FIN is done, and its kernel resets nothing.
            Step::Reset if peer.sent_fin && peer.end.is_some() => {}
            Step::Reset => {
                if let Some(stream) = peer.stream.take() {
                    reset(stream);
                }
            }
            Step::Move(rounds) => {
                for _ in 0..rounds {
                    if !self.move_bytes() {
                        thread::yield_now();
                    }
                }
            }
        }
    }

    /// True when a byte or an end was seen.
    fn move_bytes(&mut self) -> bool {
        let [client, server] = &mut self.peers;
        let written = [client.write(), server.write()];
        let read = [client.read(server.key), server.read(client.key)];
        for (to, from) in [(&*client, &*server), (&*server, &*client)] {
            assert!(to.received <= from.sent, "more bytes than were sent");
        }
        written.into_iter().chain(read).any(|moved| moved)
    }

    /// What each saw is what the other did.
    fn check(&self) {
        let [client, server] = &self.peers;
        for (to, from) in [(client, server), (server, client)] {
            match to.end {
                // It has reset, and looked no more.
                None => {}
                Some(End::Fin) => {
                    assert!(from.sent_fin, "a FIN that nobody sent");
                    assert_eq!(to.received, from.sent, "a FIN before the last byte");
                }
                Some(End::Rst) => {
                    assert!(from.stream.is_none(), "a reset that nobody sent");
                }
            }
        }
    }
}

impl Peer {
    /// It will see and do no more.
    fn is_over(&self) -> bool {
        self.stream.is_none() || (self.end.is_some() && (self.sent_fin || self.broken))
    }

    fn write(&mut self) -> bool {
        let Some(mut stream) = self.stream.as_ref() else { return false };
        if self.broken || self.sent_fin {
            return false;
        }
        let len = (self.wanted - self.sent).min(64 << 10);
        if len == 0 {
            if self.closes {
                self.sent_fin = true;
                self.broken = stream.shutdown(Shutdown::Write).is_err();
            }
            return self.closes;
        }
        match stream.write(&key_stream(self.key, self.sent, len)) {
            Ok(n) => {
                self.sent += n as u64;
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => {
                assert!(is_reset(&error), "{error}");
                self.broken = true;
                true
            }
        }
    }

    fn read(&mut self, key: u64) -> bool {
        let Some(mut stream) = self.stream.as_ref().filter(|_| self.reads) else { return false };
        if self.end.is_some() {
            return false;
        }
        let mut bytes = vec![0; 64 << 10];
        match stream.read(&mut bytes) {
            Ok(0) => self.end = Some(if self.broken { End::Rst } else { End::Fin }),
            Ok(n) => {
                let expected = key_stream(key, self.received, n as u64);
                assert!(bytes[..n] == expected, "other bytes behind {}", self.received);
                self.received += n as u64;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => {
                assert!(is_reset(&error), "{error}");
                (self.end, self.broken) = (Some(End::Rst), true);
            }
        }
        true
    }
}

fn is_reset(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Part of an endless stream of bytes of its own. Cheap without optimisation too.
fn key_stream(key: u64, from: u64, len: u64) -> Vec<u8> {
    let (key, skip) = (mix(key), usize::try_from(from % 8).expect("small"));
    let len = usize::try_from(len).expect("a chunk");
    let mut bytes = vec![0; (skip + len).next_multiple_of(8)];
    for (word, place) in (from / 8..).zip(bytes.chunks_exact_mut(8)) {
        place.copy_from_slice(&(word.wrapping_mul(key | 1) ^ key).to_le_bytes());
    }
    bytes.truncate(skip + len);
    bytes.split_off(skip)
}

/// The finisher of splitmix64, which has no short cycles from counters.
fn mix(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}
