//! `diolkos bench`: its arguments, and what they become. Must not know: how load is made.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};

use super::UsageError;
use crate::{
    bench::{
        Mode, Plan, Report, Scenario, churn::Churn, floor::Floor, hello, lift_open_files,
        material::Material, plan, progress::Progress, run, serve::Pods,
    },
    config::types::address,
    telemetry::stdout,
};

mod compare;
mod faults;

/// Arguments of `diolkos bench`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Point `run` at any gateway whose endpoints are the pods of `serve`; `compare` does all of it for
the gateways that are installed.

Examples:
  diolkos bench compare --quick
  diolkos bench faults --quick
  diolkos bench compare --peers floor,envoy,diolkos --json compare.json --html compare.html")]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Play the pods: greet, then answer requests of any length.
    Serve(ServeArgs),
    /// Make load and say what came of it.
    Run(RunArgs),

    /// Give several gateways the same work and compare what it costs them.
    Compare(compare::CompareArgs),
    /// Put gateways through what goes wrong and hold them against goals.
    Faults(faults::FaultsArgs),
    /// A bare relay without names or routes: the least that a gateway can cost.
    Floor(FloorArgs),
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Prints one line `listening ADDR` for each address and serves until it is stopped.

Examples:
  diolkos bench serve --listen 127.0.0.1:28080
  diolkos bench serve --listen 127.0.0.1:28080 --mode mutual --certs ./certs")]
