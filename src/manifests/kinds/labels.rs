//! Labels, annotations and selectors: a sorted map of texts packed into one allocation.
//!
//! Must not know: which labels mean what. A pod has half a dozen labels; as a map of owned
//! strings they would be most of its memory.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

use super::budget;

/// Sorted `key\0value\0` pairs. Neither a key nor a value holds a NUL.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<str>);

impl Labels {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find_map(|(known, value)| (known == key).then_some(value))
    }

    /// All pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut parts = self.0.split_terminator('\0');
        std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when every pair of `selector` is here. The empty selector matches everything;
    /// whether that is wanted is for the caller to say.
    #[must_use]
    pub fn matches(&self, selector: &Self) -> bool {
        selector.iter().all(|(key, value)| self.get(key) == Some(value))
    }

    /// Only the pairs that `keep` maps to a value.
    pub(super) fn filtered<'a>(&'a self, keep: impl Fn(&str, &'a str) -> Option<&'a str>) -> Self {
        let kept = self.iter().filter_map(|(key, value)| Some((key, keep(key, value)?)));
        Self(pack(kept))
    }
}

/// For pairs from code; a later pair replaces an earlier one of the same key, and a pair with a
/// NUL is left out.
impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let map: std::collections::BTreeMap<_, _> = pairs
            .into_iter()
            .map(|(key, value)| (key.as_ref().to_owned(), value.as_ref().to_owned()))
            .filter(|(key, value)| !key.contains('\0') && !value.contains('\0'))
            .collect();
        Self(pack(map.iter().map(|(key, value)| (key.as_str(), value.as_str()))))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// `key=value,key=value`, as `kubectl -l` takes it.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(LabelsVisitor)
    }
}

struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = Labels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_none<E>(self) -> Result<Labels, E> {
        Ok(Labels::default())
    }

    fn visit_unit<E>(self) -> Result<Labels, E> {
        Ok(Labels::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Labels, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value::<Option<String>>()?.unwrap_or_default();
            if key.contains('\0') || value.contains('\0') {
                return Err(A::Error::custom("a NUL is not allowed here"));
            }
            budget::spend()?;
            pairs.push((key, value));
        }
        pairs.sort_unstable();
        if let Some(twice) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(A::Error::custom(format_args!("key `{}` is there twice", twice[0].0)));
        }
        Ok(Labels(pack(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())))))
    }
}

fn pack<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Box<str> {
    let mut text = String::new();
    for (key, value) in pairs {
        text.push_str(key);
        text.push('\0');
        text.push_str(value);
        text.push('\0');
    }
    text.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(yaml: &str) -> Labels {
        serde_norway::from_str(yaml).expect("labels")
    }

    #[test]
    fn pairs_are_found_and_listed_in_order() {
        let labels = labels("{b: '2', a: '1', empty: '', none: null}");
        assert_eq!(labels.get("a"), Some("1"));
        assert_eq!(labels.get("empty"), Some(""));
        assert_eq!(labels.get("none"), Some(""));
        assert_eq!(labels.get("1"), None);
        assert_eq!(labels.to_string(), "a=1,b=2,empty=,none=");
        assert_eq!(
            labels,
            [("none", ""), ("empty", ""), ("b", "2"), ("a", "1")].into_iter().collect()
        );
    }

    #[test]
    fn a_selector_matches_what_has_all_its_pairs() {
        let pod = labels("{app: bar, version: v1}");
        for (selector, expected) in [
            ("{}", true),
            ("{app: bar}", true),
            ("{app: bar, version: v1}", true),
            ("{app: baz}", false),
            ("{app: bar, other: x}", false),
        ] {
            assert_eq!(pod.matches(&labels(selector)), expected, "{selector}");
        }
    }

    #[test]
    fn a_nul_or_a_key_that_is_there_twice_is_refused() {
        for yaml in [r#"{"a\0": b}"#, r#"{a: "b\0c"}"#, "{a: b, a: c}"] {
            assert!(serde_norway::from_str::<Labels>(yaml).is_err(), "{yaml}");
        }
    }
}
