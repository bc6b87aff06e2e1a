//! Names as zones hold them: wire format in lower case, without the root's zero byte.
//!
//! Labels may hold any byte, dots too, so a name from the network is never turned into text to be
//! looked up. Must not know: records, zones, packets.

use std::{borrow::Borrow, fmt};

/// A name below the root. Its bytes are labels, each after its length.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsName(Box<[u8]>);

/// A name has at most 255 bytes with the root's, a label 63 (RFC 1035 §2.3.4).
const BYTES_MAX: usize = 254;
const LABEL_MAX: usize = 63;

impl DnsName {
    /// Joins labels, lower-cased. `None` when there is none, one is empty or longer than 63
    /// bytes, or the whole is longer than 255.
    pub fn from_labels<'l>(labels: impl IntoIterator<Item = &'l [u8]>) -> Option<Self> {
        let mut bytes = Vec::with_capacity(64);
        for label in labels {
            let length = u8::try_from(label.len()).ok()?;
            if !(1..=LABEL_MAX).contains(&label.len()) {
                return None;
            }
            bytes.push(length);
            bytes.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        (1..=BYTES_MAX).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// Reads `bar.ns2.global`; one dot at the end does no harm.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        Self::from_labels(text.split('.').map(str::as_bytes))
    }

    /// A name from [`Self::and_above`] as one of its own.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The labels, the leftmost first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        self.and_above().map(|name| {
            let (length, rest) = name.split_first().unwrap_or((&0, &[]));
            rest.get(..usize::from(*length)).unwrap_or_default()
        })
    }

    /// This name, then each that it is below, without the root.
    pub fn and_above(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let this = rest;
            let length = usize::from(*this.first()?);
            rest = this.get(length + 1..).unwrap_or_default();
            Some(this)
        })
    }
}

/// The name of the wildcard right below `name`, in bytes.
#[must_use]
pub fn wildcard_below(name: &[u8]) -> Vec<u8> {
    [b"\x01*", name].concat()
}

/// Lets a map keyed by names be searched with a part of another.
impl Borrow<[u8]> for DnsName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// As text, escaped as RFC 4343 §2.1 writes it.
impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, label) in self.labels().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            for &byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
                    other => write!(f, "\\{other:03}")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_and_knows_what_it_is_below() {
        let name = DnsName::parse("Bar.NS2.global.").expect("a name");
        assert_eq!(name.as_bytes(), b"\x03bar\x03ns2\x06global");
        let above: Vec<&[u8]> = name.and_above().skip(1).collect();
        assert_eq!(above, [&b"\x03ns2\x06global"[..], b"\x06global"]);
        assert_eq!(name.labels().collect::<Vec<_>>(), [&b"bar"[..], b"ns2", b"global"]);
        assert_eq!(name.to_string(), "bar.ns2.global");
        assert_eq!(wildcard_below(b"\x06global"), b"\x01*\x06global");
    }

    #[test]
    fn what_no_packet_can_hold_is_no_name() {
        let label = "a".repeat(63);
        let longest = [&*label, &label, &label, &"a".repeat(61)].join(".");
        assert!(DnsName::parse(&longest).is_some());
        let too_long = [&*label, &label, &label, &"a".repeat(62)].join(".");
        for text in ["", ".", "a..b", ".a", &"a".repeat(64), &too_long] {
            assert_eq!(DnsName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn any_byte_can_stand_in_a_label_and_is_shown_escaped() {
        let name = DnsName::from_labels([&b"a.b\\\x00\xff"[..], b"c"]).expect("a name");
        assert_eq!(name.to_string(), "a\\.b\\\\\\000\\255.c");
        assert_ne!(Some(name), DnsName::parse("a.b.c"));
    }
}
