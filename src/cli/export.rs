//! `diolkos export`: once, or until told to stop. Must not know: what is exported, how addresses
//! are given.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{UsageError, layered, shown::line, text};
use crate::{
    app::offline,
    config::{Settings, SettingsError, Sources},
    export::{
        AddressFile, Done, Export, Failover, Folder, Form, GatewayAddress, Peer, Range, Reader,
        Remark, Shape, Taken, View, Wanted, escapes_capture,
    },
    manifests::{Severity, Store, kinds::Labels, source::PATIENCE},
};

mod watch;

/// Arguments of `diolkos export`.
#[derive(Debug, Default, Args)]
#[command(after_long_help = "\
For each Service that the gateway of another cluster serves under the suffix: a ServiceEntry with an
address of its own, and a DestinationRule. A Service of the same name and namespace in several
clusters is one ServiceEntry with an endpoint for each gateway. What a gateway would refuse is not
exported; the reason is printed on standard error. Where --annotation is given, ServiceEntries that
have it are exported too, each host under its own name, if the gateway's hosts cover it.

  --form direct    an endpoint for each gateway, labels cluster and region, locality
  --form labelled  the same, and the subsets of the exporting clusters, by name
  --form egress    callers go through --egress; gateways are in network `external`

A --cluster is NAME=DIR, or NAME=kubeconfig:FILE for the objects of a live cluster's API (read only,
as config/kubernetes/rbac.yaml allows), and then, by commas, gateway=ADDR[:PORT] (may be repeated),
locality=REGION/ZONE, network=NAME, label.KEY=VALUE, context=NAME of the kubeconfig. Given for the importing cluster itself, its
manifests say which hosts others own there: those are left alone, as are files in --to-dir that this
program did not write.

The file of addresses is the only place where addresses are given: a name keeps its address for
ever, also while it is not exported, until --forget frees it. Keep the file, and give the same one
every time. Sidecars of Istio 1.4 and later do not capture 127.255.0.0/16, since it is loopback: use
--range 240.240.0.0/16 with those.

Fails (1) when manifests are broken or names cannot be exported; what is good is written all the
same. A run that would remove all it wrote before and write nothing, as when a directory is empty
or --selector mistyped, fails and changes nothing unless --allow-empty is given. With --watch: SIGTERM ends it, SIGHUP reads every manifest again.

Examples:
  diolkos export --cluster c2=manifests/c2,gateway=192.0.2.10 --for c1 --addresses addresses.txt
  diolkos export --cluster c1=m/c1 --cluster c2=m/c2,gateway=gw2.example,locality=eu/eu-1 \\
    --cluster c3=m/c3,gateway=192.0.2.30:443,locality=us --for c1 --addresses addresses.txt \\
    --range 240.240.0.0/16 --form labelled --to-dir m/c1/imported --watch
  diolkos export --cluster c2=kubeconfig:c2.conf,gateway=192.0.2.10 --for c1 \\
    --addresses addresses.txt --to-dir imported --watch
  diolkos export --cluster c2=m/c2,gateway=192.0.2.10 --for c1 --addresses addresses.txt \\
    --form egress --egress istio-egressgateway.istio-system.svc.cluster.local --check")]
