//! One gateway of either kind, a process of its own, started as its users start it.
//!
//! Must not know: what happens to it.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use tokio::net::TcpStream;

use super::{
    rolling,
    site::{Service, Site},
};
use crate::demo::{probe, process::Process, witness::Witness, world::is_free};

/// One that is not ready after this does not come up. Five thousand services take Envoy 16 s on a
/// busy machine, and ours 38 s there where it was built without optimisation.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// An Envoy to whose operators' port nobody listens after this does not come up: it opens that one
/// before it reads what it is to serve, however much that is.
pub const LISTEN_TIMEOUT: Duration = Duration::from_secs(20);
const PORT: u16 = 15443;
const READINESS: u16 = 15021;
const ADMIN: u16 = 15000;

/// Whose column it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The left one.
    Envoy,
    /// The right one.
    Ours,
}

impl Side {
    /// An address of this side.
    #[must_use]
    pub fn ip(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 4, if self == Self::Envoy { 1 } else { 2 }, last)
    }

    /// In names of files and processes.
    #[must_use]
    pub fn name(self) -> &'static str {
        if self == Self::Envoy { "envoy" } else { "diolkos" }
    }
}

/// What all scenes share.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Where every file is.
    pub dir: PathBuf,
    /// Envoy's program.
    pub envoy: PathBuf,
    /// How many services the scene about memory has.
    pub services: usize,
}

/// A gateway that accepts connections. Ends when dropped.
#[derive(Debug)]
pub struct Gateway {
    /// Which kind.
    pub side: Side,
    /// Where it accepts.
    pub address: SocketAddr,
    /// Envoy's admin, or our port of readiness.
    pub operators: SocketAddr,
    /// Its access log.
    pub witness: Witness,
    /// The program.
    pub process: Process,
}

impl Stage {
    /// A directory of a scene and side, with these services.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn site(&self, scene: &str, side: Side, services: Vec<Service>) -> io::Result<Site> {
        let dir = self.dir.join(scene).join(side.name());
        fs::create_dir_all(&dir)?;
        Ok(Site { dir, services })
    }

    /// Starts a gateway for the site, at the address `last` of its side, and waits until it is
    /// ready. `more` are further words of its command line.
    ///
    /// # Errors
    /// When it does not come up, with the last words of its log.
    pub async fn start(
        &self,
        side: Side,
        site: &Site,
        last: u8,
        more: &[&str],
    ) -> anyhow::Result<Gateway> {
        let name = format!("{}-{last}", side.name());
        let address = (side.ip(last), PORT).into();
        // Of a run before this one, where files are kept: both append.
        let _ = fs::remove_file(site.log(&name));
        let mut process = match side {
            Side::Envoy => self.envoy(site, &name, address, more)?,
            Side::Ours => ours(site, &name, address, more)?,
        };
        let (port, path) = match side {
            Side::Envoy => (ADMIN, "/ready"),
            Side::Ours => (READINESS, "/healthz/ready"),
        };
        let operators = SocketAddr::new(address.ip(), port);
        if side == Side::Envoy {
            self.listens(&mut process, operators).await?;
        }
        let ready =
            async || probe::ask(operators, "GET", path).await.is_ok_and(|(code, _)| code == 200);
        process.ready(READY_TIMEOUT, ready).await?;
        let witness = Witness::new(site.log(&name));
        Ok(Gateway { side, address, operators, witness, process })
    }

    fn envoy(
        &self,
        site: &Site,
        name: &str,
        listen: SocketAddr,
        more: &[&str],
    ) -> anyhow::Result<Process> {
        let admin = SocketAddr::new(listen.ip(), ADMIN);
        let config = site.write_envoy(name, listen, admin)?;
        self.run_envoy(&site.dir, name, &config, more)
    }

    /// Waits until this Envoy, in any role, listens to its operators.
    ///
    /// # Errors
    /// When it does not in time, with the last words of its log.
    pub async fn listens(&self, envoy: &mut Process, operators: SocketAddr) -> anyhow::Result<()> {
        let listens = async || TcpStream::connect(operators).await.is_ok();
        let why = || format!("{} does not listen on {operators}", self.envoy.display());
        envoy.ready(LISTEN_TIMEOUT, listens).await.with_context(why)
    }

    /// Starts Envoy with this configuration, in any role.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run_envoy(
        &self,
        dir: &Path,
        name: &str,
        config: &serde_json::Value,
        more: &[&str],
    ) -> anyhow::Result<Process> {
        let file = dir.join(format!("{name}.json"));
        fs::write(&file, config.to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut words = vec!["-c", file.to_str().context("a path that is no text")?];
        words.extend(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
        words.extend(["--file-flush-interval-msec", "50"]);
        words.extend(more);
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Process::other(dir, name, &self.envoy, &words)
    }
}

fn ours(site: &Site, name: &str, listen: SocketAddr, more: &[&str]) -> anyhow::Result<Process> {
    site.write_manifests()?;
    let mut words = vec!["gateway".to_owned(), "--manifests".to_owned()];
    words.push(site.manifests().to_string_lossy().into_owned());
    let health = SocketAddr::new(listen.ip(), READINESS);
    words.extend(["--listen".to_owned(), listen.to_string()]);
    words.extend(["--health".to_owned(), health.to_string()]);
    for word in ["--workers", "1", "--admin", "off", "--metrics", "off"].iter().chain(more) {
        words.push((*word).to_owned());
    }
    let log = site.log(name);
    let log = format!("access_log.path={}", log.display());
    for setting in ["agent.listen=off", "access_log.format=json", &log] {
        words.extend(["--set".to_owned(), setting.to_owned()]);
    }
    Process::start(&site.dir, name, &words)
}

/// Looks whether every address that a gateway may take is free.
///
/// # Errors
/// Names the first that is not.
pub fn addresses_are_free() -> anyhow::Result<()> {
    for side in [Side::Envoy, Side::Ours] {
        let gateways = (1..=4).flat_map(|last| [PORT, READINESS, ADMIN].map(|port| (last, port)));
        for (last, port) in gateways.chain(rolling::ADDRESSES) {
            is_free((side.ip(last), port).into())?;
        }
    }
    Ok(())
}
