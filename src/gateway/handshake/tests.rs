//! Handshakes as a stranger sees them, and what is said of each.

use super::*;

/// What happens on the wire, in order.
#[derive(Clone, Copy)]
enum Event {
    /// A record of this content type and body length; the body begins with the last number.
    Client(u8, usize, u8),
    Server(u8, usize, u8),
    Fin(Side),
    Rst(Side),
    Wait(u64),
}
use Event::{Client, Fin, Rst, Server, Wait};
use Side::{Downstream, Upstream};

/// A watch that has seen the events, and the time after them.
fn watch(early_data: bool, events: &[Event]) -> (Watch, Instant) {
    let mut now = Instant::now();
    let mut watch = Watch::new(early_data, now);
    for event in events {
        let mut record = |side, kind, length: usize, first: u8| {
            let mut body = vec![first; length];
            if kind == 21 && length == 2 {
                body[0] = 2;
            }
            let length = u16::try_from(length).expect("a length").to_be_bytes();
            watch.look(side, &[&[kind, 3, 3], &length[..], &body].concat(), now);
        };
        match *event {
            Client(kind, length, first) => record(Downstream, kind, length, first),
            Server(kind, length, first) => record(Upstream, kind, length, first),
            Fin(side) => watch.end(side, None, now),
            Rst(side) => watch.end(side, Some(Loss::Reset), now),
            Wait(ms) => now += Duration::from_millis(ms),
        }
    }
    (watch, now)
}

#[track_caller]
fn check(events: &[Event], expected: HandshakeEnd) {
    let (watch, now) = watch(false, events);
    assert_eq!(watch.verdict(now, PATIENCE), expected);
}

/// ServerHello and the encrypted rest of a TLS 1.3 server's flight.
const ANSWER: [Event; 4] =
    [Server(22, 122, 2), Server(20, 1, 1), Server(23, 40, 0), Server(23, 900, 0)];
/// Certificate, CertificateVerify and Finished of a TLS 1.3 client.
const SECOND: [Event; 4] =
    [Client(20, 1, 1), Client(23, 800, 0), Client(23, 100, 0), Client(23, 53, 0)];
const TICKET: Event = Server(23, 250, 0);
const SERVER_ALERT: Event = Server(23, 19, 0);
const CLIENT_ALERT: Event = Client(23, 19, 0);

fn after(parts: &[&[Event]]) -> Vec<Event> {
    parts.concat()
}

#[test]
fn a_handshake_that_is_answered_is_ok() {
    check(&after(&[&ANSWER, &SECOND, &[TICKET, Fin(Upstream)]]), HandshakeEnd::Ok);
    check(&after(&[&ANSWER, &SECOND, &[SERVER_ALERT, TICKET, Fin(Upstream)]]), HandshakeEnd::Ok);
    check(&after(&[&ANSWER, &SECOND, &[SERVER_ALERT, SERVER_ALERT]]), HandshakeEnd::Ok);
    let (watch, _) = watch(false, &after(&[&ANSWER, &SECOND, &[TICKET]]));
    assert!(watch.is_over(), "nothing more is looked at");
}

#[test]
fn an_endpoint_that_ends_right_after_the_clients_second_flight_is_suspected() {
    let suspected = HandshakeEnd::SuspectedAuthFailure(Upstream);
    check(&after(&[&ANSWER, &SECOND, &[SERVER_ALERT, Fin(Upstream)]]), suspected);
    check(&after(&[&ANSWER, &SECOND, &[SERVER_ALERT, Rst(Upstream)]]), suspected);
    check(&after(&[&ANSWER, &SECOND, &[Wait(200), Fin(Upstream)]]), suspected);
    check(&after(&[&ANSWER, &SECOND, &[SERVER_ALERT, Fin(Downstream)]]), suspected);
    let request = [Client(23, 400, 0), SERVER_ALERT, Fin(Upstream), Fin(Downstream)];
    check(&after(&[&ANSWER, &SECOND, &request]), suspected);
}

