//! How many live connections each source has, and who is turned away under pressure.
//!
//! A source is an IPv4 address or an IPv6 /64. Behind one address there may be a whole cluster, so
//! the limit acts only under pressure, and on the largest source first. The table holds an entry
//! for each source that has a live connection, and so never more than there are connections. Must
//! not know: sockets, or what pressure is.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ahash::RandomState;

use crate::net::cidr::{Cidr, masked};

/// Live connections by source, over all workers.
#[derive(Debug)]
pub(super) struct Sources {
    max: u32,
    trusted: Vec<Cidr>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    live: HashMap<IpAddr, u32, RandomState>,
    /// How many sources have so many connections: the last key is the largest source's number.
    sizes: BTreeMap<u32, usize>,
}

/// One connection of a source; counted until dropped.
#[derive(Debug)]
pub(super) struct SourcePermit {
    sources: Arc<Sources>,
    source: IpAddr,
}

/// The source limit, and the source is the largest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Sources {
    /// `max` connections of a source are never turned away; nor are those of `trusted` ones.
    pub(super) fn new(max: u32, trusted: Vec<Cidr>) -> Self {
        Self { max, trusted, table: Mutex::default() }
    }

    /// Counts a connection; `None` for a trusted source, which is not counted.
    ///
    /// # Errors
    /// Under pressure, for a source that is at the limit when no other has more.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        pressed: bool,
    ) -> Result<Option<SourcePermit>, TooMany> {
        if self.trusted.iter().any(|range| range.contains(address)) {
            return Ok(None);
        }
        let source = source_of(address);
        let mut table = self.lock();
        let has = table.live.get(&source).copied().unwrap_or(0);
        let largest = table.sizes.last_key_value().map_or(0, |(n, _)| *n);
        if pressed && has >= self.max && has >= largest {
            return Err(TooMany);
        }
        table.change(source, has, has + 1);
        Ok(Some(SourcePermit { sources: Arc::clone(self), source }))
    }

    /// How many sources have a live connection, and how many the largest has.
    pub(super) fn size(&self) -> (usize, u32) {
        let table = self.lock();
        (table.live.len(), table.sizes.last_key_value().map_or(0, |(n, _)| *n))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn change(&mut self, source: IpAddr, from: u32, to: u32) {
        if let Some(sources) = self.sizes.get_mut(&from) {
            *sources -= 1;
            if *sources == 0 {
                self.sizes.remove(&from);
            }
        }
        if to == 0 {
            self.live.remove(&source);
        } else {
            self.live.insert(source, to);
            *self.sizes.entry(to).or_default() += 1;
        }
    }
}

impl Drop for SourcePermit {
    fn drop(&mut self) {
        let mut table = self.sources.lock();
        let has = table.live.get(&self.source).copied().unwrap_or(0);
        table.change(self.source, has, has.saturating_sub(1));
    }
}

/// IPv4 by address, IPv6 by /64: whoever has one address of that has all of them.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        v6 @ IpAddr::V6(_) => masked(v6, 64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(max: u32) -> Arc<Sources> {
        let trusted = vec!["192.0.2.0/24".parse().expect("a range")];
        Arc::new(Sources::new(max, trusted))
    }

    fn fill(sources: &Arc<Sources>, address: &str, n: usize) -> Vec<SourcePermit> {
        let address = address.parse().expect("an address");
        let enter = |_| sources.enter(address, false).expect("no pressure").expect("counted");
        (0..n).map(enter).collect()
    }

    fn check(sources: &Arc<Sources>, address: &str, admitted: bool) {
        let entered = sources.enter(address.parse().expect("an address"), true);
        assert_eq!(entered.is_ok(), admitted, "{address} under pressure");
    }

    #[test]
    fn without_pressure_nobody_is_turned_away() {
        let sources = sources(1);
        assert_eq!(fill(&sources, "10.0.0.1", 5_000).len(), 5_000);
    }

    #[test]
    fn under_pressure_only_the_largest_source_is_turned_away() {
        let sources = sources(10);
        let large = fill(&sources, "10.0.0.1", 30);
        let _middle = fill(&sources, "10.0.0.2", 20);
        let _small = fill(&sources, "10.0.0.3", 5);
        check(&sources, "10.0.0.1", false);
        check(&sources, "10.0.0.2", true);
        check(&sources, "10.0.0.3", true);
        check(&sources, "10.0.0.4", true);
        drop(large);
        check(&sources, "10.0.0.1", true);
        check(&sources, "10.0.0.2", false);
    }

    #[test]
    fn below_the_limit_the_largest_is_served_too() {
        let sources = sources(10);
        let _nine = fill(&sources, "10.0.0.1", 9);
        check(&sources, "10.0.0.1", true);
        let _tenth = fill(&sources, "10.0.0.1", 1);
        check(&sources, "10.0.0.1", false);
    }

    #[test]
    fn a_trusted_source_is_neither_counted_nor_turned_away() {
        let sources = sources(0);
        let trusted = "192.0.2.7".parse().expect("an address");
        assert!(sources.enter(trusted, true).expect("trusted").is_none());
        assert_eq!(sources.size(), (0, 0));
        check(&sources, "198.51.100.7", false);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_a_mapped_address_is_ipv4() {
        let sources = sources(2);
        let _two = (fill(&sources, "2001:db8::1", 1), fill(&sources, "2001:db8::2", 1));
        check(&sources, "2001:db8::3", false);
        check(&sources, "2001:db8:0:1::3", true);
        let _mapped = (fill(&sources, "10.0.0.1", 2), fill(&sources, "::ffff:10.0.0.1", 1));
        assert_eq!(sources.size(), (2, 3));
    }

    #[test]
    fn the_table_is_empty_when_nobody_is_there() {
        let sources = sources(1);
        for round in 0..1_000_u32 {
            let address = std::net::Ipv4Addr::from_bits(round).to_string();
            drop(fill(&sources, &address, 3));
        }
        assert_eq!(sources.size(), (0, 0));
        assert!(sources.lock().live.is_empty() && sources.lock().sizes.is_empty());
    }
}
