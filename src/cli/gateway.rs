//! `diolkos gateway`: serve until told to stop. Must not know: what is started.

use super::GatewayArgs;
use crate::{
    app,
    config::{Settings, Sources},
    telemetry,
};

pub(super) fn run(args: &GatewayArgs) -> anyhow::Result<bool> {
    let sources = args.sources(Sources::of_this_process())?;
    let settings = Settings::load(&sources)?;
    let level = telemetry::start(settings.log.format, &settings.log.level)?;
    let early = app::listen_while_loading()?;
    let start = app::Start { settings, sources, level: Some(level), lines: None };
    app::start(start)?.run(early)?;
    Ok(true)
}
