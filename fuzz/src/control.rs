//! What must hold for any bytes that reach the control plane: manifests, settings, DNS queries.
//!
//! Must not know: where the bytes come from.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use diolkos::{
    config::{Override, Settings, SettingsError, Sources},
    discovery::{Catalog, Change, Identity},
    dns::{
        name::DnsName,
        wire::{Outcome, Transport, UDP_BYTES_MAX, answer},
        zone::Zones,
    },
    manifests::{News, Parsed, Severity, Store, parse, parse::BROKEN_MAX},
    routing::SharedTable,
};

/// What stands behind any bytes in the same file and is read all the same.
const NEIGHBOUR: &str = "\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: neighbour\n  \
                         namespace: fuzz\nspec:\n  ports:\n  - {name: http, port: 80}\n";

/// Panics unless a file of these bytes is read in bounds and told of truly, and unless whatever
/// it holds can become routes, and go again.
pub fn manifests(bytes: &[u8]) {
    let file: Arc<Path> = Path::new("any.yaml").into();
    let parsed = parse(&file, bytes);
    check_parsed(bytes, &parsed);
    let broken = parsed.problems.iter().filter(|told| told.severity == Severity::Error).count();
    if broken < BROKEN_MAX / 2 {
        let both = parse(&file, &[bytes, NEIGHBOUR.as_bytes()].concat());
        let found = both.items.iter().any(|item| is_neighbour(&item.reference));
        assert!(found, "its neighbour is not read: {:?}", both.problems);
    }

    let mut store = Store::new();
    let mut catalog = Catalog::new(Identity::default(), Arc::new(SharedTable::new()));
    let mut take = |store: &mut Store, parsed| {
        let changes = store.apply(vec![News::File(file.clone(), parsed)]);
        let changed = Change::of_store(store.objects(), &changes);
        catalog.apply(&changed);
        assert!(catalog.findings().iter().all(|finding| !finding.message.is_empty()));
        changes
    };
    take(&mut store, Some(parsed));
    let again = take(&mut store, Some(parse(&file, bytes)));
    assert!(again.is_empty(), "the same file changes {again:?}");
    take(&mut store, None);
    assert!(store.objects().is_empty() && store.problems().is_empty());
    assert_eq!(catalog.summary().services, 0, "routes without objects");
}

fn is_neighbour(reference: &diolkos::manifests::ObjectRef) -> bool {
    reference.to_string() == "Service fuzz/neighbour"
}

fn check_parsed(bytes: &[u8], parsed: &Parsed) {
    // To YAML 1.1 these four end a line as well as a newline does.
    let ends = ["\n", "\r", "\u{85}", "\u{2028}", "\u{2029}"];
    let text = String::from_utf8_lossy(bytes);
    let lines = 1 + ends.iter().map(|end| text.matches(end).count()).sum::<usize>();
    let mut seen = BTreeSet::new();
    for item in &parsed.items {
        assert!(seen.insert(&item.reference), "{} twice", item.reference);
        assert!((1..=lines).contains(&item.line), "{} in line {}", item.reference, item.line);
        let about = |told: &&diolkos::manifests::Problem| {
            told.severity == Severity::Error && told.object.as_ref() == Some(&item.reference)
        };
        let told = parsed.problems.iter().any(|told| about(&told));
        assert_eq!(told, item.object.is_none(), "{}: {:?}", item.reference, parsed.problems);
    }
    for told in &parsed.problems {
        // What is missed at the end of the last line is missed in the one behind it.
        assert!(told.line <= lines + 1, "{told}");
        assert!(!told.message.is_empty(), "{told:?}");
    }
    assert!(!parsed.unreadable || !parsed.problems.is_empty());
}

/// Panics unless a file of settings is taken or refused by name, and what was taken gives itself
/// again. Its lines are tried as `--set` too.
pub fn settings(bytes: &[u8]) {
    let file = Settled::new(bytes);
    let of_file = Sources { file: Some(file.path.clone()), ..Sources::default() };
    check_settings(&of_file);
    let lines = String::from_utf8_lossy(bytes);
    let overrides = lines.lines().take(16).filter_map(|line| Override::assignment(line).ok());
    check_settings(&Sources { overrides: overrides.collect(), ..Sources::default() });
}

