//! Clusters on loopback, joined only by their gateways, and calls between them, for people to watch.
//!
//! ```text
//!  cluster 1                                    cluster 2
//!  client -> 127.255.0.2:8080                   127.2.0.1:15443
//!            its sidecar ───── mutual TLS ─────▶ gateway ─────▶ the pod's sidecar ─▶ application
//!            DNS, export, egress gateway        cluster 3: the same once more
//! ```
//!
//! Each part of diolkos is a process of its own, started by a command line that anybody could type;
//! `--keep` leaves those lines, the manifests, certificates and logs. The first story,
//! [`one_gateway`], needs no more than a gateway; [`against`] has Envoy beside us. Must not know:
//! how any part does its work.

use std::{
    fs::DirBuilder,
    io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::{runtime::Runtime, time::timeout};

pub mod against;
pub mod application;
pub mod caller;
pub mod one_gateway;
pub mod places;
pub mod print;
pub mod probe;
pub mod process;
pub mod rival;
pub mod scenes;
pub mod witness;
pub mod world;

use crate::bench::stop::Stop;
use print::{Printer, Style, shell_word};
use scenes::Scene;
use world::World;

pub use one_gateway::RunningGateway;

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct DemoArgs {
    /// Return after the scenes instead of running on.
    pub once: bool,
    /// Only this one; `None`: all.
    pub scene: Option<Act>,
    /// Where the gateway of [`one_gateway`] listens.
    pub listen: SocketAddr,
    /// Leave everything here, instead of in a temporary directory.
    pub keep: Option<PathBuf>,
}

/// What can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Calls straight to one gateway: [`one_gateway`].
    Gateway,
    /// A scene between clusters.
    Clusters(Scene),
    /// A scene of two columns: [`against`].
    Against(against::Scene),
}

/// A scene may take this long: the demo never hangs.
const SCENE_TIMEOUT: Duration = Duration::from_secs(60);

/// Plays on standard output. True when everything went as it should.
///
/// # Errors
/// What kept a part from coming up.
pub fn run(
    args: &DemoArgs,
    start_gateway: impl FnOnce(&Path, SocketAddr) -> anyhow::Result<RunningGateway>,
) -> anyhow::Result<bool> {
    let mut printer = Printer::stdout();
    let mut good = true;
    // Said before anything is played.
    let kept = args.keep.as_deref().map(Place::keep).transpose()?;
    if args.scene != Some(Act::Gateway) {
        world::addresses_are_free()?;
    }
    let (runtime, mut stop) = runtime()?;
    if matches!(args.scene, None | Some(Act::Gateway)) {
        let alone = one_gateway::DemoArgs {
            once: args.once || args.scene.is_none(),
            listen: args.listen,
            keep: args.keep.as_ref().map(|dir| dir.join("one-gateway")),
        };
        title(&mut printer, "gateway", "one gateway: what it lets through and what it refuses")?;
        let Some(played) = one_gateway::run(&alone, start_gateway, stop.told())? else {
            return Ok(false);
        };
        good &= played;
    }
    let scenes = match args.scene {
        None => Scene::ALL.to_vec(),
        Some(Act::Clusters(scene)) => vec![scene],
        Some(Act::Gateway | Act::Against(_)) => return Ok(good),
    };
    let place = kept.map_or_else(|| Place::open(None), Ok)?;
    runtime.block_on(async {
        let (clusters, world) = tokio::select! {
            played = clusters(&scenes, place.path(), &mut printer) => played?,
            _ = stop.told() => {
                printer.line("Stopped before all scenes were played.")?;
                return Ok(false);
            }
        };
        if !args.once {
            by_hand(&mut printer, place.path())?;
            stop.told().await;
        }
        drop(world);
        Ok(good & clusters)
    })
}

/// Where the parts run, and what tells it to end: listened to from here to the last line, or a
/// signal between two parts would be nobody's.
fn runtime() -> io::Result<(Runtime, Stop)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stop = {
        let _inside = runtime.enter();
        Stop::listen()?
    };
    Ok((runtime, stop))
}

/// True when all was as it should be, and the world in which it was.
async fn clusters(
    scenes: &[Scene],
    dir: &Path,
    printer: &mut Printer,
) -> anyhow::Result<(bool, World)> {
    let begun = Instant::now();
    let mut world = World::start(dir).await?;
    printer.line("")?;
    printer.fact("clusters", format!("3, up after {:.1} s", begun.elapsed().as_secs_f64()))?;
    printer.fact("files", dir.display())?;
    let mut wrong = 0;
    for scene in scenes {
        title(printer, scene.name(), scene.title())?;
        let played = timeout(SCENE_TIMEOUT, scene.play(&mut world)).await;
        let seen = played.with_context(|| format!("{} was not over in time", scene.name()))??;
        for seen in seen {
            wrong += usize::from(!seen.good);
            printer.verdict(seen.good, &seen.seen)?;
            if !seen.good {
                printer.note(&format!("expected: {}", seen.expected))?;
            }
        }
    }
    match wrong {
        0 => printer.line("\nAll as it should be.")?,
        n => printer.line(&format!("\nWRONG: {n}."))?,
    }
    Ok((wrong == 0, world))
}

fn title(printer: &mut Printer, name: &str, title: &str) -> anyhow::Result<()> {
    let name = printer.paint(Style::Bold, name);
    Ok(printer.line(&format!("\n{name}: {title}"))?)
}

/// What to type into another terminal.
fn by_hand(printer: &mut Printer, dir: &Path) -> anyhow::Result<()> {
    let (dns, bar, http) = (places::DNS, places::BAR_ADDRESS, application::HTTP);
    printer.line("\nBy hand, until Ctrl-C ends this:\n")?;
    printer.line(&format!("dig +short -p {} @{} bar.ns2.global", dns.port(), dns.ip()))?;
    let resolve = format!("--resolve bar.ns2.global:{http}:{bar}");
    printer.line(&format!("curl {resolve} http://bar.ns2.global:{http}/"))?;
    let logs = shell_word(&dir.join("logs").to_string_lossy());
    printer.line(&format!("tail -f {logs}/*\n"))?;
    Ok(())
}

/// Where the files are.
enum Place {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Place {
    fn open(keep: Option<&Path>) -> anyhow::Result<Self> {
        match keep {
            Some(dir) => Self::keep(dir),
            None => TempDir::with_prefix("diolkos-demo-")
                .map(Self::Temporary)
                .context("cannot make a temporary directory; --keep DIR takes one of yours"),
        }
    }

    /// Makes the directory where it is not there, for its owner only: keys go there.
    fn keep(dir: &Path) -> anyhow::Result<Self> {
        let made = std::path::absolute(dir).and_then(|dir| {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            tempfile::tempfile_in(&dir)?;
            Ok(dir)
        });
        let why = || format!("--keep {}: no directory that can be written", dir.display());
        made.map(Self::Kept).with_context(why)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(dir) => dir,
            Self::Temporary(dir) => dir.path(),
        }
    }
}
