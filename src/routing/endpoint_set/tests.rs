//! Tests of the pick: each is tried once, ejected ones are left alone, tiers spill over.
//!
//! Must not know: sockets, the clock (all instants are made up).

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::routing::{Balance, Outlier, Warmup};

const SECOND: Duration = Duration::from_secs(1);

fn endpoint(i: u8) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address: ([10, 0, 0, i], 80).into(),
        weight: 1,
        locality: Arc::default(),
        workload: Arc::default(),
        instance: Arc::default(),
        added: None,
        state: Arc::default(),
    })
}

fn policy(outlier: Option<Outlier>) -> Arc<Policy> {
    Arc::new(Policy { outlier, ..Policy::default() })
}

fn set(n: u8) -> EndpointSet {
    EndpointSet::new((0..n).map(endpoint).collect(), policy(Some(Outlier::default())))
}

/// A set with so many endpoints in each tier.
fn tiered(tiers: &[u8]) -> EndpointSet {
    let places = tiers.iter().zip(0..).flat_map(|(n, tier)| (0..*n).map(move |_| tier));
    let endpoints = places.zip(0..).map(|(tier, i)| (endpoint(i), Place { tier, weight: 1 }));
    EndpointSet::in_tiers(endpoints.collect(), policy(Some(Outlier::default())))
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 31)
}

/// Connections by endpoint of `n` picks at one moment, none of them held.
fn spread(set: &EndpointSet, now: Instant, n: u64) -> Vec<u64> {
    let mut hits = vec![0; set.endpoints().len()];
    let mut state = 7;
    for turn in 0..n {
        let random = random(&mut state);
        let (index, _) =
            set.pick(Pick { tried: &[], turn, random, source: None, now }).expect("one");
        hits[index] += 1;
    }
    hits
}

/// Fails until it is out.
fn eject(set: &EndpointSet, index: usize, now: Instant) {
    let fail = || set.failed(&set.endpoints()[index], Fault::Connection, now);
    assert_eq!([fail(), fail(), fail()], [false, false, true]);
}

#[test]
fn every_endpoint_is_tried_once_and_then_none_is_left() {
    let now = Instant::now();
    let ejected = set(5);
    eject(&ejected, 2, now);
    for set in [set(5), tiered(&[2, 3]), ejected] {
        let mut tried = Tried::new();
        let pick = |tried: &Tried| set.pick(Pick { tried, turn: 3, random: 42, source: None, now });
        while let Some((index, _lease)) = pick(&tried) {
            assert!(!tried.contains(&index));
            tried.push(index);
        }
        assert_eq!(tried.len(), 5);
    }
}

#[test]
fn a_lease_counts_until_it_is_dropped() {
    let set = set(1);
    let pick = Pick { tried: &[], turn: 0, random: 0, source: None, now: Instant::now() };
    let (_, lease) = set.pick(pick).expect("one");
    assert_eq!(set.endpoints()[0].state.connections(), 1);
    drop(lease);
    assert_eq!(set.endpoints()[0].state.connections(), 0);
}

#[test]
fn an_ejected_endpoint_gets_nothing_and_its_share_goes_to_all_others() {
    let now = Instant::now();
    for balance in [Balance::LeastRequest, Balance::RoundRobin, Balance::Random] {
        let outlier = Some(Outlier::default());
        let policy = Policy { balance, outlier, ..Policy::default() };
        let set = EndpointSet::new((0..4).map(endpoint).collect(), Arc::new(policy));
        eject(&set, 1, now);
        let hits = spread(&set, now, 6_000);
        assert_eq!(hits[1], 0, "{balance:?}");
        let fair = hits.iter().enumerate().all(|(i, n)| i == 1 || n.abs_diff(2_000) < 250);
        assert!(fair, "{balance:?}: {hits:?}");
    }
}

#[test]
fn without_a_policy_nothing_is_ejected() {
    let now = Instant::now();
    let set = EndpointSet::new(vec![endpoint(0), endpoint(1)], policy(None));
    let failed = (0..100).any(|_| set.failed(&set.endpoints()[0], Fault::Connection, now));
    assert!(!failed && spread(&set, now, 100)[0] > 0);
}

