//! `diolkos certs`: makes and checks the certificates of a mesh. Must not know: what stands in a
//! certificate.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::{Args, Subcommand};

use crate::{
    certs::{self, Authority, CertsError, Existing, SpiffeId},
    telemetry::stdout,
};

/// Arguments of `diolkos certs`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
All clusters of a mesh share one root; each has an intermediate of its own, from which its istiod
issues to workloads. The files are those of Istio. Keys have mode 0600, and nothing is overwritten
without --force.

  certs/root                       root-cert.pem root-key.pem: keep the key off every cluster
  certs/NAME                       ca-cert.pem ca-key.pem root-cert.pem cert-chain.pem, and the
                                   same as a manifest: cacerts-secret.yaml
  certs/NAME/workloads/NS.ACCOUNT  cert-chain.pem key.pem root-cert.pem

Examples:
  diolkos certs root
  diolkos certs cluster cluster1
  diolkos certs workload --cluster cluster1 --namespace ns1 --service-account sleep
  diolkos certs verify certs")]
pub struct CertsArgs {
    /// What to make or check.
    #[command(subcommand)]
    pub command: CertsCommand,
}

/// What to make or check.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make the root that all clusters share; valid ten years.
    Root(RootArgs),
    /// Make the intermediate of one cluster, as istiod takes it; valid two years.
    Cluster(ClusterArgs),
    /// Issue a certificate to one workload, as an agent would get it.
    Workload(WorkloadArgs),
    /// Check keys, chains, limits, expiry, and that all clusters have the same root.
    #[command(after_long_help = "\
Looks at each directory and at those below it. Prints a line for each file; fails (1) when one
failed. An authority that ends within 30 days is a warning.

Examples:
  diolkos certs verify certs
  diolkos certs verify certs/cluster1 /etc/cacerts")]
    Verify(VerifyArgs),
}

/// Where files go.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Directory under which all material of the mesh is kept.
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub dir: PathBuf,
    /// Write to this directory instead of the usual one under --dir.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Overwrite keys and certificates that are there.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `diolkos certs root`.
#[derive(Debug, Args)]
pub struct RootArgs {
    /// Where files go.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `diolkos certs cluster`.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Name of the cluster.
    #[arg(value_name = "NAME", value_parser = cluster_name)]
    pub name: String,
    /// Directory of the root [default: root under --dir].
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Where files go.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `diolkos certs workload`.
#[derive(Debug, Args)]
pub struct WorkloadArgs {
    /// Namespace of the workload.
    #[arg(long, value_name = "NS")]
    pub namespace: String,
    /// Service account of the workload.
    #[arg(long, value_name = "SA")]
    pub service_account: String,
    /// Cluster whose intermediate issues; may be left out where --dir holds only one.
    #[arg(long, value_name = "NAME", value_parser = cluster_name)]
    pub cluster: Option<String>,
    /// Directory of the authority that issues, wherever it is.
    #[arg(long, value_name = "DIR", conflicts_with = "cluster")]
    pub ca: Option<PathBuf>,
    /// How long it is valid, such as 24h or 90days; never longer than its issuer.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = ttl)]
    pub ttl: Duration,
    /// Trust domain of the mesh.
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub trust_domain: String,
    /// Where files go.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `diolkos certs verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Directories to check; those below them too.
    #[arg(value_name = "DIR", required = true)]
    pub directories: Vec<PathBuf>,
}

impl PlaceArgs {
    fn existing(&self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Keep }
    }

    fn out(&self, usual: impl FnOnce(&Path) -> PathBuf) -> PathBuf {
        self.out.clone().unwrap_or_else(|| usual(&self.dir))
    }
}

pub(super) fn run(args: &CertsArgs) -> anyhow::Result<bool> {
    match &args.command {
        CertsCommand::Root(args) => root(args),
        CertsCommand::Cluster(args) => cluster(args),
        CertsCommand::Workload(args) => workload(args),
        CertsCommand::Verify(args) => verify(args),
    }
}

fn root(args: &RootArgs) -> anyhow::Result<bool> {
    let out = args.place.out(|dir| dir.join(ROOT));
    let replaced = out.join("root-cert.pem").exists();
    let root = Authority::root(SystemTime::now())?;
    root.write_over(&out, args.place.existing()).map_err(or_force)?;
    let below = clusters(&args.place.dir).unwrap_or_default();
    if replaced && !below.is_empty() {
        let below: Vec<_> = below.iter().map(|path| path.display().to_string()).collect();
        eprintln!(
            "warning: {} are of the root that was in {}, and nobody who has the new one takes \
             them: make each anew with `diolkos certs cluster NAME --force`, then its workloads",
            below.join(", "),
            out.display(),
        );
    }
    say(&format!("{}: the root; its key issues to every cluster, keep it apart", out.display()))
}

