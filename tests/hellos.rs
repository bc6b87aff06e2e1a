//! The scanner on first flights of real clients, whole, cut in every way, and damaged.
//!
//! Must not know: how the scanner works. What must hold for any bytes is in `fuzz/src/checks.rs`,
//! which the fuzz targets run too.

use std::{fs, path::PathBuf};

use diolkos::gateway::client_hello::{ClientHello, Scan, Scanner, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    client::{EchGreaseConfig, EchMode},
    crypto::{aws_lc_rs, hpke::Hpke},
};

#[path = "../fuzz/src/checks.rs"]
#[allow(unreachable_pub)] // the fuzz crate needs it
mod checks;

const KEY: &str = "outbound_.8080_._.bar.ns2.global";
const RECORD_HEADER_LEN: usize = 5;

/// What one captured flight must be read as. GREASE, which differs from run to run, is left out.
struct Expected {
    file: &'static str,
    /// 0 when the hello is the whole flight.
    pipelined: usize,
    server_name: &'static str,
    alpn: &'static [&'static str],
    legacy_version: u16,
    supported_versions: &'static [u16],
    key_share_groups: &'static [u16],
    early_data: bool,
    ech: bool,
}

const SIDECAR: &[&str] = &["istio-peer-exchange", "istio"];
const ALL_VERSIONS: &[u16] = &[0x304, 0x303, 0x302, 0x301];
const X25519: u16 = 29;
const P256: u16 = 23;
const X25519_MLKEM768: u16 = 0x11ec;

const fn sidecar(
    file: &'static str,
    supported_versions: &'static [u16],
    key_share_groups: &'static [u16],
) -> Expected {
    Expected {
        file,
        pipelined: 0,
        server_name: KEY,
        alpn: SIDECAR,
        legacy_version: 0x0303,
        supported_versions,
        key_share_groups,
        early_data: false,
        ech: false,
    }
}

const FLIGHTS: [Expected; 15] = [
    Expected { alpn: &["h2", "http/1.1"], ..sidecar("curl", ALL_VERSIONS, &[X25519]) },
    sidecar("envoy", &[], &[]),
    sidecar("envoy-pq", &[0x304, 0x303], &[X25519_MLKEM768, X25519]),
    sidecar("envoy-tls13", &[0x304, 0x303], &[P256]),
    sidecar("gnutls", ALL_VERSIONS, &[P256, X25519]),
    sidecar("go", &[0x304, 0x303], &[X25519_MLKEM768, X25519]),
    Expected {
        server_name: "outer.bar.ns2.global",
        ech: true,
        ..sidecar("go-ech", &[0x304], &[X25519_MLKEM768, X25519])
    },
    sidecar("node", &[0x304, 0x303], &[X25519]),
    sidecar("openssl", ALL_VERSIONS, &[X25519]),
    Expected {
        pipelined: 148,
        early_data: true,
        ..sidecar("openssl-early-data", ALL_VERSIONS, &[X25519])
    },
    sidecar("openssl-p256", ALL_VERSIONS, &[P256]),
    Expected { legacy_version: 0x0301, ..sidecar("openssl-tls10", &[], &[]) },
    sidecar("openssl-tls12", &[], &[]),
    sidecar("python", &[0x304, 0x303], &[X25519]),
    sidecar("rustls", &[0x304, 0x303], &[X25519_MLKEM768, X25519]),
];

#[test]
fn every_captured_hello_is_read_as_what_its_client_sent() {
    for expected in FLIGHTS {
        let (file, flight) = captured()
            .into_iter()
            .find(|(file, _)| *file == expected.file)
            .unwrap_or_else(|| panic!("no {}.bin", expected.file));
        let hello = hello(&flight);
        assert_eq!(hello.wire_len, flight.len() - expected.pipelined, "{file}");
        assert_eq!(hello.server_name, name(expected.server_name), "{file}");
        assert!(hello.alpn.iter().eq(expected.alpn.iter().map(|name| name.as_bytes())), "{file}");
        assert_eq!(hello.legacy_version, expected.legacy_version, "{file}");
        assert_eq!(
            without_grease(&hello.supported_versions),
            expected.supported_versions,
            "{file}"
        );
        assert_eq!(without_grease(&hello.key_share_groups), expected.key_share_groups, "{file}");
        assert_eq!(hello.early_data, expected.early_data, "{file}");
        assert_eq!(hello.ech, expected.ech, "{file}");
        // the random stands behind record header, handshake header and version
        assert_eq!(hello.random, flight[11..43], "{file}");
    }
}