#[test]
fn one_probe_goes_first_when_an_ejection_ends() {
    let start = Instant::now();
    let set = set(2);
    eject(&set, 0, start);
    let back = start + 5 * SECOND;
    assert_eq!(spread(&set, back - SECOND / 100, 1_000)[0], 0);
    assert_eq!(spread(&set, back, 1_000)[0], 1, "the probe, and nobody behind it");
    assert!(set.endpoints()[0].state.succeeded(back));
    assert!(spread(&set, back, 1_000)[0] > 300);
}

#[test]
fn a_probe_that_fails_or_is_never_heard_of_again_lets_nobody_follow() {
    let start = Instant::now();
    let set = set(2);
    let first = || Arc::clone(&set.endpoints()[0]);
    eject(&set, 0, start);
    let probe = start + 5 * SECOND;
    assert_eq!(spread(&set, probe, 1_000)[0], 1);
    assert!(set.failed(&first(), Fault::Connection, probe + SECOND), "the second ejection");
    // 5 s of base, twice.
    let again = probe + 11 * SECOND;
    assert_eq!(spread(&set, again - SECOND / 100, 1_000)[0], 0);
    assert_eq!(spread(&set, again, 1_000)[0], 1);
    // Not heard of: the next probe is a base time later.
    assert_eq!(spread(&set, again + 4 * SECOND, 1_000)[0], 0);
    assert_eq!(spread(&set, again + 5 * SECOND, 1_000)[0], 1);
}

#[test]
fn failures_count_in_a_row_and_by_kind() {
    let now = Instant::now();
    let split = Outlier { consecutive: 2, consecutive_local: Some(3), ..Outlier::default() };
    let set = EndpointSet::new(vec![endpoint(0), endpoint(1)], policy(Some(split)));
    let fail = |fault| set.failed(&set.endpoints()[0], fault, now);
    assert!(!fail(Fault::Connection) && !fail(Fault::Connection) && !fail(Fault::Handshake));
    assert!(!set.endpoints()[0].state.succeeded(now), "it was not out");
    assert!(!fail(Fault::Connection) && !fail(Fault::Connection) && !fail(Fault::Handshake));
    assert!(fail(Fault::Handshake), "the second of its kind");
}

#[test]
fn no_more_are_ejected_than_may_be() {
    let now = Instant::now();
    let check = |n: u8, max_ejection_percent, expected: usize| {
        let outlier = Outlier { consecutive: 1, max_ejection_percent, ..Outlier::default() };
        let set = EndpointSet::new((0..n).map(endpoint).collect(), policy(Some(outlier)));
        let failed = set.endpoints().iter().filter(|e| set.failed(e, Fault::Connection, now));
        assert_eq!(failed.count(), expected, "{max_ejection_percent} % of {n}");
    };
    check(10, 10, 1);
    check(10, 39, 3);
    check(3, 10, 1);
    check(1, 0, 1);
    check(3, 100, 3);
}

#[test]
fn when_too_few_are_left_ejections_are_not_looked_at() {
    let now = Instant::now();
    let set = set(10);
    (0..7).for_each(|i| eject(&set, i, now));
    assert_eq!(spread(&set, now, 1_000)[..7], [0; 7], "30 % are left");
    eject(&set, 7, now);
    assert!(spread(&set, now, 10_000).iter().all(|n| *n > 500), "20 % are left");
}

#[test]
fn a_tier_that_lost_endpoints_spills_over() {
    let now = Instant::now();
    let set = tiered(&[4, 4]);
    assert_eq!(spread(&set, now, 1_000)[4..], [0; 4]);
    (0..2).for_each(|i| eject(&set, i, now));
    let hits = spread(&set, now, 10_000);
    let (near, far) = (hits[..4].iter().sum::<u64>(), hits[4..].iter().sum::<u64>());
    assert_eq!(hits[..2], [0, 0]);
    assert!(near.abs_diff(7_000) < 200 && far.abs_diff(3_000) < 200, "{hits:?}");
    (2..4).for_each(|i| eject(&set, i, now));
    assert_eq!(spread(&set, now, 1_000)[..4], [0; 4]);
}

