//! What a load test is to do. Must not know: how it is done.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use super::exchange::HEAD_BYTES;

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// New connections: hello, 100 bytes back, both ends closed.
    Connect,
    /// As connect, with a full mutual-TLS handshake.
    Handshake,
    /// A request and its answer, over and over on open connections.
    Request,
    /// Large answers.
    Download,
    /// Large requests.
    Upload,
    /// Connections that are opened and then do nothing.
    Hold,
    /// All clients at once, until every one is established.
    Storm,
    /// Half the clients make requests on open connections, half open new ones.
    Mixed,
    /// The same while routes and endpoints change.
    Churn,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A real ClientHello, then plain bytes: the gateway's own cost dominates.
    Opaque,
    /// Mutual TLS from end to end.
    Mutual,
}

/// More clients than this are no load test any more: there are 28,232 ports to each of its sources.
const CONCURRENCY_MAX: usize = 100_000;
/// 1 TiB.
const SIZE_MAX: u64 = 1 << 40;
/// Times each second.
const RATES: RangeInclusive<f64> = 0.001..=1e9;

/// A load test.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The gateway.
    pub target: SocketAddr,
    /// Server names, used in turn; at least one.
    pub names: Vec<String>,
    /// What to do.
    pub scenario: Scenario,
    /// What to speak.
    pub mode: Mode,
    /// Where the certificates of [`Mode::Mutual`] are.
    pub certs: Option<PathBuf>,
    /// Clients at the same time.
    pub concurrency: usize,
    /// Operations begun each second, whether or not earlier ones are done; `None`: each client
    /// begins the next when the last is done.
    pub rate: Option<f64>,
    /// No operation begins after this.
    pub duration: Option<Duration>,
    /// No more operations than this.
    pub count: Option<u64>,
    /// Bytes of a request and of its answer; for a download the answer only, for an upload the
    /// request only.
    pub size: Option<u64>,
    /// Addresses to connect from, used in turn; empty: as the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// An operation that takes longer has failed.
    pub timeout: Duration,
}

impl Plan {
    /// A plan with the defaults of its scenario.
    #[must_use]
    pub fn new(target: SocketAddr, names: Vec<String>, scenario: Scenario) -> Self {
        let concurrency = match scenario {
            Scenario::Connect | Scenario::Handshake | Scenario::Mixed | Scenario::Churn => 64,
            Scenario::Request => 32,
            Scenario::Download | Scenario::Upload => 8,
            Scenario::Hold | Scenario::Storm => 1_000,
        };
        let mutual = matches!(scenario, Scenario::Handshake | Scenario::Storm);
        Self {
            target,
            names,
            scenario,
            mode: if mutual { Mode::Mutual } else { Mode::Opaque },
            certs: None,
            concurrency,
            rate: None,
            duration: None,
            count: None,
            size: None,
            sources: Vec::new(),
            timeout: Duration::from_secs(30),
        }
    }

    /// Clients that there are: not more than there are operations for.
    #[must_use]
    pub fn clients(&self) -> usize {
        let count = self.count.and_then(|count| usize::try_from(count).ok());
        self.concurrency.min(count.unwrap_or(usize::MAX))
    }

    /// The size that counts: given, or that of the scenario.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size.unwrap_or(match self.scenario {
            Scenario::Download | Scenario::Upload => 16 << 20,
            _ => 64,
        })
    }

    /// Fails when the plan cannot be followed, saying what to change.
    ///
    /// # Errors
    /// Naming the option and what to do.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.names.is_empty(), "a server name is needed: --sni NAME");
        let clients = self.concurrency;
        ensure!(
            (1..=CONCURRENCY_MAX).contains(&clients),
            "--concurrency {clients}: give 1 to {CONCURRENCY_MAX}"
        );
        ensure!(self.count != Some(0), "--count 0 would do nothing; give at least 1");
        ensure!(self.duration != Some(Duration::ZERO), "--duration 0s would do nothing");
        ensure!(!self.timeout.is_zero(), "--timeout 0s: every operation would have failed");
        if let Some(rate) = self.rate {
            check_rate(rate).context("--rate")?;
        }
        let (size, head) = (self.size(), HEAD_BYTES as u64);
        ensure!(
            (head..=SIZE_MAX).contains(&size),
            "--size {size}: give {head} to {SIZE_MAX}; a request says its lengths"
        );
        if self.scenario == Scenario::Handshake && self.mode == Mode::Opaque {
            bail!("handshake needs --mode mutual; connect is what it is called without TLS");
        }
        if self.mode == Mode::Mutual && self.certs.is_none() {
            bail!("--mode mutual needs --certs DIR, the directory that `bench serve` was given");
        }
        let at_once = matches!(self.scenario, Scenario::Hold | Scenario::Storm);
        ensure!(!(at_once && self.rate.is_some()), "--rate does not apply to hold and storm");
        ensure!(
            at_once || self.duration.is_some() || self.count.is_some(),
            "without --duration or --count it would never end"
        );
        let v4 = self.target.is_ipv4();
        if let Some(source) = self.sources.iter().find(|source| source.is_ipv4() != v4) {
            bail!("--source {source} cannot reach --target {}: IPv4 and IPv6", self.target);
        }
        Ok(())
    }
}

