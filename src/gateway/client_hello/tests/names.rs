//! The server_name extension: which shapes are one name, and which bytes a name may hold.
//!
//! Must not know: records, other fields.

use super::*;

fn name(bytes: &[u8]) -> Option<ServerName> {
    hello(&Parts::with(&[sni(&[host_name(bytes)])]).wire()).server_name
}

fn check_malformed(extension_body: &[u8]) {
    let wire = Parts::with(&[extension(0, extension_body), extension(23, &[])]).wire();
    check_refused(&wire, Malformed::ServerName);
}

#[test]
fn a_name_is_folded_to_lower_case_and_otherwise_kept() {
    let folded = |text: &str| Some(ServerName::Name(text.into()));
    assert_eq!(name(b"OUTBOUND_.8080_._.Bar.NS2.global"), key());
    assert_eq!(name(b"outbound_.8080_.v1_.bar.ns2.global."), {
        folded("outbound_.8080_.v1_.bar.ns2.global.")
    });
    for text in ["a", ".", "..", "-", "_", "127.0.0.1", "xn--bcher-kva.example"] {
        assert_eq!(name(text.as_bytes()), folded(text));
    }
    // a subset may be 63 bytes, which makes a label that no DNS name has
    let long = format!("outbound_.8080_.{}_.bar.ns2.global", "s".repeat(63));
    assert_eq!(name(long.as_bytes()), folded(&long));
}

#[test]
fn no_extension_is_no_name() {
    assert_eq!(hello(&Parts::new().wire()).server_name, None);
    assert_eq!(hello(&Parts::with(&[]).wire()).server_name, None);
    assert_eq!(hello(&Parts::with(&[extension(23, &[])]).wire()).server_name, None);
}

#[test]
fn a_name_has_1_to_255_bytes() {
    assert_eq!(name(&[b'a'; 255]), Some(ServerName::Name("a".repeat(255).into())));
    check_malformed(&prefix16(&host_name(b"")));
    check_malformed(&prefix16(&host_name(&[b'a'; 256])));
    check_malformed(&prefix16(&host_name(&[b'a'; 4096])));
}

#[test]
fn every_byte_value_is_judged_at_the_start_in_the_middle_and_at_the_end() {
    for byte in 0..=255u8 {
        for at in [0, KEY.len() / 2, KEY.len() - 1] {
            let mut sent = KEY.as_bytes().to_vec();
            sent[at] = byte;
            let expected = if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
                let text = String::from_utf8(sent.clone()).expect("ASCII");
                ServerName::Name(text.to_ascii_lowercase().into())
            } else {
                ServerName::BadName(sent.clone().into())
            };
            assert_eq!(name(&sent), Some(expected), "{byte:#04x} at {at}");
        }
    }
}

#[test]
fn a_name_of_other_bytes_is_kept_as_sent() {
    for sent in [
        &b"good\0.evil"[..],
        b"\0",
        b"host\x07",
        "h\u{f4}te.example".as_bytes(),
        b"\x1b[31mred\x1b[0m",
        &[0xff; 4],
        b"[::1]",
        b"outbound|8080||bar.ns2.global",
        b"*.global",
        b" ",
    ] {
        assert_eq!(name(sent), Some(ServerName::BadName(sent.into())));
    }
}

#[test]
fn anything_but_one_host_name_is_malformed() {
    let entry = host_name(b"a.example");
    let other = |kind: u8| [&[kind][..], &prefix16(b"a.example")].concat();
    check_malformed(&[]);
    check_malformed(&[0]);
    check_malformed(&prefix16(&[]));
    check_malformed(&prefix16(&[0]));
    check_malformed(&prefix16(&[0, 0]));
    check_malformed(&prefix16(&other(1)));
    check_malformed(&prefix16(&other(255)));
    check_malformed(&prefix16(&[&entry[..], &entry].concat()));
    check_malformed(&prefix16(&[&entry[..], &other(1)].concat()));
    check_malformed(&prefix16(&[&other(1)[..], &entry].concat()));
    check_malformed(&prefix16(&[&entry[..], &[0]].concat()));
    check_malformed(&[&prefix16(&entry)[..], &[0]].concat());
}

#[test]
fn a_length_inside_the_extension_must_equal_its_content() {
    let sound = prefix16(&host_name(b"a.example"));
    for at in [0, 1, 3, 4] {
        for wrong in [0, sound[at].wrapping_sub(1), sound[at].wrapping_add(1), 0x7f, 0xff] {
            let mut body = sound.clone();
            body[at] = wrong;
            if body != sound {
                check_malformed(&body);
            }
        }
    }
}

#[test]
fn a_promised_name_length_reads_nothing_beyond_its_list() {
    // the next extension holds what a reader of 0xffff bytes would take for a name
    let body = [&[0, 7, 0, 0xff, 0xff][..], b"evil"].concat();
    let wire = Parts::with(&[extension(0, &body), extension(0xfff0, KEY.as_bytes())]).wire();
    check_refused(&wire, Malformed::ServerName);
}

#[test]
fn the_name_is_found_before_and_behind_other_extensions() {
    let name = sni(&[host_name(KEY.as_bytes())]);
    let heartbeat = extension(15, &[1]);
    let padding = extension(21, &[0; 128]);
    for order in [
        vec![name.clone()],
        vec![name.clone(), heartbeat.clone()],
        vec![heartbeat, name.clone()],
        vec![name.clone(), extension(35, &[])],
        vec![padding, name],
    ] {
        assert_eq!(hello(&Parts::with(&order).wire()).server_name, key());
    }
}
