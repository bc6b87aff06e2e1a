//! The command line: one struct for each command. Must not know: how anything is done.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

mod bench;
mod certs;
mod check;
mod demo;
mod dns;
mod explain;
mod export;
mod gateway;
mod kubernetes;
mod shown;
mod sidecar;
mod status;

pub use certs::CertsArgs;
pub use demo::{DemoArgs, Rival};
pub use dns::DnsArgs;
pub use export::ExportArgs;
pub use kubernetes::KubernetesArgs;
pub use sidecar::SidecarArgs;

use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::{
    config::{
        Given, Override, Settings, SettingsError, Sources,
        types::{Listen, address},
    },
    export::Peer,
};

/// Joins service meshes across Kubernetes clusters.
///
/// Reads the name that a mutual-TLS connection asks for, picks a pod behind it, and relays bytes
/// unchanged. It holds no key and terminates nothing.
#[derive(Debug, Parser)]
#[command(
    name = "diolkos",
    version = crate::version::VERSION,
    max_term_width = 100,
    after_help = "Exit status: 0 good, 1 failed, 2 wrong usage.",
    after_long_help = "\
Examples:
  diolkos demo
  diolkos demo --against envoy
  diolkos gateway --manifests /etc/diolkos/manifests
  diolkos check --manifests /etc/diolkos/manifests

Exit status: 0 good, 1 failed, 2 wrong usage."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve connections until told to stop.
    Gateway(GatewayArgs),
    /// Read settings and manifests, print what is exposed and every problem.
    Check(CheckArgs),
    /// Say what happens to a connection that asks for a name, gate by gate.
    Explain(ExplainArgs),
    /// Make and check the certificates of a mesh of several clusters.
    Certs(CertsArgs),
    /// Answer names such as bar.ns2.global from ServiceEntries.
    Dns(DnsArgs),
    /// Write the ServiceEntries by which one cluster calls services of others.
    Export(ExportArgs),
    /// Give an unmodified application its mesh mutual TLS, in both directions.
    Sidecar(SidecarArgs),
    /// Run three clusters on this machine and make calls between them.
    Demo(DemoArgs),
    /// Load-test any gateway, or compare several.
    Bench(bench::BenchArgs),
}

/// Arguments of `diolkos gateway`.
#[derive(Debug, Default, Args)]
#[command(after_long_help = "\
Every setting can be given by --set or by the environment (DIOLKOS_GATEWAY_WORKERS=2);
`diolkos check --print-defaults` lists them all. Flags win over --set, --set over the environment,
the environment over the file. Port 0 takes any free port; the addresses taken are logged.

SIGTERM: not ready at once, accepting goes on for drain.pause, then live connections have
drain.deadline to finish. A second SIGTERM ends it. SIGHUP reads the settings and manifests again.

Examples:
  diolkos gateway --manifests /etc/diolkos/manifests
  diolkos gateway --kubernetes
  diolkos gateway --kubeconfig ~/.kube/config --context cluster1
  diolkos gateway --config diolkos.yaml --set log.level=debug
  diolkos gateway --manifests a --manifests b --listen 127.0.0.1:0 --admin 127.0.0.1:0
  diolkos gateway --manifests a --health off --metrics off --set agent.listen=off")]
