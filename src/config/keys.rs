//! Which keys exist, which had other names, and which is nearest to a misspelt one.
//!
//! Must not know: where a key was written.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_norway::Value;

use super::Settings;

/// Keys whose value is a map with names of the operator's own choice.
const FREE_MAPS: [&str; 2] = ["gateway.labels", "sidecar.labels"];

/// Names that keys had in earlier releases, each with the name of today. No release renamed one
/// yet.
pub(super) const TOMBSTONES: [Tombstone; 0] = [];

/// A key that was renamed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tombstone {
    /// The old name.
    pub was: &'static str,
    /// Today's name.
    pub now: &'static str,
}

/// Every key, dotted, with its default.
pub(super) static KNOWN: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let defaults = serde_norway::to_value(Settings::default()).expect("defaults are plain values");
    let mut known = BTreeMap::new();
    flatten("", defaults, &mut known);
    known
});

/// The variable that sets a key. A test holds that no two keys share one.
pub(super) fn variable(key: &str) -> String {
    format!("DIOLKOS_{}", key.to_uppercase().replace('.', "_"))
}

/// Whether keys stand under this name.
pub(super) fn is_section(name: &str) -> bool {
    KNOWN.keys().any(|key| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// Whether the key's value is a map of free names.
pub(super) fn is_free_map(key: &str) -> bool {
    FREE_MAPS.contains(&key)
}

/// The candidate that the fewest changes of letters turn into `written`.
pub(super) fn nearest(written: &str, candidates: impl Iterator<Item = String>) -> String {
    candidates.min_by_key(|candidate| distance(written, candidate)).unwrap_or_default()
}

/// Keys and sections: what can stand in a file.
pub(super) fn writable() -> impl Iterator<Item = String> {
    let sections = KNOWN.keys().flat_map(|key| {
        key.match_indices('.').map(|(end, _)| key[..end].to_owned()).collect::<Vec<_>>()
    });
    KNOWN.keys().cloned().chain(sections)
}

fn flatten(prefix: &str, value: Value, known: &mut BTreeMap<String, Value>) {
    match value {
        Value::Mapping(map) if !is_free_map(prefix) => {
            for (name, value) in map {
                let name = name.as_str().unwrap_or_default();
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{name}"), value, known);
            }
        }
        leaf => {
            known.insert(prefix.to_owned(), leaf);
        }
    }
}

/// How many letters must be inserted, removed or replaced. Names are cut at 100 letters: what is
/// longer is near to nothing.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(100).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_letter_changes() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_free_map_is_one_key_and_a_section_is_none() {
        assert!(KNOWN.contains_key("gateway.labels"));
        assert!(KNOWN.contains_key("relay.keepalive.probes"));
        assert!(!KNOWN.contains_key("relay.keepalive"));
        assert!(is_section("relay.keepalive") && is_section("relay"));
        assert!(!is_section("gateway.labels") && !is_section("rel"));
    }

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let variables: std::collections::BTreeSet<String> =
            KNOWN.keys().map(|key| variable(key)).collect();
        assert_eq!(variables.len(), KNOWN.len());
        assert!(variables.contains("DIOLKOS_RELAY_KEEPALIVE_TIME"));
        assert!(variables.contains("DIOLKOS_FIRST_FLIGHT_SERVER_HELLO_TIMEOUT"));
    }
}
