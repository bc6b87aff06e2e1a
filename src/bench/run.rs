//! Makes the load: many clients on one thread, each doing one thing after the other.
//!
//! Must not know: what stands at the target.

use std::{
    cell::RefCell,
    future::Future,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    sync::Semaphore,
    task::{JoinSet, LocalSet},
};

use super::{
    Plan, Report, Scenario,
    dial::{Dialer, Failure},
    exchange::{Exchange, HEAD_BYTES},
    link::Link,
    pace::{Alarm, Arrivals},
    progress::Progress,
    tally::Tally,
};

/// Connections that are opened at the same time when many are to be held.
const OPENING_MAX: usize = 64;
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Follows the plan to its end.
///
/// # Errors
/// When the plan cannot be followed. What goes wrong on the way is counted in the report.
pub fn run(plan: &Plan, progress: &Progress) -> anyhow::Result<Report> {
    plan.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let load = Load {
        dialer: Rc::new(Dialer::new(plan)?),
        exchange: exchange_of(plan),
        tally: Rc::default(),
        arrivals: Rc::new(Arrivals::new(plan.rate, plan.duration, plan.count)),
    };
    let (seconds, tallies) = local.block_on(&runtime, async {
        tokio::select! {
            done = follow(plan, &load) => done,
            never = watch(&load, progress) => never,
        }
    })?;
    progress.clear();
    Ok(Report::new(plan, seconds, &tallies))
}

/// What every client of a load shares.
#[derive(Clone)]
struct Load {
    dialer: Rc<Dialer>,
    exchange: Exchange,
    tally: Rc<RefCell<Tally>>,
    arrivals: Rc<Arrivals>,
}

