//! `diolkos export`: once, or until told to stop. Must not know: what is exported, how addresses
//! are given.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use clap::{ArgGroup, Args, ValueEnum};

use super::{UsageError, layered, shown::line, text};
use crate::{
    app::offline,
    config::{Settings, SettingsError, Sources, types::Listen},
    export::{
        AddressFile, AddressMap, Cluster, Destination, Export, Failover, Folder, Form,
        GatewayAddress, Peer, Range, Reader, Record, Shape, Taken, View, Wanted,
    },
    manifests::{
        Changes, Severity, SourceError, Store,
        kinds::Labels,
        kubernetes::{Client, Health},
        source::PATIENCE,
    },
};

mod show;
mod status;
mod watch;

/// How a ConfigMap instead of a file is given.
const CONFIG_MAP: &str = "configmap:";
/// Of a namespace, or of the value of a label.
const LABEL_BYTES_MAX: usize = 63;
/// Where --apply keeps addresses unless it is told otherwise.
const ADDRESSES: &str = "diolkos-addresses";

/// Arguments of `diolkos export`.
#[derive(Debug, Default, Args)]
#[command(group(ArgGroup::new("kept").args(["to_dir", "apply"])))]
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
locality=REGION/ZONE, network=NAME, label.KEY=VALUE, context=NAME of the kubeconfig. Without FILE it
is the pod's service account, $KUBECONFIG or ~/.kube/config. Given for the importing cluster itself,
its manifests say which hosts others own there: those are left alone, as are files in --to-dir that
this program did not write.

With --apply the objects go to the API of the importing cluster instead, by server-side apply as
field manager diolkos-export, never by force. What lacks the labels of this exporter, and fields that
somebody else manages, are left alone: each is told on standard error and as an Event, and tried
again. What is no longer exported is deleted. Two exporters for one cluster need two names
(--exporter); they share the addresses. config/kubernetes/export has what such a pod needs.

The file of addresses, or the ConfigMap, is the only place where addresses are given: a name keeps
its address for ever, also while it is not exported, until --forget frees it. Keep it, and give the
same one every time. Sidecars of Istio 1.4 and later do not capture 127.255.0.0/16, since it is loopback: use
--range 240.240.0.0/16 with those.

Fails (1) when manifests are broken or names cannot be exported; what is good is written all the
same. A run that would remove all it wrote before and write nothing, as when a directory is empty
or --selector mistyped, fails and changes nothing unless --allow-empty is given. With --watch:
SIGTERM ends it, SIGHUP reads every manifest again.

Examples:
  diolkos export --cluster c2=manifests/c2,gateway=192.0.2.10 --for c1 --addresses addresses.txt
  diolkos export --cluster c1=m/c1 --cluster c2=m/c2,gateway=gw2.example,locality=eu/eu-1 \\
    --cluster c3=m/c3,gateway=192.0.2.30:443,locality=us --for c1 --addresses addresses.txt \\
    --range 240.240.0.0/16 --form labelled --to-dir m/c1/imported --watch
  diolkos export --cluster c2=kubeconfig:c2.conf,gateway=192.0.2.10 --for c1 \\
    --addresses addresses.txt --to-dir imported --watch
  diolkos export --cluster c2=kubeconfig:c2.conf,gateway=192.0.2.10 --cluster c1=kubeconfig:c1.conf \\
    --for c1 --range 240.240.0.0/16 --apply --dry-run
  diolkos export --cluster c2=m/c2,gateway=192.0.2.10 --for c1 --addresses addresses.txt \\
    --form egress --egress istio-egressgateway.istio-system.svc.cluster.local --check")]