pub struct ExportArgs {
    /// A cluster: its name, its manifests, its gateway; repeated for each.
    #[arg(long, value_name = "NAME=DIR[,gateway=ADDR...]", required = true)]
    pub cluster: Vec<Peer>,
    /// The cluster that imports: where the objects are to be applied.
    #[arg(long = "for", value_name = "NAME", required = true)]
    pub importing: String,
    /// File that holds which name has which address; made when it is not there.
    #[arg(long, value_name = "FILE", required = true)]
    pub addresses: PathBuf,
    /// Where names that have none yet get their addresses.
    #[arg(long, value_name = "CIDR", default_value = "127.255.0.0/16")]
    pub range: Option<Range>,
    /// Directory to keep the objects in, a file for each host; else they are printed.
    #[arg(long, value_name = "DIR")]
    pub to_dir: Option<PathBuf>,
    /// How callers reach the gateways.
    #[arg(long, value_name = "FORM", default_value = "direct")]
    pub form: Option<FormName>,
    /// The importing cluster's egress gateway, for --form egress.
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub egress: Option<GatewayAddress>,
    /// Callers of one region turn to this other one first; may be repeated.
    #[arg(long, value_name = "REGION=REGION")]
    pub failover: Vec<Failover>,
    /// Only Services with these labels.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    pub selector: Vec<(String, String)>,
    /// Only Services with this annotation, such as diolkos/export=true, and ServiceEntries with it;
    /// may be repeated.
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = annotation)]
    pub annotation: Vec<(String, Option<String>)>,
    /// Also each pod of a headless Service, by its hostname; their gateways need
    /// gateway.per_pod_names.
    #[arg(long)]
    pub per_pod: bool,
    /// Namespace of the objects.
    #[arg(long, value_name = "NS", default_value = "istio-system", value_parser = namespace)]
    pub namespace: Option<String>,
    /// Suffix of the hosts, as the gateways rewrite it [default: global].
    #[arg(long, value_name = "NAME")]
    pub suffix: Option<String>,
    /// Free the address of this name; may be repeated.
    #[arg(long, value_name = "HOST", conflicts_with = "watch")]
    pub forget: Vec<String>,
    /// Allow a run that removes every file from --to-dir and writes none.
    #[arg(long, requires = "to_dir")]
    pub allow_empty: bool,
    /// Write nothing, say what would be written, fail (1) when something would.
    #[arg(long, visible_alias = "dry-run", conflicts_with = "watch")]
    pub check: bool,
    /// Stay, and keep --to-dir up to date with the manifests.
    #[arg(long, requires = "to_dir")]
    pub watch: bool,
    /// Settings file of the exporting gateways; what it leaves out has its default.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Any setting of the exporting gateways; may be repeated, the last one wins.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// A form, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum FormName {
    Direct,
    Labelled,
    Egress,
}

impl ExportArgs {
    /// The layers that these arguments add to `base`.
    ///
    /// # Errors
    /// When a `--set` is not `KEY=VALUE`.
    pub fn sources(&self, base: Sources) -> Result<Sources, SettingsError> {
        let suffix = self.suffix.as_deref().map(|text| text.trim_matches('.').to_lowercase());
        let suffix = text("--suffix", "gateway.rewrite_suffix", suffix.as_ref());
        let per_pod = self.per_pod.then_some(&true);
        let per_pod = text("--per-pod", "gateway.per_pod_names", per_pod);
        layered(base, self.config.as_ref(), &self.set, [suffix, per_pod])
    }

    /// What is to be run, once the flags are held against each other.
    fn export(&self) -> Result<Export, UsageError> {
        let usage = |text: String| Err(UsageError(text));
        let mut names = std::collections::BTreeSet::new();
        for peer in &self.cluster {
            if !names.insert(&peer.name) {
                return usage(format!("--cluster {}: there are two of this name", peer.name));
            }
            if peer.name != self.importing && peer.gateways.is_empty() {
                let name = &peer.name;
                return usage(format!("--cluster {name}: say how it is reached: ,gateway=ADDR"));
            }
        }
        let mut peers = self.cluster.clone();
        peers.retain(|peer| peer.name != self.importing);
        if peers.is_empty() {
            return usage(format!("--for {}: no other --cluster is given", self.importing));
        }
        let form = match self.form.unwrap_or(FormName::Direct) {
            FormName::Direct => Form::Direct,
            FormName::Labelled => Form::Labelled,
            FormName::Egress => Form::Egress,
        };
        match (form, &self.egress) {
            (Form::Egress, None) => return usage("--form egress needs --egress ADDR".to_owned()),
            (Form::Direct | Form::Labelled, Some(_)) => {
                return usage("--egress is for --form egress only".to_owned());
            }
            _ => {}
        }
        let shape = Shape {
            form,
            namespace: self.namespace.clone().unwrap_or_default(),
            egress: self.egress.clone(),
            failover: self.failover.clone(),
        };
        let Some(range) = self.range else { return usage("--range is missing".to_owned()) };
        Ok(Export {
            peers,
            shape,
            range,
            addresses: AddressFile::new(&self.addresses),
            folder: self.to_dir.as_deref().map(Folder::new),
            forget: self.forget.iter().map(|host| host.to_lowercase()).collect(),
            allow_empty: self.allow_empty,
        })
    }

