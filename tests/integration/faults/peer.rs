//! A peer that follows a script. What it says is a key-stream of its connection and direction, so
//! that a byte that is lost, repeated, out of order or another connection's is noticed where it
//! stands. Must not know: the gateway, or what goes wrong.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::support::{PATIENCE, reset};

/// How much is written and read at once.
const CHUNK: usize = 16 << 10;

/// What a peer does next.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Say(usize),
    /// Says it, unless the connection is over.
    Try(usize),
    Hear(usize),
    /// Ends its half.
    Fin,
    /// The other side must end its half now, without a further byte.
    HearFin,
    /// The other side must reset; bytes may come before.
    HearReset,
}

/// One end of a connection.
pub struct Peer {
    stream: TcpStream,
    says: KeyStream,
    hears: KeyStream,
}

impl Peer {
    /// The end that dialled: it says its number first.
    pub fn client(stream: TcpStream, number: u64) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        (&stream).write_all(&number.to_le_bytes()).expect("the number");
        let (says, hears) = KeyStream::pair(number);
        Self { stream, says, hears }
    }

    /// The end that was dialled.
    pub fn server(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let mut number = [0; 8];
        (&stream).read_exact(&mut number).expect("the number");
        let (hears, says) = KeyStream::pair(u64::from_le_bytes(number));
        Self { stream, says, hears }
    }

    /// Waits so long for each byte.
    pub fn has_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("timeout");
    }

    /// Does all of it, in order.
    pub fn act(&mut self, script: &[Act]) {
        for act in script {
            match *act {
                Act::Say(n) => self.say(n).unwrap_or_else(|e| panic!("{act:?}: {e}")),
                Act::Try(n) => drop(self.say(n)),
                Act::Hear(n) => self.hear(n),
                Act::Fin => self.stream.shutdown(Shutdown::Write).expect("shutdown"),
                Act::HearFin => assert_eq!(self.read(1).expect("FIN"), 0, "a byte and no FIN"),
                Act::HearReset => self.hear_reset(),
            }
        }
    }

    /// Closes by RST.
    pub fn reset(self) {
        reset(self.stream);
    }

    /// Sends until nothing moved for so long: the other end has stopped reading. Gives how many
    /// bytes that took.
    pub fn say_until_full(&mut self, quiet: Duration) -> usize {
        self.stream.set_nonblocking(true).expect("nonblocking");
        let (begun, mut moved, mut sent) = (Instant::now(), Instant::now(), 0);
        while moved.elapsed() < quiet {
            assert!(begun.elapsed() < PATIENCE, "never full: {sent} bytes");
            match self.stream.write(&self.says.ahead(CHUNK)) {
                Ok(n) => {
                    self.says.skip(n);
                    (sent, moved) = (sent + n, Instant::now());
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    thread::park_timeout(Duration::from_millis(5));
                }
                Err(e) => panic!("full: {e}"),
            }
        }
        self.stream.set_nonblocking(false).expect("blocking");
        sent
    }

    /// Sends; false when the connection is over.
    pub fn can_say(&mut self, n: usize) -> bool {
        self.say(n).is_ok()
    }

    fn say(&mut self, mut n: usize) -> io::Result<()> {
        while n > 0 {
            let bytes = self.says.ahead(n.min(CHUNK));
            self.stream.write_all(&bytes)?;
            self.says.skip(bytes.len());
            n -= bytes.len();
        }
        Ok(())
    }

    fn hear(&mut self, mut n: usize) {
        while n > 0 {
            let got = self.read(n).unwrap_or_else(|e| panic!("{n} bytes more: {e}"));
            assert!(got > 0, "FIN, and {n} bytes are missing");
            n -= got;
        }
    }

    fn hear_reset(&mut self) {
        loop {
            match self.read(CHUNK) {
                Ok(0) => panic!("FIN and no RST"),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return,
                Err(e) => panic!("no RST: {e}"),
            }
        }
    }

    /// Reads at most this much, and compares.
    fn read(&mut self, most: usize) -> io::Result<usize> {
        let mut chunk = vec![0; most.min(CHUNK)];
        let n = loop {
            match self.stream.read(&mut chunk) {
                // A debugger, or a host that was frozen: with a timeout the kernel does not go on
                // by itself.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        let expected = self.hears.ahead(n);
        if let Some(wrong) = expected.iter().zip(&chunk).position(|(a, b)| a != b) {
            panic!("byte {} is not this connection's", self.hears.at + wrong);
        }
        self.hears.skip(n);
        Ok(n)
    }
}

/// Bytes that tell by themselves whose they are and where they belong.
struct KeyStream {
    key: u64,
    at: usize,
}

impl KeyStream {
    /// What the client of this connection says, and what its server says.
    fn pair(number: u64) -> (Self, Self) {
        (Self { key: number * 2, at: 0 }, Self { key: number * 2 + 1, at: 0 })
    }

    /// The next bytes.
    fn ahead(&self, n: usize) -> Vec<u8> {
        let first = self.at / 8;
        let words = first..=(self.at + n) / 8;
        let bytes = words.flat_map(|word| self.word(word as u64).to_le_bytes());
        bytes.skip(self.at % 8).take(n).collect()
    }

    fn skip(&mut self, n: usize) {
        self.at += n;
    }

    /// The finalizer of SplitMix64, in which every input bit reaches every output bit.
    fn word(&self, position: u64) -> u64 {
        let mut word = (self.key << 40) ^ position;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }
}

#[test]
fn a_key_stream_is_the_same_in_any_pieces_and_no_other_connections() {
    let (one, other) = KeyStream::pair(7);
    let whole = one.ahead(100);
    let mut pieces = KeyStream { key: one.key, at: 0 };
    let mut joined = Vec::new();
    for n in [0, 1, 7, 8, 9, 16, 59] {
        joined.extend(pieces.ahead(n));
        pieces.skip(n);
    }
    assert_eq!(joined, whole);
    assert_ne!(other.ahead(8), whole[..8]);
    assert_ne!(KeyStream::pair(8).0.ahead(8), whole[..8]);
}
