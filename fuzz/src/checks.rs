//! What must hold for any bytes at all: shared by the fuzz targets and `tests/hellos.rs`.
//!
//! Must not know: where the bytes come from. rustls's acceptor is the oracle; where it and the
//! scanner may differ is listed here and nowhere else.

use diolkos::{
    gateway::{
        client_hello::{ClientHello, Malformed, Refusal, Scan, Scanner, ServerName},
        proxy_header::{Parsed, parse},
    },
    routing::SubsetKey,
};
use rustls::{Error, PeerMisbehaved, pki_types::DnsName, server::Acceptor};

/// The default limit of the gateway.
pub const BYTES_MAX: usize = 16_384;

/// Panics unless the verdict on `wire` is the same for every way to cut it into reads, and unless
/// rustls agrees with it.
pub fn client_hello(wire: &[u8]) {
    let verdict = scan(wire);
    match decided_at(wire) {
        Some(end) => {
            let longer = [end, end + 1, end + (wire.len() - end) / 2, wire.len()];
            for longer in longer.into_iter().filter(|&longer| longer <= wire.len()) {
                assert_eq!(scan(&wire[..longer]), verdict, "decided at {end}, not at {longer}");
            }
            if let Scan::Hello(hello) = &verdict {
                assert_eq!(hello.wire_len, end);
                check_name(hello);
            }
        }
        None => {
            assert_eq!(verdict, Scan::NeedMore);
            assert!(wire.len() < BYTES_MAX);
        }
    }
    check_oracle(wire, &verdict);
}

/// Panics unless the verdict on a PROXY header is the same for every way to cut it into reads.
pub fn proxy_header(wire: &[u8]) {
    let verdict = parse(wire);
    if let Parsed::Header { len, source } = verdict {
        assert!((15..=16 + 2048).contains(&len) && len <= wire.len());
        assert_eq!(parse(&wire[..len]), verdict, "what follows it has no say");
        assert!(source.is_none_or(|at| at.ip() == at.ip().to_canonical()));
    }
    let ends = (0..=wire.len()).take(16 + 2048 + 1);
    let decided = ends.map(|end| parse(&wire[..end])).find(|v| *v != Parsed::NeedMore);
    match decided {
        Some(first) => assert_eq!(first, verdict),
        None => assert!(verdict == Parsed::NeedMore && wire.len() < 16 + 2048),
    }
}

/// Panics unless a key that is read prints as the name it was read from.
pub fn subset_key(name: &str) {
    if let Some(key) = SubsetKey::parse(name) {
        assert_eq!(key.to_string(), name);
        assert_ne!(key.port, 0);
        assert!(!key.host.is_empty() && !key.subset.contains("_."));
    } else if let Some(rest) = name.strip_prefix("outbound_.") {
        let parts: Vec<&str> = rest.splitn(3, "_.").collect();
        let read = parts.len() == 3
            && parts[0].parse::<u16>().is_ok_and(|port| port.to_string() == parts[0] && port != 0)
            && !parts[2].is_empty();
        assert!(!read, "{name} is a key");
    }
}

/// The verdict on all of `wire` in one read.
pub fn scan(wire: &[u8]) -> Scan {
    Scanner::new(BYTES_MAX).scan(wire)
}

/// The shortest prefix that has a verdict, found a byte at a time with one scanner.
pub fn decided_at(wire: &[u8]) -> Option<usize> {
    let mut scanner = Scanner::new(BYTES_MAX);
    (0..=wire.len()).find(|&end| scanner.scan(&wire[..end]) != Scan::NeedMore)
}

fn check_name(hello: &ClientHello) {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    match &hello.server_name {
        None => {}
        Some(ServerName::Name(name)) => {
            assert!((1..=255).contains(&name.len()) && name.bytes().all(allowed), "{name:?}");
        }
        Some(ServerName::BadName(name)) => {
            assert!((1..=255).contains(&name.len()), "{name:?}");
            assert!(!name.iter().all(|b| allowed(b.to_ascii_lowercase())), "{name:?}");
        }
    }
}

fn check_oracle(wire: &[u8], verdict: &Scan) {
    match verdict {
        Scan::NeedMore => {}
        Scan::Hello(ours) => {
            let wire = &wire[..ours.wire_len];
            if let Ok(Some(theirs)) = oracle(wire) {
                theirs.check_same(ours);
            }
            match oracle(&without_opaque_extensions(wire)) {
                Ok(Some(theirs)) => theirs.check_same(ours),
                Ok(None) => panic!("rustls wants more than {ours:?}"),
                Err(error) => assert!(may_refuse(&error, ours), "rustls: {error:?}, not {ours:?}"),
            }
        }
        Scan::Refuse(refusal) => {
            if let Ok(Some(theirs)) = oracle(wire) {
                assert!(may_accept(*refusal), "{refusal:?}, but rustls: {theirs:?}");
            }
        }
    }
}