fn cluster(args: &ClusterArgs) -> anyhow::Result<bool> {
    let from = args.root.clone().unwrap_or_else(|| args.place.dir.join(ROOT));
    let root = Authority::read(&from)
        .context("the root cannot be read; make one with `diolkos certs root`, or name --root")?;
    let out = args.place.out(|dir| dir.join(&args.name));
    let cluster = root.cluster(&args.name, SystemTime::now())?;
    cluster.write_over(&out, args.place.existing()).map_err(or_force)?;
    let out = out.display();
    say(&format!(
        "{out}: the authority of {}; give it to istiod with\n  kubectl create -f \
         {out}/cacerts-secret.yaml",
        args.name
    ))
}

fn workload(args: &WorkloadArgs) -> anyhow::Result<bool> {
    let id = SpiffeId::new(&args.trust_domain, &args.namespace, &args.service_account)?;
    let ca = match (&args.ca, &args.cluster) {
        (Some(ca), _) => ca.clone(),
        (None, Some(name)) => args.place.dir.join(name),
        (None, None) => only_cluster(&args.place.dir)?,
    };
    let authority = Authority::read(&ca).context(
        "the authority cannot be read; make one with `diolkos certs cluster`, or name --ca",
    )?;
    let leaf = authority.workload_for(&id, SystemTime::now(), args.ttl)?;
    let name = format!("{}.{}", args.namespace, args.service_account);
    let out = args.place.out(|_| ca.join("workloads").join(name));
    leaf.write_over(&out, args.place.existing()).map_err(or_force)?;
    say(&format!("{}: {id}", out.display()))
}

fn verify(args: &VerifyArgs) -> anyhow::Result<bool> {
    let audit = certs::audit(&args.directories, SystemTime::now());
    let mut out = stdout();
    for remark in &audit.remarks {
        writeln!(out, "{remark}")?;
    }
    Ok(audit.is_good())
}

const ROOT: &str = "root";

/// The directory of the one cluster under `dir`.
fn only_cluster(dir: &Path) -> anyhow::Result<PathBuf> {
    let found = clusters(dir).with_context(|| {
        format!("{}: holds no authority; make one with `diolkos certs cluster`", dir.display())
    })?;
    ensure!(
        !found.is_empty(),
        "{}: holds no cluster's authority; make one with `diolkos certs cluster`, or name --ca",
        dir.display()
    );
    match &found[..] {
        [one] => Ok(one.clone()),
        more => {
            let names: Vec<_> = more.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            bail!(
                "{}: name one of its clusters with --cluster: {}",
                dir.display(),
                names.join(", ")
            )
        }
    }
}

/// The directories of all clusters under `dir`.
fn clusters(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.join("ca-key.pem").exists()).collect();
    found.sort();
    Ok(found)
}

/// Here there is one more way than elsewhere.
fn or_force(error: CertsError) -> anyhow::Error {
    match error {
        CertsError::Exists { .. } => anyhow!("{error}, or overwrite it with --force"),
        other => other.into(),
    }
}

fn say(text: &str) -> anyhow::Result<bool> {
    writeln!(stdout(), "{text}")?;
    Ok(true)
}

/// The name becomes a directory and stands in a certificate.
fn cluster_name(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let fits = (1..=63).contains(&text.len()) && text.bytes().all(allowed);
    match text {
        ROOT => Err("the root has this name; choose another".to_owned()),
        _ if fits && !text.starts_with(['.', '-']) => Ok(text.to_owned()),
        _ => Err("expected up to 63 letters, digits, '-', '_' and '.'".to_owned()),
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    match humantime_serde::re::humantime::parse_duration(text) {
        Ok(ttl) if ttl >= Duration::from_secs(1) => Ok(ttl),
        Ok(_) => Err("expected at least 1s".to_owned()),
        Err(error) => Err(format!("{error}; expected a duration such as 24h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_directory_of_its_own_is_refused() {
        for name in ["", ".", "..", "../a", "a/b", "root", "-a", ".a", "a b", &"a".repeat(64)] {
            assert!(cluster_name(name).is_err(), "{name}");
        }
        for name in ["cluster1", "eu-west_1.prod", "C"] {
            assert_eq!(cluster_name(name), Ok(name.to_owned()));
        }
    }

    #[test]
    fn a_time_to_live_is_a_duration() {
        assert_eq!(ttl("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(ttl("90days"), Ok(Duration::from_secs(90 * 86_400)));
        for text in ["", "0s", "24", "-1h", "soon"] {
            assert!(ttl(text).is_err(), "{text}");
        }
    }
}
