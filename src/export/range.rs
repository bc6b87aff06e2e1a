//! The range from which names get their addresses.
//!
//! Must not know: which addresses are in use.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// A range of IPv4 addresses, `127.255.0.0/16`.
///
/// Not every address of it is given to a name: never one that ends in .0 or .255, which some take
/// for a network or a broadcast, and not the first one of the range, which is often a router's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    base: u32,
    prefix: u8,
}

/// The widest and the narrowest range that is taken.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=29;

/// Ranges of which no address may be a name's, and why.
const FORBIDDEN: &[(Range, &str)] = &[
    (Range::new(0, 0, 8), "are no addresses of hosts"),
    (Range::new(127, 0, 16), "hold this host's own services"),
    (Range::new(169, 254, 16), "are link-local"),
    (Range::new(224, 0, 4), "are multicast"),
    (Range::new(255, 0, 8), "hold the broadcast address"),
];

impl Range {
    const fn new(first: u32, second: u32, prefix: u8) -> Self {
        Self { base: first << 24 | second << 16, prefix }
    }

    /// True when it holds the address, whether or not that may be given to a name.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.base..=self.last()).contains(&u32::from(address))
    }

    /// How many names it can hold.
    #[must_use]
    pub fn size(self) -> u64 {
        let count = u64::from(self.last() - self.base) + 1;
        match self.prefix {
            // Of each block of 256 two are not given, of the first one three.
            ..=24 => count - count / 128 - 1,
            _ => count - 2 - u64::from(is_odd(self.last())),
        }
    }

    /// Its first address.
    #[must_use]
    pub fn first(self) -> Ipv4Addr {
        self.base.into()
    }

    /// The addresses that may be given to names, from `first` to the end of the range.
    pub(super) fn from(self, first: u32) -> impl Iterator<Item = u32> {
        (first.max(self.base + 2)..=self.last()).filter(|address| !is_odd(*address))
    }

    /// Why no name can have this address, whatever the range.
    pub(super) fn forbids(address: Ipv4Addr) -> Option<String> {
        let (range, why) = FORBIDDEN.iter().find(|(range, _)| range.contains(address))?;
        Some(format!("addresses of {range} {why}"))
    }

    pub(super) fn base(self) -> u32 {
        self.base
    }

    fn last(self) -> u32 {
        self.base | u32::MAX >> self.prefix
    }

    fn overlaps(self, other: Self) -> bool {
        self.base <= other.last() && other.base <= self.last()
    }
}

fn is_odd(address: u32) -> bool {
    matches!(address & 0xff, 0 | 0xff)
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let parsed = parts.and_then(|(ip, prefix)| {
            Some((ip.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?))
        });
        let Some((ip, prefix)) = parsed else {
            return Err("write an IPv4 range such as 127.255.0.0/16".to_owned());
        };
        if !PREFIXES.contains(&prefix) {
            let (widest, narrowest) = (PREFIXES.start(), PREFIXES.end());
            return Err(format!("write a range between /{widest} and /{narrowest}"));
        }
        let mask = u32::MAX << (32 - prefix);
        let range = Self { base: u32::from(ip) & mask, prefix };
        if range.base != u32::from(ip) {
            return Err(format!("{ip} is inside the range: write {range}"));
        }
        match FORBIDDEN.iter().find(|(forbidden, _)| range.overlaps(*forbidden)) {
            Some((forbidden, why)) => Err(format!("addresses of {forbidden} {why}")),
            None => Ok(range),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().expect(text)
    }

    #[test]
    fn a_range_is_written_as_usual() {
        for text in ["127.255.0.0/16", "240.240.0.0/16", "240.0.0.0/8", "10.1.2.248/29"] {
            assert_eq!(range(text).to_string(), text);
        }
        for (text, why) in [
            ("127.255.0.0", "write an IPv4 range"),
            ("fd00::/16", "write an IPv4 range"),
            ("127.255.0.0/x", "write an IPv4 range"),
            ("127.255.0.2/16", "write 127.255.0.0/16"),
            ("10.0.0.0/7", "between /8 and /29"),
            ("10.0.0.0/30", "between /8 and /29"),
            ("127.0.0.0/8", "this host's own"),
            ("127.0.3.0/24", "this host's own"),
            ("224.1.0.0/16", "multicast"),
            ("169.254.8.0/24", "link-local"),
            ("255.255.255.0/24", "broadcast"),
            ("0.0.0.0/8", "no addresses of hosts"),
        ] {
            let error = text.parse::<Range>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_size_is_the_number_of_addresses_that_are_given() {
        for (text, first, last, size) in [
            ("127.255.0.0/16", "127.255.0.2", "127.255.255.254", 65_023),
            ("10.0.4.0/24", "10.0.4.2", "10.0.4.254", 253),
            ("10.0.4.0/29", "10.0.4.2", "10.0.4.7", 6),
            ("10.0.4.248/29", "10.0.4.250", "10.0.4.254", 5),
            ("10.0.4.16/29", "10.0.4.18", "10.0.4.23", 6),
        ] {
            let range = range(text);
            let all: Vec<u32> = range.from(0).collect();
            let ends = [all.first(), all.last()].map(|a| a.copied().map(Ipv4Addr::from));
            assert_eq!(ends.map(|a| a.expect(text).to_string()), [first, last], "{text}");
            assert_eq!((range.size(), all.len() as u64), (size, size), "{text}");
            assert!(all.iter().all(|a| range.contains(Ipv4Addr::from(*a))), "{text}");
        }
    }
}