    fn wanted(&self) -> Wanted {
        let labels: Labels = self.selector.iter().map(|(key, value)| (key, value)).collect();
        Wanted { labels, annotations: self.annotation.clone() }
    }
}

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<bool> {
    let export = args.export()?;
    let settings = Settings::load(&args.sources(Sources::of_this_process())?)?;
    if settings.gateway.rewrite_suffix.is_empty() {
        let text = "gateway.rewrite_suffix is empty: names of other clusters need a suffix";
        return Err(UsageError(text.to_owned()).into());
    }
    let reader =
        |peer: &Peer| Reader::new(&peer.name, offline::gateway_elsewhere(&settings), args.wanted());
    let importing = args.cluster.iter().find(|peer| peer.name == args.importing);
    if args.watch {
        crate::telemetry::start(settings.log.format, &settings.log.level)?;
        return watch::run(&export, importing, reader);
    }
    let mut views: Vec<View> = Vec::new();
    let mut broken = false;
    for peer in &export.peers {
        let (store, changes) = read(peer, &mut broken)?;
        views.push(reader(peer).take(&store, &changes));
    }
    let taken = match importing {
        Some(peer) => Taken::of_store(&read(peer, &mut broken)?.0),
        None => Taken::default(),
    };
    let done = export.run(&views, &taken, !args.check)?;
    for remark in range_remark(export.range).iter().chain(&done.remarks) {
        eprintln!("{}", line(remark));
    }
    show(args, &export, &done)?;
    let failed = done.remarks.iter().any(|remark| remark.severity == Severity::Error);
    let up_to_date = !args.check || done.is_nothing();
    Ok(up_to_date && !broken && !failed)
}

/// The manifests of one cluster; their problems are printed.
fn read(peer: &Peer, broken: &mut bool) -> anyhow::Result<(Store, crate::manifests::Changes)> {
    let source = peer.open().and_then(|source| source.load_once(PATIENCE));
    let mut store = Store::new();
    let changes = store.apply(source.with_context(|| format!("--cluster {}", peer.name))?);
    for problem in store.problems() {
        // Notes are of kinds that are not read: most of a cluster.
        if problem.severity != Severity::Note {
            eprintln!("{}: {}", peer.name, line(&problem));
        }
        *broken |= problem.severity == Severity::Error;
    }
    Ok((store, changes))
}

fn show(args: &ExportArgs, export: &Export, done: &Done) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Some(folder) = &export.folder else {
        for (index, objects) in done.objects.values().enumerate() {
            let between = if index == 0 { "" } else { "---\n" };
            write!(out, "{between}{objects}")?;
        }
        return Ok(());
    };
    let (written, removed) = if args.check {
        for host in &done.written {
            writeln!(out, "would write {host}")?;
        }
        for host in &done.removed {
            writeln!(out, "would remove {host}")?;
        }
        ("to write", "to remove")
    } else {
        for host in &done.removed {
            eprintln!(
                "removed {}: {host} is not exported any more",
                folder.file_of(host).display()
            );
        }
        ("written", "removed")
    };
    writeln!(
        out,
        "{}: {} names, {} of them with a new address; {} files {written}, {} {removed}, {} as they \
         were in {}",
        args.importing,
        done.objects.len(),
        done.named,
        done.written.len(),
        done.removed.len(),
        done.unchanged,
        folder.path().display(),
    )
}

/// What must be known of a range before it is relied on.
fn range_remark(range: Range) -> Option<Remark> {
    let first: std::net::Ipv4Addr = range.first();
    escapes_capture(first.into()).then(|| Remark {
        severity: Severity::Note,
        text: format!(
            "{range} is loopback, which sidecars of Istio 1.4 and later do not capture: use --range \
             240.240.0.0/16 with those"
        ),
    })
}

fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Of annotations only those are kept in memory that somebody could read.
fn annotation(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if !["istio.io/", "kubernetes.io/", "diolkos"].iter().any(|part| key.contains(part)) {
        return Err("its key must hold diolkos, istio.io/ or kubernetes.io/".to_owned());
    }
    Ok((key.to_owned(), value))
}

fn namespace(text: &str) -> Result<String, String> {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good = (1..=63).contains(&text.len()) && text.bytes().all(inside);
    let ends = text.starts_with('-') || text.ends_with('-');
    if good && !ends { Ok(text.to_owned()) } else { Err("that is no namespace".to_owned()) }
}

#[cfg(test)]
mod tests;
