//! Tests of the places of sources: shares, what a change moves, and size.

use super::*;

const MAGLEV: Balance = Balance::Maglev { table_size: None };
const RING: Balance = Balance::RingHash { minimum: 1024 };

fn endpoints(weights: &[u32]) -> Vec<(SocketAddr, u32)> {
    let address = |i: u32| (std::net::Ipv4Addr::from(0x0A00_0000 + i), 80).into();
    weights.iter().zip(0..).map(|(weight, i)| (address(i), *weight)).collect()
}

fn table(balance: Balance, weights: &[u32]) -> Affinity {
    Affinity::new(balance, &endpoints(weights)).expect("a table")
}

/// The endpoint of each of 20,000 sources.
fn owners(table: &Affinity) -> Vec<usize> {
    let source = |i: u32| IpAddr::from(std::net::Ipv4Addr::from(0xAC10_0000 + i));
    let owner = |i| table.walk(key_of(source(i))).next().expect("one");
    (0..20_000).map(owner).collect()
}

fn check_shares(balance: Balance, weights: &[u32], tolerance: f64) {
    let owners = owners(&table(balance, weights));
    let sum: u32 = weights.iter().sum();
    for (index, weight) in weights.iter().enumerate() {
        let found = owners.iter().filter(|owner| **owner == index).count() as f64;
        let wanted = owners.len() as f64 * f64::from(*weight) / f64::from(sum);
        let off = (found - wanted).abs() / wanted;
        assert!(off < tolerance, "{balance:?} {weights:?}: {index} has {found}, not {wanted}");
    }
}

#[test]
fn sources_are_shared_out_by_weight() {
    check_shares(MAGLEV, &[1; 3], 0.1);
    check_shares(MAGLEV, &[1; 20], 0.2);
    check_shares(MAGLEV, &[1, 2, 5], 0.1);
    check_shares(MAGLEV, &[10_000, 990_000], 0.15);
    check_shares(RING, &[1; 3], 0.2);
    check_shares(RING, &[1, 2, 5], 0.2);
}

#[test]
fn an_endpoint_that_goes_moves_little_but_its_own_sources() {
    for (balance, most) in [(MAGLEV, 0.1), (RING, 0.12)] {
        let all = endpoints(&[1; 7]);
        let before = owners(&Affinity::new(balance, &all).expect("a table"));
        let after = owners(&Affinity::new(balance, &all[..6]).expect("a table"));
        let others = before.iter().zip(&after).filter(|(before, _)| **before != 6);
        let (moved, kept): (Vec<_>, Vec<_>) = others.partition(|(before, after)| before != after);
        let share = moved.len() as f64 / (moved.len() + kept.len()) as f64;
        assert!(share <= most, "{balance:?} moved {share} of the others");
    }
}

#[test]
fn the_walk_comes_to_every_endpoint() {
    for balance in [MAGLEV, RING, Balance::Maglev { table_size: Some(11) }] {
        let table = table(balance, &[1, 1, 4, 1, 1]);
        let mut met: Vec<usize> = table.walk(key_of([1, 2, 3, 4].into())).collect();
        met.sort_unstable();
        met.dedup();
        assert_eq!(met, [0, 1, 2, 3, 4], "{balance:?}");
    }
}

#[test]
fn a_table_is_as_large_as_its_set_needs() {
    let check = |n: usize, slots_expected: usize, small: bool| {
        let Affinity::Maglev(indices) = table(MAGLEV, &vec![1; n]) else { panic!("a ring") };
        assert_eq!(indices.len(), slots_expected, "{n}");
        assert_eq!(matches!(indices, Indices::Small(_)), small, "{n}");
    };
    check(2, 211, true);
    check(3, 401, true);
    check(4, 401, true);
    check(200, 25_601, true);
    check(300, 51_203, false);
    check(1_000, 65_537, false);
    let written = Balance::Maglev { table_size: Some(65_537) };
    assert!(matches!(table(written, &[1; 3]), Affinity::Maglev(slots) if slots.len() == 65_537));
    assert!(Affinity::new(MAGLEV, &endpoints(&[1])).is_none());
    assert!(Affinity::new(Balance::Random, &endpoints(&[1, 1])).is_none());
}

#[test]
fn a_mapped_address_is_the_address_it_stands_for() {
    let mapped: IpAddr = "::ffff:192.0.2.7".parse().expect("an address");
    assert_eq!(key_of(mapped), key_of([192, 0, 2, 7].into()));
}
