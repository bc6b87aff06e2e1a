//! Which endpoint a source belongs to: Maglev and ring hash, as Envoy builds them.
//!
//! A table is made with its set and never changes. It holds all endpoints of the set, whatever
//! their tier and health: whoever cannot be used is walked past, so that an ejection moves nobody
//! else. Pure. Must not know: endpoints beyond an address and a weight, health, tiers.

use std::net::{IpAddr, SocketAddr};

use xxhash_rust::xxh64::xxh64;

use super::balance::Balance;

/// Envoy's default for `maglev.tableSize`; we need no more of our own accord.
const MAGLEV_MAX: u64 = 65_537;
/// Slots for the lightest endpoint: shares are right to 1 %, as the paper on Maglev advises.
const SLOTS_PER_ENDPOINT: u64 = 100;
/// Points of a ring when weights are far apart, unless `minimumRingSize` asks for more.
const RING_MAX: f64 = 262_144.0;

/// The places of one set's endpoints.
#[derive(Debug)]
pub(super) enum Affinity {
    /// Slot by slot, the endpoint that has it.
    Maglev(Indices),
    /// Points of the ring in order, and whose each is.
    Ring(Box<[u64]>, Indices),
}

/// Indices of endpoints, one byte each where that is enough: 1,000 small sets of 400 slots are
/// 400 KB.
#[derive(Debug)]
pub(super) enum Indices {
    Small(Box<[u8]>),
    Large(Box<[u32]>),
}

/// What a source is known by: the hash of its address as text, which is what Envoy hashes.
pub(super) fn key_of(source: IpAddr) -> u64 {
    xxh64(source.to_canonical().to_string().as_bytes(), 0)
}

impl Affinity {
    /// The table that `balance` asks for; `None` when it asks for none, or there is no choice.
    pub(super) fn new(balance: Balance, endpoints: &[(SocketAddr, u32)]) -> Option<Self> {
        if endpoints.len() < 2 {
            return None;
        }
        match balance {
            Balance::Maglev { table_size } => {
                let size = table_size.map_or_else(|| slots(endpoints), u64::from);
                Some(Self::Maglev(maglev(endpoints, size)))
            }
            Balance::RingHash { minimum } => Some(ring(endpoints, minimum)),
            Balance::LeastRequest | Balance::RoundRobin | Balance::Random => None,
        }
    }

    /// Endpoints in the order in which the one with this key turns to them; each may come again.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let (start, indices) = match self {
            Self::Maglev(slots) => (key % (slots.len() as u64).max(1), slots),
            Self::Ring(points, owners) => {
                (points.partition_point(|point| *point < key) as u64, owners)
            }
        };
        let (len, start) = (indices.len(), usize::try_from(start).unwrap_or(0));
        (0..len).map(move |step| indices.at((start + step) % len))
    }
}

impl Indices {
    fn new(endpoints: usize, indices: Vec<u32>) -> Self {
        if endpoints <= 256 {
            Self::Small(indices.into_iter().map(|i| u8::try_from(i).unwrap_or(0)).collect())
        } else {
            Self::Large(indices.into())
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Small(indices) => indices.len(),
            Self::Large(indices) => indices.len(),
        }
    }

    fn at(&self, at: usize) -> usize {
        match self {
            Self::Small(indices) => usize::from(indices[at]),
            Self::Large(indices) => indices[at] as usize,
        }
    }
}

/// A prime number of slots that grows with the set, in steps of two: a set that gains an endpoint
/// usually keeps its size, and so nearly all of its sources.
fn slots(endpoints: &[(SocketAddr, u32)]) -> u64 {
    let sum: u64 = endpoints.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let lightest = endpoints.iter().map(|(_, weight)| u64::from(*weight)).min().unwrap_or(1);
    // As many as there would be if all were as light: the endpoints, when weights are equal.
    let parts = sum.div_ceil(lightest.max(1)).min(MAGLEV_MAX);
    let wanted = parts.next_power_of_two() * SLOTS_PER_ENDPOINT;
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    // Past Envoy's size still ten for each.
    let bound = MAGLEV_MAX.max(endpoints.len() as u64 * 10);
    (wanted.min(bound)..).find(is_prime).unwrap_or(MAGLEV_MAX)
}

/// One endpoint on its way through its own permutation of the slots.
struct Taker {
    index: u32,
    weight: u64,
    /// The next slot it would like, and from there to the one after.
    slot: u64,
    skip: u64,
    /// It takes its turn in a round when the round, times its weight, has come to this.
    due: u64,
}

/// Every endpoint takes the next free slot of its permutation in turn, until none is free (Eisenbud
/// et al., Maglev, NSDI 2016); lighter ones sit rounds out.
fn maglev(endpoints: &[(SocketAddr, u32)], size: u64) -> Indices {
    const FREE: u32 = u32::MAX;
    let mut named: Vec<(String, u32, u32)> = endpoints
        .iter()
        .zip(0..)
        .map(|((address, weight), index)| (address.to_string(), *weight, index))
        .collect();
    // Who comes first is told by names, so that every gateway comes to the same table.
    named.sort_unstable();
    let heaviest = endpoints.iter().map(|(_, weight)| u64::from(*weight)).max().unwrap_or(1);
    let taker = |(name, weight, index): &(String, u32, u32)| Taker {
        index: *index,
        weight: u64::from(*weight),
        slot: xxh64(name.as_bytes(), 0) % size,
        skip: xxh64(name.as_bytes(), 1) % (size - 1).max(1) + 1,
        due: 0,
    };
    let mut takers: Vec<Taker> = named.iter().map(taker).collect();
    let mut slots = vec![FREE; usize::try_from(size).unwrap_or(0)];
    let mut free = slots.len();
    let mut round = 0;
    while free > 0 {
        round += 1;
        for taker in &mut takers {
            if free == 0 {
                break;
            }
            if round * taker.weight < taker.due {
                continue;
            }
            taker.due += heaviest;
            while let Some(slot) = slots.get_mut(usize::try_from(taker.slot).unwrap_or(0)) {
                taker.slot = (taker.slot + taker.skip) % size;
                if *slot == FREE {
                    *slot = taker.index;
                    free -= 1;
                    break;
                }
            }
        }
    }
    Indices::new(endpoints.len(), slots)
}

/// A ring of at least `minimum` points, on which the lightest endpoint has a whole number of them.
fn ring(endpoints: &[(SocketAddr, u32)], minimum: u32) -> Affinity {
    let sum: f64 = endpoints.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let lightest = endpoints.iter().map(|(_, weight)| f64::from(*weight) / sum).fold(1.0, f64::min);
    let minimum = f64::from(minimum);
    let scale = ((lightest * minimum).ceil() / lightest).min(minimum.max(RING_MAX));
    let (mut points, mut wanted) = (Vec::new(), 0.0);
    for ((address, weight), index) in endpoints.iter().zip(0_u32..) {
        wanted += scale * f64::from(*weight) / sum;
        let name = address.to_string();
        let mut nth = 0;
        while (points.len() as f64) < wanted {
            points.push((xxh64(format!("{name}_{nth}").as_bytes(), 0), index));
            nth += 1;
        }
    }
    points.sort_unstable();
    let (points, owners): (Vec<u64>, Vec<u32>) = points.into_iter().unzip();
    Affinity::Ring(points.into(), Indices::new(endpoints.len(), owners))
}

#[cfg(test)]
mod tests;
