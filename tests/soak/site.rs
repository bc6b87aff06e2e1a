//! The gateway as a process, its pods, the files that change under it, and what it says of itself.
//! Must not know: what connections do.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use super::{
    eventually,
    ledger::Ledger,
    mesh::{Files, Service, gateway},
    play,
    process::Process,
    script::Choices,
};

const PODS: usize = 4;
/// Between two changes, at most; half of it on average.
const PAUSE_MAX: Duration = Duration::from_millis(160);
/// The process stands still for so long at most, as on a machine that others use too.
const STANDSTILL_MAX: Duration = Duration::from_millis(600);
/// A pod that resets joins so seldom that its three failures until it is ejected stay within what
/// may be replayed.
const RESETTING_EVERY: Duration = Duration::from_secs(4);

pub struct Site {
    process: Process,
    files: Arc<Files>,
    pods: Pods,
    /// Bound and not listened on, so that nobody else gets the port.
    _closed: Socket,
}

#[derive(Clone)]
struct Pods {
    good: Vec<SocketAddr>,
    /// Refuses.
    closed: SocketAddr,
    /// Accepts, then resets.
    resetting: SocketAddr,
}

/// What a process holds when it has nothing to do.
#[derive(Clone, Debug)]
pub struct Rest {
    /// Descriptors, without those of pipes: how many of these are pooled is the gateway's business.
    files: usize,
    threads: usize,
    resident: u64,
}

