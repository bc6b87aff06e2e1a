//! Headers of both versions, sound and not, whole and in pieces.

use super::{BadHeader::*, *};

fn check(wire: &[u8], expected: Parsed) {
    assert_eq!(parse(wire), expected, "{}", wire.escape_ascii());
    // The verdict is the same however the bytes come: a prefix has it already, or wants more.
    let mut decided = false;
    for end in 0..wire.len() {
        let verdict = parse(&wire[..end]);
        assert!(verdict == Parsed::NeedMore || verdict == expected, "{end}: {verdict:?}");
        assert!(!decided || verdict == expected, "decided before {end}");
        decided = verdict == expected;
    }
}

fn header(wire: &[u8], source: Option<&str>) {
    let source = source.map(|s| s.parse().expect("an address"));
    check(wire, Parsed::Header { len: wire.len(), source });
    let behind = [wire, b"\x16\x03\x01"].concat();
    assert_eq!(parse(&behind), Parsed::Header { len: wire.len(), source });
}

fn bad(wire: &[u8], rule: BadHeader) {
    check(wire, Parsed::Bad(rule));
}

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).expect("short").to_be_bytes();
    [&V2_SIGNATURE[..], &[command, family], &len, rest].concat()
}

const TCP4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0x3C, 0x53];

fn tcp6(source: &str) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().expect("an address");
    [&source.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0x30, 0x39, 0x3C, 0x53]].concat()
}

#[test]
fn a_line_names_its_source() {
    header(b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 15443\r\n", Some("192.0.2.1:12345"));
    header(
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        Some("255.255.255.255:65535"),
    );
    header(b"PROXY TCP6 2001:db8::1 ::1 12345 15443\r\n", Some("[2001:db8::1]:12345"));
    header(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 0 15443\r\n", Some("192.0.2.1:0"));
    header(b"PROXY UNKNOWN\r\n", None);
    header(b"PROXY UNKNOWN what ever  stands here\r\n", None);
}

#[test]
fn a_line_of_another_form_is_refused() {
    bad(b"PROXY TCP4 192.0.2.1 198.51.100.2 12345\r\n", Line);
    bad(b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 15443 \r\n", Line);
    bad(b"PROXY TCP4  192.0.2.1 198.51.100.2 12345 15443\r\n", Line);
    bad(b"PROXY UDP4 192.0.2.1 198.51.100.2 12345 15443\r\n", Line);
    bad(b"PROXY tcp4 192.0.2.1 198.51.100.2 12345 15443\r\n", Line);
    bad(b"PROXY UNKNOWNS\r\n", Line);
    bad(b"PROXY \xff\r\n", Line);
    bad(&[&b"PROXY TCP4 "[..], &[b'1'; 96]].concat(), Line);
    bad(b"PROXY TCP4 192.0.2.01 198.51.100.2 12345 15443\r\n", Address);
    bad(b"PROXY TCP4 2001:db8::1 ::1 12345 15443\r\n", Address);
    bad(b"PROXY TCP6 192.0.2.1 198.51.100.2 12345 15443\r\n", Address);
    bad(b"PROXY TCP4 192.0.2.1 x 12345 15443\r\n", Address);
    for port in ["65536", "+1", "01", "", "-1", "1e3"] {
        let line = format!("PROXY TCP4 192.0.2.1 198.51.100.2 {port} 15443\r\n");
        bad(line.as_bytes(), Address);
    }
}

#[test]
fn a_line_has_107_bytes_at_most() {
    let line = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16));
    header(line(107).as_bytes(), None);
    bad(&line(108).as_bytes()[..107], Line);
}

#[test]
fn a_binary_header_names_its_source() {
    header(&v2(0x21, 0x11, &TCP4), Some("192.0.2.1:12345"));
    header(&v2(0x21, 0x21, &tcp6("2001:db8::1")), Some("[2001:db8::1]:12345"));
    header(&v2(0x21, 0x21, &tcp6("::ffff:192.0.2.1")), Some("192.0.2.1:12345"));
    header(&v2(0x21, 0x31, &[7; 216]), None);
    header(&v2(0x21, 0x00, &[]), None);
}

#[test]
fn a_check_by_the_proxy_itself_names_nobody_whatever_follows() {
    header(&v2(0x20, 0x00, &[]), None);
    header(&v2(0x20, 0x11, &TCP4), None);
    header(&v2(0x20, 0x21, &[1, 2, 3]), None);
    header(&v2(0x20, 0x12, &TCP4), None);
    header(&v2(0x20, 0xff, &[]), None);
}

#[test]
fn a_binary_header_of_another_form_is_refused() {
    bad(&v2(0x11, 0x11, &TCP4), Command);
    bad(&v2(0x22, 0x11, &TCP4), Command);
    for family in [0x01, 0x10, 0x12, 0x22, 0x32, 0x41, 0xff] {
        bad(&v2(0x21, family, &TCP4), Family);
    }
    bad(&v2(0x21, 0x11, &TCP4[..11]), Length);
    bad(&v2(0x21, 0x21, &TCP4), Length);
    bad(&v2(0x21, 0x31, &[0; 215]), Length);
    bad(&[&V2_SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(), Length);
}

#[test]
fn fields_are_dropped_and_must_fit() {
    let with = |fields: &[u8]| v2(0x21, 0x11, &[&TCP4[..], fields].concat());
    header(&with(&[4, 0, 0]), Some("192.0.2.1:12345"));
    header(&with(&[1, 0, 2, b'h', b'2', 0xE0, 0, 1, 9]), Some("192.0.2.1:12345"));
    bad(&with(&[4]), Field);
    bad(&with(&[4, 0]), Field);
    bad(&with(&[4, 0, 2, 0]), Field);
    bad(&with(&[4, 0, 0, 4, 0, 1]), Field);
}

#[test]
fn a_checksum_must_be_right() {
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283, "the polynomial's check value");
    let with = |sum: [u8; 4]| {
        let fields = [&[4, 0, 1, 0, CHECKSUM_FIELD, 0, 4], &sum[..], &[4, 0, 0]].concat();
        v2(0x21, 0x11, &[&TCP4[..], &fields].concat())
    };
    let right = crc32c(with([0; 4]).into_iter());
    header(&with(right.to_be_bytes()), Some("192.0.2.1:12345"));
    bad(&with((right ^ 1).to_be_bytes()), Checksum);
    bad(&v2(0x21, 0x11, &[&TCP4[..], &[CHECKSUM_FIELD, 0, 3, 1, 2, 3]].concat()), Field);
}

#[test]
fn what_is_no_header_is_missed_at_its_first_other_byte() {
    bad(b"\x16\x03\x01\x00\x05", Missing);
    bad(b"GET / HTTP/1.1\r\n", Missing);
    bad(b"PROXX", Missing);
    bad(b"\r\n\r\n\0\r\nQUIT\r", Missing);
    check(b"", Parsed::NeedMore);
    check(b"PROXY ", Parsed::NeedMore);
}