pub struct ExportArgs {
    /// A cluster: its name, its manifests, its gateway; repeated for each.
    #[arg(long, value_name = "NAME=DIR[,gateway=ADDR...]", required = true)]
    pub cluster: Vec<Peer>,
    /// The cluster that imports: where the objects are to be applied.
    #[arg(long = "for", value_name = "NAME", required = true)]
    pub importing: String,
    /// What holds which name has which address, made when it is not there: a file, or
    /// configmap:[NAMESPACE/]NAME in the importing cluster [default with --apply:
    /// configmap:diolkos-addresses].
    #[arg(long, value_name = "FILE", required_unless_present = "apply")]
    pub addresses: Option<PathBuf>,
    /// Where names that have none yet get their addresses.
    #[arg(long, value_name = "CIDR", default_value = "127.255.0.0/16")]
    pub range: Option<Range>,
    /// Directory to keep the objects in, a file for each host; else they are printed.
    #[arg(long, value_name = "DIR")]
    pub to_dir: Option<PathBuf>,
    /// Apply the objects to the importing cluster, whose --cluster is NAME=kubeconfig:FILE.
    #[arg(long)]
    pub apply: bool,
    /// Whose the objects are that are applied, where several exporters apply to one cluster.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = exporter,
        requires = "apply")]
    pub exporter: Option<String>,
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
    #[arg(long, value_name = "NS", default_value = "istio-system", value_parser = namespace_of)]
    pub namespace: Option<String>,
    /// Suffix of the hosts, as the gateways rewrite it [default: global].
    #[arg(long, value_name = "NAME")]
    pub suffix: Option<String>,
    /// Free the address of this name; may be repeated.
    #[arg(long, value_name = "HOST", conflicts_with = "watch")]
    pub forget: Vec<String>,
    /// Allow a run that removes everything it wrote before and writes nothing.
    #[arg(long, requires = "kept")]
    pub allow_empty: bool,
    /// Write nothing, say what would be written, fail (1) when something would.
    #[arg(long, visible_alias = "dry-run", conflicts_with = "watch")]
    pub check: bool,
    /// Stay, and keep --to-dir or the importing cluster up to date with the manifests.
    #[arg(long, requires = "kept")]
    pub watch: bool,
    /// With --watch, address of readiness and scrape over HTTP, or off [default: off].
    #[arg(long, value_name = "ADDR", requires = "watch")]
    pub status: Option<Listen>,
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
    fn export(&self) -> anyhow::Result<Export> {
        let usage = |text: String| Err(UsageError(text).into());
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
        let namespace = self.namespace.clone().unwrap_or_default();
        let shape = Shape {
            form,
            egress: self.egress.clone(),
            failover: self.failover.clone(),
            exporter: self.exporter.clone().filter(|_| self.apply),
            namespace,
        };
        let Some(range) = self.range else { return usage("--range is missing".to_owned()) };
        let (record, destination) = self.places(&shape)?;
        Ok(Export {
            peers,
            shape,
            range,
            record,
            destination,
            forget: self.forget.iter().map(|host| host.to_lowercase()).collect(),
            allow_empty: self.allow_empty,
        })
    }

    /// Where addresses and objects are kept.
    fn places(&self, shape: &Shape) -> anyhow::Result<(Record, Destination)> {
        let map = self.addresses.as_deref().map_or(Some(ADDRESSES), |addresses| {
            addresses.to_str().and_then(|text| text.strip_prefix(CONFIG_MAP))
        });
        let client = if self.apply || map.is_some() { Some(self.client()?) } else { None };
        let record = match (map, &self.addresses, &client) {
            (Some(map), _, Some(client)) => {
                let (namespace, name) = map.split_once('/').unwrap_or((&shape.namespace, map));
                let good = namespace_of(namespace).is_ok() && name.split('.').all(is_label);
                if !good {
                    let text =
                        format!("--addresses {CONFIG_MAP}{map}: that is no ConfigMap's name");
                    return Err(UsageError(text).into());
                }
                Record::ConfigMap(AddressMap::new(client.clone(), namespace, name))
            }
            (_, path, _) => Record::File(AddressFile::new(path.as_deref().unwrap_or("".as_ref()))),
        };
        let destination = match (client, &shape.exporter, self.to_dir.as_deref()) {
            (Some(client), Some(exporter), _) => {
                let cluster = Cluster::new(&self.importing, client, &shape.namespace, exporter);
                Destination::Cluster(cluster)
            }
            (_, _, Some(folder)) => Destination::Folder(Folder::new(folder)),
            _ => Destination::Shown,
        };
        Ok((record, destination))
    }

    /// The importing cluster, if it is given.
    fn importing(&self) -> Option<&Peer> {
        self.cluster.iter().find(|peer| peer.name == self.importing)
    }

    /// The importing cluster's API.
    fn client(&self) -> anyhow::Result<Client> {
        let name = &self.importing;
        let Some(config) = self.importing().and_then(|peer| peer.kubernetes.as_ref()) else {
            let flag = if self.apply { "--apply" } else { "--addresses configmap:" };
            let text = format!(
                "{flag} needs the API of the importing cluster: --cluster {name}=kubeconfig:FILE"
            );
            return Err(UsageError(text).into());
        };
        Client::open(config).with_context(|| format!("--cluster {name}"))
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
    if args.watch {
        crate::telemetry::start(settings.log.format, &settings.log.level)?;
        return watch::run(&export, args.importing(), args.status, reader);
    }
    let mut views: Vec<View> = Vec::new();
    let mut broken = false;
    for peer in &export.peers {
        let (store, changes, api) = read(peer, peer.open(), &mut broken)?;
        let mut view = reader(peer).take(&store, &changes);
        view.doubt(&peer.name, api.as_deref());
        views.push(view);
    }
    let taken = match args.importing() {
        Some(peer) => {
            let store = read(peer, peer.open_importing(), &mut broken)?.0;
            Taken::of_store(&store, export.shape.exporter.as_deref())
        }
        None => Taken::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(export.run(&views, &taken, !args.check))?;
    for remark in show::range_remark(export.range).iter().chain(&done.remarks) {
        eprintln!("{}", line(remark));
    }
    show::show(args, &export, &done)?;
    let failed = done.remarks.iter().any(|remark| remark.severity == Severity::Error);
    let up_to_date = !args.check || done.is_nothing();
    Ok(up_to_date && !broken && !failed)
}

/// The manifests of one cluster, and how well its API is followed; their problems are printed.
fn read(
    peer: &Peer,
    source: Result<crate::manifests::Sources, SourceError>,
    broken: &mut bool,
) -> anyhow::Result<(Store, Changes, Option<Arc<Health>>)> {
    let in_cluster = || format!("--cluster {}", peer.name);
    let source = source.with_context(in_cluster)?;
    let api = source.kubernetes();
    let mut store = Store::new();
    let tell = |why: &str| eprintln!("waiting: {}: {}", peer.name, line(&why));
    let changes = store.apply(source.load_once(PATIENCE, tell).with_context(in_cluster)?);
    for problem in store.problems() {
        // Notes are of kinds that are not read: most of a cluster.
        if problem.severity != Severity::Note {
            eprintln!("{}: {}", peer.name, line(&problem));
        }
        *broken |= problem.severity == Severity::Error;
    }
    Ok((store, changes, api))
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

fn namespace_of(text: &str) -> Result<String, String> {
    if is_label(text) { Ok(text.to_owned()) } else { Err("that is no namespace".to_owned()) }
}

/// The value of a label, and no more than a namespace may be.
fn exporter(text: &str) -> Result<String, String> {
    match text.len() {
        _ if is_label(text) => Ok(text.to_owned()),
        bytes if bytes > LABEL_BYTES_MAX => {
            Err(format!("it has {bytes} characters: write at most {LABEL_BYTES_MAX}"))
        }
        _ => Err("write small letters, digits and - inside".to_owned()),
    }
}

fn is_label(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good = (1..=LABEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(inside);
    good && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests;