impl Site {
    /// Starts all of it; the pods run on this thread's runtime.
    pub async fn start(seed: u64, ledger: &Rc<Ledger>) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let mut good = Vec::new();
        for _ in 0..PODS {
            let listener = bind().await.expect("bind");
            good.push(listener.local_addr().expect("address"));
            play::serve(listener, seed, Rc::clone(ledger));
        }
        let resetting = bind().await.expect("bind");
        let closed = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind");
        let pods = Pods {
            good,
            closed: closed.local_addr().expect("address").as_socket().expect("IPv4"),
            resetting: resetting.local_addr().expect("address"),
        };
        play::reset_all(resetting);
        let files = Files::with(&[
            ("gateway.yaml", &gateway(&["*.global"])[..]),
            ("steady.yaml", &Service::new("steady", &pods.good).yaml()),
            ("mixed.yaml", &Service::new("mixed", &pods.good).yaml()),
            ("empty.yaml", &Service::new("empty", &[]).yaml()),
        ]);
        // A test that is starved by others must not look like an endpoint that is silent.
        let patient = ["first_flight.server_hello_timeout=0s", "sniff.timeout=30s"];
        let quiet = ["access_log.path=/dev/null", "log.level=error,diolkos::app=info"];
        let process = Process::start(files.path(), &[&patient[..], &quiet].concat());
        Self { process, files: Arc::new(files), pods, _closed: closed }
    }

    pub fn address(&self) -> SocketAddr {
        self.process.address
    }

    /// From now on one thing or another changes, several times a second.
    pub fn change(&self, seed: u64) -> Changes {
        let (files, pods) = (Arc::clone(&self.files), self.pods.clone());
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let process = id.expect("a process");
        let changing = Arc::new(AtomicBool::new(true));
        let goes_on = Arc::clone(&changing);
        let thread = thread::spawn(move || {
            let mut writer = Writer {
                choices: Choices::new(seed, u64::MAX),
                files,
                pods,
                process,
                resets: false,
                reset_last: Instant::now(),
            };
            let mut changes = 0;
            while goes_on.load(Ordering::Relaxed) {
                writer.change();
                changes += 1;
                thread::park_timeout(writer.some_time(PAUSE_MAX));
            }
            changes
        });
        Changes { changing, thread }
    }

    /// What it holds now, once it has nothing to do.
    pub fn at_rest(&self) -> Rest {
        self.waits_for_nothing();
        let look = || {
            let resident = format!("/proc/{}/smaps_rollup", self.process.id());
            let resident = fs::read_to_string(resident).expect("its memory");
            let line = resident.lines().find(|line| line.starts_with("Rss:")).expect("its RSS");
            let kib = line.split_whitespace().nth(1).and_then(|n| n.parse().ok());
            Rest {
                files: self.files_open(),
                threads: self.count("task"),
                resident: kib.map(|kib: u64| kib << 10).expect("a number"),
            }
        };
        // The last scrape's connection may not be closed yet.
        eventually("it does not change", || {
            let before = look();
            thread::park_timeout(Duration::from_millis(50));
            let after = look();
            (before.files == after.files).then_some(after)
        })
    }

    /// Fails unless it holds what it held before.
    pub fn is_at_rest_as(&self, before: &Rest, resident_more: u64) {
        self.waits_for_nothing();
        let rest = eventually("descriptors and threads are those of before", || {
            let rest = self.at_rest();
            ((rest.files, rest.threads) == (before.files, before.threads)).then_some(rest)
        });
        println!("at rest again: {rest:?}");
        assert!(
            rest.resident <= before.resident + resident_more,
            "{} bytes resident, {} before",
            rest.resident,
            before.resident
        );
    }

    /// What it counted is what happened.
    pub fn settle_accounts(&self, ledger: &Ledger) {
        self.waits_for_nothing();
        let scrape = Scrape(self.process.get("admin", "/stats/prometheus").body);
        let ended = scrape.by_label("diolkos_connections_total", "outcome");
        assert_eq!(ended, ledger.ended(), "how connections ended");
        let accepted = scrape.sum("diolkos_accepted_total");
        assert_eq!(accepted, ended.values().sum::<u64>(), "accepted = refused + routed");
        assert_eq!(accepted, ledger.begun());
        let relayed = ["ok", "client_rst", "endpoint_rst"];
        let relayed: u64 = relayed.iter().filter_map(|outcome| ended.get(*outcome)).sum();
        for name in ["opened", "closed"] {
            let counted = scrape.sum(&format!("istio_tcp_connections_{name}_total"));
            assert_eq!(counted, relayed, "{name}");
        }
        for (name, owed) in [("received", ledger.received()), ("sent", ledger.sent())] {
            let bytes = scrape.sum(&format!("istio_tcp_{name}_bytes_total"));
            assert!(owed.contains(&bytes), "{name}: {bytes} bytes, and {owed:?} were");
        }
        assert_eq!(scrape.sum("diolkos_panics_total"), 0);
    }

    fn waits_for_nothing(&self) {
        eventually("no connection is left", || {
            let active = self.process.sample("diolkos_connections_active");
            (active == Some(0.0)).then_some(())
        });
    }

    fn count(&self, what: &str) -> usize {
        let dir = format!("/proc/{}/{what}", self.process.id());
        fs::read_dir(dir).expect("a process of ours").count()
    }

    fn files_open(&self) -> usize {
        let dir = format!("/proc/{}/fd", self.process.id());
        let links = fs::read_dir(dir).expect("a process of ours").flatten();
        let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        targets.filter(|target| !target.to_string_lossy().starts_with("pipe:")).count()
    }
}

/// Says what the gateway knows of its failures, for whoever reads of a failed test.
impl Drop for Site {
    fn drop(&mut self) {
        if thread::panicking() {
            let scrape = self.process.get("admin", "/stats/prometheus").body;
            let ours = scrape.lines().filter(|line| line.starts_with("diolkos_"));
            let counted = ours.filter(|line| !line.ends_with(" 0") && !line.contains("manifest"));
            eprintln!("{}", counted.collect::<Vec<_>>().join("\n"));
            let failed = self.process.json("/connections?failed");
            let failed = failed["failed"].as_array().into_iter().flatten();
            let tried = failed.filter(|line| !line["last_error"].is_null());
            tried.take(10).for_each(|line| eprintln!("{line}"));
        }
    }
}

