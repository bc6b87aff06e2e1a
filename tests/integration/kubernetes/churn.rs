//! Endpoints that come and go under load while the API server restarts: no connection is cut, a
//! removed endpoint is left alone, memory stays what it was.
//!
//! Small enough for every run of the tests; `DIOLKOS_KUBERNETES_SERVICES=2000
//! DIOLKOS_KUBERNETES_SECONDS=120` makes it the size of a real mesh, and then the goals decide:
//! fifty changes a second, 200 ms, memory flat. What it measured is printed.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use super::*;
use crate::support::cluster::request;

/// Changes of endpoints each second.
const RATE: u32 = 50;
/// The API server restarts so often, in seconds, where the run is long enough.
const RESTARTED_EVERY: u64 = 30;
/// Probes of removals between two restarts.
const PROBES: usize = 5;
/// A removed endpoint may still be asked for so long: a goal of the long form.
const REMOVED_WITHIN: Duration = Duration::from_millis(200);

fn given(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Lets the thread beside it end, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Resident memory of a process, in bytes.
fn memory(process: &Process) -> f64 {
    process.sample("process_resident_memory_bytes").expect("memory")
}

/// Creates the services with an endpoint each, through plain HTTP, on several connections.
fn create(proxy: SocketAddr, services: u64, at: SocketAddr) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= services {
                        return;
                    }
                    let name = format!("s{n}");
                    let pod_name = format!("{name}-0");
                    for (path, object) in [
                        ("/api/v1/namespaces/ns2/services", service("ns2", &name)),
                        ("/api/v1/namespaces/ns2/pods", pod_object("ns2", &name, &pod_name)),
                        (SLICES, slice("ns2", &name, &pod_name, at)),
                    ] {
                        let status = request(proxy, "POST", path, &object);
                        assert_eq!(status, 201, "{path} {name}");
                    }
                }
            });
        }
    });
}

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/ns2/endpointslices";

/// Creates or removes the second endpoint of one service after the other, fifty each second, until
/// told to stop. An API server that is away is asked again.
fn churn(proxy: SocketAddr, services: u64, at: SocketAddr, goes_on: &AtomicBool) -> u64 {
    let (mut changes, begun) = (0, Instant::now());
    while goes_on.load(Ordering::Relaxed) {
        let due = begun + Duration::from_millis(1_000 * changes / u64::from(RATE));
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            thread::park_timeout(early);
            continue;
        }
        let name = format!("s{}", changes % services);
        let other = format!("{name}-1");
        let status = if (changes / services).is_multiple_of(2) {
            request(proxy, "POST", SLICES, &slice("ns2", &name, &other, at))
        } else {
            request(proxy, "DELETE", &format!("{SLICES}/{other}"), &Value::Null)
        };
        changes += u64::from(matches!(status, 200 | 201 | 404 | 409));
    }
    changes
}

/// Adds an endpoint of its own to a service of its own and takes it away, over and over: how long
/// after the API said that it was gone it was last asked.
fn removals(
    process: &Process,
    proxy: SocketAddr,
    ip: IpAddr,
    rounds: std::ops::Range<usize>,
) -> Vec<Duration> {
    let key = key("ns2", "probe");
    let mut latest = Vec::new();
    for round in rounds {
        let goes = pod(ip);
        let name = format!("probe-extra-{round}");
        let _ = request(
            proxy,
            "POST",
            "/api/v1/namespaces/ns2/pods",
            &pod_object("ns2", "probe", &name),
        );
        let created = request(proxy, "POST", SLICES, &slice("ns2", "probe", &name, goes.address));
        assert_eq!(created, 201);
        until_reached(process, &key, &goes).end();
        let removed = request(proxy, "DELETE", &format!("{SLICES}/{name}"), &Value::Null);
        assert_eq!(removed, 200);
        let gone = Instant::now();
        while goes.waiting().is_some() {}
        let mut last = Duration::ZERO;
        // Until it was left alone for a second.
        while gone.elapsed() < last + Duration::from_secs(1) {
            let asks = process.ask(&key);
            asks.set_read_timeout(Some(Duration::from_millis(20))).expect("timeout");
            let _ = (&asks).read(&mut [0; 8]);
            while goes.waiting().is_some() {
                last = gone.elapsed();
            }
            assert!(gone.elapsed() < LONG, "a removed endpoint is asked for ever");
        }
        latest.push(last);
    }
    latest
}

