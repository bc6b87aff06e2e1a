//! The other fields of the body: fixed ones, and each extension that is read.
//!
//! Must not know: records, names.

use super::*;

/// One extension of `kind` with each body must be refused for `expected`.
fn check_each(kind: u16, bodies: &[&[u8]], expected: Malformed) {
    for body in bodies {
        check_refused(&Parts::with(&[extension(kind, body), extension(23, &[])]).wire(), expected);
    }
}

#[test]
fn a_hello_below_tls_1_0_is_a_bad_version() {
    for version in [0x0000, 0x0002, 0x0200, 0x02ff, 0x0300] {
        check_refused(&Parts { legacy_version: version, ..plain() }.wire(), Refusal::BadVersion);
    }
    for version in [0x0301, 0x0302, 0x0303, 0x0304, 0x0305, 0x7f17] {
        let hello = hello(&Parts { legacy_version: version, ..plain() }.wire());
        assert_eq!(hello.legacy_version, version);
    }
}

#[test]
fn a_session_id_has_at_most_32_bytes() {
    for len in [0, 1, 32] {
        hello(&Parts { session_id: vec![1; len], ..plain() }.wire());
    }
    for len in [33, 255] {
        let wire = Parts { session_id: vec![1; len], ..plain() }.wire();
        check_refused(&wire, Malformed::SessionId);
    }
}

#[test]
fn cipher_suites_are_whole_and_at_least_one() {
    for len in [0, 1, 3] {
        let wire = Parts { cipher_suites: vec![1; len], ..plain() }.wire();
        check_refused(&wire, Malformed::CipherSuites);
    }
    hello(&Parts { cipher_suites: vec![0x0a; 2], ..plain() }.wire());
    hello(&Parts { cipher_suites: vec![0x0a; 4_000], ..plain() }.wire());
}

#[test]
fn the_null_compression_method_is_among_those_offered() {
    for methods in [&[][..], &[1], &[1, 64]] {
        let wire = Parts { compression_methods: methods.to_vec(), ..plain() }.wire();
        check_refused(&wire, Malformed::CompressionMethods);
    }
    hello(&Parts { compression_methods: vec![1, 0], ..plain() }.wire());
}

#[test]
fn a_body_that_ends_early_or_late_is_malformed() {
    let message = plain().message();
    let body = &message[HANDSHAKE_HEADER_LEN..];
    let extensions_at = body.len() - 2 - (5 + 4 + KEY.len());
    for end in 0..body.len() {
        let mut cut = vec![1, 0, 0, end as u8];
        cut.extend(&body[..end]);
        if end == extensions_at {
            hello(&records(&cut, 1 << 14));
        } else {
            check_refused(&records(&cut, 1 << 14), Malformed::Length);
        }
    }
    check_refused(&Parts { tail: vec![0], ..plain() }.wire(), Malformed::Length);
    check_refused(&Parts { tail: vec![0], ..Parts::new() }.wire(), Malformed::Length);
}

#[test]
fn an_extension_stays_within_its_block() {
    for block in [&[0][..], &[0, 23], &[0, 23, 0], &[0, 23, 0, 1], &[0, 23, 0xff, 0xff, 0]] {
        let extensions = Some([&sni(&[host_name(b"a")])[..], block].concat());
        check_refused(&Parts { extensions, ..Parts::new() }.wire(), Malformed::Extensions);
    }
}

#[test]
fn no_extension_comes_twice() {
    for kind in [0x0a0a, 15, 23, 0xff01] {
        let twice = [extension(kind, &[]), sni(&[host_name(b"a")]), extension(kind, &[1])];
        check_refused(&Parts::with(&twice).wire(), Malformed::DuplicateExtension);
    }
    let name = sni(&[host_name(b"a")]);
    check_refused(&Parts::with(&[name.clone(), name]).wire(), Malformed::DuplicateExtension);
}

#[test]
fn thousands_of_extensions_pass_when_they_differ() {
    let many = (100..4_100).map(|kind| extension(kind, &[])).collect::<Vec<_>>();
    let mut wire = Parts::with(&many).wire();
    assert!(matches!(Scanner::new(1 << 15).scan(&wire), Scan::Hello(_)));
    // the last one again: type 4,099 becomes 100
    let at = wire.len() - 4;
    wire[at..at + 2].copy_from_slice(&100u16.to_be_bytes());
    let refused = Scan::Refuse(Malformed::DuplicateExtension.into());
    assert_eq!(Scanner::new(1 << 15).scan(&wire), refused);
}