/// Times each second, as a number.
///
/// # Errors
/// When it is none, or not one to work by.
pub fn parse_rate(text: &str) -> anyhow::Result<f64> {
    let rate = text.parse().with_context(|| format!("{text:?} is no number"))?;
    check_rate(rate)?;
    Ok(rate)
}

fn check_rate(rate: f64) -> anyhow::Result<()> {
    let (least, most) = (RATES.start(), RATES.end());
    ensure!(RATES.contains(&rate), "{rate} each second: give {least} to {most}");
    Ok(())
}

/// Addresses written as one (`127.0.0.1`), or as an IPv4 block (`127.0.0.0/24`) without its first
/// and last.
///
/// # Errors
/// When it is neither, or holds more than 65,536 addresses.
pub fn parse_sources(text: &str) -> anyhow::Result<Vec<IpAddr>> {
    let Some((base, bits)) = text.split_once('/') else {
        let address = text.parse().with_context(|| format!("{text:?} is no IP address"))?;
        return Ok(vec![address]);
    };
    let block = || format!("{text:?} is no block of IPv4 addresses such as 127.0.0.0/24");
    let base: std::net::Ipv4Addr = base.parse().with_context(block)?;
    let bits: u32 = bits.parse().with_context(block)?;
    ensure!((16..=32).contains(&bits), "{text:?}: a block has /16 to /32");
    let size = 1u32 << (32 - bits);
    let first = u32::from(base) & !(size - 1);
    let inner = if size > 2 { 1..size - 1 } else { 0..size };
    Ok(inner.map(|i| std::net::Ipv4Addr::from(first + i).into()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let target = "127.0.0.1:1".parse().unwrap();
        Plan { count: Some(1), ..Plan::new(target, vec!["a".into()], Scenario::Connect) }
    }

    #[test]
    fn a_plan_that_cannot_be_followed_says_why() {
        plan().check().unwrap();
        let check = |plan: Plan, word: &str| {
            let said = format!("{:#}", plan.check().unwrap_err());
            assert!(said.contains(word), "{said}");
        };
        check(Plan { names: vec![], ..plan() }, "--sni");
        check(Plan { concurrency: 0, ..plan() }, "--concurrency");
        check(Plan { concurrency: 100_001, ..plan() }, "--concurrency");
        check(Plan { count: Some(0), ..plan() }, "--count");
        check(Plan { duration: Some(Duration::ZERO), ..plan() }, "--duration");
        check(Plan { timeout: Duration::ZERO, ..plan() }, "--timeout");
        for rate in [0.0, -1.0, 1e-300, f64::NAN, f64::INFINITY] {
            check(Plan { rate: Some(rate), ..plan() }, "--rate");
        }
        for size in [0, 15, u64::MAX] {
            check(Plan { size: Some(size), ..plan() }, "--size");
        }
        check(Plan { sources: vec!["::1".parse().unwrap()], ..plan() }, "--source ::1");
        check(Plan { count: None, ..plan() }, "--duration");
        check(Plan { mode: Mode::Mutual, ..plan() }, "--certs");
        check(Plan { scenario: Scenario::Handshake, ..plan() }, "connect");
        check(Plan { scenario: Scenario::Storm, rate: Some(1.0), ..plan() }, "storm");
    }

    #[test]
    fn there_are_no_more_clients_than_operations() {
        let clients = |count| Plan { count, concurrency: 64, ..plan() }.clients();
        assert_eq!([None, Some(3), Some(64), Some(u64::MAX)].map(clients), [64, 3, 64, 64]);
    }

    #[test]
    fn a_block_of_sources_is_its_hosts() {
        let sources = parse_sources("127.0.0.7/29").unwrap();
        let ends = [sources[0], sources[5]].map(|a| a.to_string());
        assert_eq!((sources.len(), ends), (6, ["127.0.0.1", "127.0.0.6"].map(String::from)));
        assert_eq!(parse_sources("::1").unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
        for wrong in ["", "x", "127.0.0.0/8", "127.0.0.0/33", "::1/64"] {
            assert!(parse_sources(wrong).is_err(), "{wrong}");
        }
    }
}
