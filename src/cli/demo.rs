//! `diolkos demo`: the story, with a gateway of this process in it. Must not know: the story.

use std::{net::SocketAddr, path::Path};

use tokio::sync::mpsc;

use super::DemoArgs;
use crate::{
    app,
    config::{Override, Settings, Sources},
    demo::{self, Act, RunningGateway, scenes::Scene},
};

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<bool> {
    let scene = args.scene;
    let story =
        demo::DemoArgs { once: args.once, scene, listen: args.listen, keep: args.keep.clone() };
    demo::run(&story, start_gateway)
}

/// A name for `--scene`.
pub(super) fn act(text: &str) -> Result<Act, String> {
    if text == "gateway" {
        return Ok(Act::Gateway);
    }
    let scene = Scene::ALL.into_iter().find(|scene| scene.name() == text);
    scene.map(Act::Clusters).ok_or_else(|| {
        let names: Vec<_> = Scene::ALL.iter().map(|scene| scene.name()).collect();
        format!("there are: gateway, {}", names.join(", "))
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
