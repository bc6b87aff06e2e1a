//! What a question comes to: pure, from a question and zones to an answer.
//!
//! Must not know: packets, sockets, manifests, how many copies of itself run.
//!
//! The rules are those of RFC 1034 §4.3.2 and RFC 4592: the zone with the longest suffix answers;
//! a name in it is found, or made by the wildcard of its closest encloser, or does not exist. A
//! name exists when it has records or when one below it has (an empty non-terminal), and a name
//! that exists is never made by a wildcard.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ahash::RandomState;

use super::name::{DnsName, wildcard_below};

/// What is asked of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Anything: one set of records is enough (RFC 8482 §4.1).
    Any,
    /// The zone's start of authority.
    Soa,
    /// The zone's name servers.
    Ns,
    /// A type that no name here has.
    Other,
}

/// What a question comes to.
#[derive(Clone, Debug)]
pub enum Answer<'z> {
    /// Not ours to answer.
    Refused,
    /// Ours, but nothing is known yet.
    NotLoaded,
    /// No such name.
    NoName(&'z Zone),
    /// The name exists, without this type.
    NoData(&'z Zone),
    /// Its IPv4 addresses, at least one, in order.
    V4(&'z [Ipv4Addr]),
    /// Its IPv6 addresses, at least one, in order.
    V6(&'z [Ipv6Addr]),
    /// The name is the zone's own.
    Soa(&'z Zone),
    /// The name is the zone's own.
    Ns(&'z Zone),
}

/// All zones.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    zones: HashMap<DnsName, Zone, RandomState>,
    loaded: bool,
}

/// One suffix and the names under it.
#[derive(Clone, Debug)]
pub struct Zone {
    apex: DnsName,
    /// Rises with each change.
    serial: u32,
    /// Every name that exists, the suffix itself and empty non-terminals included.
    names: HashMap<DnsName, Addresses, RandomState>,
}

/// The addresses of one name, in order; none for a non-terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Addresses {
    v4: Box<[Ipv4Addr]>,
    v6: Box<[Ipv6Addr]>,
}

/// Names with their addresses, as they are collected: sorted, and each once.
pub type Names = BTreeMap<DnsName, BTreeSet<IpAddr>>;

impl Zones {
    /// Zones whose contents are not known yet.
    #[must_use]
    pub fn unloaded(suffixes: &[DnsName]) -> Self {
        Self { loaded: false, ..Self::loaded(suffixes, 0, &Names::new()) }
    }

    /// Zones that hold `names`; those below none of the suffixes are left out.
    #[must_use]
    pub fn loaded(suffixes: &[DnsName], serial: u32, names: &Names) -> Self {
        let zone = |apex: &DnsName| {
            let names = HashMap::from_iter([(apex.clone(), Addresses::default())]);
            (apex.clone(), Zone { apex: apex.clone(), serial, names })
        };
        let mut zones = Self { zones: suffixes.iter().map(zone).collect(), loaded: true };
        for (name, addresses) in names {
            if let Some(apex) = zones.apex_of(name).cloned()
                && let Some(zone) = zones.zones.get_mut(&apex)
            {
                zone.insert(name, addresses);
            }
        }
        zones
    }

    /// The zone that answers for `name`.
    #[must_use]
    pub fn apex_of(&self, name: &DnsName) -> Option<&DnsName> {
        self.zone_of(name).map(|zone| &zone.apex)
    }

    /// How many names exist.
    #[must_use]
    pub fn names(&self) -> usize {
        self.zones.values().map(|zone| zone.names.len()).sum()
    }

    /// Answers.
    #[must_use]
    pub fn answer(&self, name: &DnsName, asked: Asked) -> Answer<'_> {
        match self.zone_of(name) {
            None => Answer::Refused,
            Some(_) if !self.loaded => Answer::NotLoaded,
            Some(zone) => zone.answer(name, asked),
        }
    }

    fn zone_of(&self, name: &DnsName) -> Option<&Zone> {
        name.and_above().find_map(|suffix| self.zones.get(suffix))
    }
}

impl Zone {
    /// The suffix.
    #[must_use]
    pub fn apex(&self) -> &DnsName {
        &self.apex
    }

    /// Rises with each change.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    fn insert(&mut self, name: &DnsName, addresses: &BTreeSet<IpAddr>) {
        for above in name.and_above().skip(1).take_while(|above| *above != self.apex.as_bytes()) {
            if self.names.contains_key(above) {
                break;
            }
            self.names.insert(DnsName::of_bytes(above), Addresses::default());
        }
        self.names.insert(name.clone(), Addresses::of(addresses));
    }

    fn answer(&self, name: &DnsName, asked: Asked) -> Answer<'_> {
        let Some(addresses) = self.find(name) else { return Answer::NoName(self) };
        let is_apex = *name == self.apex;
        match asked {
            Asked::Soa | Asked::Any if is_apex => Answer::Soa(self),
            Asked::Ns if is_apex => Answer::Ns(self),
            Asked::A | Asked::Any if !addresses.v4.is_empty() => Answer::V4(&addresses.v4),
            Asked::Aaaa | Asked::Any if !addresses.v6.is_empty() => Answer::V6(&addresses.v6),
            Asked::A | Asked::Aaaa | Asked::Any | Asked::Soa | Asked::Ns | Asked::Other => {
                Answer::NoData(self)
            }
        }
    }

    /// The name itself, or what the wildcard of its closest encloser makes of it.
    fn find(&self, name: &DnsName) -> Option<&Addresses> {
        if let Some(found) = self.names.get(name) {
            return Some(found);
        }
        let encloser = name.and_above().skip(1).find(|above| self.names.contains_key(*above))?;
        self.names.get(&*wildcard_below(encloser))
    }
}

