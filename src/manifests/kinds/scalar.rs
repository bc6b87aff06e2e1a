//! Scalars of manifests as Rust values: ports, durations, booleans with defaults, shared texts.
//!
//! For use as `deserialize_with`. Must not know: which field they read.

use std::{cell::RefCell, collections::HashSet, fmt, sync::Arc, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// The longest duration protobuf knows, 10,000 years, in seconds.
const DURATION_SECONDS_MAX: u64 = 315_576_000_000;

/// Texts that one thread remembers for [`shared`]: some namespaces and all nodes of a cluster.
const SHARED_MAX: usize = 4096;

/// Reads a text through `parse`. Only an error that is made while the text is read carries the
/// path of the field; made afterwards, it carries that of the object around it.
pub fn parsed<'de, D, T, F>(deserializer: D, parse: F) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    F: FnOnce(&str) -> Result<T, String>,
{
    deserializer.deserialize_str(Parsed(parse))
}

struct Parsed<F>(F);

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Parsed<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

/// Reads `null` as the default value.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A port: 1 to 65535.
pub fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    deserializer.deserialize_u64(PortVisitor)
}

/// A port that may be absent, but not 0.
pub fn port_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    struct Port(u16);
    impl<'de> Deserialize<'de> for Port {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            port(deserializer).map(Self)
        }
    }
    Ok(Option::<Port>::deserialize(deserializer)?.map(|Port(port)| port))
}

/// A port that may be absent; 0 counts as absent, as in protobuf.
pub fn optional_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    match Option::<MaybePort>::deserialize(deserializer)? {
        None => Ok(None),
        Some(MaybePort(port)) => Ok(Some(port).filter(|port| *port != 0)),
    }
}

struct MaybePort(u16);

impl<'de> Deserialize<'de> for MaybePort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(MaybePortVisitor)
    }
}

struct MaybePortVisitor;

impl Visitor<'_> for MaybePortVisitor {
    type Value = MaybePort;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        PortVisitor.expecting(f)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<MaybePort, E> {
        if number == 0 { Ok(MaybePort(0)) } else { PortVisitor.visit_u64(number).map(MaybePort) }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<MaybePort, E> {
        PortVisitor.visit_i64(number).map(MaybePort)
    }
}

/// Also reads a port from the key of a map, where it may be quoted.
pub(super) struct PortVisitor;

impl Visitor<'_> for PortVisitor {
    type Value = u16;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port, 1 to 65535")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u16, E> {
        match u16::try_from(number) {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(not_a_port(number)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u16, E> {
        u64::try_from(number).map_err(|_| not_a_port(number)).and_then(|port| self.visit_u64(port))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u16, E> {
        text.parse().map_err(|_| not_a_port(text)).and_then(|port| self.visit_u64(port))
    }
}

fn not_a_port<E: Error>(found: impl fmt::Display) -> E {
    E::custom(format_args!("{found} is not a port: write a number from 1 to 65535"))
}

/// A duration that may be absent.
pub fn optional_duration<'de, D>(deserializer: D) -> Result<Option<Duration>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::<Span>::deserialize(deserializer)?.map(|Span(duration)| duration))
}

struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, |text| match parse_duration(text) {
            Some(duration) => Ok(Self(duration)),
            None => {
                Err(format!("`{text}` is not a duration: write it like 10s, 0.5s, 500ms or 1h30m"))
            }
        })
    }
}

/// Reads `10s`, `0.5s`, `500ms`, `1h30m`: protobuf's form and Go's. `None` for anything else, for
/// a negative one and for more than 10,000 years. Finer than a nanosecond is cut off.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        nanos = nanos.checked_add(scaled(number, unit_nanos(unit)?)?)?;
        rest = after;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let subsecond = u32::try_from(nanos % 1_000_000_000).ok()?;
    (seconds <= DURATION_SECONDS_MAX).then(|| Duration::new(seconds, subsecond))
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `12.5` times `unit`, exact.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // 18 digits are finer than a nanosecond in an hour, and keep the product inside 128 bits.
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let cut = &fraction[..fraction.len().min(18)];
    digits(fraction.get(18..).unwrap_or_default())?;
    let scale = 10_u128.pow(u32::try_from(cut.len()).ok()?);
    digits(whole)?.checked_mul(unit)?.checked_add(digits(cut)? * unit / scale)
}

/// A text of which many objects have the same, such as a namespace or a node's name: equal texts
/// share memory.
pub fn shared_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    String::deserialize(deserializer).map(|text| shared(&text))
}

/// As [`shared_text`]; absent and `null` are the empty text.
pub fn shared_text_or_empty<'de, D>(deserializer: D) -> Result<Arc<str>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(optional_shared_text(deserializer)?.unwrap_or_default())
}

/// As [`shared_text`]; absent, `null` and empty are all `None`.
pub fn optional_shared_text<'de, D>(deserializer: D) -> Result<Option<Arc<str>>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(|text| shared(&text)))
}

/// A text that may be absent; empty is absent, as everywhere in Kubernetes.
pub fn optional_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<str>>, D::Error> {
    Ok(Option::<Box<str>>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// Equal texts asked for on one thread share memory.
#[must_use]
pub fn shared(text: &str) -> Arc<str> {
    thread_local!(static KNOWN: RefCell<HashSet<Arc<str>>> = RefCell::default());
    KNOWN.with_borrow_mut(|known| {
        if let Some(found) = known.get(text) {
            return found.clone();
        }
        if known.len() >= SHARED_MAX {
            known.clear();
        }
        let text: Arc<str> = text.into();
        known.insert(text.clone());
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_in_both_forms() {
        for (text, millis) in [
            ("10s", 10_000),
            ("0s", 0),
            ("0", 0),
            ("0.5s", 500),
            (".5s", 500),
            ("1.s", 1_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("1h30m0.25s", 5_400_250),
            ("1.5h", 5_400_000),
            ("2000us", 2),
            ("315576000000s", 315_576_000_000_000),
            ("0.100000000000000000000000000000001s", 100),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "10",
            "s",
            ".s",
            "-1s",
            "+1s",
            "1 s",
            "1d",
            "10S",
            "1s1",
            "1.2.3s",
            "1e3s",
            "abc",
            "315576000001s",
            "99999999999999999999999999999999999999999s",
            "340282366920938463463374607431768211455h",
            "0.1x",
            "1.00000000000000000000000000000000000000000000000000000x",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn equal_shared_texts_are_one() {
        assert!(Arc::ptr_eq(&shared("ns2"), &shared("ns2")));
        for index in 0..=SHARED_MAX {
            assert_eq!(&*shared(&index.to_string()), index.to_string());
        }
    }
}
