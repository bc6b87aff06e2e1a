//! `diolkos dns`: answer until told to stop, or print what a cluster's DNS is told. Must not know:
//! how names are answered.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::{directories, layered, list, status::Status, text};
use crate::{
    admin::{Port, Readiness, Server},
    config::{
        Settings, SettingsError, Sources,
        file::Dns,
        types::{Listen, address},
    },
    dns::{self, DnsName, Running, Stub},
    metrics::Metrics,
    telemetry,
};

/// Arguments of `diolkos dns`.
#[derive(Debug, Default, Args)]
#[command(after_long_help = "\
Authoritative for its suffixes and for nothing else: A and AAAA from spec.addresses of every
ServiceEntry, wildcards as RFC 4592 has them. Before the manifests are read it answers SERVFAIL.
A change of them is answered within a second; resolvers keep what they have for dns.ttl.

A cluster's DNS is told with what --print-stub prints. Short names such as bar.ns2 are found by the
search list of the client: pods need `global` and `<namespace>.global` in dnsConfig.searches.

Settings are those of the gateway's file, sections dns, manifests and log. SIGTERM ends it at once;
SIGHUP reads every manifest again.

Examples:
  diolkos dns --manifests /etc/diolkos/manifests
  diolkos dns --manifests a --listen 10.0.0.7:53 --suffix global --suffix mesh.example
  diolkos dns --manifests a --status 127.0.0.1:15020
  diolkos dns --print-stub coredns --listen 10.96.0.20:53")]
pub struct DnsArgs {
    /// Settings file; what it leaves out has its default.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of manifests with ServiceEntries, watched; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub manifests: Vec<PathBuf>,
    /// Address on which queries arrive; may be repeated [default: 127.0.0.1:15053].
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub listen: Vec<SocketAddr>,
    /// What is answered for; may be repeated [default: global].
    #[arg(long, value_name = "NAME")]
    pub suffix: Vec<String>,
    /// Address of readiness and scrape over HTTP, or off [default: off].
    #[arg(long, value_name = "ADDR")]
    pub status: Option<Listen>,
    /// Print what makes this DNS of a cluster ask us at --listen, and stop.
    #[arg(long, value_name = "DNS")]
    pub print_stub: Option<StubName>,
    /// Any setting; may be repeated, the last one wins.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// The DNS of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StubName {
    /// A server block for the Corefile.
    Coredns,
    /// The ConfigMap of kube-dns.
    KubeDns,
}

impl DnsArgs {
    /// The layers that these arguments add to `base`.
    ///
    /// # Errors
    /// When a `--set` is not `KEY=VALUE`.
    pub fn sources(&self, base: Sources) -> Result<Sources, SettingsError> {
        let suffixes = self.suffix.iter().map(|s| s.trim_matches('.').to_lowercase());
        let flags = [
            directories(&self.manifests),
            list("--listen", "dns.listen", &self.listen),
            list("--suffix", "dns.suffixes", &suffixes.collect::<Vec<_>>()),
            text("--status", "dns.status", self.status.as_ref()),
        ];
        layered(base, self.config.as_ref(), &self.set, flags)
    }
}

pub(super) fn run(args: &DnsArgs) -> anyhow::Result<bool> {
    let settings = Settings::load(&args.sources(Sources::of_this_process())?)?;
    let config = config(&settings.dns)?;
    if let Some(name) = args.print_stub {
        let stub = match name {
            StubName::Coredns => Stub::CoreDns,
            StubName::KubeDns => Stub::KubeDns,
        };
        let text = dns::stub::text(stub, &config.suffixes, config.listen[0]);
        telemetry::stdout().write_all(text.as_bytes())?;
        return Ok(true);
    }
    telemetry::start(settings.log.format, &settings.log.level)?;
    if settings.manifests.directories.is_empty() {
        tracing::warn!("no manifests are given (--manifests DIR): no name exists");
    }
    let mut metrics = Metrics::new();
    let running = dns::start(&config, &settings.manifests.directories, &mut metrics)?;
    for address in running.addresses() {
        tracing::info!(%address, suffixes = ?settings.dns.suffixes, "listening for DNS");
    }
    let loaded = running.loaded();
    let readiness = move || {
        let ready = *loaded.borrow();
        let waiting = (!ready).then(|| "the manifests are not loaded yet".to_owned());
        Readiness { ready, reasons: waiting.into_iter().collect() }
    };
    let status = Arc::new(Status::new("a DNS server", metrics, readiness));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(&running, &status, settings.dns.status))?;
    running.stop();
    tracing::info!("ended");
    Ok(true)
}

fn config(settings: &Dns) -> anyhow::Result<dns::Config> {
    let suffix = |text: &String| {
        DnsName::parse(text)
            .with_context(|| format!("dns.suffixes: {text:?} is no DNS name: it is too long"))
    };
    Ok(dns::Config {
        listen: settings.listen.clone(),
        suffixes: settings.suffixes.iter().map(suffix).collect::<Result<_, _>>()?,
        ttl: settings.ttl,
        tcp_connections_max: settings.tcp_connections_max,
        tcp_timeout: settings.tcp_timeout,
    })
}

/// Until a signal, or a command on the status port, says otherwise.
async fn serve(running: &Running, status: &Arc<Status>, at: Listen) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    if let Listen::At(address) = at {
        let server = Server::bind(address).with_context(|| {
            format!("cannot listen on {address} (dns.status); give another address, or off")
        })?;
        tracing::info!(address = %server.address(), "listening for readiness and scrapes");
        tokio::spawn(server.run(Port::Agent, Arc::clone(status) as _));
    }
    let mut loaded = running.loaded();
    let mut is_ready = false;
    loop {
        tokio::select! {
            done = loaded.wait_for(|loaded| *loaded), if !is_ready => {
                done.context("the manifests could not be loaded")?;
                is_ready = true;
                tracing::info!("ready: the manifests are loaded");
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = status.told_to_quit() => return Ok(()),
            _ = hangup.recv() => {
                running.rescan().await;
                tracing::info!("manifests were read again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn settings(line: &str) -> Dns {
        let Ok(Cli { command: Command::Dns(args) }) = Cli::try_parse_from(line.split_whitespace())
        else {
            panic!("{line} is dns")
        };
        Settings::load(&args.sources(Sources::default()).expect("valid")).expect("valid").dns
    }

    #[test]
    fn flags_become_settings() {
        assert_eq!(settings("diolkos dns"), Dns::default());
        let given = settings(
            "diolkos dns --listen 127.0.0.1:0 --listen [::1]:53 --suffix .Global. --suffix a.b \
             --status 127.0.0.1:1 --set dns.ttl=5s",
        );
        assert_eq!(given.listen, ["127.0.0.1:0", "[::1]:53"].map(|a| a.parse().expect("address")));
        assert_eq!(given.suffixes, ["global", "a.b"]);
        assert_eq!(given.status.to_string(), "127.0.0.1:1");
        assert_eq!(given.ttl.as_secs(), 5);
    }

    #[test]
    fn a_suffix_that_no_packet_can_hold_is_refused() {
        let suffixes = vec!["a".repeat(64)];
        let error = config(&Dns { suffixes, ..Dns::default() }).expect_err("too long");
        assert!(error.to_string().starts_with("dns.suffixes: "), "{error}");
    }
}
