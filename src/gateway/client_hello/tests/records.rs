//! What comes before the body: content types, versions, lengths, joining, limits.
//!
//! Must not know: what is in a hello.

use super::*;

#[test]
fn junk_is_not_tls_at_its_first_byte() {
    for wire in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"SSH-2.0-x\r\n",
        b"\0",
        &[0x80, 0x2e, 0x01, 0x03, 0x01, 0, 0x15, 0, 0, 0, 0x10],
        &[24, 3, 3, 0, 3, 1, 0, 0],
        &[0xff; 64],
    ] {
        check_refused(wire, Refusal::NotTls);
        check_refused(&wire[..1], Refusal::NotTls);
    }
}

#[test]
fn another_content_type_is_tls_only_with_its_version() {
    for kind in [20, 21, 23] {
        assert_eq!(verdict(&[kind], BYTES_MAX), Scan::NeedMore);
        check_refused(&[kind, 2], Refusal::NotTls);
        check_refused(&record(kind, 0x0303, &[1, 0]), Malformed::NotHandshake);
    }
    let hello = plain().wire();
    for first in [record(21, 0x0301, &[1, 0]), record(20, 0x0303, &[1]), record(23, 0x0303, &[0])] {
        check_refused(&[first, hello.clone()].concat(), Malformed::NotHandshake);
    }
}

#[test]
fn nothing_may_stand_between_the_pieces_of_a_hello() {
    let message = plain().message();
    let (one, two) = message.split_at(50);
    for between in [record(21, 0x0301, &[1, 0]), record(20, 0x0303, &[1]), vec![b'G']] {
        let wire = [record(22, 0x0301, one), between, record(22, 0x0301, two)].concat();
        check_refused(&wire, Malformed::NotHandshake);
    }
}

#[test]
fn a_record_of_any_minor_version_passes_and_of_another_major_does_not() {
    let message = plain().message();
    for version in [0x0300, 0x0301, 0x0302, 0x0303, 0x0304, 0x03ff] {
        assert_eq!(hello(&record(22, version, &message)).server_name, key());
    }
    for version in [0x0000, 0x0002, 0x0200, 0x0401, 0xfeff] {
        check_refused(&record(22, version, &message), Refusal::BadVersion);
        let (one, two) = message.split_at(9);
        let wire = [record(22, 0x0301, one), record(22, version, two)].concat();
        check_refused(&wire, Refusal::BadVersion);
    }
}

#[test]
fn an_empty_record_is_refused_wherever_it_stands() {
    let message = plain().message();
    let empty = record(22, 0x0301, &[]);
    check_refused(&[empty.clone(), plain().wire()].concat(), Malformed::EmptyRecord);
    for at in [1, 3, 4, 5, 60] {
        let (one, two) = message.split_at(at);
        let wire = [record(22, 0x0301, one), empty.clone(), record(22, 0x0301, two)].concat();
        check_refused(&wire, Malformed::EmptyRecord);
    }
}

#[test]
fn a_record_holds_at_most_16384_bytes() {
    let header = |len: u16| [&[22, 3, 1][..], &len.to_be_bytes(), &[1, 0, 0x40, 0]].concat();
    for len in [16_385, 16_500, 18_432, u16::MAX] {
        assert_eq!(
            verdict(&header(len), 1 << 20),
            Scan::Refuse(Refusal::Malformed(Malformed::RecordTooLong))
        );
    }
    assert_eq!(verdict(&header(16_384), 1 << 20), Scan::NeedMore);
    check_refused(&header(16_384), Refusal::TooLarge);
}

#[test]
fn only_a_client_hello_may_come_first() {
    for kind in [0, 2, 4, 11, 16, 20, 22, 255] {
        let mut message = plain().message();
        message[0] = kind;
        check_refused(&records(&message, 1 << 14), Malformed::NotClientHello);
        check_refused(&records(&message, 1)[..6], Malformed::NotClientHello);
    }
}

#[test]
fn a_hello_is_joined_from_records_of_every_size() {
    let message = plain().message();
    for size in 1..=message.len() {
        assert_eq!(hello(&records(&message, size)).server_name, key(), "records of {size}");
    }
}

#[test]
fn every_verdict_is_the_same_when_split_over_two_records() {
    let duplicate = Parts::with(&[sni(&[host_name(b"a")]), sni(&[host_name(b"a")])]);
    let two_names = Parts::with(&[sni(&[host_name(b"a"), host_name(b"b")])]);
    for message in [plain().message(), duplicate.message(), two_names.message()] {
        let whole = Scanner::new(BYTES_MAX).scan(&record(22, 0x0301, &message));
        for at in 1..message.len() {
            let (one, two) = message.split_at(at);
            let wire = [record(22, 0x0301, one), record(22, 0x0301, two)].concat();
            let mut split = verdict(&wire, BYTES_MAX);
            if let Scan::Hello(hello) = &mut split {
                assert_eq!(hello.wire_len, wire.len());
                hello.wire_len -= RECORD_HEADER_LEN;
            }
            assert_eq!(split, whole, "split at {at}");
        }
    }
}