#[test]
fn a_place_has_its_own_weight() {
    let places =
        [(endpoint(0), Place { tier: 0, weight: 1 }), (endpoint(1), Place { tier: 0, weight: 9 })];
    let policy = Policy { balance: Balance::Random, ..Policy::default() };
    let set = EndpointSet::in_tiers(places.into(), Arc::new(policy));
    let hits = spread(&set, Instant::now(), 10_000);
    assert!(hits[1].abs_diff(9_000) < 200, "{hits:?}");
    let plain = [(endpoint(0), Place { tier: 3, weight: 1 })];
    assert!(EndpointSet::in_tiers(plain.into(), Arc::default()).extras.is_none());
}

/// A set that sources decide in, with so many endpoints in each tier.
fn by_source(balance: Balance, tiers: &[u8]) -> EndpointSet {
    let places = tiers.iter().zip(0..).flat_map(|(n, tier)| (0..*n).map(move |_| tier));
    let endpoints = places.zip(0..).map(|(tier, i)| (endpoint(i), Place { tier, weight: 1 }));
    let policy = Policy { balance, outlier: Some(Outlier::default()), ..Policy::default() };
    EndpointSet::in_tiers(endpoints.collect(), Arc::new(policy))
}

/// The endpoint of each of 1,000 sources, whatever else is random.
fn of_sources(set: &EndpointSet, tried: &[usize], now: Instant) -> Vec<usize> {
    let mut state = 3;
    let pick = |i: u32| {
        let (turn, random) = (random(&mut state), random(&mut state));
        let source = Some(std::net::Ipv4Addr::from(0x0A01_0000 + i).into());
        set.pick(Pick { tried, turn, random, source, now }).expect("one").0
    };
    (0..1_000).map(pick).collect()
}

const BY_SOURCE: [Balance; 2] =
    [Balance::Maglev { table_size: None }, Balance::RingHash { minimum: 1024 }];

#[test]
fn a_source_comes_back_to_its_endpoint_and_the_sources_are_shared_out() {
    let now = Instant::now();
    for balance in BY_SOURCE {
        let set = by_source(balance, &[4]);
        let first = of_sources(&set, &[], now);
        assert_eq!(first, of_sources(&set, &[], now + SECOND), "{balance:?}");
        for i in 0..4 {
            let n = first.iter().filter(|index| **index == i).count();
            assert!((150..350).contains(&n), "{balance:?}: {i} has {n} of 1,000");
        }
        let of_source = set.of_source([10, 1, 0, 7].into());
        assert_eq!(of_source, Some(first[7]), "{balance:?}");
    }
}

#[test]
fn only_the_sources_of_an_endpoint_that_is_out_go_elsewhere_and_to_all_others() {
    let now = Instant::now();
    for balance in BY_SOURCE {
        let set = by_source(balance, &[4]);
        let before = of_sources(&set, &[], now);
        let next = of_sources(&set, &[2], now);
        eject(&set, 2, now);
        let after = of_sources(&set, &[], now);
        assert_eq!(after, next, "{balance:?}: where a second try goes too");
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        let mut to = [0; 4];
        for (before, after) in moved {
            assert_eq!(*before, 2, "{balance:?}");
            to[*after] += 1;
        }
        assert!(to[2] == 0 && [to[0], to[1], to[3]].iter().all(|n| *n > 20), "{balance:?}: {to:?}");
    }
}

#[test]
fn a_source_stays_in_one_tier() {
    let now = Instant::now();
    for balance in BY_SOURCE {
        let set = by_source(balance, &[2, 4]);
        assert!(of_sources(&set, &[], now).iter().all(|index| *index < 2));
        // Half of the first tier: 70 % of the sources stay, each with the endpoint that is left.
        eject(&set, 0, now);
        let after = of_sources(&set, &[], now);
        let near = after.iter().filter(|index| **index == 1).count();
        assert!((600..800).contains(&near), "{balance:?}: {near} of 1,000");
        assert_eq!(after, of_sources(&set, &[], now), "{balance:?}");
    }
}

