//! The DNS server on port 0: asked by dig, by raw packets, and by resolvers of whole hosts.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

use diolkos::{
    dns::{self, Config, DnsName, Running},
    metrics::Metrics,
};
use tempfile::TempDir;

use crate::support::{PATIENCE, eventually, tools};

mod hosts;

/// Everything that the table below asks for.
const ENTRIES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bar, namespace: ns1}
spec: {hosts: [bar.ns2.global], addresses: [127.255.0.2], resolution: STATIC}
---
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: merged-a, namespace: ns1}
spec: {hosts: [Merged.ns2.Global, outside.example], addresses: [127.255.0.9, 'fd00::9/128']}
---
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: merged-b, namespace: ns9}
spec: {hosts: [merged.ns2.global], addresses: [127.255.0.3/32, 10.0.0.0/8, 127.255.0.9]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: ns1}
spec: {hosts: ['*.wild.global'], addresses: [127.255.1.1]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: near, namespace: ns1}
spec: {hosts: ['*.near.wild.global'], addresses: [127.255.1.2]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: exact, namespace: ns1}
spec: {hosts: [exact.wild.global], addresses: ['fd00::1']}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: empty, namespace: ns1}
spec: {hosts: [empty.ns2.global], ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mesh, namespace: ns1}
spec: {hosts: [bar.ns2.mesh.global], addresses: [127.255.2.1]}
";

/// A server, its files, and what it counts.
struct World {
    running: Option<Running>,
    address: SocketAddr,
    metrics: Metrics,
    dir: TempDir,
}