#[allow(rustdoc::broken_intra_doc_links)] // help shows addresses in brackets
pub struct GatewayArgs {
    /// Settings file; what it leaves out has its default.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of Kubernetes and Istio manifests, watched; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub manifests: Vec<PathBuf>,
    /// The Kubernetes API to follow.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// Address on which connections arrive; may be repeated [default: [::]:15443].
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub listen: Vec<SocketAddr>,
    /// Address of the operators' page, or off [default: 127.0.0.1:15000].
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<Listen>,
    /// Address of the readiness probe, or off [default: [::]:15021].
    #[arg(long, value_name = "ADDR")]
    pub health: Option<Listen>,
    /// Address of the scrape port, or off [default: [::]:15090].
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<Listen>,
    /// Worker threads; 0 takes the CPUs that the cgroup allows [default: 0].
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Any setting; may be repeated, the last one wins.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Arguments of `diolkos check`.
#[derive(Debug, Default, Args)]
#[command(after_long_help = "\
Fails (1) when anything is broken; warnings alone do not fail.

With --cluster, two or more, it compares clusters: every port of a ServiceEntry for a host under the
suffix has a Service behind it in another cluster, whose gateway serves it; every subset that is
called exists there; pods have the identities that callers expect; a service of several clusters has
the same ports and service accounts in all; roots and trust domains agree (--certs). Each mismatch
names both objects, and fails (1). Settings are those of the clusters' gateways.

With --against it compares the manifests with what an Envoy that is Istio's gateway says of itself
at /config_dump?include_eds: each server name of an AUTO_PASSTHROUGH filter chain with its ALPN, and
each cluster with its endpoints, weights, load balancing, timeouts, limit of connections and outlier
detection. What differs, or is on one side only, is told with the reason and the objects, and fails
(1). `-` is standard input. Where dump or manifests cannot be read, nothing was compared (2).

Examples:
  diolkos check --manifests /etc/diolkos/manifests
  diolkos check --cluster cluster1=m/c1 --cluster cluster2=m/c2 --certs cluster1=certs/cluster1
  diolkos check --config diolkos.yaml
  diolkos check --kubernetes
  diolkos check --manifests m --against config-dump.json --output json
  kubectl exec -n istio-system deploy/istio-ingressgateway -- \\
    pilot-agent request GET 'config_dump?include_eds' | diolkos check --manifests m --against -
  diolkos check --print-defaults > diolkos.yaml")]
pub struct CheckArgs {
    /// Settings file; what it leaves out has its default.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of Kubernetes and Istio manifests; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub manifests: Vec<PathBuf>,
    /// The Kubernetes API to read.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// Compare clusters: the name and the manifests of each; repeated.
    #[arg(long, value_name = "NAME=DIR", conflicts_with_all = ["manifests", "print_defaults"])]
    pub cluster: Vec<Peer>,
    /// Compare the manifests with this config dump of an Envoy.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cluster", "print_defaults"])]
    pub against: Option<PathBuf>,
    /// How a comparison with --against is printed [default: text].
    #[arg(long, value_name = "FORM", requires = "against")]
    pub output: Option<Output>,
    /// Certificates of one of the clusters; may be repeated.
    #[arg(long, value_name = "NAME=DIR", requires = "cluster")]
    pub certs: Vec<Peer>,
    /// Any setting; may be repeated, the last one wins.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print every setting with its default and what it does, and stop.
    #[arg(long)]
    pub print_defaults: bool,
}

/// For people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs)]
pub enum Output {
    Text,
    Json,
}

/// Arguments of `diolkos explain`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("where").required(true).args(["manifests", "admin"]),
    after_long_help = "\
Without --alpn the connection is taken to offer what a sidecar offers. Fails (1) when it would be
refused.

Examples:
  diolkos explain outbound_.8080_._.bar.ns2.global --manifests /etc/diolkos/manifests
  diolkos explain outbound_.8080_.v1_.bar.ns2.global --admin 127.0.0.1:15000
  diolkos explain bar.ns2.global --alpn h2,http/1.1 --source 10.0.0.7 --manifests a"
)]
pub struct ExplainArgs {
    /// The server name asked for.
    #[arg(value_name = "SNI")]
    pub sni: String,
    /// Settings file; what it leaves out has its default.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Any setting; may be repeated, the last one wins.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// ALPN names offered, separated by commas; empty for none.
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        default_value = "istio-peer-exchange,istio"
    )]
    pub alpn: Vec<String>,
    /// Where the connection comes from.
    #[arg(long, value_name = "IP")]
    pub source: Option<IpAddr>,
    /// Answer from this directory of manifests; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub manifests: Vec<PathBuf>,
    /// Ask the running gateway whose operators' page is at this address.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub admin: Option<SocketAddr>,
}