#[test]
fn hellos_of_all_sizes_are_joined_from_records_of_all_sizes() {
    const MAX: usize = 1 << 14;
    let check = |padding: usize, payload_max: usize| {
        let name = sni(&[host_name(KEY.as_bytes())]);
        let message = Parts::with(&[extension(21, &vec![0; padding]), name]).message();
        let wire = records(&message, payload_max);
        let Scan::Hello(hello) = Scanner::new(1 << 20).scan(&wire) else {
            panic!("{padding} bytes of padding in records of {payload_max}");
        };
        assert_eq!((hello.wire_len, hello.server_name), (wire.len(), key()));
        let too_large = Scanner::new(BYTES_MAX).scan(&wire) == Scan::Refuse(Refusal::TooLarge);
        assert_eq!(too_large, wire.len() > BYTES_MAX, "{padding} in {payload_max}");
    };
    for padding in [20, 1_024, 4_096, MAX - 53, MAX - 49, MAX - 48, 1 << 15, (1 << 16) - 60] {
        for payload_max in [1, 20, 127, 128, 255, 256, 257, 1_024, MAX - 1, MAX] {
            check(padding, payload_max);
        }
    }
}

#[test]
fn what_follows_the_hello_is_not_looked_at() {
    let wire = plain().wire();
    for tail in [&b"x"[..], &[20, 3, 3, 0, 1, 1], &[22, 3, 3, 0, 0], &[0; 20_000]] {
        match verdict(&[&wire, tail].concat(), BYTES_MAX) {
            Scan::Hello(hello) => assert_eq!(hello.wire_len, wire.len()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn handshake_bytes_behind_the_hello_are_refused() {
    let message = plain().message();
    check_refused(&record(22, 0x0301, &[&message[..], &[0]].concat()), Malformed::ExcessData);
    check_refused(&record(22, 0x0301, &[&message[..], &message].concat()), Malformed::ExcessData);
    let (one, two) = message.split_at(2);
    let wire = [record(22, 0x0301, one), record(22, 0x0301, &[two, &[1]].concat())].concat();
    check_refused(&wire, Malformed::ExcessData);
    // known as soon as both lengths are
    check_refused(&[22, 3, 1, 0, 9, 1, 0, 0, 4], Malformed::ExcessData);
}

#[test]
fn the_limit_counts_wire_bytes_and_is_exact() {
    let message = plain().message();
    for size in [1, 2, 7, 50, 1 << 14] {
        let wire = records(&message, size);
        assert!(matches!(verdict(&wire, wire.len()), Scan::Hello(_)), "records of {size}");
        assert_eq!(verdict(&wire, wire.len() - 1), Scan::Refuse(Refusal::TooLarge));
    }
}

#[test]
fn a_hello_that_promises_too_much_is_refused_at_its_header() {
    // 16,375 bytes of body, its header and one record header are exactly the limit
    let fits = [22, 3, 1, 0x3f, 0xfb, 1, 0, 0x3f, 0xf7];
    assert_eq!(verdict(&fits, BYTES_MAX), Scan::NeedMore);
    check_refused(&[22, 3, 1, 0x3f, 0xfc], Refusal::TooLarge);
    check_refused(&[22, 3, 1, 0x3f, 0xfb, 1, 0, 0x3f, 0xf8], Refusal::TooLarge);
    check_refused(&[22, 3, 1, 0, 4, 1, 0, 0x40, 0], Refusal::TooLarge);
    check_refused(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff], Refusal::TooLarge);
    // in one-byte records the first length byte that decides is the last of the four
    check_refused(&records(&[1, 1, 0, 0], 1), Refusal::TooLarge);
}

#[test]
fn any_limit_decides_before_it_is_exceeded() {
    let message = plain().message();
    for bytes_max in 0..200 {
        for size in [1, 3, 1 << 14] {
            let wire = records(&message, size);
            let scan = verdict(&wire, bytes_max.max(RECORD_HEADER_LEN));
            assert_eq!(scan, Scanner::new(bytes_max).scan(&wire));
            assert_eq!(scan == Scan::Refuse(Refusal::TooLarge), wire.len() > bytes_max);
        }
    }
}