impl World {
    fn start(manifests: &str, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("entries.yaml"), manifests).expect("write");
        let mut config = Config {
            listen: vec![([127, 0, 0, 1], 0).into()],
            suffixes: ["global", "mesh.global"].map(|s| DnsName::parse(s).expect("name")).into(),
            ttl: Duration::from_secs(30),
            tcp_connections_max: 16,
            tcp_timeout: PATIENCE,
        };
        change(&mut config);
        let mut metrics = Metrics::default();
        let running = dns::start(&config, &[dir.path().to_owned()], &mut metrics).expect("start");
        let address = running.addresses()[0];
        let loaded = running.loaded();
        eventually("the manifests are loaded", || (*loaded.borrow()).then_some(()));
        Self { running: Some(running), address, metrics, dir }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.dir.path().join(file), text).expect("write");
    }

    /// What is counted under `result`, by both transports.
    fn counted(&self, result: &str) -> u64 {
        let label = format!("result=\"{result}\"");
        let text = self.metrics.text();
        let lines = text.lines().filter(|line| line.contains(&label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    fn connections(&self) -> u64 {
        let text = self.metrics.text();
        let line = text.lines().find_map(|l| l.strip_prefix("diolkos_dns_connections_active "));
        line.and_then(|n| n.parse().ok()).expect("a gauge")
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

/// A query, its numbers as they stand on the wire.
fn query(id: u8, name: &str, kind: u8) -> Vec<u8> {
    let mut packet = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).expect("a label"));
        packet.extend(label.as_bytes());
    }
    packet.extend([0, 0, kind, 0, 1]);
    packet
}

/// Status and number of answers of a reply.
fn told(reply: &[u8]) -> (u8, u8) {
    (reply[3] & 15, reply[7])
}

/// Sends a datagram and waits for one; `None` when none comes before the answer to a sound query
/// that follows it.
fn ask_udp(to: SocketAddr, packet: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    socket.connect(to).expect("connect");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    socket.send(packet).expect("send");
    socket.send(&query(255, "bar.ns2.global", 1)).expect("send");
    let mut buffer = [0; 65_535];
    let length = socket.recv(&mut buffer).expect("an answer");
    let reply = buffer[..length].to_vec();
    if reply[1] == 255 {
        return None;
    }
    socket.recv(&mut buffer).expect("the answer to the sound query");
    Some(reply)
}

/// What dig says in one line: status, flags without `qr` and `rd`, records of the answer, and the
/// owner of a start of authority.
fn dig(to: SocketAddr, arguments: &str) -> Option<String> {
    let dig = tools::find("dig")?;
    let mut command = Command::new(dig);
    command.args(["@127.0.0.1", "-p", &to.port().to_string(), "+tries=1", "+nocookie"]);
    command.args(["+noall", "+comments", "+answer", "+authority"]);
    command.args(arguments.split_whitespace());
    let said = tools::run(&mut command, b"", PATIENCE).stdout;
    let after = |mark: &str, end: char| {
        let (_, rest) = said.split_once(mark)?;
        rest.split(end).next().map(str::to_owned)
    };
    let status = after("status: ", ',').unwrap_or_else(|| panic!("{arguments}: {said}"));
    let flags = after(";; flags: ", ';').expect("flags");
    let flags: Vec<_> = flags
        .split(' ')
        .filter(|flag| !["qr", "rd", ""].contains(flag))
        .map(str::to_owned)
        .collect();
    let records = said.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
    let record = |line: &str| {
        let mut fields = line.split_whitespace();
        let (name, ttl) = (fields.next().expect("name"), fields.next().expect("ttl"));
        assert_eq!(ttl, "30", "{line}");
        let rest: Vec<_> = fields.skip(1).collect();
        match rest[0] {
            "SOA" => format!("SOA {name}"),
            _ => format!("{name} {}", rest.join(" ")),
        }
    };
    let mut records: Vec<_> = records.map(record).collect();
    records.sort();
    Some([&[status, flags.join(",")][..], &records].concat().join(" | "))
}

#[test]
fn dig_is_told_what_the_rules_say() {
    let world = World::start(ENTRIES, |_| {});
    let bar = "NOERROR | aa | bar.ns2.global. A 127.255.0.2";
    let merged =
        "NOERROR | aa | merged.ns2.global. A 127.255.0.3 | merged.ns2.global. A 127.255.0.9";
    let no_data = "NOERROR | aa | SOA global.";
    let no_name = "NXDOMAIN | aa | SOA global.";
    for (arguments, expected) in [
        ("bar.ns2.global A", bar),
        ("bar.ns2.global A +tcp", bar),
        ("bar.ns2.global A +noedns", bar),
        ("bar.ns2.global A +dnssec", bar),
        ("bar.ns2.global A +subnet=10.0.0.0/8", bar),
        ("BaR.Ns2.GlObAl A", "NOERROR | aa | BaR.Ns2.GlObAl. A 127.255.0.2"),
        ("bar.ns2.global ANY", bar),
        ("bar.ns2.global AAAA", no_data),
        ("bar.ns2.global TXT", no_data),
        ("bar.ns2.global HTTPS", no_data),
        ("bar.ns2.global SRV", no_data),
        ("bar.ns2.global MX +tcp", no_data),
        ("merged.ns2.global A", merged),
        ("merged.ns2.global AAAA", "NOERROR | aa | merged.ns2.global. AAAA fd00::9"),
        ("empty.ns2.global A", no_data),
        ("ns2.global A", no_data),
        ("global A", no_data),
        ("global SOA", "NOERROR | aa | SOA global."),
        ("global NS", "NOERROR | aa | global. NS global."),
        ("bar.ns3.global A", no_name),
        ("nobody.ns2.global AAAA", no_name),
        ("x.bar.ns2.global A", no_name),
        ("bar.ns2.global.ns1.svc.cluster.local A", "REFUSED | "),
        ("bar.ns2.global.ns1.global A", no_name),
        ("a.wild.global A", "NOERROR | aa | a.wild.global. A 127.255.1.1"),
        ("a.b.wild.global A", "NOERROR | aa | a.b.wild.global. A 127.255.1.1"),
        ("*.wild.global A", "NOERROR | aa | *.wild.global. A 127.255.1.1"),
        ("a.wild.global AAAA", no_data),
        ("a.near.wild.global A", "NOERROR | aa | a.near.wild.global. A 127.255.1.2"),
        ("near.wild.global A", no_data),
        ("exact.wild.global A", no_data),
        ("exact.wild.global AAAA", "NOERROR | aa | exact.wild.global. AAAA fd00::1"),
        ("x.exact.wild.global A", no_name),
        ("bar.ns2.mesh.global A", "NOERROR | aa | bar.ns2.mesh.global. A 127.255.2.1"),
        ("nobody.mesh.global A", "NXDOMAIN | aa | SOA mesh.global."),
        ("outside.example A", "REFUSED | "),
        (". NS", "REFUSED | "),
        ("bar.ns2.global CH TXT", "REFUSED | "),
        ("version.bind CH TXT", "REFUSED | "),
        ("bar.ns2.global A +edns=1 +noednsnegotiation", "BADVERS | "),
        ("bar.ns2.global A +opcode=NOTIFY", "NOTIMP | "),
        ("bar.ns2.global A +opcode=UPDATE", "NOTIMP | "),
        ("bar.ns2.global A +header-only", "FORMERR | "),
    ] {
        let Some(found) = dig(world.address, arguments) else { return };
        assert_eq!(found, expected, "dig {arguments}");
    }
    assert!(world.counted("answered") > 10 && world.counted("nxdomain") > 4);
}

#[test]
fn an_answer_too_large_for_udp_is_had_by_tcp() {
    let addresses: Vec<_> = (0..200).map(|i| format!("127.255.7.{i}")).collect();
    let entry = format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: a, \
         namespace: a}}, spec: {{hosts: [many.global], addresses: [{}]}}}}",
        addresses.join(", ")
    );
    let world = World::start(&entry, |_| {});
    let Some(found) = dig(world.address, "many.global A +ignore") else { return };
    assert_eq!(found, "NOERROR | aa,tc");
    let whole = dig(world.address, "many.global A").expect("dig is there");
    assert_eq!(whole.matches("127.255.7.").count(), 200, "{whole}");
}

