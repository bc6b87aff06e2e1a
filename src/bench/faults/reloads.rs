//! G6: changes under load cut nobody, keep nobody out, are live soon and leave nothing behind.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::{
    Peer, Stage,
    front::Terms,
    goal::{Cell, Goal, How},
    load,
};
use crate::bench::{
    Plan, Scenario,
    churn::Churn,
    compare::{churn::Changer, configs::name},
};

pub(super) const GOAL: Goal = Goal {
    name: "G6",
    done: "10,000 changes in 10 min beside 1,000 live and 2,000 new connections/s \
           (--quick, rivals: for 4 s, 100 live, 500/s; HAProxy and nginx 4 changes/s)",
    reach: "0 cut, 0 new fail; live p99 ≤ 50 ms; ≤ 2 MiB more resident, descriptors as before",
    how: How::Measured { measure, rivals: true },
};

/// Each second: 10,000 in ten minutes.
const CHANGES: f64 = 10_000.0 / 600.0;
/// And of those who start a new process for each: a signal that comes while one starts is lost.
const RELOADS: f64 = 4.0;
/// Not served by then, a change was not taken.
const LIVE_WITHIN: Duration = Duration::from_secs(5);

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    let long = peer == Peer::Diolkos && !stage.what.quick;
    let reloads = matches!(peer, Peer::Haproxy | Peer::Nginx);
    let (seconds, live, rate) = if long { (600, 1_000, 2_000.0) } else { (4, 100, 500.0) };
    let pods = stage.local_pods()?;
    let mut front =
        stage.front(peer, &pods.addresses, &Terms { changing: true, ..Terms::default() })?;
    let duration = Some(Duration::from_secs(seconds));
    let hold = Plan { concurrency: live, duration, ..load::plan(&front, Scenario::Hold)? };
    let new = Plan { rate: Some(rate), duration, ..load::plan(&front, Scenario::Connect)? };
    // So that what is kept for such a load is there before.
    load::make(&Plan { duration: Some(Duration::from_secs(1)), ..new.clone() })?;
    load::make(&Plan { duration: None, ..hold.clone() })?;
    let before = (front.reading()?.resident, front.files());
    let probe = Plan {
        names: vec![name(1)],
        count: Some(1),
        duration: None,
        ..load::plan(&front, Scenario::Connect)?
    };
    let (changer, waits) = (Arc::new(front.changer()?), Arc::<Mutex<Vec<f64>>>::default());
    let change = watched(Arc::clone(&changer), probe, Arc::clone(&waits));
    let churn = Churn::start(if reloads { RELOADS } else { CHANGES }, change)?;
    let (held, new) = load::beside(&hold, || load::make(&new))?;
    let changes = churn.stop();
    changer.settle()?;
    thread::sleep(Duration::from_secs(1));
    let more = front.reading()?.resident.saturating_sub(before.0);
    let files = front.files();
    let cut = held.totals.failures() + new.totals.cut();
    let failed = new.totals.failures() - new.totals.cut();
    let mut waits = waits.lock().unwrap_or_else(PoisonError::into_inner).clone();
    waits.sort_by(f64::total_cmp);
    let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or(f64::INFINITY);
    let untaken: u64 = changes.failed.values().sum();
    let met = (cut, failed, untaken) == (0, 0, 0)
        && p99 <= 50.0
        && more <= 2 << 20
        && files.abs_diff(before.1) <= POOLED_FILES;
    let figure = format!(
        "{} changes, {untaken} not taken; {cut} cut, {failed} fail; live p99 {p99:.0} ms; {} KiB \
         more; {} descriptors, {} before",
        changes.made,
        more >> 10,
        files,
        before.1
    );
    Ok(Cell::measured(met, figure))
}

/// Pipes and the like that are pooled come and go with the load.
const POOLED_FILES: usize = 16;

/// Each change; and when a route has come, how long it was until it was served, in milliseconds.
fn watched(
    changer: Arc<Changer>,
    probe: Plan,
    waits: Arc<Mutex<Vec<f64>>>,
) -> impl FnMut(u64) -> anyhow::Result<()> + Send + 'static {
    move |turn| {
        changer.change(turn)?;
        if turn % 4 != 1 {
            return Ok(());
        }
        let begun = Instant::now();
        while load::make(&probe)?.totals.failures() > 0 {
            ensure!(begun.elapsed() < LIVE_WITHIN, "not served after {LIVE_WITHIN:?}");
        }
        let took = begun.elapsed().as_secs_f64() * 1e3;
        waits.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        Ok(())
    }
}
