//! `diolkos bench compare`: its arguments, and where its results go. Must not know: how gateways
//! are compared.

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, builder::RangedU64ValueParser};

use crate::{
    bench::{
        compare::{self, Comparison, Peer, Results, Work, page, table},
        plan::parse_rate,
        progress::Progress,
    },
    telemetry::stdout,
};

#[derive(Debug, Args)]
#[command(after_long_help = "\
Every gateway is started with the same routes, one worker, alone on the last core; pods and load
share the others. They take turns, so run it on a machine that does nothing else. Everything is on
loopback, on free ports. Gateways that are not installed are named and left out. CPU time is what
the scheduler counts for the process (a relay's TCP work mostly among it). Fails (1) when any
operation failed. The files are written after each round, the table at the end.

Examples:
  diolkos bench compare
  diolkos bench compare --repeat 5 --syscalls --json compare.json --html compare.html
  diolkos bench compare --peers floor,diolkos --scenarios connect --quick
  diolkos bench compare --scenarios churn --churn 20 --peers haproxy,nginx,envoy,diolkos
  diolkos bench compare --scenarios hold --routes 1,100,1000,5000 --html memory.html")]
pub(super) struct CompareArgs {
    /// Gateways, in the order of their turns.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values = ["floor", "haproxy", "nginx", "envoy", "diolkos"]
    )]
    peers: Vec<Peer>,
    /// What they are to do.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values = ["connect", "request", "download", "upload", "hold"]
    )]
    scenarios: Vec<Work>,
    /// Services that a gateway knows: the first number while it works, all of them for the memory
    /// that they take. 1 to 1,000,000.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1")]
    #[arg(value_parser = among(1_000_000), allow_negative_numbers = true)]
    routes: Vec<usize>,
    /// Rounds, 1 to 1,000; the table has medians.
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = among(1_000), allow_negative_numbers = true)]
    repeat: usize,
    /// Requests begun each second in `paced`.
    #[arg(long, value_name = "N", default_value_t = 10_000.0)]
    #[arg(value_parser = parse_rate, allow_negative_numbers = true)]
    rate: f64,
    /// Changes of routes and endpoints each second in `churn`.
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    #[arg(value_parser = parse_rate, allow_negative_numbers = true)]
    churn: f64,
    /// Count system calls too, with perf or strace, in a round of their own.
    #[arg(long)]
    syscalls: bool,
    /// Little work in one round: shows that everything runs, compares nothing.
    #[arg(long)]
    quick: bool,
    /// Write everything that was measured to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &CompareArgs) -> anyhow::Result<bool> {
    let what = Comparison {
        peers: args.peers.clone(),
        works: args.scenarios.clone(),
        routes: args.routes.clone(),
        repeat: if args.quick { 1 } else { args.repeat },
        quick: args.quick,
        syscalls: args.syscalls,
        rate: args.rate,
        churn: args.churn,
        program: std::env::current_exe().context("cannot find this program's own file")?,
    };
    let results = compare::compare(&what, &Progress::on_terminal(), |results| args.write(results))?;
    args.write(&results)?;
    stdout().write_all(table::text(&results).as_bytes())?;
    Ok(results.failures() == 0)
}

/// 1 to `most`.
fn among(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

impl CompareArgs {
    fn write(&self, results: &Results) -> anyhow::Result<()> {
        let write = |path: &PathBuf, text: String| {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        if let Some(path) = &self.json {
            write(path, serde_json::to_string_pretty(results)?)?;
        }
        if let Some(path) = &self.html {
            write(path, page::html(results))?;
        }
        Ok(())
    }
}
