//! `diolkos sidecar`: serve an application until told to stop. Must not know: how connections go.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{directories, layered, list, status::Status, text};
use crate::{
    admin::{Port, Readiness, Server},
    app,
    config::{Settings, SettingsError, Sources, types::Listen},
    metrics::Metrics,
    sidecar::{Running, State},
    telemetry,
};

/// Arguments of `diolkos sidecar`.
#[derive(Debug, Default, Args)]
#[command(after_long_help = "\
Outbound: for every port of every ServiceEntry in the mesh it listens on the entry's addresses, and
connects what comes in to one of the entry's endpoints, in mutual TLS with the SNI that a gateway
reads. Linux has all of 127.0.0.0/8 on loopback, 127.255.0.0/16 included; for another range first
`ip route add local 240.240.0.0/16 dev lo`. An address that cannot be bound is told and tried again,
the rest serve. The server's certificate must lead to our root and, where the entry or its
DestinationRule has subjectAltNames, be one of those; where there are none, any of our root is
taken. A gateway passes TLS through, so the certificate seen is that of the pod behind it. The
policy of the DestinationRule holds; an endpoint that fails gives way to the next.

Inbound: mutual TLS that arrives at --inbound is ended there; the peer must show a certificate that
leads to our root, and be one of --allow-principal if there is any. Plain bytes go to the
application.

Istio chooses a subset by VirtualService, which is not read: --subset says it. ALPN is istio, never
istio-peer-exchange. One line of the log tells of each connection at its end.

Settings are those of the gateway's file, sections sidecar, manifests, outlier_detection, resolver
and log. SIGTERM stops accepting and gives live connections sidecar.drain to finish; a second one
ends it at once. SIGHUP looks at manifests, certificates and addresses again.

Examples:
  diolkos sidecar --certs certs/cluster1/workloads/ns1.sleep --manifests /etc/diolkos/manifests
  diolkos sidecar --certs certs/cluster2/workloads/ns2.bar --inbound 15006=8080
  diolkos sidecar --certs a --inbound 15006=8080 --allow-principal 'spiffe://cluster.local/ns/ns1/*'
  diolkos sidecar --certs a --manifests b --subset bar.ns2.global=v1 --status 127.0.0.1:15020")]
pub struct SidecarArgs {
    /// Settings file; what it leaves out has its default.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of cert-chain.pem, key.pem and root-cert.pem; they are read again when they change.
    #[arg(long, value_name = "DIR")]
    pub certs: Option<PathBuf>,
    /// Directory of manifests with ServiceEntries, watched; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub manifests: Vec<PathBuf>,
    /// Take mutual TLS at FROM and give plain bytes to TO, each IP:PORT or a port; may be repeated.
    #[arg(long, value_name = "FROM=TO")]
    pub inbound: Vec<String>,
    /// Identity that may come in, exact or with * at its end; may be repeated [default: all].
    #[arg(long, value_name = "SPIFFE")]
    pub allow_principal: Vec<String>,
    /// Ask for this subset of a host; may be repeated.
    #[arg(long, value_name = "HOST=SUBSET")]
    pub subset: Vec<String>,
    /// Address of readiness and scrape over HTTP, or off [default: off].
    #[arg(long, value_name = "ADDR")]
    pub status: Option<Listen>,
    /// Any setting; may be repeated, the last one wins.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl SidecarArgs {
    /// The layers that these arguments add to `base`.
    ///
    /// # Errors
    /// When a `--set` is not `KEY=VALUE`.
    pub fn sources(&self, base: Sources) -> Result<Sources, SettingsError> {
        let certs = self.certs.as_ref().map(|dir| dir.to_string_lossy());
        let flags = [
            directories(&self.manifests),
            list("--inbound", "sidecar.inbound", &self.inbound),
            list("--allow-principal", "sidecar.allow_principals", &self.allow_principal),
            list("--subset", "sidecar.subsets", &self.subset),
            text("--certs", "sidecar.certs", certs.as_ref()),
            text("--status", "sidecar.status", self.status.as_ref()),
        ];
        layered(base, self.config.as_ref(), &self.set, flags)
    }
}