impl Addresses {
    fn of(addresses: &BTreeSet<IpAddr>) -> Self {
        let v4 = addresses.iter().filter_map(|ip| match ip {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.iter().filter_map(|ip| match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(*v6),
        });
        Self { v4: v4.collect(), v6: v6.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones {
        let names = [
            ("bar.ns2.global", "127.255.0.2"),
            ("six.ns2.global", "fd00::1"),
            ("both.ns2.global", "127.255.0.4 127.255.0.3 fd00::2"),
            ("none.ns2.global", ""),
            ("*.wild.global", "127.255.1.1 fd00::3"),
            ("exact.wild.global", "127.255.1.2"),
            ("*.near.wild.global", "127.255.1.3"),
            ("deep.below.wild.global", "127.255.1.4"),
            ("bar.ns2.mesh.global", "127.255.2.1"),
            ("bar.ns2.elsewhere", "127.255.3.1"),
        ];
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let names = names.map(|(name, addresses)| {
            let name = DnsName::parse(name).expect("a name");
            (name, addresses.split_whitespace().map(ip).collect())
        });
        Zones::loaded(&suffixes(), 7, &names.into())
    }

    fn suffixes() -> Vec<DnsName> {
        ["global", "mesh.global"].map(|s| DnsName::parse(s).expect("a name")).into()
    }

    fn told(answer: &Answer<'_>) -> String {
        let list = |ips: Vec<String>| ips.join(" ");
        match answer {
            Answer::Refused => "refused".into(),
            Answer::NotLoaded => "not loaded".into(),
            Answer::NoName(zone) => format!("no name in {}", zone.apex()),
            Answer::NoData(zone) => format!("no data in {}", zone.apex()),
            Answer::V4(ips) => list(ips.iter().map(ToString::to_string).collect()),
            Answer::V6(ips) => list(ips.iter().map(ToString::to_string).collect()),
            Answer::Soa(zone) => format!("soa {} {}", zone.apex(), zone.serial()),
            Answer::Ns(zone) => format!("ns {}", zone.apex()),
        }
    }

    fn check(name: &str, asked: Asked, expected: &str) {
        let zones = zones();
        let name = DnsName::parse(name).expect("a name");
        assert_eq!(told(&zones.answer(&name, asked)), expected, "{name} {asked:?}");
    }

    #[test]
    fn a_name_has_its_addresses_in_order_and_no_data_for_the_rest() {
        check("bar.ns2.global", Asked::A, "127.255.0.2");
        check("BAR.ns2.GLOBAL", Asked::A, "127.255.0.2");
        check("bar.ns2.global", Asked::Aaaa, "no data in global");
        check("bar.ns2.global", Asked::Other, "no data in global");
        check("bar.ns2.global", Asked::Soa, "no data in global");
        check("six.ns2.global", Asked::A, "no data in global");
        check("six.ns2.global", Asked::Aaaa, "fd00::1");
        check("both.ns2.global", Asked::A, "127.255.0.3 127.255.0.4");
        check("both.ns2.global", Asked::Any, "127.255.0.3 127.255.0.4");
        check("six.ns2.global", Asked::Any, "fd00::1");
        check("none.ns2.global", Asked::A, "no data in global");
        check("none.ns2.global", Asked::Any, "no data in global");
    }

    #[test]
    fn a_name_that_only_others_are_below_exists() {
        check("ns2.global", Asked::A, "no data in global");
        check("wild.global", Asked::A, "no data in global");
        check("below.wild.global", Asked::A, "no data in global");
        check("ns3.global", Asked::A, "no name in global");
        check("x.bar.ns2.global", Asked::A, "no name in global");
        check("bar.ns2.global.ns1.svc.cluster.global", Asked::A, "no name in global");
    }

    #[test]
    fn the_closest_wildcard_answers_and_whatever_exists_shadows_it() {
        check("any.wild.global", Asked::A, "127.255.1.1");
        check("two.deep.wild.global", Asked::A, "127.255.1.1");
        check("any.wild.global", Asked::Aaaa, "fd00::3");
        check("any.wild.global", Asked::Other, "no data in global");
        check("*.wild.global", Asked::A, "127.255.1.1");
        check("exact.wild.global", Asked::A, "127.255.1.2");
        check("exact.wild.global", Asked::Aaaa, "no data in global");
        check("x.exact.wild.global", Asked::A, "no name in global");
        check("any.near.wild.global", Asked::A, "127.255.1.3");
        check("any.near.wild.global", Asked::Aaaa, "no data in global");
        check("near.wild.global", Asked::A, "no data in global");
        check("other.below.wild.global", Asked::A, "no name in global");
    }

    #[test]
    fn the_longest_suffix_answers_and_outside_is_refused() {
        check("bar.ns2.mesh.global", Asked::A, "127.255.2.1");
        check("nobody.mesh.global", Asked::A, "no name in mesh.global");
        check("mesh.global", Asked::Soa, "soa mesh.global 7");
        check("global", Asked::Soa, "soa global 7");
        check("global", Asked::Ns, "ns global");
        check("global", Asked::Any, "soa global 7");
        check("global", Asked::A, "no data in global");
        check("bar.ns2.elsewhere", Asked::A, "refused");
        check("global.evil", Asked::A, "refused");
        check("xglobal", Asked::A, "refused");
    }

    #[test]
    fn before_the_first_load_only_outside_is_known() {
        let zones = Zones::unloaded(&suffixes());
        let ask = |name| told(&zones.answer(&DnsName::parse(name).expect("a name"), Asked::A));
        assert_eq!(ask("bar.ns2.global"), "not loaded");
        assert_eq!(ask("global"), "not loaded");
        assert_eq!(ask("bar.ns2.elsewhere"), "refused");
    }
}