type Done = (f64, Vec<(&'static str, Tally)>);

async fn follow(plan: &Plan, load: &Load) -> anyhow::Result<Done> {
    let started = Instant::now();
    let clients = plan.clients();
    let mut seconds = None;
    let mut tallies = Vec::new();
    match plan.scenario {
        Scenario::Connect | Scenario::Handshake => {
            all(clients, || connect_again_and_again(load.clone())).await?;
        }
        Scenario::Request | Scenario::Download | Scenario::Upload => {
            all(clients, || ask_again_and_again(load.clone())).await?;
        }
        Scenario::Mixed | Scenario::Churn => {
            let short = Load { tally: Rc::default(), ..load.clone() };
            let half = clients.div_ceil(2);
            tokio::try_join!(
                all(half, || ask_again_and_again(load.clone())),
                all(half, || connect_again_and_again(short.clone())),
            )?;
            tallies.push(("connect", short.tally.take()));
        }
        Scenario::Hold => {
            let dialer = &load.dialer;
            let (links, opened) = open(dialer, clients, OPENING_MAX, &load.tally).await;
            seconds = Some(opened.as_secs_f64());
            hold(load, links, plan.duration.unwrap_or_default()).await;
        }
        Scenario::Storm => {
            let dialer = &load.dialer;
            let (links, opened) = open(dialer, clients, clients, &load.tally).await;
            seconds = Some(opened.as_secs_f64());
            hold(load, links, Duration::ZERO).await;
        }
    }
    let seconds = seconds.unwrap_or_else(|| started.elapsed().as_secs_f64());
    let mixed = matches!(plan.scenario, Scenario::Mixed | Scenario::Churn);
    let kind = if mixed { "request" } else { "all" };
    tallies.push((kind, load.tally.take()));
    Ok((seconds, tallies))
}

/// Says how far it is; never ends by itself.
async fn watch(load: &Load, progress: &Progress) -> anyhow::Result<Done> {
    let started = Instant::now();
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        if progress.is_shown() {
            let (done, failed) = {
                let tally = load.tally.borrow();
                (tally.operations(), tally.failures())
            };
            let seconds = started.elapsed().as_secs();
            progress.say(&format!("{seconds} s: {done} done, {failed} failed"));
        }
    }
}

async fn all<F>(clients: usize, client: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + 'static,
{
    let mut running = JoinSet::new();
    for _ in 0..clients {
        running.spawn_local(client());
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

async fn connect_again_and_again(load: Load) -> anyhow::Result<()> {
    let alarm = Alarm::new()?;
    while let Some(due) = load.arrivals.next(&alarm).await {
        let dialed = load.dialer.dial().await;
        let latency = due.elapsed();
        let closed = match dialed {
            Ok(link) => load.dialer.close(link).await,
            Err(failure) => Err(failure),
        };
        load.count(closed, latency, 0);
    }
    Ok(())
}

async fn ask_again_and_again(load: Load) -> anyhow::Result<()> {
    let alarm = Alarm::new()?;
    let mut link: Option<Link> = None;
    while let Some(due) = load.arrivals.next(&alarm).await {
        let asked = load.ask(&mut link).await;
        if asked.is_err() {
            link = None;
        }
        load.count(asked, due.elapsed(), load.exchange.up + load.exchange.down);
    }
    if let Some(Err(failure)) = match link {
        Some(link) => Some(load.dialer.close(link).await),
        None => None,
    } {
        load.tally.borrow_mut().failed(failure.0);
    }
    Ok(())
}

impl Load {
    async fn ask(&self, link: &mut Option<Link>) -> Result<(), Failure> {
        let link = match link {
            Some(link) => link,
            None => link.insert(self.dialer.dial().await?),
        };
        self.dialer.exchange(link, self.exchange).await
    }

    fn count(&self, outcome: Result<(), Failure>, latency: Duration, bytes: u64) {
        let mut tally = self.tally.borrow_mut();
        match outcome {
            Ok(()) => tally.good(latency, bytes),
            Err(failure) => tally.failed(failure.0),
        }
    }
}

/// Opens `count` connections, `at_once` of them at the same time; those that could be opened, and
/// how long it took for all.
pub async fn open(
    dialer: &Rc<Dialer>,
    count: usize,
    at_once: usize,
    tally: &Rc<RefCell<Tally>>,
) -> (Vec<Link>, Duration) {
    let turns = Rc::new(Semaphore::new(at_once));
    let started = Instant::now();
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let (turns, dialer, tally) = (turns.clone(), dialer.clone(), tally.clone());
        opening.spawn_local(async move {
            let _turn = turns.acquire().await;
            let begun = Instant::now();
            let dialed = dialer.dial().await;
            let mut tally = tally.borrow_mut();
            match dialed {
                Ok(link) => {
                    tally.good(begun.elapsed(), 0);
                    Some(link)
                }
                Err(failure) => {
                    tally.failed(failure.0);
                    None
                }
            }
        });
    }
    let mut links = Vec::with_capacity(count);
    while let Some(opened) = opening.join_next().await {
        links.extend(opened.ok().flatten());
    }
    (links, started.elapsed())
}

/// Leaves the connections alone for a while, then asks each whether it still carries bytes.
async fn hold(load: &Load, links: Vec<Link>, duration: Duration) {
    tokio::time::sleep(duration).await;
    let mut closing = JoinSet::new();
    for mut link in links {
        let load = load.clone();
        closing.spawn_local(async move {
            let asked = load.dialer.exchange(&mut link, load.exchange).await;
            let closed = match asked {
                Ok(()) => load.dialer.close(link).await,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = closed {
                load.tally.borrow_mut().failed(format!("after being held: {failure}"));
            }
        });
    }
    while closing.join_next().await.is_some() {}
}

fn exchange_of(plan: &Plan) -> Exchange {
    let (small, size) = (HEAD_BYTES as u64, plan.size());
    match plan.scenario {
        Scenario::Download => Exchange { up: small, down: size },
        Scenario::Upload => Exchange { up: size, down: small },
        Scenario::Hold | Scenario::Storm => Exchange { up: small, down: small },
        _ => Exchange { up: size, down: size },
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, thread};

    use super::*;
    use crate::bench::{Mode, material::Material, serve::Pods};

    fn pods(tls: Option<&Material>) -> SocketAddr {
        let tls = tls.map(|material| material.pod().unwrap());
        let pods = Pods::bind(&["127.0.0.1:0".parse().unwrap()], tls).unwrap();
        let address = pods.addresses().unwrap()[0];
        thread::spawn(move || pods.run());
        address
    }

    fn plan(target: SocketAddr, scenario: Scenario) -> Plan {
        let name = "outbound_.8080_._.bar.ns2.global".to_owned();
        let plan = Plan::new(target, vec![name], scenario);
        Plan { count: Some(40), concurrency: 8, ..plan }
    }

    fn check(plan: &Plan) -> Report {
        let report = run(plan, &Progress::quiet()).unwrap();
        assert_eq!(report.totals.errors, std::collections::BTreeMap::new(), "{plan:?}");
        report
    }

    #[test]
    fn every_scenario_reaches_pods_in_clear() {
        let target = pods(None);
        for scenario in [Scenario::Connect, Scenario::Request, Scenario::Mixed] {
            assert_eq!(check(&plan(target, scenario)).totals.operations, 40, "{scenario:?}");
        }
        for scenario in [Scenario::Download, Scenario::Upload] {
            let report = check(&Plan { size: Some(300_000), ..plan(target, scenario) });
            assert_eq!(report.totals.bytes, 40 * 300_016, "{scenario:?}");
        }
        for scenario in [Scenario::Hold, Scenario::Storm] {
            let report = check(&Plan { mode: Mode::Opaque, ..plan(target, scenario) });
            assert_eq!(report.totals.operations, 8, "{scenario:?}: one for each client");
        }
    }

    #[test]
    fn every_scenario_reaches_pods_in_mutual_tls() {
        let dir = tempfile::tempdir().unwrap();
        let target = pods(Some(&Material::open(dir.path()).unwrap()));
        for scenario in [Scenario::Handshake, Scenario::Request, Scenario::Storm] {
            let certs = Some(dir.path().to_owned());
            check(&Plan { mode: Mode::Mutual, certs, ..plan(target, scenario) });
        }
        let strangers = tempfile::tempdir().unwrap();
        let certs = Some(strangers.path().to_owned());
        let plan = Plan { certs, ..plan(target, Scenario::Handshake) };
        let said = run(&plan, &Progress::quiet()).unwrap_err().to_string();
        assert!(said.contains("no root-cert.pem in") && said.contains("bench serve"), "{said}");
        assert_eq!(strangers.path().read_dir().unwrap().count(), 0, "none is made there");
        Material::open(strangers.path()).unwrap();
        let totals = run(&plan, &Progress::quiet()).unwrap().totals;
        assert_eq!((totals.operations, totals.failures()), (0, 40), "{:?}", totals.errors);
    }

    #[test]
    fn many_sources_are_used_and_a_closed_door_is_counted() {
        let target = pods(None);
        let sources = crate::bench::plan::parse_sources("127.9.0.0/28").unwrap();
        check(&Plan { sources, ..plan(target, Scenario::Connect) });
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let report = run(&plan(gone, Scenario::Connect), &Progress::quiet()).unwrap();
        assert_eq!(report.totals.errors["connect: connection refused"], 40);
    }

    /// Pods that accept nothing for a while: an open loop charges that to everything that was due
    /// meanwhile, not only to the few operations that were on their way.
    #[test]
    fn a_stall_is_charged_to_everything_that_was_due() {
        let pods = Pods::bind(&["127.0.0.1:0".parse().unwrap()], None).unwrap();
        let target = pods.addresses().unwrap()[0];
        thread::spawn(move || {
            let until = Instant::now() + Duration::from_millis(300);
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                thread::park_timeout(left);
            }
            pods.run()
        });
        let plan = Plan { rate: Some(1000.0), count: Some(100), ..plan(target, Scenario::Connect) };
        let latency = check(&plan).totals.latency_us.unwrap();
        assert!(latency.p50 >= 150_000.0, "{latency:?}");
    }
}
