//! Opens connections step by step and reads the gateway's memory at each step. Must not know:
//! which gateway it is.

use std::{cell::RefCell, rc::Rc};

use tokio::task::LocalSet;

use super::process::Child;
use crate::bench::{Plan, Report, dial::Dialer, link::Link, run::open, tally::Tally};

const STEPS: usize = 8;
const OPENING_MAX: usize = 64;

/// The report, and (connections, resident bytes) at each step, beginning with none.
pub(super) fn run(plan: &Plan, child: &Child) -> anyhow::Result<(Report, Vec<(usize, u64)>)> {
    plan.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dialer = Rc::new(Dialer::new(plan)?);
    let tally: Rc<RefCell<Tally>> = Rc::default();
    let mut memory = vec![(0, child.reading()?.resident)];
    let mut seconds = 0.0;
    LocalSet::new().block_on(&runtime, async {
        let mut links: Vec<Link> = Vec::with_capacity(plan.concurrency);
        for step in 1..=STEPS {
            let wanted = plan.concurrency * step / STEPS;
            let more = wanted.saturating_sub(links.len());
            let (opened, took) = open(&dialer, more, OPENING_MAX, &tally).await;
            links.extend(opened);
            seconds += took.as_secs_f64();
            memory.push((links.len(), child.reading()?.resident));
        }
        anyhow::Ok(())
    })?;
    let tally = tally.take();
    Ok((Report::new(plan, seconds, &[("all", tally)]), memory))
}