/// What goes on changing until it is told to stop.
pub struct Changes {
    changing: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Changes {
    /// Ends it, and says how many there were.
    pub fn stop(self) -> u64 {
        self.changing.store(false, Ordering::Relaxed);
        self.thread.join().expect("it changes files")
    }
}

struct Writer {
    choices: Choices,
    files: Arc<Files>,
    pods: Pods,
    process: Pid,
    /// There is a pod that resets.
    resets: bool,
    reset_last: Instant,
}

impl Writer {
    fn change(&mut self) {
        // Whoever waits meanwhile is dialled for at once then, and with a pod that resets that
        // would be more than may be replayed.
        if !self.resets && self.choices.below(60) == 0 {
            self.stand_still();
        }
        match self.choices.below(12) {
            0..=2 => {
                let pods = self.some_good();
                self.write("steady", &pods);
            }
            3..=6 => {
                let mut pods = self.some_good();
                if self.choices.percent(40) {
                    pods.push(self.pods.closed);
                }
                self.resets = self.reset_last.elapsed() > RESETTING_EVERY;
                if self.resets {
                    self.reset_last = Instant::now();
                    pods.push(self.pods.resetting);
                }
                self.write("mixed", &pods);
            }
            7..=8 => {
                let pods = self.some_good();
                self.write("comes", &pods);
            }
            // It may not be there.
            9 => drop(fs::remove_file(self.files.at("comes.yaml"))),
            10 => {
                let name = if self.choices.percent(50) { "steady" } else { "mixed" };
                let text = fs::read_to_string(self.files.at(&format!("{name}.yaml")));
                let text = text.expect("a manifest");
                let broken = text.replacen("ports:", "ports: [", 1);
                self.files.write(&format!("{name}.yaml"), &broken);
            }
            _ => {
                let hosts = ["*.global", "one.more.example"];
                let hosts = if self.choices.percent(50) { &hosts[..] } else { &hosts[..1] };
                self.files.write("gateway.yaml", &gateway(hosts));
            }
        }
    }

    fn stand_still(&mut self) {
        kill_process(self.process, Signal::STOP).expect("a process of ours");
        thread::park_timeout(self.some_time(STANDSTILL_MAX));
        kill_process(self.process, Signal::CONT).expect("a process of ours");
    }

    fn some_time(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.choices.below(most.as_millis().try_into().expect("short")))
    }

    /// At least one.
    fn some_good(&mut self) -> Vec<SocketAddr> {
        let always = usize::try_from(self.choices.below(PODS as u64)).expect("small");
        let good = self.pods.good.clone().into_iter().enumerate();
        good.filter(|(n, _)| *n == always || self.choices.percent(60)).map(|(_, pod)| pod).collect()
    }

    fn write(&self, name: &str, pods: &[SocketAddr]) {
        self.files.write(&format!("{name}.yaml"), &Service::new(name, pods).yaml());
    }
}

/// What the gateway says when it is scraped.
struct Scrape(String);

impl Scrape {
    /// The samples of a metric: labels as they stand there, and value.
    fn samples(&self, name: &str) -> Vec<(&str, u64)> {
        let line = |line: &'_ str| -> Option<(usize, usize, u64)> {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            if !(labels.is_empty() || labels.starts_with('{')) {
                return None;
            }
            let value: f64 = value.parse().expect("a number");
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
            Some((name.len(), name.len() + labels.len(), value as u64))
        };
        let found = self.0.lines().filter_map(|text| line(text).map(|found| (text, found)));
        found.map(|(text, (begin, end, value))| (&text[begin..end], value)).collect()
    }

    fn sum(&self, name: &str) -> u64 {
        let samples = self.samples(name);
        samples.iter().map(|(_, value)| value).sum()
    }

    /// Those above 0, by the value of one label.
    fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let value_of = |labels: &str| {
            let (_, rest) = labels.split_once(&format!("{label}=\""))?;
            Some(rest.split('"').next()?.to_owned())
        };
        let samples = self.samples(name).into_iter().filter(|(_, value)| *value > 0);
        samples.map(|(labels, value)| (value_of(labels).expect("its label"), value)).collect()
    }
}
