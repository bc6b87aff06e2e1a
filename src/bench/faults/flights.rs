//! G2: nothing but exactly one well-formed hello for an exported name reaches an endpoint, and who
//! is refused is told how.

use std::{io::Read as _, net::Shutdown};

use super::{
    Peer, Stage,
    front::Terms,
    goal::{Cell, Goal, How},
    script::{Clients, Pod},
};
use crate::bench::compare::configs::name;

pub(super) const GOAL: Goal = Goal {
    name: "G2",
    done: "first flights that are no TLS, cut, malformed, too large or for nobody here \
           (a few of those in tests/hellos.rs, over the wire)",
    reach: "each told as it should be (FIN or its alert), 0 reach an endpoint",
    how: How::Measured { measure, rivals: true },
};

/// What a client is told.
type Owed = Option<u8>;

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let pod = Pod::new()?;
    let front = stage.front(peer, &[pod.address], &Terms::default())?;
    let clients = Clients::of(&front)?;
    let flights = flights();
    let (mut told, mut reached, mut wrong) = (0, 0, Vec::new());
    for (what, wire, owed) in &flights {
        let mut client = clients.say(wire)?;
        client.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        let ended = client.read_to_end(&mut answer).is_ok();
        let alert = owed.map_or(vec![], |description| vec![21, 3, 3, 0, 2, 2, description]);
        let arrived = pod.refuse_all();
        reached += usize::from(arrived > 0);
        if ended && answer == alert {
            told += 1;
        }
        if arrived > 0 || !(ended && answer == alert) {
            wrong.push(*what);
        }
    }
    let all = flights.len();
    if peer == Peer::Diolkos {
        let wrong =
            if wrong.is_empty() { String::new() } else { format!(": {}", wrong.join(", ")) };
        let figure = format!("{told} of {all} told so{wrong}; {reached} reach an endpoint");
        return Ok(Cell::measured(told == all && reached == 0, figure));
    }
    // What others say to a client is theirs to choose.
    Ok(Cell::measured(reached == 0, format!("{reached} of {all} reach an endpoint")))
}

fn flights() -> Vec<(&'static str, Vec<u8>, Owed)> {
    let good = Hello::new(&name(0));
    let wire = good.wire();
    let changed = |at: usize, to: u8| {
        let mut wire = wire.clone();
        wire[at] = to;
        wire
    };
    let extensions = |all: &[Vec<u8>]| Hello { extensions: all.to_vec() }.wire();
    let [sni, alpn] = [server_name(name(0).as_bytes()), alpn(b"istio")];
    let nobody = |host: &str| extensions(&[server_name(host.as_bytes()), alpn.clone()]);
    vec![
        ("HTTP", b"GET / HTTP/1.1\r\nhost: bar\r\n\r\n".to_vec(), None),
        ("SSLv2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec(), None),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40], Some(50)),
        ("application data", vec![23, 3, 3, 0, 2, 1, 1], Some(50)),
        ("half a hello", wire[..wire.len() / 2].to_vec(), None),
        ("record version 2.0", changed(1, 2), Some(70)),
        ("SSL 3.0", changed(10, 0), Some(70)),
        ("a ServerHello", changed(5, 2), Some(50)),
        ("a byte behind the hello", changed(8, wire[8] - 1), Some(50)),
        ("the name twice", extensions(&[sni.clone(), sni.clone(), alpn.clone()]), Some(50)),
        ("an empty name", extensions(&[server_name(b""), alpn.clone()]), Some(50)),
        ("NUL in the name", nobody("outbound_.8080_._.svc-0.bench.global\0"), Some(112)),
        ("17,000 bytes", extensions(&[sni.clone(), alpn.clone(), padding(17_000)]), Some(50)),
        ("no name", extensions(std::slice::from_ref(&alpn)), Some(112)),
        ("an unknown name", nobody("outbound_.8080_._.nobody.bench.global"), Some(112)),
        ("an unknown port", nobody("outbound_.81_._.svc-0.bench.global"), Some(112)),
        ("an unknown subset", nobody("outbound_.8080_.v9_.svc-0.bench.global"), Some(112)),
        ("an ordinary name", nobody("svc-0.bench.global"), Some(112)),
        (
            "the name inside the cluster",
            nobody("outbound_.8080_._.svc-0.bench.svc.cluster.local"),
            Some(112),
        ),
        ("no ALPN", extensions(std::slice::from_ref(&sni)), Some(120)),
        ("ALPN h2", extensions(&[sni, self::alpn(b"h2")]), Some(120)),
    ]
}

/// A ClientHello made to measure.
pub(super) struct Hello {
    pub(super) extensions: Vec<Vec<u8>>,
}

impl Hello {
    /// One that is served.
    pub(super) fn new(name: &str) -> Self {
        Self { extensions: vec![server_name(name.as_bytes()), alpn(b"istio")] }
    }

    /// In records of at most 2^14 bytes.
    pub(super) fn wire(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([9; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        let versions = extension(43, &[2, 3, 4]);
        body.extend(long(&[self.extensions.concat(), versions].concat()));
        let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
        let message = [&[1][..], &length[1..], &body].concat();
        message.chunks(1 << 14).flat_map(|part| [&[22, 3, 1][..], &long(part)].concat()).collect()
    }
}

/// The extension that says whom one asks for.
pub(super) fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &long(&[&[0][..], &long(name)].concat()))
}

/// The extension that only makes it longer.
pub(super) fn padding(bytes: usize) -> Vec<u8> {
    extension(21, &vec![0; bytes])
}

fn alpn(name: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap_or(0);
    extension(16, &long(&[&[length][..], name].concat()))
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(body)].concat()
}

/// With its length in two bytes in front.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes()[..], bytes].concat()
}
