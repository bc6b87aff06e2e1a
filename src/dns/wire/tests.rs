//! Packets in, packets out: sound ones, and everything else. Must not know: how a zone answers.

use std::{collections::BTreeSet, net::IpAddr, sync::LazyLock};

use super::*;
use crate::dns::zone::Names;

static ZONES: LazyLock<Zones> = LazyLock::new(|| {
    let many: BTreeSet<IpAddr> = (0..200).map(|i| IpAddr::from([127, 255, 1, i])).collect();
    let few: BTreeSet<IpAddr> = (0..40).map(|i| IpAddr::from([127, 255, 2, i])).collect();
    let one = BTreeSet::from([IpAddr::from([127, 255, 0, 2])]);
    let names = [("bar.ns2.global", one), ("few.ns2.global", few), ("many.ns2.global", many)];
    let names: Names = names.map(|(name, ips)| (DnsName::parse(name).expect("name"), ips)).into();
    Zones::loaded(&[DnsName::parse("global").expect("name")], 3, &names)
});

/// A query, its numbers as they stand on the wire.
fn query(name: &str, kind: u16, class: u16) -> Vec<u8> {
    let mut packet = vec![0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(u8::try_from(label.len()).expect("a label"));
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend([kind.to_be_bytes(), class.to_be_bytes()].concat());
    packet
}

/// Adds an OPT record with nothing in it.
fn with_edns(mut packet: Vec<u8>, payload: u16, version: u8, flags: u8) -> Vec<u8> {
    packet[11] += 1;
    packet.extend([0, 0, 41]);
    packet.extend(payload.to_be_bytes());
    packet.extend([0, version, flags, 0, 0, 0]);
    packet
}

fn ask(packet: &[u8], transport: Transport) -> (Outcome, Vec<u8>) {
    let mut reply = vec![1, 2, 3];
    let outcome = answer(packet, transport, &ZONES, 30, &mut reply);
    (outcome, reply)
}

fn parsed(packet: &[u8], transport: Transport) -> Message {
    Message::from_vec(&ask(packet, transport).1).expect("a reply that can be read")
}

fn check(packet: &[u8], outcome: Outcome, header_only: bool) {
    let (found, reply) = ask(packet, Transport::Udp);
    assert_eq!(found, outcome, "{packet:02x?}");
    let code = outcome.code();
    let message = Message::from_vec(&reply).expect("a reply that can be read");
    assert_eq!(message.metadata.response_code, code, "{packet:02x?}");
    assert_eq!(message.metadata.id, 0xabcd);
    assert_eq!(reply.len() == 12, header_only, "{packet:02x?} {reply:02x?}");
}

#[test]
fn the_case_of_the_question_is_kept() {
    let message = parsed(&query("BaR.nS2.GLobal", 1, 1), Transport::Udp);
    let name = Name::from_ascii("BaR.nS2.GLobal.").expect("a name");
    assert!(message.queries[0].name().eq_case(&name));
    assert!(message.answers[0].name.eq_case(&name));
    assert_eq!((message.answers[0].ttl, message.answers.len()), (30, 1));
    assert!(message.metadata.authoritative && message.metadata.recursion_desired);
    assert!(!message.metadata.recursion_available && message.edns.is_none());
    let message = parsed(&query("NObody.nS2.GLobal", 1, 1), Transport::Udp);
    let soa = &message.authorities[0];
    assert!(soa.name.eq_case(&Name::from_ascii("GLobal.").expect("a name")));
    let RData::SOA(data) = &soa.data else { panic!("{soa:?}") };
    assert_eq!((soa.ttl, data.minimum, data.serial), (30, 30, 3));
}

#[test]
fn each_wrong_question_has_its_answer() {
    check(&query("bar.ns2.global", 1, 1), Outcome::Answered, false);
    check(&query("bar.ns2.global", 28, 1), Outcome::NoData, false);
    check(&query("bar.ns2.global", 65, 1), Outcome::NoData, false);
    check(&query("bar.ns3.global", 1, 1), Outcome::NoName, false);
    check(&query("www.example.com", 1, 1), Outcome::Refused, false);
    check(&query("", 1, 1), Outcome::Refused, false);
    check(&query("bar.ns2.global", 1, 3), Outcome::Refused, false);
    check(&query("bar.ns2.global", 1, 255), Outcome::Refused, false);
    check(&query("global", 252, 1), Outcome::Refused, false);
    check(&query("global", 251, 1), Outcome::Refused, false);
    let sound = query("bar.ns2.global", 1, 1);
    let with = |at: usize, byte: u8| {
        let mut packet = sound.clone();
        packet[at] = byte;
        packet
    };
    for opcode in 1..16 {
        check(&with(2, opcode << 3), Outcome::NotImplemented, true);
    }
    check(&with(5, 0), Outcome::Malformed, true);
    check(&with(5, 2), Outcome::Malformed, true);
    check(&with(4, 255), Outcome::Malformed, true);
    check(&with(7, 1), Outcome::Malformed, true);
    check(&with(9, 1), Outcome::Malformed, true);
    check(&with(11, 1), Outcome::Malformed, true);
    check(&with(12, 0xc0), Outcome::Malformed, true);
    check(&with(12, 64), Outcome::Malformed, true);
    check(&[&sound[..], &[0]].concat(), Outcome::Malformed, true);
    check(&sound[..12], Outcome::Malformed, true);
    let bad_version = parsed(&with_edns(sound.clone(), 1232, 1, 0), Transport::Udp);
    // 16 has two names.
    assert_eq!(u16::from(bad_version.metadata.response_code), 16);
    assert_eq!(bad_version.edns.expect("an OPT of ours").version(), 0);
    let twice = with_edns(with_edns(sound.clone(), 1232, 0, 0), 1232, 0, 0);
    assert_eq!(ask(&twice, Transport::Udp).0, Outcome::Malformed);
    let mut not_of_the_root = sound.clone();
    not_of_the_root[11] = 1;
    not_of_the_root.extend([1, b'a', 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    assert_eq!(ask(&not_of_the_root, Transport::Udp).0, Outcome::Malformed);
}

#[test]
fn what_is_no_query_gets_no_answer() {
    let sound = query("bar.ns2.global", 1, 1);
    let mut an_answer = sound.clone();
    an_answer[2] |= 0x80;
    for packet in [&an_answer[..], &sound[..11], &[0x80], &[]] {
        assert_eq!(ask(packet, Transport::Udp), (Outcome::Dropped, vec![]), "{packet:02x?}");
    }
}

#[test]
fn an_answer_fits_what_the_client_takes_or_says_so() {
    let few = query("few.ns2.global", 1, 1);
    let many = query("many.ns2.global", 1, 1);
    // 40 addresses take 12 + 20 + 40 × 16 bytes, and an OPT 11 more.
    for (packet, transport, fits) in [
        (few.clone(), Transport::Udp, false),
        (with_edns(few.clone(), 512, 0, 0), Transport::Udp, false),
        (with_edns(few.clone(), 0, 0, 0), Transport::Udp, false),
        (with_edns(few.clone(), 682, 0, 0), Transport::Udp, false),
        (with_edns(few.clone(), 683, 0, 0), Transport::Udp, true),
        (with_edns(few.clone(), 65535, 0, 0), Transport::Udp, true),
        (with_edns(many.clone(), 65535, 0, 0), Transport::Udp, false),
        (many, Transport::Tcp, true),
    ] {
        let (outcome, reply) = ask(&packet, transport);
        let message = Message::from_vec(&reply).expect("a reply");
        assert_eq!(outcome, Outcome::Answered);
        assert_eq!(message.metadata.truncation, !fits, "{packet:02x?}");
        assert_eq!(message.answers.is_empty(), !fits);
        assert_eq!(message.edns.is_some(), packet[11] == 1, "OPT is answered by OPT");
        assert!(transport == Transport::Tcp || reply.len() <= 1232);
    }
}

#[test]
fn the_dnssec_flag_comes_back() {
    for flags in [0, 0x80] {
        let packet = with_edns(query("bar.ns2.global", 1, 1), 1232, 0, flags);
        let edns = parsed(&packet, Transport::Udp).edns.expect("an OPT");
        assert_eq!((edns.flags().dnssec_ok, edns.max_payload()), (flags == 0x80, 1232));
    }
}

#[test]
fn no_prefix_and_no_changed_byte_does_harm() {
    let seeds = [
        query("bar.ns2.global", 1, 1),
        with_edns(query("few.ns2.global", 255, 1), 1232, 0, 0x80),
        query(&[&*"a".repeat(63), &"b".repeat(63), &"c".repeat(63), "global"].join("."), 1, 1),
    ];
    for seed in seeds {
        for end in 0..seed.len() {
            let (outcome, reply) = ask(&seed[..end], Transport::Udp);
            assert!(matches!(outcome, Outcome::Dropped | Outcome::Malformed), "{end} {outcome:?}");
            assert!(reply.len() <= end, "{end} bytes are answered by {}", reply.len());
        }
        for at in 0..seed.len() {
            for byte in 0..=255 {
                let mut packet = seed.clone();
                packet[at] = byte;
                let (outcome, reply) = ask(&packet, Transport::Udp);
                assert!(reply.len() <= 1232);
                let is_wrong = matches!(
                    outcome,
                    Outcome::Malformed | Outcome::NotImplemented | Outcome::Dropped
                );
                assert!(!is_wrong || reply.len() <= packet.len(), "{packet:02x?}");
            }
        }
    }
}

#[test]
fn pointers_and_promises_lead_nowhere() {
    let header = [0xab, 0xcd, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for rest in [
        // A name that points at itself, before the packet, and past its end.
        &[0xc0, 12, 0, 1, 0, 1][..],
        &[0xc0, 0, 0, 1, 0, 1],
        &[0xff, 0xff, 0, 1, 0, 1],
        // A label longer than what is left, and labels of the two kinds that do not exist.
        &[63, b'a', 0, 1, 0, 1],
        &[0x40, b'a', 0, 0, 1, 0, 1],
        &[0x80, b'a', 0, 0, 1, 0, 1],
    ] {
        let packet = [&header[..], rest].concat();
        let (outcome, reply) = ask(&packet, Transport::Udp);
        // A pointer into the header reads zeros and ones there: a name, if none of ours.
        let harmless = matches!(outcome, Outcome::Malformed | Outcome::Refused);
        assert!(harmless && reply.len() <= packet.len(), "{rest:02x?} {outcome:?}");
    }
    let mut promises = query("bar.ns2.global", 1, 1);
    promises[10..12].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(ask(&promises, Transport::Udp).0, Outcome::Malformed);
}

#[test]
fn before_the_first_load_a_name_of_ours_is_a_server_failure() {
    let unloaded = Zones::unloaded(&[DnsName::parse("global").expect("name")]);
    for (name, outcome, code) in [
        ("bar.ns2.global", Outcome::NotLoaded, ResponseCode::ServFail),
        ("www.example.com", Outcome::Refused, ResponseCode::Refused),
    ] {
        let mut reply = Vec::new();
        let found = answer(&query(name, 1, 1), Transport::Udp, &unloaded, 30, &mut reply);
        let message = Message::from_vec(&reply).expect("a reply");
        assert_eq!((found, message.metadata.response_code), (outcome, code));
        assert!(!message.metadata.authoritative);
    }
}

#[test]
fn the_order_of_outcomes_is_that_of_the_enum() {
    for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
        assert_eq!(outcome as usize, at);
    }
}