#[test]
fn every_captured_hello_is_expected_here() {
    for (file, _) in captured() {
        assert!(FLIGHTS.iter().any(|expected| expected.file == file), "{file}.bin");
    }
}

#[test]
fn every_prefix_wants_more_until_the_hello_is_whole() {
    for (file, flight) in captured() {
        let whole = scan(&flight);
        let wire_len = hello(&flight).wire_len;
        let mut growing = Scanner::new(checks::BYTES_MAX);
        for end in 0..=flight.len() {
            let expected = if end < wire_len { &Scan::NeedMore } else { &whole };
            assert_eq!(growing.scan(&flight[..end]), *expected, "{file}, {end} bytes, one by one");
            assert_eq!(scan(&flight[..end]), *expected, "{file}, {end} bytes at once");
        }
    }
}

#[test]
fn every_split_into_two_reads_gives_the_same_hello() {
    for (file, flight) in captured() {
        let whole = scan(&flight);
        for at in 0..=flight.len() {
            let mut scanner = Scanner::new(checks::BYTES_MAX);
            scanner.scan(&flight[..at]);
            assert_eq!(scanner.scan(&flight), whole, "{file} split at {at}");
        }
    }
}

#[test]
fn every_split_into_two_records_gives_the_same_hello() {
    for (file, flight) in captured() {
        let whole = hello(&flight);
        let (message, behind) = message_and_rest(&flight, &whole);
        for at in 1..message.len() {
            let (one, two) = message.split_at(at);
            let wire = [&record(one)[..], &record(two), behind].concat();
            let split = hello(&wire);
            assert_eq!(split.wire_len, whole.wire_len + RECORD_HEADER_LEN, "{file} at {at}");
            assert_eq!(ClientHello { wire_len: whole.wire_len, ..split }, whole, "{file} at {at}");
        }
    }
}

#[test]
fn records_of_one_byte_give_the_same_hello_at_the_same_byte() {
    for (file, flight) in captured() {
        let whole = hello(&flight);
        let (message, behind) = message_and_rest(&flight, &whole);
        let mut wire: Vec<u8> = message.chunks(1).flat_map(record).collect();
        let wire_len = wire.len();
        wire.extend(behind);
        let split = hello(&wire);
        assert_eq!(checks::decided_at(&wire), Some(wire_len), "{file}");
        assert_eq!(split.wire_len, wire_len, "{file}");
        assert_eq!(ClientHello { wire_len: whole.wire_len, ..split }, whole, "{file}");
    }
}

#[test]
fn rustls_reads_every_captured_hello_alike() {
    for (_, flight) in captured() {
        checks::client_hello(&flight);
    }
}

#[test]
fn the_rustls_of_today_is_read_with_and_without_ech_grease() {
    for grease in [false, true] {
        let flight = rustls_hello(grease);
        checks::client_hello(&flight);
        let hello = hello(&flight);
        assert_eq!(hello.wire_len, flight.len());
        assert_eq!(hello.server_name, name(KEY));
        assert_eq!(hello.ech, grease);
    }
}