/// What rustls read from a hello.
#[derive(Debug)]
struct Theirs {
    server_name: Option<String>,
    alpn: Vec<Vec<u8>>,
    groups: Vec<u16>,
}

impl Theirs {
    fn check_same(&self, ours: &ClientHello) {
        match (&ours.server_name, &self.server_name) {
            // rustls drops a trailing dot
            (Some(ServerName::Name(ours)), Some(theirs)) => {
                assert_eq!(ours.strip_suffix('.').unwrap_or(ours), theirs);
            }
            // rustls passes over an address as if it were not there
            (Some(ServerName::Name(ours)), None) => {
                assert!(ours.parse::<std::net::Ipv4Addr>().is_ok(), "{ours}");
            }
            (Some(ServerName::BadName(ours)), None) => {
                let text = std::str::from_utf8(ours).expect("rustls took it for an address");
                assert!(text.parse::<std::net::Ipv6Addr>().is_ok(), "{text}");
            }
            (None, None) => {}
            (ours, theirs) => panic!("{ours:?} and {theirs:?}"),
        }
        assert!(ours.alpn.iter().eq(self.alpn.iter().map(Vec::as_slice)));
        assert_eq!(*ours.supported_groups, *self.groups);
    }
}

fn oracle(mut wire: &[u8]) -> Result<Option<Theirs>, Error> {
    let mut acceptor = Acceptor::default();
    while !wire.is_empty() {
        if acceptor.read_tls(&mut wire).is_err() {
            return Ok(None); // its buffer is full
        }
        if let Some(accepted) = acceptor.accept().map_err(|(error, _)| error)? {
            let hello = accepted.client_hello();
            let groups = hello.named_groups().unwrap_or_default();
            return Ok(Some(Theirs {
                server_name: hello.server_name().map(Into::into),
                alpn: hello.alpn().into_iter().flatten().map(Into::into).collect(),
                groups: groups.iter().map(|&group| group.into()).collect(),
            }));
        }
    }
    Ok(None)
}

/// The same hello in fresh records, without the extensions that the scanner does not read: their
/// bodies are for the endpoint to judge. The signature algorithms, without which rustls is no
/// server, are replaced by sound ones.
fn without_opaque_extensions(wire: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut records = wire;
    while !records.is_empty() {
        records = &records[3..];
        message.extend(prefixed(&mut records, 2));
    }
    let mut rest = &message[4 + 2 + 32..];
    for length_len in [1, 2, 1] {
        prefixed(&mut rest, length_len);
    }
    let mut body = message[4..message.len() - rest.len()].to_vec();
    let mut kept = vec![0, 13, 0, 4, 0, 2, 4, 3];
    let mut extensions = if rest.is_empty() { rest } else { prefixed(&mut rest, 2) };
    while !extensions.is_empty() {
        let (kind, mut behind) = extensions.split_at(2);
        let extension = prefixed(&mut behind, 2);
        if [0, 10, 16, 42, 43, 51].contains(&number(kind)) {
            kept.extend(&extensions[..4 + extension.len()]);
        }
        extensions = behind;
    }
    body.extend(u16::try_from(kept.len()).expect("it fitted before").to_be_bytes());
    body.extend(kept);
    let mut message = u32::try_from(body.len()).expect("a short hello").to_be_bytes().to_vec();
    message[0] = 1;
    message.extend(body);
    let mut wire = Vec::new();
    for piece in message.chunks(1 << 14) {
        wire.extend([22, 3, 1]);
        wire.extend(u16::try_from(piece.len()).expect("at most 2^14").to_be_bytes());
        wire.extend(piece);
    }
    wire
}

/// Takes a field with a length of `length_len` bytes in front.
fn prefixed<'a>(rest: &mut &'a [u8], length_len: usize) -> &'a [u8] {
    let (length, behind) = rest.split_at(length_len);
    let (field, behind) = behind.split_at(number(length));
    *rest = behind;
    field
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte))
}

/// What rustls refuses and the scanner lets pass: rustls holds names to the label rules of DNS,
/// as Istio does not.
fn may_refuse(error: &Error, ours: &ClientHello) -> bool {
    let label_rules = PeerMisbehaved::ServerNameMustContainOneHostName;
    match &ours.server_name {
        _ if *error != Error::PeerMisbehaved(label_rules) => false,
        Some(ServerName::Name(name)) => DnsName::try_from(&**name).is_err(),
        Some(ServerName::BadName(_)) => true,
        None => false,
    }
}

/// What the scanner refuses, with BoringSSL, and rustls lets pass: it ignores the versions of
/// records, ignores names behind one of an unknown type, and does not read ECH.
fn may_accept(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::TooLarge
            | Refusal::BadVersion
            | Refusal::Malformed(Malformed::ServerName | Malformed::EncryptedClientHello)
    )
}
