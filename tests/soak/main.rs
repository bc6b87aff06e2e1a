//! Everything at once, for as long as one likes: the program at 70 % of what it carries here, while
//! its endpoints come and go, its manifests break and are mended, it stands still now and then, and
//! peers say much or nothing, stall, half-close, reset, abort and are refused. It ends with exact
//! accounts.
//!
//! `DIOLKOS_SOAK_SECONDS` sets the time (20), `DIOLKOS_SOAK_CONNECTIONS` how many connections there
//! are at least, `DIOLKOS_SOAK_SEED`, which is printed, the choices. Must not know: how the gateway
//! does it.

#![allow(unreachable_pub)]

#[allow(dead_code)]
#[path = "../integration/support/hello.rs"]
mod hello;
#[allow(dead_code)]
#[path = "../integration/support/mesh.rs"]
mod mesh;
#[allow(dead_code)]
#[path = "../integration/support/process.rs"]
mod process;

// What both ends of a connection do, chosen by its number.
mod script;
// Bytes that tell whose they are.
mod stream;
// Doing it.
mod play;
// What came of it, and what the gateway says of that.
mod ledger;
// The gateway, its pods, and what changes under it.
mod site;

use std::{
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use tokio::task::LocalSet;

use ledger::Ledger;
use play::Load;
use site::Site;

/// How long what must happen is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Part of the load that the machine carries.
const PART: f64 = 0.7;
/// Clients of the closed loop that finds out how much that is.
const CALIBRATING: usize = 32;
/// What the gateway may have in memory at the end beyond what it had at rest after calibration,
/// which lasts long enough to fill every cache: the allocator keeps some of what peaks left.
const RESIDENT_MORE: u64 = 6 << 20;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn at_seventy_per_cent_under_every_fault_nothing_is_lost_and_all_comes_to_rest() {
    let seconds = Duration::from_secs(setting("DIOLKOS_SOAK_SECONDS").unwrap_or(20));
    let least = setting("DIOLKOS_SOAK_CONNECTIONS").unwrap_or(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    let seed = setting("DIOLKOS_SOAK_SEED").unwrap_or(now);
    println!("again: DIOLKOS_SOAK_SEED={seed}");
    diolkos::bench::lift_open_files();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ledger = Rc::new(Ledger::default());
    LocalSet::new().block_on(&runtime.expect("a runtime"), async {
        let site = Site::start(seed, &ledger).await;
        let load = Load::new(seed, site.address(), &ledger);
        let changes = site.change(seed);
        let calibration = (seconds / 5).clamp(Duration::from_secs(2), Duration::from_secs(15));
        let carried = load.all_it_can(CALIBRATING, calibration).await;
        ledger.wait_until_all_ended().await;
        let rest = site.at_rest();
        println!("carries {carried:.0} connections/s; at rest: {rest:?}");
        load.at_rate(carried * PART, seconds, least).await;
        ledger.wait_until_all_ended().await;
        let changes = changes.stop();
        println!("{changes} changes; {}", ledger.summary());
        assert!(changes > 0, "nothing changed meanwhile");
        site.settle_accounts(&ledger);
        site.is_at_rest_as(&rest, RESIDENT_MORE);
    });
}
