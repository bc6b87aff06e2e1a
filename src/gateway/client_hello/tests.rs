//! Hellos built by hand, one rule of the scanner spoiled at a time. Captured ones are in
//! `tests/hellos.rs`.
//!
//! Must not know: any TLS library.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![allow(clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

use super::*;

mod fields;
mod names;
mod records;

const BYTES_MAX: usize = 16_384;
const KEY: &str = "outbound_.8080_._.bar.ns2.global";

/// The parts of a hello, each as it goes on the wire, to be spoiled one at a time.
#[derive(Clone)]
struct Parts {
    legacy_version: u16,
    session_id: Vec<u8>,
    cipher_suites: Vec<u8>,
    compression_methods: Vec<u8>,
    extensions: Option<Vec<u8>>,
    tail: Vec<u8>,
}

impl Parts {
    fn new() -> Self {
        Self {
            legacy_version: 0x0303,
            session_id: vec![7; 32],
            cipher_suites: vec![0x13, 0x01, 0xc0, 0x2f],
            compression_methods: vec![0],
            extensions: None,
            tail: Vec::new(),
        }
    }

    fn with(extensions: &[Vec<u8>]) -> Self {
        Self { extensions: Some(extensions.concat()), ..Self::new() }
    }

    /// The handshake message.
    fn message(&self) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend([9; 32]);
        body.extend(prefix8(&self.session_id));
        body.extend(prefix16(&self.cipher_suites));
        body.extend(prefix8(&self.compression_methods));
        if let Some(extensions) = &self.extensions {
            body.extend(prefix16(extensions));
        }
        body.extend(&self.tail);
        let mut message = (body.len() as u32).to_be_bytes().to_vec();
        message[0] = 1;
        message.extend(body);
        message
    }

    fn wire(&self) -> Vec<u8> {
        records(&self.message(), 1 << 14)
    }
}

fn prefix8(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

fn prefix16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &prefix16(body)].concat()
}

fn host_name(name: &[u8]) -> Vec<u8> {
    [&[0][..], &prefix16(name)].concat()
}

fn sni(entries: &[Vec<u8>]) -> Vec<u8> {
    extension(0, &prefix16(&entries.concat()))
}

fn records(message: &[u8], payload_max: usize) -> Vec<u8> {
    message.chunks(payload_max).flat_map(|piece| record(22, 0x0301, piece)).collect()
}

fn record(kind: u8, version: u16, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &version.to_be_bytes(), &prefix16(payload)].concat()
}

/// The verdict on `wire`, which must come at the same byte and be the same at every prefix from
/// there on, rescanned or scanned afresh.
fn verdict(wire: &[u8], bytes_max: usize) -> Scan {
    let at_once = Scanner::new(bytes_max).scan(wire);
    let mut growing = Scanner::new(bytes_max);
    let mut decided = false;
    for end in 0..=wire.len() {
        let scan = growing.scan(&wire[..end]);
        assert_eq!(scan, Scanner::new(bytes_max).scan(&wire[..end]), "prefix {end}");
        decided |= scan != Scan::NeedMore;
        if decided {
            assert_eq!(scan, at_once, "prefix {end}");
        } else {
            assert!(end < bytes_max, "undecided at the limit");
        }
    }
    at_once
}

/// Checks that `wire` is refused for `expected`.
fn check_refused(wire: &[u8], expected: impl Into<Refusal>) {
    assert_eq!(verdict(wire, BYTES_MAX), Scan::Refuse(expected.into()), "{wire:02x?}");
}

/// The hello in `wire`, which must be all of it.
fn hello(wire: &[u8]) -> ClientHello {
    match verdict(wire, BYTES_MAX) {
        Scan::Hello(hello) => {
            assert_eq!(hello.wire_len, wire.len());
            hello
        }
        other => panic!("no hello: {other:?}"),
    }
}

/// A plain hello that asks for `KEY`.
fn plain() -> Parts {
    Parts::with(&[sni(&[host_name(KEY.as_bytes())])])
}

fn key() -> Option<ServerName> {
    Some(ServerName::Name(KEY.into()))
}
