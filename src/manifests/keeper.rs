//! The thread that reads manifests, follows them, and lets somebody make something of them.
//!
//! Gateway, DNS, sidecar and export each keep something up to date with objects: here is the loop
//! that they share. Must not know: where objects come from, what is made of them.

use std::{io, thread::JoinHandle, time::Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Changes, Problem, Severity, Source, Store, Update};

/// Somebody who makes something of objects. Lives on the keeper's thread.
pub trait Keep: Send + 'static {
    /// What other threads may ask of it.
    type Ask: Send + 'static;

    /// True when notes, such as "a kind that is not used", are worth a line at level info. One who
    /// reads a single kind has no interest in them.
    const NOTES_ARE_NEWS: bool;

    /// Sources were read: these objects are not as they were. Called for the first load
    /// whatever it found, and then for each update, some of which change nothing.
    fn changed(&mut self, store: &Store, changes: &Changes);

    /// Answers a question, or takes a fact in.
    fn asked(&mut self, store: &Store, ask: Self::Ask);

    /// When [`Self::alarmed`] is to be called, if nothing else happens before.
    fn alarm(&self) -> Option<Instant> {
        None
    }

    /// The time of [`Self::alarm`] has come.
    fn alarmed(&mut self, _: &Store) {}
}

/// The thread, and the way to ask it.
#[derive(Debug)]
pub struct Keeper<A> {
    asks: Asks<A>,
    loaded: watch::Receiver<bool>,
    thread: JoinHandle<()>,
}

/// The way to ask it.
#[derive(Debug)]
pub struct Asks<A>(mpsc::UnboundedSender<Message<A>>);

#[derive(Debug)]
enum Message<A> {
    Ask(A),
    /// Look at every file again; answered when that is done.
    Rescan(oneshot::Sender<()>),
    Quit,
}

impl<A: Send + 'static> Keeper<A> {
    /// Starts a thread of this name, which begins with the first load. Until that is done it
    /// answers, and knows nothing.
    ///
    /// # Errors
    /// When there can be no such thread.
    pub fn start(name: &str, source: impl Source, keep: impl Keep<Ask = A>) -> io::Result<Self> {
        let (asks, inbox) = mpsc::unbounded_channel();
        let (on_load, loaded) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let held = Held { source, keep, store: Store::new(), problems: Vec::new() };
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || runtime.block_on(held.run(inbox, on_load)))?;
        Ok(Self { asks: Asks(asks), loaded, thread })
    }

    /// Turns true with the first load; closed when the thread ended.
    #[must_use]
    pub fn loaded(&self) -> watch::Receiver<bool> {
        self.loaded.clone()
    }

    /// The way to ask it, for others.
    #[must_use]
    pub fn asks(&self) -> Asks<A> {
        self.asks.clone()
    }

    /// Looks at every file again, and waits until that is done.
    pub async fn rescan(&self) {
        let (done, when_done) = oneshot::channel();
        let _ = self.asks.0.send(Message::Rescan(done));
        let _ = when_done.await;
    }

    /// Ends the thread and waits for that.
    pub fn stop(self) {
        let _ = self.asks.0.send(Message::Quit);
        // It has nothing to lose: a panic there was said by the panic hook.
        let _ = self.thread.join();
    }
}

impl<A> Asks<A> {
    /// Asks. When the thread has ended, nobody answers.
    pub fn ask(&self, ask: A) {
        let _ = self.0.send(Message::Ask(ask));
    }
}

impl<A> Clone for Asks<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What the thread holds.
struct Held<S, K> {
    source: S,
    keep: K,
    store: Store,
    /// As they were told last, sorted: each is logged once when it comes and once when it goes.
    problems: Vec<Problem>,
}

impl<S: Source, K: Keep> Held<S, K> {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Message<K::Ask>>,
        loaded: watch::Sender<bool>,
    ) {
        let update = loop {
            tokio::select! {
                update = self.source.load() => break update,
                message = inbox.recv() => match message {
                    Some(Message::Ask(ask)) => self.keep.asked(&self.store, ask),
                    // Everything is being looked at.
                    Some(Message::Rescan(done)) => _ = done.send(()),
                    Some(Message::Quit) | None => return,
                },
            }
        };
        self.take(update);
        let _ = loaded.send(true);
        loop {
            let alarm = self.keep.alarm();
            tokio::select! {
                update = self.source.changed() => self.take(update),
                () = sleep_until(alarm) => self.keep.alarmed(&self.store),
                message = inbox.recv() => match message {
                    Some(Message::Ask(ask)) => self.keep.asked(&self.store, ask),
                    Some(Message::Rescan(done)) => {
                        let update = self.source.rescan().await;
                        self.take(update);
                        let _ = done.send(());
                    }
                    Some(Message::Quit) | None => return,
                },
            }
        }
    }

    fn take(&mut self, update: Update) {
        let changes = self.store.apply(update);
        if changes.problems {
            self.log_problems();
        }
        self.keep.changed(&self.store, &changes);
    }

    fn log_problems(&mut self) {
        let mut problems = self.store.problems();
        problems.sort_unstable();
        let before = std::mem::replace(&mut self.problems, problems);
        for problem in self.problems.iter().filter(|p| before.binary_search(p).is_err()) {
            match problem.severity {
                Severity::Error => tracing::error!("{problem}"),
                Severity::Warning => tracing::warn!("{problem}"),
                Severity::Note if K::NOTES_ARE_NEWS => tracing::info!("{problem}"),
                Severity::Note => tracing::debug!("{problem}"),
            }
        }
        for problem in before.iter().filter(|p| self.problems.binary_search(p).is_err()) {
            tracing::info!("no more: {problem}");
        }
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as sync_mpsc;

    use super::*;
    use crate::manifests::Directories;

    /// Tells of each call.
    struct Teller(sync_mpsc::Sender<String>, Option<Instant>);

    impl Keep for Teller {
        type Ask = &'static str;
        const NOTES_ARE_NEWS: bool = false;

        fn changed(&mut self, store: &Store, changes: &Changes) {
            let files = store.files();
            let _ = self.0.send(format!("{files} files, {} added", changes.added.len()));
        }

        fn asked(&mut self, _: &Store, ask: &'static str) {
            self.1 = Some(Instant::now());
            let _ = self.0.send(ask.to_owned());
        }

        fn alarm(&self) -> Option<Instant> {
            self.1
        }

        fn alarmed(&mut self, _: &Store) {
            self.1 = None;
            let _ = self.0.send("alarm".to_owned());
        }
    }

    #[test]
    fn a_load_a_question_an_alarm_and_a_rescan_reach_who_keeps() {
        let directory = tempfile::tempdir().expect("a directory");
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
        std::fs::write(directory.path().join("a.yaml"), namespace).expect("written");
        let directories = Directories::open(&[directory.path()]).expect("opened");
        let (teller, told) = sync_mpsc::channel();
        let keeper = Keeper::start("k", directories, Teller(teller, None)).expect("started");
        assert_eq!(told.recv().expect("load"), "1 files, 1 added");
        keeper.asks().ask("question");
        assert_eq!(told.recv().expect("question"), "question");
        assert_eq!(told.recv().expect("alarm"), "alarm");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            keeper.loaded().wait_for(|loaded| *loaded).await.expect("loaded");
            keeper.rescan().await;
        });
        assert_eq!(told.recv().expect("rescan"), "1 files, 0 added");
        keeper.stop();
        assert!(told.recv().is_err(), "the thread ended");
    }
}
