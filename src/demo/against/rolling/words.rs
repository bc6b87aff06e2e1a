//! The account of a rolling replacement in words, and what it should say of ours.
//!
//! Must not know: how it came about.

use std::time::{Duration, Instant};

use super::{
    DEADLINE, PAUSE, Seen, TERMINATION_DRAIN,
    application::{SLOW, WORK},
    load::{Account, Tally, Work},
};
use crate::demo::against::{Told, gateways::Side};

/// A cut is seen by clients a little before or after it is made, as their clock has it.
const SLACK: Duration = Duration::from_millis(250);

/// Sentences of one side.
pub(super) fn of(seen: &Seen) -> Vec<String> {
    let account = &seen.account;
    let slow = SLOW.as_secs();
    let mut words = vec![
        failed("short requests (HTTP/1.1, HTTP/2)", account, Work::Short),
        failed("TCP calls", account, Work::Call),
        failed(&format!("requests of {slow} s (HTTP/1.1, HTTP/2)"), account, Work::Long),
        failed(
            &format!(
                "HTTP/1.1 requests of {} s through a load balancer, which the sidecar has as one \
                 endpoint that never changes",
                WORK.as_secs_f32()
            ),
            account,
            Work::Behind,
        ),
        failed(&format!("HTTP/2 streams of {slow} s"), account, Work::Stream),
        format!(
            "{}; {} resting sessions were closed between two lines",
            failed("lines of TCP sessions that rest", account, Work::Line),
            account.ended_at_rest,
        ),
        cut(seen),
    ];
    let took: Vec<_> = seen.ends.iter().map(|(_, took)| seconds(*took)).collect();
    let took = took.join(" and ");
    words.push(match seen.side {
        Side::Envoy => format!(
            "told /drain_listeners?graceful, killed after terminationDrainDuration \
             ({} s, Istio's default): gone after {took}",
            TERMINATION_DRAIN.as_secs()
        ),
        Side::Ours => format!(
            "SIGTERM with drain.pause={}s drain.deadline={}s (defaults 5s, 20s): gone after {took}",
            PAUSE.as_secs(),
            DEADLINE.as_secs()
        ),
    });
    words
}

fn failed(what: &str, account: &Account, work: Work) -> String {
    let none = Tally::default();
    let tally = account.work.get(&work).unwrap_or(&none);
    let all = tally.good + tally.failed.len();
    match tally.failed.first() {
        None => format!("{what}: 0 of {all} failed"),
        Some((_, why)) => {
            let short: String = why.chars().take(90).collect();
            format!("{what}: {} of {all} FAILED: {short}", tally.failed.len())
        }
    }
}

fn cut(seen: &Seen) -> String {
    let after = delays(seen);
    let (streams, tcp) = (seen.account.streams_cut.len(), seen.account.tcp_cut.len());
    let when = match (after.iter().min(), after.iter().max()) {
        (Some(first), Some(last)) => {
            format!(", {} to {} after the gateway was told to end", seconds(*first), seconds(*last))
        }
        _ => String::new(),
    };
    let logged = if seen.logged.is_empty() {
        "its log has none of them".to_owned()
    } else {
        let [of_tcp, of_http2, of_http1] = logged(seen);
        format!(
            "its log has {of_tcp} connections of TCP and {of_http2} of HTTP/2 as cut, and \
             {of_http1} of HTTP/1.1 at rest"
        )
    };
    format!("endless streams: {streams} of HTTP/2 and {tcp} of TCP cut{when}; {logged}")
}

/// Connections that the log has as cut, of TCP, HTTP/2 and HTTP/1.1.
fn logged(seen: &Seen) -> [usize; 3] {
    let of = |alpn: &str| seen.logged.iter().filter(|logged| logged.contains(alpn)).count();
    [of("istio-peer-exchange"), of("istio-h2"), of("istio-http/1.1")]
}

/// How long after a gateway was told to end each endless stream was cut.
fn delays(seen: &Seen) -> Vec<Duration> {
    let told = |at: &Instant| seen.ends.iter().map(|(told, _)| *told).rfind(|told| told <= at);
    let cut = seen.account.streams_cut.iter().chain(&seen.account.tcp_cut);
    cut.map(|at| told(at).map_or(Duration::ZERO, |told| *at - told)).collect()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// What should hold: nothing fails, streams are cut at the deadline only, each is in the log.
pub(super) fn expect(seen: &Seen, told: &mut Told) {
    for (work, tally) in &seen.account.work {
        // A request may cross the reset on its way, where nothing told the sidecar to move.
        if *work == Work::Behind {
            continue;
        }
        let why: Vec<_> = tally.failed.iter().map(|(_, why)| why.as_str()).collect();
        told.expect(why.is_empty(), format!("no work of kind {work:?} should fail: {why:?}"));
    }
    let at = PAUSE + DEADLINE;
    let early = delays(seen).into_iter().filter(|after| *after + SLACK < at).count();
    told.expect(early == 0, format!("{early} streams were cut before the deadline, {at:?}"));
    let (streams, tcp) = (seen.account.streams_cut.len(), seen.account.tcp_cut.len());
    told.expect(streams > 0 && tcp > 0, "streams should be alive at the deadline");
    let [of_tcp, of_http2, _] = logged(seen);
    // One HTTP/2 connection carries several streams.
    let each = of_tcp == tcp && (1..=streams).contains(&of_http2);
    told.expect(
        each,
        format!("the log should have each of {tcp} TCP cut, and HTTP/2 ones: {:?}", seen.logged),
    );
}