#[test]
fn what_is_no_sound_query_is_refused_or_dropped_and_does_no_harm() {
    let world = World::start(ENTRIES, |_| {});
    let sound = query(7, "bar.ns2.global", 1);
    let with = |at: usize, byte: u8| {
        let mut packet = sound.clone();
        packet[at] = byte;
        packet
    };
    let (formerr, notimp, refused) = (Some(1), Some(4), Some(5));
    for (what, packet, expected) in [
        ("an answer", with(2, 0x81), None),
        ("eleven bytes", sound[..11].to_vec(), None),
        ("nothing", vec![], None),
        ("a header", sound[..12].to_vec(), formerr),
        ("half a name", sound[..15].to_vec(), formerr),
        ("no question", with(5, 0), formerr),
        ("two questions", with(5, 2), formerr),
        ("an answer record", with(7, 1), formerr),
        ("an additional record that is not there", with(11, 1), formerr),
        ("a byte behind", [&sound[..], b"x"].concat(), formerr),
        ("a name that points at itself", with(12, 0xc0), formerr),
        ("an inverse query", with(2, 1 << 3), notimp),
        ("an unknown opcode", with(2, 15 << 3), notimp),
        ("class CHAOS", with(31, 3), refused),
        ("a transfer", with(29, 252), refused),
        ("4,000 bytes of 0xff", [&[0, 7, 1, 0][..], &[0xff; 4000]].concat(), formerr),
        ("a datagram too large", [&sound[..], &[0; 20_000]].concat(), formerr),
    ] {
        let reply = ask_udp(world.address, &packet);
        assert_eq!(reply.as_deref().map(|r| told(r).0), expected, "{what}: {reply:02x?}");
        if let Some(reply) = reply {
            assert!(reply.len() <= packet.len(), "{what}: no amplification");
            assert_eq!((reply[1], reply[2] & 0x80), (7, 0x80), "{what}: the same id, an answer");
        }
    }
    let mut seed = 1_u64;
    for _ in 0..2_000 {
        let mut packet = sound.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(seed >> 33).expect("31 bits") % packet.len();
            packet[at] = seed.to_le_bytes()[4];
        }
        packet[1] = 7;
        // The sound query that follows is answered, or this fails.
        ask_udp(world.address, &packet);
    }
}

