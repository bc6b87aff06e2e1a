//! G24: what a user other than root may have of pipes is enough.

use std::time::Duration;

use super::{
    Peer, Stage,
    front::{Terms, Under},
    goal::{Cell, Goal, How},
    load,
};
use crate::bench::{Plan, Scenario};

pub(super) const GOAL: Goal = Goal {
    name: "G24",
    done: "4,096 busy downloads (--quick: 256), as root and as user 65534, twice in turn",
    reach: "≥ 90 % of root's throughput, 0 fail",
    how: How::Measured { measure, rivals: false },
};

const NOBODY: u32 = 65_534;

fn measure(stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Cell::not("needs root, to compare with"));
    }
    let mut rates = [0.0, 0.0];
    let mut failed = 0;
    for _ in 0..2 {
        for (rate, user) in rates.iter_mut().zip([None, Some(NOBODY)]) {
            let pods = stage.local_pods()?;
            let under = user.map_or(Under::Nothing, Under::User);
            let front = stage.front(peer, &pods.addresses, &Terms { under, ..Terms::default() })?;
            let plan = Plan {
                concurrency: stage.pick(4_096, 256),
                size: Some(1 << 20),
                duration: Some(stage.pick(Duration::from_secs(20), Duration::from_secs(2))),
                timeout: Duration::from_secs(120),
                ..load::plan(&front, Scenario::Download)?
            };
            let report = load::make(&plan)?;
            *rate += report.totals.bytes as f64 / report.seconds / 2.0;
            failed += report.totals.failures();
        }
    }
    let [root, nobody] = rates;
    let figure = format!(
        "{:.0} % ({:.0} of {:.0} MB/s), {failed} fail",
        nobody / root * 100.0,
        nobody / 1e6,
        root / 1e6
    );
    Ok(Cell::measured(nobody >= 0.9 * root && failed == 0, figure))
}
