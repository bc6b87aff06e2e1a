//! A small cluster on loopback, a gateway in front of it, and calls straight to that.
//!
//! Stands on `certs`, and on a gateway that the caller starts, as any user would. Must not know:
//! how a gateway is built.
//!
//! The story: certificates and manifests are made in a directory; five pods start; the gateway is
//! started on the manifests; a client in another cluster makes the calls of [`calls::CALLS`], and
//! each is compared with what should come of it.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::ensure;
use tokio::{sync::mpsc::UnboundedReceiver, time::timeout};

pub mod calls;
pub mod client;
pub mod material;
pub mod pods;
pub mod print;

use super::{Place, print::Printer};
use calls::{CALLS, Ways};
use material::{Material, write_manifests};
use pods::Pods;

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct DemoArgs {
    /// Return after the calls instead of running on.
    pub once: bool,
    /// Where the gateway listens; an address on loopback, as the pods are.
    pub listen: SocketAddr,
    /// Leave certificates and manifests here, instead of in a temporary directory.
    pub keep: Option<PathBuf>,
}

impl Default for DemoArgs {
    fn default() -> Self {
        let listen = (Ipv4Addr::LOCALHOST, 15443).into();
        Self { once: false, listen, keep: None }
    }
}

/// A gateway in this process that accepts connections and has loaded its manifests.
pub struct RunningGateway {
    /// Where it listens, with the real port.
    pub address: SocketAddr,
    /// One line for each connection, sent when the connection has ended: an access log for people.
    pub decisions: UnboundedReceiver<String>,
    /// Ends it.
    pub stop: Box<dyn FnOnce()>,
}

impl fmt::Debug for RunningGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningGateway").field("address", &self.address).finish_non_exhaustive()
    }
}

/// All calls together may take this long: the demo never hangs.
const CALLS_TIMEOUT: Duration = Duration::from_secs(30);

/// Plays the story on standard output. True when every call went as it should; `None` when it was
/// told to end before all were made.
///
/// `start_gateway` gets the directory of manifests and the address to listen on. The gateway's
/// labels must hold `istio: ingressgateway`, and its namespace must not be `ns2`. `stopped` is over
/// when it is told to end.
pub fn run(
    args: &DemoArgs,
    start_gateway: impl FnOnce(&Path, SocketAddr) -> anyhow::Result<RunningGateway>,
    stopped: impl Future,
) -> anyhow::Result<Option<bool>> {
    play(args, start_gateway, Printer::stdout(), stopped)
}

fn play(
    args: &DemoArgs,
    start_gateway: impl FnOnce(&Path, SocketAddr) -> anyhow::Result<RunningGateway>,
    mut printer: Printer,
    stopped: impl Future,
) -> anyhow::Result<Option<bool>> {
    ensure!(
        args.listen.ip().is_loopback(),
        "the demo's pods are on loopback, so its gateway must be too: --listen 127.0.0.1:{}",
        args.listen.port()
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let place = Place::open(args.keep.as_deref())?;
    let dir = place.path();
    let material = Material::make(SystemTime::now())?;
    material.write(dir)?;
    let pods = runtime.block_on(Pods::start(material.bar_tls()?, material.secret_tls()?))?;
    let manifests = write_manifests(dir, pods.port())?;
    let gateway =
        start_gateway(&manifests, args.listen).map_err(|e| did_not_start(e, args.listen))?;
    let _stop = Stop(Some(gateway.stop));
    introduce(&mut printer, &manifests, &pods, gateway.address)?;
    let mut ways = Ways::new(gateway.address, gateway.decisions, &pods, &material);
    runtime.block_on(async {
        tokio::pin!(stopped);
        let good = tokio::select! {
            good = all_calls(&mut ways, &mut printer) => good?,
            _ = &mut stopped => {
                printer.line("Stopped before all calls were made.")?;
                return Ok(None);
            }
        };
        if !args.once {
            print::by_hand(&mut printer, gateway.address, dir)?;
            tokio::select! {
                told = tell_decisions(ways.into_decisions(), &mut printer) => told?,
                _ = &mut stopped => {}
            }
        }
        Ok(Some(good))
    })
}

fn introduce(
    printer: &mut Printer,
    manifests: &Path,
    pods: &Pods,
    gateway: SocketAddr,
) -> io::Result<()> {
    printer.fact("manifests", manifests.display())?;
    printer.fact("caller", material::CALLER)?;
    for pod in pods::BAR {
        printer.fact("pod", format!("{:<8} {}", pod.name, pods.address(pod)))?;
    }
    printer.fact("gateway", gateway)?;
    printer.line("")
}

async fn all_calls(ways: &mut Ways<'_>, printer: &mut Printer) -> anyhow::Result<bool> {
    let mut wrong = 0;
    let calls = async {
        for call in &CALLS {
            let outcome = ways.make(call).await?;
            wrong += usize::from(!outcome.good);
            print::outcome(printer, call, &outcome)?;
        }
        anyhow::Ok(())
    };
    let in_time = timeout(CALLS_TIMEOUT, calls).await;
    let seconds = CALLS_TIMEOUT.as_secs();
    match in_time {
        Ok(made) => made?,
        Err(_) => {
            printer.line(&format!(
                "\nWRONG: the calls were not done after {seconds} s and were given up"
            ))?;
            return Ok(false);
        }
    }
    match wrong {
        0 => printer.line(&format!("\nAll {} as they should be.", CALLS.len()))?,
        n => printer.line(&format!("\nWRONG: {n} of {}.", CALLS.len()))?,
    }
    Ok(wrong == 0)
}

/// Says what the gateway decides about calls that somebody makes by hand; ends only in an error.
async fn tell_decisions(
    mut decisions: UnboundedReceiver<String>,
    printer: &mut Printer,
) -> io::Result<()> {
    while let Some(decision) = decisions.recv().await {
        printer.fact("gateway", decision.trim_end())?;
    }
    Err(io::Error::other("the gateway has ended by itself; its log says why"))
}

fn did_not_start(error: anyhow::Error, listen: SocketAddr) -> anyhow::Error {
    let in_use = error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|e| e.kind() == io::ErrorKind::AddrInUse)
    });
    if in_use {
        error.context(format!("{listen} is in use; --listen 127.0.0.1:0 takes any free port"))
    } else {
        error.context("the gateway did not start")
    }
}

/// Ends the gateway on every way out.
struct Stop(Option<Box<dyn FnOnce()>>);

impl Drop for Stop {
    fn drop(&mut self) {
        if let Some(stop) = self.0.take() {
            stop();
        }
    }
}

#[cfg(test)]
mod tests;