fn check_settings(sources: &Sources) {
    match Settings::load(sources) {
        Ok(settings) => {
            let yaml = Settled::new(settings.to_yaml().as_bytes());
            let same = Sources { file: Some(yaml.path.clone()), ..Sources::default() };
            let same = Settings::load(&same).expect("settings give themselves again");
            assert_eq!(settings.changed_keys(&same), Vec::<String>::new());
        }
        Err(error) => {
            assert!(!matches!(error, SettingsError::Unreadable { .. }) || sources.file.is_some());
            let told = error.to_string();
            assert!(told.len() < 16_384, "{} bytes to say what is wrong", told.len());
            let place = sources.file.as_ref().map_or("--set".into(), |file| file.to_string_lossy());
            assert!(told.contains(&*place), "{told}");
        }
    }
}

/// A file that is gone with its value.
struct Settled {
    path: PathBuf,
    _file: tempfile::NamedTempFile,
}

impl Settled {
    fn new(bytes: &[u8]) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        Self { path: file.path().to_owned(), _file: file }
    }
}

static ZONES: LazyLock<Zones> = LazyLock::new(|| {
    let many: BTreeSet<IpAddr> = (0..200).map(|i| IpAddr::from([127, 255, 1, i])).collect();
    let one = BTreeSet::from([IpAddr::from([127, 255, 0, 2])]);
    let names = [("bar.ns2.global", one), ("many.ns2.global", many)];
    let names: BTreeMap<_, _> =
        names.map(|(name, ips)| (DnsName::parse(name).expect("a name"), ips)).into();
    Zones::loaded(&[DnsName::parse("global").expect("a name")], 3, &names)
});

/// An EDNS record without options.
const OPT_BYTES: usize = 11;

/// Panics unless a packet is answered in bounds, to whom asked, and alike by UDP and TCP.
pub fn dns(packet: &[u8]) {
    let (mut by_udp, mut by_tcp) = (vec![1], vec![1]);
    let outcome = answer(packet, Transport::Udp, &ZONES, 30, &mut by_udp);
    assert_eq!(outcome, answer(packet, Transport::Tcp, &ZONES, 30, &mut by_tcp));
    assert!(by_udp.len() <= UDP_BYTES_MAX.into(), "{} bytes by UDP", by_udp.len());
    let is_answer = packet.get(2).is_some_and(|flags| flags & 0x80 != 0);
    assert_eq!(outcome == Outcome::Dropped, packet.len() < 12 || is_answer, "{outcome:?}");
    for reply in [&by_udp, &by_tcp] {
        if outcome == Outcome::Dropped {
            assert!(reply.is_empty());
            continue;
        }
        assert!(reply.len() >= 12, "{outcome:?} in {} bytes", reply.len());
        assert_eq!(reply[..2], packet[..2], "the id");
        assert_eq!(reply[2] & 0xf9, (packet[2] & 0x79) | 0x80, "an answer to the same");
        if matches!(outcome, Outcome::Malformed | Outcome::NotImplemented) {
            let bound = packet.len().min(12 + OPT_BYTES);
            assert!(reply.len() <= bound, "{outcome:?} in {} bytes", reply.len());
        }
        if outcome == Outcome::Answered && reply[2] & 2 == 0 {
            let end = question_end(packet);
            assert_eq!(reply.get(12..end), packet.get(12..end), "the question, as it was written");
            assert_ne!(reply[6..8], [0, 0], "answered, with no answer");
        }
    }
}

/// The end of the first question, by a reader of its own.
fn question_end(packet: &[u8]) -> usize {
    let mut at = 12;
    while let Some(&len @ 1..) = packet.get(at) {
        at += 1 + usize::from(len);
    }
    at + 1 + 4
}
