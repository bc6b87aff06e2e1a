//! `diolkos check --against`: whether an Envoy and this gateway would do the same. Must not know:
//! what is compared.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use anyhow::Context as _;

use crate::{
    app::offline::Loaded,
    cli::{
        CheckArgs, NothingCompared, Output, UsageError,
        shown::{line, lines},
    },
    config::{Settings, Sources},
    manifests::Severity,
    parity::{DUMP_BYTES_MAX, Dump, Report},
    telemetry::stdout,
};

pub(super) fn run(args: &CheckArgs, dump: &Path) -> anyhow::Result<bool> {
    let settings = Settings::load(&args.sources(Sources::of_this_process())?)?;
    if settings.manifests.directories.is_empty() && !settings.manifests.kubernetes.enabled {
        let text = "--against: give --manifests DIR or --kubernetes, whose objects are compared";
        return Err(UsageError(text.to_owned()).into());
    }
    let (dump, loaded) = both(dump, &settings).context(NothingCompared)?;
    let report = loaded.compare(&settings, &dump);
    let mut out = stdout();
    match args.output.unwrap_or(Output::Text) {
        Output::Text => write!(out, "{}", lines(&report))?,
        Output::Json => json(&mut out, &report)?,
    }
    for problem in loaded.problems().iter().filter(|p| p.severity != Severity::Note) {
        writeln!(io::stderr(), "{}", line(problem))?;
    }
    Ok(report.is_equal() && !loaded.is_broken())
}

/// What is to be held against each other.
fn both(dump: &Path, settings: &Settings) -> anyhow::Result<(Dump, Loaded)> {
    let what = || format!("--against {}", line(dump.display()));
    let bytes = read(dump).with_context(what)?;
    // Its error has names of another program's.
    let dump = Dump::read(&bytes).map_err(|error| anyhow::anyhow!("{}", line(&error)));
    let dump = dump.with_context(what)?;
    drop(bytes);
    Ok((dump, Loaded::read(settings)?))
}

fn json(out: &mut impl Write, report: &Report) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Reads a file, or standard input for `-`; one byte more than is taken shows that it is too long.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let most = DUMP_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