pub(super) fn run(args: &SidecarArgs) -> anyhow::Result<bool> {
    let settings = Settings::load(&args.sources(Sources::of_this_process())?)?;
    telemetry::start(settings.log.format, &settings.log.level)?;
    let mut metrics = Metrics::new();
    // First of all, so that listeners of ServiceEntries cannot take its descriptor.
    let port = status_port(settings.sidecar.status)?;
    let running = app::sidecar::start(&settings, &mut metrics)?;
    for address in running.inbound() {
        tracing::info!(%address, identity = running.identity(), "listening for inbound");
    }
    let state = running.state();
    let shown = state.clone();
    let readiness = move || {
        let obstacles = state.obstacles();
        let ready = obstacles.is_empty();
        Readiness { ready, reasons: obstacles.into_iter().chain(state.remarks()).collect() }
    };
    let status = Arc::new(Status::new("a sidecar", metrics, readiness));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(&running, &status, (port, &shown)))?;
    status.leave();
    tracing::info!(drain = ?settings.sidecar.drain, "live connections may finish");
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stopping = tokio::task::spawn_blocking(|| running.stop());
        tokio::select! {
            _ = stopping => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        anyhow::Ok(())
    })?;
    runtime.shutdown_background();
    tracing::info!("ended");
    Ok(true)
}

/// Takes the address of readiness and scrape.
fn status_port(at: Listen) -> anyhow::Result<Option<Server>> {
    let Listen::At(address) = at else { return Ok(None) };
    let server = Server::bind(address).with_context(|| {
        format!("cannot listen on {address} (sidecar.status); give another address, or off")
    })?;
    Ok(Some(server))
}

/// Until a signal, or a command on the status port, says otherwise.
async fn serve(
    running: &Running,
    status: &Arc<Status>,
    (port, state): (Option<Server>, &State),
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    if let Some(server) = port {
        tracing::info!(address = %server.address(), "listening for readiness and scrapes");
        tokio::spawn(server.run(Port::Agent, Arc::clone(status) as _));
    }
    let mut served = running.served();
    let mut is_serving = false;
    let mut told = None;
    loop {
        tokio::select! {
            done = served.wait_for(|served| *served), if !is_serving => {
                done.context("the manifests could not be loaded")?;
                is_serving = true;
            }
            () = tokio::time::sleep(LOOK_EVERY), if is_serving => {}
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = status.told_to_quit() => return Ok(()),
            _ = hangup.recv() => {
                running.rescan().await;
                tracing::info!("manifests, certificates and addresses were looked at again");
            }
        }
        if is_serving {
            tell_readiness(state, &mut told);
        }
    }
}

/// Between two looks at whether it is ready, for the log.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Logs whether it is ready, when that is news.
fn tell_readiness(state: &State, told: &mut Option<Vec<String>>) {
    let obstacles = state.obstacles();
    if told.as_ref() == Some(&obstacles) {
        return;
    }
    let (listening, wanted) = state.counts();
    match &obstacles[..] {
        [] => tracing::info!("ready: {listening} of {wanted} addresses are listened on"),
        all => tracing::warn!("not ready: {}", all.join("; ")),
    }
    *told = Some(obstacles);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{Cli, Command},
        config::file::Sidecar,
    };
    use clap::Parser as _;

    fn settings(line: &str) -> Result<Sidecar, SettingsError> {
        let Ok(Cli { command: Command::Sidecar(args) }) =
            Cli::try_parse_from(line.split_whitespace())
        else {
            panic!("{line} is sidecar")
        };
        Ok(Settings::load(&args.sources(Sources::default())?)?.sidecar)
    }

    #[test]
    fn flags_become_settings() {
        assert_eq!(settings("diolkos sidecar").expect("defaults"), Sidecar::default());
        let given = settings(
            "diolkos sidecar --certs a/b --inbound 15006=8080 --inbound 127.0.0.1:0=[::1]:1 \
             --allow-principal spiffe://a/* --subset bar.ns2.global=V1 --status 127.0.0.1:1 \
             --set sidecar.drain=1s",
        );
        let given = given.expect("valid");
        assert_eq!(given.certs, PathBuf::from("a/b"));
        assert_eq!(given.inbound, ["15006=8080", "127.0.0.1:0=[::1]:1"]);
        assert_eq!(given.allow_principals, ["spiffe://a/*"]);
        let (host, subset) = Sidecar::subset(&given.subsets[0]).expect("a subset");
        assert_eq!((host.as_str(), &*subset), ("bar.ns2.global", "v1"));
        assert_eq!((given.status.to_string(), given.drain.as_secs()), ("127.0.0.1:1".into(), 1));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (flag, expected) in [
            ("--inbound 15006", "FROM=TO"),
            ("--subset bar.ns2.global", "HOST=SUBSET"),
            ("--allow-principal a*b", "beginning of one"),
            ("--allow-principal foo", "\"foo\" is no identity"),
            ("--inbound 127.0.0.1:1=127.0.0.1:1", "leads to itself"),
            ("--inbound 0=0", "TO wants a port"),
        ] {
            let error = settings(&format!("diolkos sidecar {flag}")).expect_err(flag);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