#[test]
fn endpoints_come_and_go_under_load_and_nobody_is_cut() {
    let _turn = turn();
    let (Some(mut cluster), Some(ip)) = (Cluster::with_istio(), outer_address()) else { return };
    let services = given("DIOLKOS_KUBERNETES_SERVICES", 60);
    let seconds = given("DIOLKOS_KUBERNETES_SECONDS", 6);
    let (stays, other) = (pod(ip), pod(ip));
    let proxy = cluster.proxy();
    cluster.apply(&gateway(&["*.global"]));
    cluster.apply(&mesh("ns2", "steady", &[&stays]));
    cluster.apply(&mesh("ns2", "probe", &[&stays]));
    create(proxy, services, other.address);
    let process = follow(&cluster.kubeconfig(), &[]);
    let mut talks: Vec<_> =
        (0..32).map(|_| until_reached(&process, &key("ns2", "steady"), &stays)).collect();
    let before = memory(&process);

    let goes_on = AtomicBool::new(true);
    let parts = (seconds / RESTARTED_EVERY).max(2);
    let part = Duration::from_secs(seconds) / u32::try_from(parts).expect("few");
    let mut latest = Vec::new();
    let mut rounds = 0_u64;
    let mut changes = 0;
    let mut talk = |until: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < until {
            talks
                .iter_mut()
                .for_each(|talk| talk.round(u8::try_from(rounds % 256).expect("a byte")));
            rounds += 1;
        }
    };
    let mut churned = Duration::ZERO;
    for n in 0..usize::try_from(parts).expect("few") {
        let proxy = cluster.proxy();
        goes_on.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        thread::scope(|scope| {
            let churning = scope.spawn(|| churn(proxy, services, other.address, &goes_on));
            let stop = Stop(&goes_on);
            talk(part);
            latest.extend(removals(&process, proxy, ip, n * PROBES..(n + 1) * PROBES));
            drop(stop);
            changes += churning.join().expect("changes");
        });
        churned += begun.elapsed();
        if n + 1 < usize::try_from(parts).expect("few") {
            cluster.stop_api();
            talk(Duration::from_secs(1));
            cluster.start_api();
            let age = || process.sample("diolkos_kubernetes_age_seconds");
            soon("it is followed again", || (age() == Some(0.0)).then_some(()));
        }
    }
    talk(Duration::from_millis(100));
    talks.into_iter().for_each(Talk::end);
    let after = memory(&process);
    latest.sort_unstable();
    let worst = latest[latest.len() - 1];
    #[allow(clippy::cast_precision_loss)] // shown, and compared with a margin
    let rate = changes as f64 / churned.as_secs_f64();
    println!(
        "{services} services, {changes} changes, {rate:.1} a second, {rounds} rounds on 32 \
         connections, API restarted {} times: a removed endpoint was last asked {:?} (median) and \
         {worst:?} (worst of {}) after the API had answered; memory {:.1} MB, then {:.1} MB",
        parts - 1,
        latest[latest.len() / 2],
        latest.len(),
        before / 1e6,
        after / 1e6,
    );
    assert!(changes > 0);
    assert!(after < before * 1.5 + 20e6, "memory grows: {before} to {after}");
    if std::env::var_os("DIOLKOS_KUBERNETES_SERVICES").is_some() {
        assert!(rate > 0.9 * f64::from(RATE), "the load is not what it should be: {rate}");
        assert!(worst <= REMOVED_WITHIN, "{latest:?}");
        // Half of the churn may stand at the end: an endpoint more for each service.
        assert!(after < before * 1.2, "memory grows: {before} to {after}");
    }
}