#[test]
fn other_ends_after_the_second_flight_are_nobodys_fault() {
    check(&after(&[&ANSWER, &SECOND, &[Fin(Downstream), Fin(Upstream)]]), HandshakeEnd::Ok);
    check(&after(&[&ANSWER, &SECOND, &[Wait(60_000), Fin(Upstream)]]), HandshakeEnd::Ok);
    let closed = [Fin(Downstream), SERVER_ALERT, Fin(Upstream)];
    check(&after(&[&ANSWER, &SECOND, &closed]), HandshakeEnd::Ok);
    let late = [Wait(60_000), SERVER_ALERT, Fin(Upstream)];
    check(&after(&[&ANSWER, &SECOND, &late]), HandshakeEnd::Ok);
    check(&after(&[&ANSWER, &SECOND]), HandshakeEnd::Ok);
}

#[test]
fn a_client_that_says_an_alerts_length_instead_of_its_flight_is_suspected() {
    let suspected = HandshakeEnd::SuspectedAuthFailure(Downstream);
    check(&after(&[&ANSWER, &[CLIENT_ALERT, Fin(Downstream)]]), suspected);
    let with_change = [Client(20, 1, 1), CLIENT_ALERT, Rst(Downstream)];
    check(&after(&[&ANSWER, &with_change]), suspected);
}

#[test]
fn plain_alerts_are_named_with_their_side() {
    check(&[Server(21, 2, 40)], HandshakeEnd::Alert(Upstream, 40));
    let tls12 = [Server(22, 90, 2), Server(22, 900, 11), Client(21, 2, 48), Fin(Downstream)];
    check(&tls12, HandshakeEnd::Alert(Downstream, 48));
    check(&[Server(21, 2, 0), Fin(Upstream)], HandshakeEnd::ClosedAfterHello);
    assert_eq!(HandshakeEnd::Alert(Upstream, 48).class(), "alert:unknown_ca");
    assert_eq!(HandshakeEnd::Alert(Downstream, 200).class(), "alert:other");
}

#[test]
fn tls_1_2_is_through_with_the_servers_finished() {
    let flight = [Server(22, 90, 2), Server(22, 900, 11), Server(22, 4, 14)];
    let client = [Client(22, 900, 11), Client(22, 70, 16), Client(20, 1, 1), Client(22, 40, 9)];
    let finished = [Server(20, 1, 1), Server(22, 40, 3)];
    check(&after(&[&flight, &client, &finished]), HandshakeEnd::Ok);
    let refused = [Server(21, 2, 48), Fin(Upstream)];
    check(&after(&[&flight, &client, &refused]), HandshakeEnd::Alert(Upstream, 48));
    check(&after(&[&flight, &client, &[Fin(Upstream)]]), HandshakeEnd::EndpointLeft);
    check(&after(&[&flight, &[Rst(Downstream)]]), HandshakeEnd::ClientLeft);
    check(&after(&[&flight, &client]), HandshakeEnd::Unfinished);
}

#[test]
fn an_endpoint_without_a_server_hello_is_told_apart_by_its_end() {
    check(&[Rst(Upstream)], HandshakeEnd::ResetBeforeHello);
    check(&[Fin(Upstream)], HandshakeEnd::ClosedAfterHello);
    check(&[Fin(Downstream)], HandshakeEnd::ClientLeft);
    check(&[Wait(6_000), Fin(Downstream)], HandshakeEnd::ServerHelloTimeout);
    check(&[Wait(6_000)], HandshakeEnd::ServerHelloTimeout);
    check(&[], HandshakeEnd::Unfinished);
    check(&[Server(72, 20, 0)], HandshakeEnd::NotTls);
}

#[test]
fn a_second_client_hello_is_no_second_flight() {
    let retry = [Server(22, 88, 2), Server(20, 1, 1), Client(20, 1, 1), Client(22, 500, 1)];
    let rest = [Server(22, 122, 2), Server(23, 40, 0), Server(23, 900, 0)];
    check(&after(&[&retry, &rest, &SECOND, &[TICKET]]), HandshakeEnd::Ok);
    let suspected = HandshakeEnd::SuspectedAuthFailure(Upstream);
    check(&after(&[&retry, &rest, &SECOND, &[SERVER_ALERT, Fin(Upstream)]]), suspected);
}

#[test]
fn of_early_data_nothing_is_said() {
    let events = [Client(23, 19, 0), Server(22, 122, 2), Client(23, 19, 0), Fin(Downstream)];
    let (watch, now) = watch(true, &events);
    assert_eq!(watch.verdict(now, PATIENCE), HandshakeEnd::Ok);
}
