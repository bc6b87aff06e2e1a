//! Finds the ClientHello at the start of a connection and reads what routing and the log need.
//!
//! Pure and incremental: bytes in, verdict out. Must not know: sockets, time, routes, which names
//! exist, alert numbers. As strict as BoringSSL, because that is what stood here before and what
//! most endpoints run; a refusal never depends on how TCP or TLS cut the bytes.
//!
//! Every read is bounded by the slice that holds the field, never by the length that the peer
//! promised; memory follows the bytes that came.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod body;
mod compose;
mod malformed;
mod reader;
#[cfg(test)]
mod tests;

pub(super) use compose::compose;
pub use malformed::Malformed;

/// Finds the end of the hello in a growing prefix of a connection.
///
/// It remembers where the last whole record ended, so that scanning again after each read costs
/// what the new bytes cost.
///
/// The verdict is a function of the bytes alone: once a prefix has one, every longer prefix has
/// the same. And it always comes in time: [`Scan::NeedMore`] implies that `wire` is shorter than
/// `bytes_max`.
#[derive(Clone, Debug)]
pub struct Scanner {
    bytes_max: usize,
    /// Where the first record that is not whole yet begins; 0 while that is the first one.
    record_start: usize,
    /// Handshake bytes in the records before `record_start`.
    joined: usize,
    /// The handshake header: as many of its bytes are valid as `joined` says.
    head: [u8; HANDSHAKE_HEADER_LEN],
}

/// What a [`Scanner`] says about the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// A hello may still come of it.
    NeedMore,
    /// The hello is whole and well formed.
    Hello(ClientHello),
    /// No hello, whatever follows.
    Refuse(Refusal),
}

/// Why the first bytes of a connection are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The first byte is no TLS content type, or the one after it no TLS version.
    NotTls,
    /// A record that is not of major version 3, or a hello that offers less than TLS 1.0.
    BadVersion,
    /// TLS, but not one well-formed ClientHello.
    Malformed(Malformed),
    /// The records that hold the hello are longer than `bytes_max` in all.
    TooLarge,
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// What the ClientHello says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// Bytes from the start of the connection to the end of the record that completes the hello.
    /// What follows was pipelined behind it.
    pub wire_len: usize,
    /// `None` when there is no server_name extension.
    pub server_name: Option<ServerName>,
    /// The protocols offered; none when there is no ALPN extension.
    pub alpn: Alpn,
    /// The version in the fixed part of the hello, at least 0x0301. It is the newest one offered
    /// when `supported_versions` is empty, and means nothing otherwise.
    pub legacy_version: u16,
    /// The supported_versions extension as sent, GREASE included; empty when there is none.
    pub supported_versions: Box<[u16]>,
    /// The supported_groups extension as sent, GREASE included; empty when there is none.
    pub supported_groups: Box<[u16]>,
    /// The groups for which the client already sent a key, GREASE included.
    pub key_share_groups: Box<[u16]>,
    /// The client's random: the same in a hello that came back to us, and nowhere else.
    pub random: [u8; RANDOM_LEN],
    /// The client may send 0-RTT data behind the hello, so it must not reach two endpoints.
    pub early_data: bool,
    /// There is an encrypted_client_hello extension, real or GREASE: the server name is the
    /// outer one.
    pub ech: bool,
}

/// The one host_name of the server_name extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerName {
    /// 1 to 255 ASCII letters, digits, `.`, `-` and `_`, folded to lower case. Labels are not
    /// judged, and a trailing dot is kept.
    Name(Box<str>),
    /// 1 to 255 bytes as sent, at least one of them outside that set.
    BadName(Box<[u8]>),
}

/// The protocol names of the ALPN extension, in the client's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alpn(Box<[u8]>);

impl Alpn {
    /// Each name, 1 to 255 bytes.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut list = reader::Reader::new(&self.0);
        std::iter::from_fn(move || list.u8_prefixed().map(reader::Reader::into_bytes))
    }

    /// True when the hello had no ALPN extension: a list in it is never empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

const RECORD_HEADER_LEN: usize = 5;
const HANDSHAKE_HEADER_LEN: usize = 4;
const RANDOM_LEN: usize = 32;
/// The most that one record may carry in the clear (RFC 8446 §5.1).
const RECORD_PAYLOAD_MAX: usize = 1 << 14;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const MAJOR_VERSION: u8 = 3;
const CLIENT_HELLO: u8 = 1;

