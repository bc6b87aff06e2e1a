//! `diolkos check`: what is exposed, what is left out, every problem. Must not know: how it is
//! found.

use std::io::Write;

mod against;
mod clusters;

use super::{
    CheckArgs,
    shown::{line, lines},
};
use crate::{
    app::offline::Loaded,
    config::{DEFAULTS, Settings, Sources},
    telemetry::stdout,
};

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<bool> {
    let mut out = stdout();
    if args.print_defaults {
        out.write_all(DEFAULTS.as_bytes())?;
        return Ok(true);
    }
    if !args.cluster.is_empty() {
        return clusters::run(args);
    }
    if let Some(dump) = &args.against {
        return against::run(args, dump);
    }
    let settings = Settings::load(&args.sources(Sources::of_this_process())?)?;
    writeln!(out, "# settings in force")?;
    out.write_all(settings.to_yaml().as_bytes())?;
    let loaded = Loaded::read(&settings)?;
    writeln!(out, "\n# manifests")?;
    write!(out, "{}", lines(loaded.report()))?;
    for remark in loaded.remarks() {
        writeln!(out, "  {}", line(remark))?;
    }
    let problems = loaded.problems();
    writeln!(out, "{} problems", problems.len())?;
    for problem in &problems {
        writeln!(out, "  {}", line(problem))?;
    }
    Ok(!loaded.is_broken())
}