#[test]
fn a_new_endpoint_comes_to_its_share_slowly() {
    let start = Instant::now();
    let warmup = Warmup { window: 100 * SECOND, minimum_percent: 10, aggression_percent: 100 };
    for balance in [Balance::LeastRequest, Balance::RoundRobin] {
        let added = |i: u8, added: Option<Instant>| {
            Arc::new(Endpoint { added, ..Endpoint::clone(&endpoint(i)) })
        };
        let all = vec![added(0, None), added(1, Some(start))];
        let policy = Policy { balance, warmup: Some(warmup), ..Policy::default() };
        let set = EndpointSet::new(all, Arc::new(policy));
        let share = |age: u32| {
            // Held, so that least request compares what each has for its weight.
            let mut state = 9;
            let mut held = Vec::new();
            for turn in 0..2_000 {
                let random = random(&mut state);
                let now = start + age * SECOND;
                let pick = Pick { tried: &[], turn, random, source: None, now };
                held.push(set.pick(pick).expect("one"));
            }
            held.iter().filter(|(index, _)| *index == 1).count() as f64 / 2_000.0
        };
        for (age, expected) in [(0, 0.1 / 1.1), (50, 0.5 / 1.5), (100, 0.5), (1_000, 0.5)] {
            let found = share(age);
            assert!((found - expected).abs() < 0.04, "{balance:?} at {age} s: {found}");
        }
        assert!(set.is_warming(1, start) && !set.is_warming(0, start));
        assert!(!set.is_warming(1, start + 100 * SECOND));
    }
}

/// What may happen to a set.
#[derive(Clone, Copy, Debug)]
enum Event {
    Fail(usize, Fault),
    Succeed(usize),
    Wait(u64),
    Pick(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let fault = prop_oneof![Just(Fault::Connection), Just(Fault::Handshake)];
    prop_oneof![
        4 => (0..3usize, fault).prop_map(|(i, fault)| Event::Fail(i, fault)),
        1 => (0..3usize).prop_map(Event::Succeed),
        2 => (0..9_000u64).prop_map(Event::Wait),
        4 => any::<u64>().prop_map(Event::Pick),
    ]
}

proptest! {
    /// Whatever happens: somebody is always picked, an ejection is neither shorter than its base
    /// nor longer than its maximum, a success ends it, and only a probe goes to one that is out
    /// while others are in service.
    #[test]
    fn the_rules_of_ejection_hold(events in prop::collection::vec(event(), 0..200)) {
        let outlier = Outlier { max_ejection_percent: 67, ..Outlier::default() };
        let (base, most) = (outlier.base_ejection_time, outlier.max_ejection_time);
        let set = EndpointSet::new((0..3).map(endpoint).collect(), policy(Some(outlier)));
        let mut now = Instant::now();
        for event in events {
            match event {
                Event::Wait(ms) => now += Duration::from_millis(ms),
                Event::Succeed(i) => {
                    set.endpoints()[i].state.succeeded(now);
                    prop_assert!(!set.endpoints()[i].state.is_ejected(now));
                }
                Event::Fail(i, fault) => {
                    if set.failed(&set.endpoints()[i], fault, now) {
                        let ejection = set.endpoints()[i].state.ejection();
                        let (until, _) = ejection.expect("an ejection");
                        prop_assert!(until >= now + base && until <= now + most);
                    }
                }
                Event::Pick(random) => {
                    let closed: Vec<bool> =
                        set.endpoints().iter().map(|e| e.state.is_ejected(now)).collect();
                    let pick = Pick { tried: &[], turn: random, random, source: None, now };
                    let (index, _) = set.pick(pick).expect("somebody");
                    prop_assert!(!closed[index], "two of three are out at most");
                    let state = &set.endpoints()[index].state;
                    prop_assert_eq!(state.is_ejected(now), state.ejection().is_some());
                }
            }
            let out = set.endpoints().iter().filter(|e| e.state.ejection().is_some()).count();
            prop_assert!(out <= 2);
        }
    }
}
