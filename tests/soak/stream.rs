//! A connection's end that says and hears key-streams: a byte that is lost, doubled, out of place
//! or another connection's is noticed where it stands. Must not know: scripts.

use std::{
    io::{self, ErrorKind},
    sync::LazyLock,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What is wrong, in words.
pub type Wrong = String;

const CHUNK: usize = 64 << 10;
/// A prime, so that no usual length is a multiple of it.
const TABLE_LEN: usize = 4_194_301;

/// Random bytes, and the first of them again behind the last. Each key-stream is all of it over
/// and over, begun at a place of its own: to make and to compare it is to copy and to compare.
static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = (0..TABLE_LEN.div_ceil(8) as u64).flat_map(|n| mix(n).to_le_bytes());
    let mut bytes: Vec<u8> = words.take(TABLE_LEN).collect();
    bytes.extend_from_within(..CHUNK);
    bytes
});

/// The finisher of splitmix64.
pub fn mix(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// One direction of one connection.
#[derive(Clone, Copy, Debug)]
struct KeyStream {
    key: u64,
    at: u64,
}

impl KeyStream {
    fn ahead(&self, n: usize) -> &'static [u8] {
        let begin = (mix(self.key) % TABLE_LEN as u64 + self.at) % TABLE_LEN as u64;
        let begin = usize::try_from(begin).expect("below the length");
        &TABLE[begin..begin + n.min(CHUNK)]
    }
}

/// One end.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    says: KeyStream,
    hears: KeyStream,
}

impl Stream {
    /// The end of the connection with this number that dialled.
    pub fn client(tcp: TcpStream, number: u64) -> Self {
        let stream = |key| KeyStream { key, at: 0 };
        Self { tcp, says: stream(number * 2), hears: stream(number * 2 + 1) }
    }

    /// The end that was dialled.
    pub fn server(tcp: TcpStream, number: u64) -> Self {
        let Self { tcp, says, hears } = Self::client(tcp, number);
        Self { tcp, says: hears, hears: says }
    }

    /// Bytes said and heard so far.
    pub fn moved(&self) -> (u64, u64) {
        (self.says.at, self.hears.at)
    }

    pub async fn say(&mut self, n: u64) -> Result<(), Wrong> {
        let (tcp, says) = (&mut self.tcp, &mut self.says);
        say(tcp, says, n).await.map_err(|e| format!("say {n} bytes: {e}"))
    }

    pub async fn hear(&mut self, n: u64) -> Result<(), Wrong> {
        hear(&mut self.tcp, &mut self.hears, n).await
    }

    /// Both at once, neither waiting for the other.
    pub async fn say_and_hear(&mut self, say_n: u64, hear_n: u64) -> Result<(), Wrong> {
        let (mut from, mut to) = self.tcp.split();
        let said = async {
            say(&mut to, &mut self.says, say_n).await.map_err(|e| format!("say and hear: {e}"))
        };
        tokio::try_join!(said, hear(&mut from, &mut self.hears, hear_n)).map(|_| ())
    }

    /// Ends our half.
    pub async fn fin(&mut self) -> Result<(), Wrong> {
        self.tcp.shutdown().await.map_err(|e| format!("FIN: {e}"))
    }

    /// The other half must end now, in order, without a further byte.
    pub async fn hear_fin(&mut self) -> Result<(), Wrong> {
        match self.tcp.read(&mut [0]).await {
            Ok(0) => Ok(()),
            Ok(_) => Err("a byte and no FIN".into()),
            Err(e) => Err(format!("no FIN: {e}")),
        }
    }

    /// The connection must be reset now, without a further byte.
    pub async fn hear_reset(&mut self) -> Result<(), Wrong> {
        match self.tcp.read(&mut [0]).await {
            Err(e) if is_reset(&e) => Ok(()),
            Ok(0) => Err("FIN and no RST".into()),
            Ok(_) => Err("a byte and no RST".into()),
            Err(e) => Err(format!("no RST: {e}")),
        }
    }

    /// Says as much as it can of so many bytes to a peer that resets meanwhile.
    pub async fn say_until_reset(&mut self, n: u64) -> Result<(), Wrong> {
        match say(&mut self.tcp, &mut self.says, n).await {
            Ok(()) => self.hear_reset().await,
            Err(e) if is_reset(&e) => Ok(()),
            Err(e) => Err(format!("no RST: {e}")),
        }
    }

    /// Closes by RST.
    pub fn reset(&self) -> Result<(), Wrong> {
        let socket = socket2::SockRef::from(&self.tcp);
        socket.set_linger(Some(Duration::ZERO)).map_err(|e| format!("linger: {e}"))
    }
}

async fn say(
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    says: &mut KeyStream,
    n: u64,
) -> io::Result<()> {
    let end = says.at + n;
    while says.at < end {
        let left = usize::try_from(end - says.at).unwrap_or(CHUNK);
        says.at += to.write(says.ahead(left)).await? as u64;
    }
    Ok(())
}

async fn hear(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    hears: &mut KeyStream,
    n: u64,
) -> Result<(), Wrong> {
    let end = hears.at + n;
    let mut chunk = vec![0; usize::try_from(n).unwrap_or(CHUNK).min(CHUNK)];
    while hears.at < end {
        let left = usize::try_from(end - hears.at).unwrap_or(CHUNK).min(CHUNK);
        let at = hears.at;
        let got = match from.read(&mut chunk[..left]).await {
            Ok(0) => return Err(format!("FIN at byte {at}, {} are missing", end - at)),
            Ok(got) => got,
            Err(e) => return Err(format!("{e} at byte {at}, {} are missing", end - at)),
        };
        if chunk[..got] != *hears.ahead(got) {
            return Err(format!("other bytes within {got} behind {at}"));
        }
        hears.at += got as u64;
    }
    Ok(())
}

pub fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

#[test]
fn a_key_stream_is_no_other_and_is_the_same_in_any_pieces() {
    let stream = |key, at| KeyStream { key, at };
    assert_ne!(stream(2, 0).ahead(16), stream(3, 0).ahead(16));
    assert_ne!(stream(2, 0).ahead(16), stream(4, 0).ahead(16));
    assert_eq!(stream(2, 0).ahead(20)[7..], *stream(2, 7).ahead(13));
    let round = stream(2, TABLE_LEN as u64);
    assert_eq!(stream(2, 0).ahead(CHUNK), round.ahead(CHUNK));
    assert_eq!(stream(2, 0).ahead(usize::MAX).len(), CHUNK);
}