struct ServeArgs {
    /// Address of a pod; may be repeated. Those with port 0 share one free port.
    #[arg(long, value_name = "ADDR", value_parser = address, required = true)]
    listen: Vec<SocketAddr>,
    /// What is spoken after the ClientHello.
    #[arg(long, value_enum, default_value_t = Mode::Opaque)]
    mode: Mode,
    /// Directory of the root certificate; made when it is not there.
    #[arg(long, value_name = "DIR", required_if_eq("mode", "mutual"))]
    certs: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
The pods behind the gateway must be `diolkos bench serve`, in the same mode. With --rate operations
begin when they are due, whatever became of earlier ones, and latency counts from there: a gateway
that stalls is charged for all that was due meanwhile. Fails (1) when any operation failed, or a
change of --churn-command.

Examples:
  diolkos bench run --target 127.0.0.1:15443 --sni outbound_.8080_._.bar.ns2.global \\
      --scenario connect --duration 10s
  diolkos bench run --target 127.0.0.1:15443 --sni outbound_.8080_._.bar.ns2.global \\
      --scenario request --rate 20000 --duration 30s --json
  diolkos bench run --target 127.0.0.1:15443 --sni outbound_.8080_._.bar.ns2.global \\
      --scenario storm --concurrency 9000 --certs ./certs
  diolkos bench run --target 127.0.0.1:15443 --sni outbound_.8080_._.bar.ns2.global \\
      --scenario churn --duration 1m --churn-command 'touch manifests/bar.yaml'")]
struct RunArgs {
    /// The gateway.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    target: SocketAddr,
    /// Server name to ask for; may be repeated, they are used in turn.
    #[arg(long, value_name = "NAME", required_unless_present = "sni_file", num_args = 1..)]
    #[arg(value_parser = server_name)]
    sni: Vec<String>,
    /// More server names, one on each line.
    #[arg(long, value_name = "FILE")]
    sni_file: Option<PathBuf>,
    /// What to do.
    #[arg(long, value_enum, default_value_t = Scenario::Connect)]
    scenario: Scenario,
    /// What to speak [default: mutual for handshake and storm, otherwise opaque].
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Directory of the root certificate that the pods were given.
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Clients at the same time, 1 to 100,000; not more than --count [default: as suits the scenario].
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Operations begun each second (open loop). Without it each client begins the next operation
    /// when its last is done.
    #[arg(long, value_name = "N", value_parser = plan::parse_rate, allow_negative_numbers = true)]
    rate: Option<f64>,
    /// How long operations are begun, or connections held; such as 10s.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// How many operations are begun.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Bytes of a request and its answer; of a download's answer; of an upload's request
    /// [default: 64, or 16 MiB].
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
    /// Address or IPv4 block to connect from; may be repeated, they are used in turn.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    source: Vec<String>,
    /// An operation that takes longer has failed.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    timeout: Duration,
    /// Line for the shell that changes something at the gateway, run over and over while there is
    /// load; CHURN_TURN in its environment counts up from 0. Goes with any scenario.
    #[arg(long, value_name = "LINE", required_if_eq("scenario", "churn"))]
    churn_command: Option<String>,
    /// How often each second.
    #[arg(long, value_name = "N", default_value_t = 1.0, requires = "churn_command")]
    #[arg(value_parser = plan::parse_rate, allow_negative_numbers = true)]
    churn_rate: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
It reads no name and refuses nobody: a measure for gateways, not a gateway. Prints one line
`listening ADDR` and relays until it is stopped.

Example:
  diolkos bench floor --listen 127.0.0.1:0 --endpoint 127.0.0.1:28080")]
struct FloorArgs {
    /// Address on which connections arrive.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: SocketAddr,
    /// Where they go; may be repeated, they are used in turn.
    #[arg(long, value_name = "ADDR", value_parser = address, required = true)]
    endpoint: Vec<SocketAddr>,
}

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<bool> {
    lift_open_files();
    match &args.command {
        BenchCommand::Serve(args) => serve(args),
        BenchCommand::Run(args) => make_load(args),

        BenchCommand::Compare(args) => compare::run(args),
        BenchCommand::Faults(args) => faults::run(args),
        BenchCommand::Floor(args) => {
            let floor = Floor::bind(args.listen, args.endpoint.clone())?;
            say_listening(&[floor.address()?])?;
            floor.run()?;
            Ok(true)
        }
    }
}

fn serve(args: &ServeArgs) -> anyhow::Result<bool> {
    let tls = match (&args.certs, args.mode) {
        (Some(dir), Mode::Mutual) => Some(Material::open(dir)?.pod()?),
        _ => None,
    };
    let pods = Pods::bind(&args.listen, tls)?;
    say_listening(&pods.addresses()?)?;
    pods.run()?;
    Ok(true)
}

fn make_load(args: &RunArgs) -> anyhow::Result<bool> {
    let plan = args.plan()?;
    plan.check().map_err(usage)?;
    let command = args.churn_command.clone();
    let churn = command.map(|line| Churn::shell(args.churn_rate, line)).transpose()?;
    let report = run::run(&plan, &Progress::on_terminal());
    let changes = churn.map(Churn::stop);
    let report = Report { changes, ..report? };
    let mut out = stdout();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    let unchanged = report.changes.as_ref().is_some_and(|changes| !changes.failed.is_empty());
    Ok(report.totals.failures() == 0 && !unchanged)
}

impl RunArgs {
    fn plan(&self) -> anyhow::Result<Plan> {
        use anyhow::Context as _;
        let mut names = self.sni.clone();
        if let Some(path) = &self.sni_file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            names.extend(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from));
        }
        let mut sources = Vec::new();
        for text in &self.source {
            sources.extend(plan::parse_sources(text).context("--source").map_err(usage)?);
        }
        let usual = Plan::new(self.target, names, self.scenario);
        Ok(Plan {
            mode: self.mode.unwrap_or(usual.mode),
            certs: self.certs.clone(),
            concurrency: self.concurrency.unwrap_or(usual.concurrency),
            rate: self.rate,
            duration: self.duration,
            count: self.count,
            size: self.size,
            sources,
            timeout: self.timeout,
            ..usual
        })
    }
}

/// One line for each address, for whoever started us on port 0.
fn say_listening(addresses: &[SocketAddr]) -> io::Result<()> {
    let mut out = stdout();
    for address in addresses {
        writeln!(out, "listening {address}")?;
    }
    out.flush()
}

/// Of arguments that do not fit together, or do not say what can be done.
fn usage(error: anyhow::Error) -> UsageError {
    UsageError(format!("{error:#}"))
}

fn server_name(text: &str) -> anyhow::Result<String> {
    hello::server_name(text).map(|_| text.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime(text).ok_or_else(|| format!("{text:?} is no time such as 500ms, 10s, 2m"))
}

fn humantime(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_a_unit() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("1.5m", 90_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for wrong in ["", "10", "s", "10 s", "-1s", "1d", "1e9h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
