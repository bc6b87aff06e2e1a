//! The registry as a scraper sees it. Must not know: how the text is made.

use std::collections::BTreeSet;

use super::*;

fn lines<'t>(text: &'t str, metric: &Metric) -> Vec<&'t str> {
    let of_metric = |line: &&str| {
        let rest = line.strip_prefix(metric.name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{']))
    };
    text.lines().filter(of_metric).collect()
}

#[test]
fn names_are_unique_and_end_as_their_kind_and_unit_say() {
    let names: BTreeSet<_> = names::ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), names::ALL.len());
    for metric in names::ALL {
        let total = metric.name.ends_with("_total");
        assert_eq!(total, metric.kind == Kind::Counter, "{}", metric.name);
        let stem = metric.name.trim_end_matches("_total");
        for (suffix, unit) in [("_bytes", Unit::Bytes), ("_seconds", Unit::Seconds)] {
            assert_eq!(stem.ends_with(suffix), metric.unit == unit, "{}", metric.name);
        }
        assert!(!metric.help.ends_with('.') && !metric.help.contains('\n'), "{}", metric.name);
        let labels: BTreeSet<_> = metric.labels.iter().collect();
        assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
    }
}

#[test]
fn a_scrape_shows_every_name_as_it_is_written() {
    let mut metrics = Metrics::new();
    let pending: Vec<&Metric> = names::ALL
        .iter()
        .filter(|metric| metrics.unregistered().any(|name| name == metric.name))
        .collect();
    assert!(pending.len() < names::ALL.len(), "process metrics are registered");
    for metric in pending {
        let values = vec!["v"; metric.labels.len()];
        match (metric.kind, metric.labels.is_empty()) {
            (Kind::Counter, true) => drop(metrics.counter(metric)),
            (Kind::Gauge, true) => drop(metrics.gauge(metric)),
            (Kind::Counter, false) => drop(metrics.counters(metric).with(&values)),
            (Kind::Gauge, false) => drop(metrics.gauges(metric).with(&values)),
        }
    }
    assert_eq!(metrics.unregistered().next(), None);
    let text = metrics.text();
    for metric in names::ALL {
        assert_eq!(lines(&text, metric).len(), 1, "{} in\n{text}", metric.name);
        assert!(text.contains(&format!(" {}.\n", metric.help)), "{}", metric.help);
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn series_carry_their_labels_in_order_and_escaped() {
    let mut metrics = Metrics::default();
    let build = metrics.gauges(&names::ISTIO_BUILD);
    build.with(&["a\"b\\c\nd", "1.0"]).set(1);
    assert!(metrics.text().contains("istio_build{component=\"a\\\"b\\\\c\\nd\",tag=\"1.0\"} 1\n"));
    build.forget(&["a\"b\\c\nd", "1.0"]);
    assert_eq!(lines(&metrics.text(), &names::ISTIO_BUILD), [""; 0]);
}

#[test]
fn a_handle_and_its_series_are_one() {
    let mut metrics = Metrics::default();
    let refusals = metrics.counters(&names::CONNECTIONS);
    let handle = refusals.with(&["not_tls"]);
    handle.inc_by(2);
    refusals.with(&["not_tls"]).inc();
    refusals.with(&["no_name"]).inc();
    let text = metrics.text();
    let mut lines = lines(&text, &names::CONNECTIONS);
    lines.sort_unstable();
    let expected = [
        "diolkos_connections_total{outcome=\"no_name\"} 1",
        "diolkos_connections_total{outcome=\"not_tls\"} 3",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn numbers_are_read_at_each_scrape() {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };
    let mut metrics = Metrics::default();
    let generation = Arc::new(AtomicU64::new(7));
    let read = Arc::clone(&generation);
    metrics.collect(&names::TABLE_GENERATION, move |samples| {
        samples.put(&[], read.load(Ordering::Relaxed));
    });
    metrics.collect(&names::MANIFEST_OBJECTS, |samples| {
        samples.put(&["Service"], 3_usize);
        samples.put(&["Pod"], 4_usize);
    });
    metrics.collect(&names::CONFIG_AGE_SECONDS, |samples| samples.put(&[], 0.5));
    let text = metrics.text();
    assert_eq!(lines(&text, &names::TABLE_GENERATION), ["diolkos_table_generation 7"]);
    assert_eq!(lines(&text, &names::CONFIG_AGE_SECONDS), ["diolkos_config_age_seconds 0.5"]);
    let objects = [
        "diolkos_manifest_objects{kind=\"Service\"} 3",
        "diolkos_manifest_objects{kind=\"Pod\"} 4",
    ];
    assert_eq!(lines(&text, &names::MANIFEST_OBJECTS), objects);
    generation.store(8, Ordering::Relaxed);
    let text = metrics.text();
    assert_eq!(lines(&text, &names::TABLE_GENERATION), ["diolkos_table_generation 8"]);
}

#[test]
#[cfg(target_os = "linux")]
fn process_metrics_are_plausible() {
    let text = Metrics::new().text();
    let number = |metric: &Metric| -> f64 {
        let line = lines(&text, metric)[0];
        line.rsplit_once(' ').expect("a number").1.parse().expect("a number")
    };
    assert!(number(&names::PROCESS_RESIDENT_MEMORY_BYTES) > 1e6);
    assert!(number(&names::PROCESS_OPEN_FDS) >= 3.0);
    assert!(number(&names::PROCESS_MAX_FDS) >= number(&names::PROCESS_OPEN_FDS));
    assert!(number(&names::PROCESS_THREADS) >= 1.0);
    assert!(number(&names::PROCESS_CPU_SECONDS) >= 0.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let age = now.expect("after 1970").as_secs_f64() - number(&names::PROCESS_START_TIME_SECONDS);
    assert!((-5.0..24.0 * 3600.0).contains(&age), "started {age} s ago");
}

#[test]
#[should_panic(expected = "diolkos_ready is registered twice")]
fn a_name_is_registered_once() {
    let mut metrics = Metrics::default();
    metrics.gauge(&names::READY);
    metrics.gauge(&names::READY);
}
