//! Signals, and leaving well: not ready, pause, stop accepting, let connections finish, end.
//!
//! Must not know: how connections are served or listeners closed.

use std::time::{Duration, Instant};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use super::{App, control::Order};
use crate::{config::Settings, gateway::outcome::Outcome};

/// How much longer than pause and deadline an end may take: closing listeners takes up to a
/// second, and a last second is left for connections that are cut.
pub(super) const MARGIN: Duration = Duration::from_secs(2);
/// After a second signal.
const HASTE: Duration = Duration::from_millis(500);

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Would end the process if nobody listened.
    user: [Signal; 2],
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    /// SIGTERM or SIGINT.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Listens for signals from the start on: a large load, or an API that is away, takes long. SIGHUP
/// and SIGUSR1/2 change nothing; SIGTERM and SIGINT end the process with 0, since nothing is lost yet.
/// Dropped, it no longer listens; the kernel's handlers stay.
#[derive(Debug)]
pub struct WhileLoading {
    _stop: oneshot::Sender<()>,
}

impl WhileLoading {
    pub(super) fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let mut signals = {
            let _inside = runtime.enter();
            Signals::new()?
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let end = async move {
            tokio::select! {
                biased;
                _ = stopped => {}
                () = signals.end() => {
                    tracing::info!("ended before the first load");
                    std::process::exit(0);
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".into());
        thread.spawn(move || runtime.block_on(end))?;
        Ok(Self { _stop: stop })
    }
}

/// Runs until told to end, and then leaves. From here on `early` no longer listens.
pub(super) fn serve(mut app: App, early: WhileLoading) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        drop(early);
        wait_for_the_end(&mut app, &mut signals).await;
        leave(&mut app, &mut signals).await;
        anyhow::Ok(())
    })?;
    app.stop();
    tracing::info!("ended");
    Ok(())
}

async fn wait_for_the_end(app: &mut App, signals: &mut Signals) {
    let mut orders = app.control.orders();
    loop {
        let [user1, user2] = &mut signals.user;
        tokio::select! {
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            _ = signals.hangup.recv() => reread(app).await,
            _ = user1.recv() => {}
            _ = user2.recv() => {}
            changed = orders.changed() => {
                let order = *orders.borrow_and_update();
                match order {
                    Order::Quit => return,
                    Order::Drain => {
                        app.status.drain();
                        app.running.stop_accepting().await;
                        // Ends what is quiet, and cuts nothing: the process goes on.
                        app.running.drain(app.settings.drain.deadline, false);
                        tracing::info!(live = app.running.live(), "drained by order: not accepting");
                    }
                    Order::None => {}
                }
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Not ready at once, so that load balancers look elsewhere; still accepting, until they do.
async fn leave(app: &mut App, signals: &mut Signals) {
    let drain = app.settings.drain.clone();
    app.status.drain();
    tracing::info!(live = app.running.live(), pause = ?drain.pause, "leaving: not ready");
    let in_haste = tokio::select! {
        () = tokio::time::sleep(drain.pause) => false,
        () = signals.end() => true,
    };
    if in_haste {
        return hurry(app).await;
    }
    let in_haste = tokio::select! {
        () = app.running.stop_accepting() => false,
        () = signals.end() => true,
    };
    if in_haste {
        return hurry(app).await;
    }
    tracing::info!(live = app.running.live(), deadline = ?drain.deadline, "leaving: not accepting");
    let begun = Instant::now();
    app.running.drain(drain.deadline, true);
    tokio::select! {
        left = app.running.finished(drain.deadline) => {
            let ended_quietly = app.running.handle().ended(Outcome::QuietDrain);
            let took = begun.elapsed();
            tracing::info!(ended_quietly, cut = left, ?took, "leaving: done waiting");
        }
        () = signals.end() => hurry(app).await,
    }
}

/// A second signal: what can be done in half a second.
async fn hurry(app: &mut App) {
    tracing::info!(live = app.running.live(), "leaving at once: second signal");
    let _ = tokio::time::timeout(HASTE, app.running.finished(HASTE)).await;
}

/// SIGHUP: the settings file and every manifest are read again. What only a restart can change is
/// named.
async fn reread(app: &mut App) {
    app.keeper.rescan().await;
    let new = match Settings::load(&app.sources).map_err(anyhow::Error::from) {
        Ok(new) => new,
        Err(error) => {
            tracing::error!("manifests were read again, settings were not: {error:#}");
            return;
        }
    };
    if let Some(level) = &app.level
        && let Err(error) = level.set(&new.log.level)
    {
        tracing::error!(%error, "log.level was not changed");
    }
    let mut comparable = new;
    comparable.log.level.clone_from(&app.settings.log.level);
    comparable.gateway.listen.clone_from(&app.settings.gateway.listen);
    let changed = app.settings.changed_keys(&comparable);
    if changed.is_empty() {
        tracing::info!(log.level = level_now(app), "settings and manifests were read again");
    } else {
        let changed = changed.join(", ");
        tracing::warn!(%changed, "manifests were read again; these settings need a restart");
    }
}

fn level_now(app: &App) -> String {
    app.level.as_ref().map(crate::telemetry::Level::current).unwrap_or_default()
}