impl GatewayArgs {
    /// The layers that these arguments add to `base`; loading them again rereads the file.
    ///
    /// # Errors
    /// When a `--set` is not `KEY=VALUE`.
    pub fn sources(&self, base: Sources) -> Result<Sources, SettingsError> {
        let flags = [
            directories(&self.manifests),
            list("--listen", "gateway.listen", &self.listen),
            text("--admin", "admin.listen", self.admin.as_ref()),
            text("--health", "health.listen", self.health.as_ref()),
            text("--metrics", "metrics.listen", self.metrics.as_ref()),
            text("--workers", "gateway.workers", self.workers.as_ref()),
        ];
        let flags = flags.into_iter().chain(self.kubernetes.overrides());
        layered(base, self.config.as_ref(), &self.set, flags)
    }
}

impl CheckArgs {
    /// The layers that these arguments add to `base`.
    ///
    /// # Errors
    /// When a `--set` is not `KEY=VALUE`.
    pub fn sources(&self, base: Sources) -> Result<Sources, SettingsError> {
        let flags = [directories(&self.manifests)].into_iter().chain(self.kubernetes.overrides());
        layered(base, self.config.as_ref(), &self.set, flags)
    }
}

impl ExplainArgs {
    /// The ALPN names offered: none when `--alpn` is given empty.
    #[must_use]
    pub fn offered(&self) -> Vec<String> {
        self.alpn.iter().filter(|name| !name.is_empty()).cloned().collect()
    }

    /// The layers that these arguments add to `base`.
    ///
    /// # Errors
    /// When a `--set` is not `KEY=VALUE`.
    pub fn sources(&self, base: Sources) -> Result<Sources, SettingsError> {
        layered(base, self.config.as_ref(), &self.set, [directories(&self.manifests)])
    }
}

/// Runs the command; false when it went well but the answer is bad.
///
/// # Errors
/// What went wrong, to be printed once.
pub fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Gateway(args) => gateway::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Certs(args) => certs::run(&args),
        Command::Dns(args) => dns::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Sidecar(args) => sidecar::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
    }
}

/// The settings of `diolkos gateway` in this process's environment.
///
/// # Errors
/// What is wrong with them, naming layer, key and value.
pub fn config_from(args: &GatewayArgs) -> anyhow::Result<Settings> {
    Ok(Settings::load(&args.sources(Sources::of_this_process())?)?)
}

/// The exit status that an error ends with: 2 when the command line itself is wrong, or when
/// nothing was compared, which is no verdict; else 1.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = error.is::<UsageError>()
        || error.is::<NothingCompared>()
        || error.downcast_ref::<SettingsError>().is_some_and(SettingsError::is_usage);
    ExitCode::from(if usage { 2 } else { 1 })
}

/// Arguments that are each right and do not fit together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// What was to be compared could not be read: 1 would say that it differs.
#[derive(Debug, thiserror::Error)]
#[error("nothing was compared")]
struct NothingCompared;

/// `base` with what was given on top of it, the last winning: each `--set`, then flags of their
/// own.
fn layered(
    base: Sources,
    config: Option<&PathBuf>,
    set: &[String],
    flags: impl IntoIterator<Item = Option<Override>>,
) -> Result<Sources, SettingsError> {
    let mut overrides = base.overrides;
    for text in set {
        overrides.push(Override::assignment(text)?);
    }
    overrides.extend(flags.into_iter().flatten());
    Ok(Sources { file: config.cloned().or(base.file), overrides, ..base })
}

fn directories(manifests: &[PathBuf]) -> Option<Override> {
    let texts: Vec<_> = manifests.iter().map(|path| path.to_string_lossy()).collect();
    list("--manifests", "manifests.directories", &texts)
}

/// A flag that may be repeated; `None` when it was not given.
fn list(name: &str, key: &str, values: &[impl ToString]) -> Option<Override> {
    let given = || Given::List(values.iter().map(ToString::to_string).collect());
    (!values.is_empty()).then(|| flag(name, key, given()))
}

/// A flag with one value; `None` when it was not given.
fn text(name: &str, key: &str, value: Option<&impl ToString>) -> Option<Override> {
    value.map(|value| flag(name, key, Given::Text(value.to_string())))
}

fn flag(name: &str, key: &str, given: Given) -> Override {
    Override { flag: name.to_owned(), key: key.to_owned(), given }
}

#[cfg(test)]
mod tests;