#[test]
fn queries_of_one_connection_are_answered_in_order_however_they_are_cut() {
    let world = World::start(ENTRIES, |_| {});
    let framed = |packet: Vec<u8>| {
        [&u16::try_from(packet.len()).expect("short").to_be_bytes()[..], &packet].concat()
    };
    let names = ["bar.ns2.global", "nobody.global", "outside.example", "a.wild.global"];
    let asked = (0_u8..).zip(names).map(|(id, name)| framed(query(id, name, 1)));
    let wire: Vec<u8> = asked.flatten().collect();
    let expect = |stream: &mut TcpStream| {
        for (id, expected) in (0_u8..).zip([(0, 1), (3, 0), (5, 0), (0, 1)]) {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut reply).expect("a reply");
            assert_eq!((reply[1], told(&reply)), (id, expected));
        }
    };
    let mut stream = world.tcp();
    stream.write_all(&wire).expect("all at once");
    expect(&mut stream);
    stream.set_nodelay(true).expect("nodelay");
    wire.iter().for_each(|byte| stream.write_all(&[*byte]).expect("byte by byte"));
    expect(&mut stream);
    // A client that has no more questions still gets its answers.
    stream.write_all(&wire).expect("write");
    stream.shutdown(std::net::Shutdown::Write).expect("half-close");
    expect(&mut stream);
    assert_eq!(stream.read(&mut [0]).expect("FIN"), 0);
}

#[test]
fn a_silent_connection_is_closed_and_so_is_one_that_never_ends_its_query() {
    let world = World::start(ENTRIES, |config| config.tcp_timeout = Duration::from_millis(300));
    for sent in [&b""[..], &[0], &[0, 40, 1, 2, 3]] {
        let begun = Instant::now();
        let mut stream = world.tcp();
        stream.write_all(sent).expect("write");
        assert_eq!(stream.read(&mut [0]).expect("FIN"), 0, "{sent:?}");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(290) && took < Duration::from_millis(2300));
    }
    // What UDP would drop ends the connection at once: it is no client of DNS.
    for sent in [&[0, 0][..], &[0, 3, 1, 2, 3]] {
        let mut stream = world.tcp();
        stream.write_all(sent).expect("write");
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "{sent:?}");
    }
    eventually("no connection is left", || (world.connections() == 0).then_some(()));
}

#[test]
fn when_all_places_are_taken_the_one_silent_for_longest_makes_room() {
    let world = World::start(ENTRIES, |config| config.tcp_connections_max = 2);
    let ask = |stream: &mut TcpStream| {
        let packet = query(1, "bar.ns2.global", 1);
        let length = u16::try_from(packet.len()).expect("short").to_be_bytes();
        stream.write_all(&[&length[..], &packet].concat())?;
        stream.read_exact(&mut [0; 50])
    };
    let (mut first, mut second) = (world.tcp(), world.tcp());
    ask(&mut first).expect("an answer");
    ask(&mut second).expect("an answer");
    ask(&mut first).expect("an answer");
    let mut third = world.tcp();
    ask(&mut third).expect("an answer");
    ask(&mut first).expect("the first spoke after the second");
    assert!(ask(&mut second).is_err(), "the second was silent for longest");
    eventually("two are left", || (world.connections() == 2).then_some(()));
}

#[test]
fn a_change_of_files_is_answered_within_a_second() {
    let world = World::start(ENTRIES, |_| {});
    let entry = |address: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: new, \
             namespace: a}}, spec: {{hosts: [new.global], addresses: [{address}]}}}}"
        )
    };
    let ask = || told(&ask_udp(world.address, &query(1, "new.global", 1)).expect("a reply"));
    assert_eq!(ask(), (3, 0));
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        for (write, expected) in [(true, (0, 1)), (false, (3, 0))] {
            let begun = Instant::now();
            match write {
                true => world.write("new.yaml", &entry("127.255.9.9")),
                false => fs::remove_file(world.dir.path().join("new.yaml")).expect("remove"),
            }
            eventually("the change is answered", || (ask() == expected).then_some(()));
            fastest = fastest.min(begun.elapsed());
        }
    }
    assert!(fastest < Duration::from_secs(1), "{fastest:?}, on whatever else this machine does");
    world.write("new.yaml", &entry("127.255.9.9"));
    eventually("it is back", || (ask() == (0, 1)).then_some(()));
    // A file that broke keeps what it said.
    world.write("new.yaml", "{");
    world.write("other.yaml", &entry("127.255.9.8").replace("new", "other"));
    let other = query(2, "other.global", 1);
    eventually("the other file is read", || {
        (told(&ask_udp(world.address, &other).expect("a reply")) == (0, 1)).then_some(())
    });
    assert_eq!(ask(), (0, 1));
}
