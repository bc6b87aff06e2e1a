//! `diolkos bench faults`: its arguments, and where its results go. Must not know: how anything is
//! measured.

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::{
    bench::{
        compare::Peer,
        faults::{self, Faults, table},
        progress::Progress,
    },
    telemetry::stdout,
};

#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(super) struct FaultsArgs {
    /// Goals by name, such as G5; without it all.
    #[arg(long, value_name = "GOAL", value_delimiter = ',', value_parser = goal)]
    only: Vec<String>,
    /// Rivals that are put through the same; `--peers ''` for none.
    #[arg(
        long,
        value_name = "PEER",
        value_delimiter = ',',
        value_parser = rival,
        default_values = ["haproxy", "nginx", "envoy"]
    )]
    peers: Vec<Option<Peer>>,
    /// Fewer and shorter: minutes, not hours.
    #[arg(long)]
    quick: bool,
    /// Write what was measured to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn help() -> String {
    format!(
        "\
Each goal: what is done to a gateway, the figure that it is to reach, and what diolkos and its
rivals make of it, each measured in this run; where nothing was measured the reason stands there.
Gateways are started as programs, alone on the last core; rivals are configured as in `compare`.
Hosts that vanish, lost packets, ports and cgroups need root, ip and nft. Latency and CPU figures
mean something only on a machine that does nothing else. Fails (1) when diolkos misses a goal.

Goals, in full; --quick and rivals do less of some:
{}
Examples:
  diolkos bench faults --quick
  diolkos bench faults --only G5,G11,G14 --peers haproxy,envoy
  diolkos bench faults --json faults.json",
        faults::list()
    )
}

pub(super) fn run(args: &FaultsArgs) -> anyhow::Result<bool> {
    if let Some(path) = &args.json {
        // Before hours are spent on what cannot be written.
        let file = fs::File::options().create(true).append(true).open(path);
        file.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let what = Faults {
        only: args.only.clone(),
        rivals: args.peers.iter().copied().flatten().collect(),
        quick: args.quick,
        program: std::env::current_exe().context("cannot find this program's own file")?,
    };
    let mut out = stdout();
    let rows = faults::measure(&what, &Progress::on_terminal(), |row| {
        // A reader that has gone is no reason to stop measuring: there may be a file.
        let _ = out.write_all(table::row(row).as_bytes()).and_then(|()| out.flush());
    })?;
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&rows)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    out.write_all(table::summary(&rows).as_bytes())?;
    Ok(!rows.iter().any(faults::goal::Row::is_missed))
}

/// A goal by its name, in capitals or not.
fn goal(text: &str) -> Result<String, String> {
    let known = faults::names();
    let goal = known.iter().find(|name| name.eq_ignore_ascii_case(text));
    goal.map(ToString::to_string).ok_or_else(|| format!("goals are {}", known.join(", ")))
}

fn rival(text: &str) -> Result<Option<Peer>, String> {
    match text {
        "" => Ok(None),
        "haproxy" => Ok(Some(Peer::Haproxy)),
        "nginx" => Ok(Some(Peer::Nginx)),
        "envoy" => Ok(Some(Peer::Envoy)),
        _ => Err("a rival is one of haproxy, nginx, envoy".to_owned()),
    }
}