impl Scanner {
    /// A scanner that refuses a hello of more than `bytes_max` bytes on the wire, record headers
    /// included. Less than one record header counts as that.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max: bytes_max.max(RECORD_HEADER_LEN),
            record_start: 0,
            joined: 0,
            head: [0; HANDSHAKE_HEADER_LEN],
        }
    }

    /// Judges `wire`: all bytes since the start of the connection, those of earlier calls again
    /// in front.
    pub fn scan(&mut self, wire: &[u8]) -> Scan {
        match self.walk(wire) {
            Ok(None) => Scan::NeedMore,
            Ok(Some(hello)) => Scan::Hello(hello),
            Err(refusal) => Scan::Refuse(refusal),
        }
    }

    /// Goes from record to record. Checks stand in the order of the bytes that decide them, so
    /// that a longer prefix cannot find another reason first.
    fn walk(&mut self, wire: &[u8]) -> Result<Option<ClientHello>, Refusal> {
        loop {
            let rest = wire.get(self.record_start..).unwrap_or_default();
            check_record_start(rest, self.record_start == 0)?;
            let Some((header, payload)) = rest.split_first_chunk() else { return Ok(None) };
            let record_len = record_len(header)?;
            let record_end =
                self.record_start.saturating_add(RECORD_HEADER_LEN).saturating_add(record_len);
            let joined = self.joined.saturating_add(record_len);
            self.check_size(record_end, HANDSHAKE_HEADER_LEN.saturating_sub(joined))?;

            let (payload, whole) = match payload.split_at_checked(record_len) {
                Some((payload, _)) => (payload, true),
                None => (payload, false),
            };
            let (head, hello_len) = self.read_head(payload)?;
            if let Some(hello_len) = hello_len {
                // RFC 8446 §5.1: nothing may share the hello's last record.
                let missing = hello_len.checked_sub(joined).ok_or(Malformed::ExcessData)?;
                self.check_size(record_end, missing)?;
            }
            if !whole {
                return Ok(None);
            }
            if hello_len == Some(joined) {
                return self.read_hello(wire, payload, record_end, joined).map(Some);
            }
            self.head = head;
            self.joined = joined;
            self.record_start = record_end;
        }
    }

    /// The handshake header with the bytes that this record adds to it, and once it is whole the
    /// length of the hello with its header.
    fn read_head(&self, payload: &[u8]) -> Result<([u8; 4], Option<usize>), Refusal> {
        let mut head = self.head;
        for (slot, byte) in head.iter_mut().skip(self.joined).zip(payload) {
            *slot = *byte;
        }
        let known = self.joined.saturating_add(payload.len());
        let [kind, high, middle, low] = head;
        if known > 0 && kind != CLIENT_HELLO {
            return Err(Malformed::NotClientHello.into());
        }
        let body_len = u32::from_be_bytes([0, high, middle, low]) as usize;
        let hello_len = body_len.saturating_add(HANDSHAKE_HEADER_LEN);
        Ok((head, (known >= HANDSHAKE_HEADER_LEN).then_some(hello_len)))
    }

    /// Refuses as soon as the bytes up to `record_end` and those still `missing`, in the fewest
    /// records that can hold them, are more than the limit.
    fn check_size(&self, record_end: usize, missing: usize) -> Result<(), Refusal> {
        let headers = missing.div_ceil(RECORD_PAYLOAD_MAX).saturating_mul(RECORD_HEADER_LEN);
        let least = record_end.saturating_add(missing).saturating_add(headers);
        if least > self.bytes_max { Err(Refusal::TooLarge) } else { Ok(()) }
    }

    /// Reads the whole hello: in place when one record holds it, as nearly always, else joined.
    fn read_hello(
        &self,
        wire: &[u8],
        payload: &[u8],
        wire_len: usize,
        hello_len: usize,
    ) -> Result<ClientHello, Refusal> {
        let joined;
        let hello = if self.record_start == 0 {
            payload
        } else {
            joined = join_records(wire, hello_len);
            &joined
        };
        body::read(hello.get(HANDSHAKE_HEADER_LEN..).unwrap_or_default(), wire_len)
    }
}

/// Judges content type and major version, each as soon as it is there.
///
/// Another content type than handshake at the very start is junk more often than TLS, so its
/// version decides which of the two it is.
fn check_record_start(record: &[u8], first: bool) -> Result<(), Refusal> {
    match *record {
        [] | [HANDSHAKE] | [HANDSHAKE, MAJOR_VERSION, ..] => Ok(()),
        [HANDSHAKE, ..] => Err(Refusal::BadVersion),
        [_, ..] if !first => Err(Malformed::NotHandshake.into()),
        [CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA] => Ok(()),
        [CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA, MAJOR_VERSION, ..] => {
            Err(Malformed::NotHandshake.into())
        }
        _ => Err(Refusal::NotTls),
    }
}

fn record_len(header: &[u8; RECORD_HEADER_LEN]) -> Result<usize, Malformed> {
    let [.., high, low] = *header;
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err(Malformed::EmptyRecord),
        len if len > RECORD_PAYLOAD_MAX => Err(Malformed::RecordTooLong),
        len => Ok(len),
    }
}

/// The payloads of the records that hold `hello_len` handshake bytes, all of which are there.
fn join_records(wire: &[u8], hello_len: usize) -> Vec<u8> {
    let mut joined = Vec::with_capacity(hello_len);
    let mut records = reader::Reader::new(wire);
    while joined.len() < hello_len {
        // content type and version were judged on the way here
        let Some(payload) = records.take(3).and_then(|_| records.u16_prefixed()) else { break };
        joined.extend_from_slice(payload.into_bytes());
    }
    joined
}