/// Eight thousand damaged flights; `DIOLKOS_SEED` draws others.
#[test]
fn rustls_agrees_about_damaged_hellos() {
    let seed = std::env::var("DIOLKOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut random = Random(seed);
    let flights = captured();
    let (mut hellos, mut refused) = (0, 0);
    for _ in 0..8_000 {
        let mut wire = flights[random.below(flights.len())].1.clone();
        for _ in 0..=random.below(3) {
            random.damage(&mut wire);
        }
        checks::client_hello(&wire);
        match scan(&wire) {
            Scan::Hello(_) => hellos += 1,
            Scan::Refuse(_) => refused += 1,
            Scan::NeedMore => {}
        }
    }
    assert!(hellos > 500 && refused > 500, "{hellos} hellos, {refused} refused: no fair sample");
}

#[test]
fn the_fuzz_corpus_holds() {
    let hellos = files("fuzz/corpus/client_hello");
    let keys = files("fuzz/corpus/subset_key");
    let headers = files("fuzz/corpus/proxy_header");
    assert!(hellos.len() >= 20 && keys.len() >= 10 && headers.len() >= 10);
    for (_, wire) in hellos {
        checks::client_hello(&wire);
    }
    for (_, header) in headers {
        checks::proxy_header(&header);
    }
    for (_, name) in keys {
        checks::subset_key(&String::from_utf8_lossy(&name));
    }
}

#[test]
#[ignore = "tests/data/hellos/capture.py runs it to write rustls.bin"]
fn the_hello_of_rustls_is_written_to_the_path_in_the_environment() {
    let path = std::env::var_os("DIOLKOS_RUSTLS_HELLO").expect("DIOLKOS_RUSTLS_HELLO is a path");
    fs::write(path, rustls_hello(false)).expect("a writable path");
}

/// Captured flights by client.
fn captured() -> Vec<(String, Vec<u8>)> {
    let mut flights = files("tests/data/hellos");
    flights.retain_mut(|(file, _)| match file.strip_suffix(".bin") {
        Some(client) => {
            *file = client.into();
            true
        }
        None => false,
    });
    flights
}

/// The files in a directory of this crate, by name.
fn files(directory: &str) -> Vec<(String, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let bytes = fs::read(entry.path()).expect("a readable file");
            (entry.file_name().into_string().expect("a plain name"), bytes)
        })
        .collect();
    files.sort();
    files
}

fn name(text: &str) -> Option<ServerName> {
    Some(ServerName::Name(text.into()))
}

fn scan(wire: &[u8]) -> Scan {
    checks::scan(wire)
}

fn hello(wire: &[u8]) -> ClientHello {
    match scan(wire) {
        Scan::Hello(hello) => hello,
        other => panic!("no hello: {other:?}"),
    }
}

/// The handshake message of a hello in one record, and what follows that record.
fn message_and_rest<'a>(flight: &'a [u8], hello: &ClientHello) -> (&'a [u8], &'a [u8]) {
    let (record, rest) = flight.split_at(hello.wire_len);
    let (header, message) = record.split_at(RECORD_HEADER_LEN);
    assert_eq!(usize::from(u16::from_be_bytes([header[3], header[4]])), message.len());
    (message, rest)
}

fn record(payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&[22, 3, 1], &len[..], payload].concat()
}

/// Values as in RFC 8701 are all of the form 0xXaXa.
fn without_grease(values: &[u16]) -> Vec<u16> {
    values.iter().copied().filter(|value| value & 0x0f0f != 0x0a0a).collect()
}

/// What rustls writes first when it asks for `KEY` as a sidecar does, post-quantum key share
/// included; on demand with an ECH extension that holds noise.
fn rustls_hello(ech_grease: bool) -> Vec<u8> {
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let builder = if ech_grease {
        let suite = aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
        let (key, _) = suite.generate_key_pair().expect("a key");
        builder.with_ech(EchMode::Grease(EchGreaseConfig::new(suite, key)))
    } else {
        builder.with_safe_default_protocol_versions()
    };
    let mut config = builder
        .expect("versions that fit")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = SIDECAR.iter().map(|name| name.as_bytes().into()).collect();
    let name = KEY.try_into().expect("rustls takes the name");
    let mut client = ClientConnection::new(config.into(), name).expect("a client");
    let mut flight = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut flight).expect("memory takes all");
    }
    flight
}

/// A xorshift generator: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("a byte")
    }

    /// Changes, adds or removes one byte.
    fn damage(&mut self, wire: &mut Vec<u8>) {
        let at = self.below(wire.len());
        match self.below(6) {
            0 => wire[at] ^= 1 << self.below(8),
            1 => wire[at] = self.byte(),
            2 => wire[at] = wire[at].wrapping_add(1),
            3 => wire[at] = wire[at].wrapping_sub(1),
            4 => wire.insert(at, self.byte()),
            _ => drop(wire.remove(at)),
        }
    }
}