#[test]
fn alpn_is_a_list_of_names() {
    let list = [prefix8(b"istio-peer-exchange"), prefix8(b"istio"), prefix8(&[0x0a, 0x0a])];
    let hello = hello(&Parts::with(&[extension(16, &prefix16(&list.concat()))]).wire());
    let names = hello.alpn.iter().collect::<Vec<_>>();
    assert_eq!(names, [&b"istio-peer-exchange"[..], b"istio", &[0x0a, 0x0a]]);
    assert!(!hello.alpn.is_empty());

    let bodies: &[&[u8]] = &[
        &[],
        &[0],
        &[0, 0],
        &[0, 1, 0],
        &[0, 2, 2, b'h'],
        &[0, 4, 1, b'h', 0, 0],
        &[0, 3, 2, b'h', b'2', 0],
        &[0, 4, 2, b'h', b'2'],
        &[0, 2, 2, b'h', b'2'],
    ];
    check_each(16, bodies, Malformed::Alpn);
}

#[test]
fn versions_and_groups_are_kept_with_grease() {
    let extensions = [
        extension(43, &prefix8(&[0x2a, 0x2a, 3, 4, 3, 3])),
        extension(10, &prefix16(&[0x4a, 0x4a, 0x11, 0xec, 0, 29])),
    ];
    let hello = hello(&Parts::with(&extensions).wire());
    assert_eq!(*hello.supported_versions, [0x2a2a, 0x0304, 0x0303]);
    assert_eq!(*hello.supported_groups, [0x4a4a, 0x11ec, 29]);

    let versions: &[&[u8]] = &[&[], &[0], &[1, 3], &[3, 3, 4, 3], &[2, 3], &[2, 3, 4, 0]];
    check_each(43, versions, Malformed::SupportedVersions);
    let groups: &[&[u8]] = &[&[], &[0], &[0, 0], &[0, 1, 0], &[0, 3, 0, 29, 0], &[0, 2, 0, 29, 0]];
    check_each(10, groups, Malformed::SupportedGroups);
}

#[test]
fn key_shares_of_any_size_pass() {
    let share = |group: u16, key: &[u8]| [&group.to_be_bytes()[..], &prefix16(key)].concat();
    let shares = [share(0x5a5a, &[0]), share(0x11ec, &[7; 1_216]), share(0x11ed, &[7; 1_665])];
    let hello_with = |body: &[u8]| hello(&Parts::with(&[extension(51, body)]).wire());
    let groups = hello_with(&prefix16(&shares.concat())).key_share_groups;
    assert_eq!(*groups, [0x5a5a, 0x11ec, 0x11ed]);
    assert!(hello_with(&prefix16(&[])).key_share_groups.is_empty());

    let bodies: &[&[u8]] = &[
        &[],
        &[0],
        &[0, 0, 0],
        &[0, 1, 0],
        &[0, 4, 0, 29, 0, 0],
        &[0, 5, 0, 29, 0, 2, 7],
        &[0, 5, 0, 29, 0, 1, 7, 0],
        &[0, 6, 0, 29, 0, 1, 7, 0],
        &[0, 6, 0, 29, 0, 1, 7],
    ];
    check_each(51, bodies, Malformed::KeyShare);
}

#[test]
fn early_data_and_ech_are_flagged() {
    let hello_with = |extensions: &[Vec<u8>]| hello(&Parts::with(extensions).wire());
    let none = hello_with(&[extension(23, &[])]);
    assert!(!none.early_data && !none.ech);
    assert!(hello_with(&[extension(42, &[])]).early_data);
    let name = sni(&[host_name(KEY.as_bytes())]);
    let outer = hello_with(&[extension(0xfe0d, &[0; 2_048]), name]);
    assert!(outer.ech);
    assert_eq!(outer.server_name, key());
    assert!(hello_with(&[extension(0xfe0d, &[1])]).ech);

    check_each(42, &[&[0], &[0; 4]], Malformed::EarlyData);
    check_each(0xfe0d, &[&[], &[2], &[1, 0]], Malformed::EncryptedClientHello);
}

#[test]
fn a_pre_shared_key_comes_last() {
    let psk = extension(41, &[0; 40]);
    hello(&Parts::with(&[extension(23, &[]), psk.clone()]).wire());
    let wire = Parts::with(&[psk, extension(23, &[])]).wire();
    check_refused(&wire, Malformed::PreSharedKeyNotLast);
}

#[test]
fn the_random_is_kept() {
    assert_eq!(hello(&plain().wire()).random, [9; 32]);
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let words = Malformed::ALL.map(Malformed::as_str);
    let mut distinct = words.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), words.len());
}
