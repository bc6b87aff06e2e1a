//! The pure parts of the way from a ClientHello to an endpoint, each on its own.
//!
//! `cargo bench --bench pure`. Must not know: sockets; what they cost is asked by
//! `diolkos bench compare`.

#![allow(missing_docs)] // of the function that criterion_group! makes

use std::{hint::black_box, sync::Arc, time::Instant};

use ahash::RandomState;
use arc_swap::ArcSwap;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use diolkos::{
    gateway::client_hello::{Scan, Scanner},
    routing::{
        Endpoint, EndpointSet, Host, Pick, Policy, Route, RouteTable, Service, ServiceKind,
        ServiceRoutes, SubsetKey,
    },
};

const HELLO_BYTES_MAX: usize = 16 << 10;

/// Real ClientHellos, small to large.
const HELLOS: [(&str, &[u8]); 3] = [
    ("rustls", include_bytes!("../tests/data/hellos/rustls.bin")),
    ("envoy", include_bytes!("../tests/data/hellos/envoy.bin")),
    ("envoy-pq", include_bytes!("../tests/data/hellos/envoy-pq.bin")),
];

/// Scans a prefix that grows by `step` bytes, as reads would have it.
fn scan_in_steps(wire: &[u8], step: usize) -> Scan {
    let mut scanner = Scanner::new(HELLO_BYTES_MAX);
    let mut end = 0;
    loop {
        end = (end + step).min(wire.len());
        match scanner.scan(&wire[..end]) {
            Scan::NeedMore => assert!(end < wire.len(), "the hello is whole"),
            verdict => return verdict,
        }
    }
}

fn hello(c: &mut Criterion) {
    let mut group = c.benchmark_group("hello");
    for (name, wire) in HELLOS {
        assert!(matches!(scan_in_steps(wire, wire.len()), Scan::Hello(_)), "{name}");
        group.throughput(Throughput::Bytes(wire.len() as u64));
        // At once; in TCP segments of an Ethernet frame; in pieces of 64 bytes.
        for step in [wire.len(), 1448, 64] {
            let id = BenchmarkId::new(format!("{name} {} B", wire.len()), format!("by {step}"));
            group.bench_function(id, |b| b.iter(|| scan_in_steps(black_box(wire), step)));
        }
    }
    group.finish();
}

fn key(c: &mut Criterion) {
    let name = "outbound_.8080_.v1_.bar.ns2.svc.cluster.local";
    c.bench_function("key", |b| b.iter(|| SubsetKey::parse(black_box(name))));
}

fn host(i: usize) -> String {
    format!("service-{i}.namespace-{}.svc.cluster.local", i % 97)
}

fn endpoints(count: u8) -> EndpointSet {
    let endpoint = |i: u8| {
        Arc::new(Endpoint {
            address: ([10, 0, 0, i], 8080).into(),
            weight: 1,
            locality: Arc::default(),
            workload: Arc::default(),
            instance: Arc::from(""),
            added: None,
            state: Arc::default(),
        })
    };
    EndpointSet::new((0..count).map(endpoint).collect(), Arc::new(Policy::default()))
}

fn table(services: usize) -> RouteTable {
    let routes = (0..services).map(|i| {
        let service = Arc::new(Service {
            host: Host::parse(&host(i)).expect("a host"),
            name: "service".into(),
            namespace: "namespace".into(),
            kind: ServiceKind::ServiceEntry,
        });
        let route = Arc::new(Route {
            service: Arc::clone(&service),
            port: 8080,
            subset: "".into(),
            endpoints: ArcSwap::from_pointee(endpoints(3)),
            state: Arc::default(),
        });
        let routes = Box::new([route]);
        ServiceRoutes { service, exposed: true, exposed_as_alias: false, routes }
    });
    RouteTable::new(routes.collect(), None, 1)
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    for services in [10, 1_000, 100_000] {
        let table = table(services);
        let name = |i| format!("outbound_.8080_._.{}", host(i));
        let find = |name: &str| {
            let key = SubsetKey::parse(black_box(name)).expect("a key");
            assert!(black_box(table.find(&key)).is_ok());
        };
        let hot = name(services / 2);
        group.bench_function(BenchmarkId::new("hot", services), |b| b.iter(|| find(&hot)));
        // All names, in an order that no cache can foresee.
        let mut names: Vec<String> = (0..services).map(name).collect();
        names.sort_by_key(|name| RandomState::with_seed(7).hash_one(name));
        let mut turn = names.iter().cycle();
        group.bench_function(BenchmarkId::new("random", services), |b| {
            b.iter(|| find(turn.next().expect("it never ends")));
        });
    }
    group.finish();
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for count in [1, 3, 100] {
        let set = endpoints(count);
        let now = Instant::now();
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        group.bench_function(BenchmarkId::new("least request of", count), |b| {
            b.iter_batched(
                || {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    random
                },
                |random| set.pick(Pick { tried: &[], turn: random, random, source: None, now }),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, hello, key, lookup, pick);
criterion_main!(benches);
