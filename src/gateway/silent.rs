//! The connections of a worker that have sent no whole ClientHello yet, in the order they came.
//!
//! A stranger can have any number of these for nothing. So they are bounded: at the bound the one
//! that waits for longest makes room, since an honest client's second segment comes within a round
//! trip, and under memory pressure the newest go first. They share one timer, which is set for the
//! oldest: their time is over in the order in which they came. Must not know: what a ClientHello is.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    outcome::Outcome,
    registry::{Connection, Signal},
    worker::Worker,
};

/// Those that wait, by order of arrival.
#[derive(Debug, Default)]
pub(super) struct Silent {
    next: Cell<u64>,
    all: RefCell<BTreeMap<u64, Entry>>,
    told: Cell<usize>,
}

#[derive(Debug)]
struct Entry {
    connection: Rc<Connection>,
    /// It was told to go, and does when its task comes round to it.
    told: bool,
}

/// A place among those that wait; left when dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    silent: &'a Silent,
    number: u64,
}

impl Silent {
    pub(super) fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Adds one; beyond `max` the one that has waited for longest is shed.
    pub(super) fn enter(&self, connection: &Rc<Connection>, max: usize) -> Place<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        let entry = Entry { connection: Rc::clone(connection), told: false };
        let mut all = self.all.borrow_mut();
        all.insert(number, entry);
        if all.len() - self.told.get() > max
            && let Some(oldest) = all.values_mut().find(|entry| !entry.told)
        {
            self.tell(oldest, Outcome::ShedHellos);
        }
        Place { silent: self, number }
    }

    /// Since when the oldest waits.
    fn oldest(&self) -> Option<Instant> {
        let all = self.all.borrow();
        all.values().find(|entry| !entry.told).map(|entry| entry.connection.accepted)
    }

    /// Ends those that were accepted `timeout` ago.
    fn end_late(&self, timeout: Duration, now: Instant) {
        let is_late =
            |entry: &Entry| now.saturating_duration_since(entry.connection.accepted) >= timeout;
        let mut all = self.all.borrow_mut();
        let waiting = all.values_mut().filter(|entry| !entry.told);
        for entry in waiting.take_while(|entry| is_late(entry)) {
            self.tell(entry, Outcome::HelloTimeout);
        }
    }

    /// Sheds the newest half, at least one.
    fn shed_newest(&self) {
        let mut all = self.all.borrow_mut();
        let half = (all.len() - self.told.get()).div_ceil(2);
        for entry in all.values_mut().rev().filter(|entry| !entry.told).take(half) {
            self.tell(entry, Outcome::ShedMemory);
        }
    }

    fn tell(&self, entry: &mut Entry, outcome: Outcome) {
        entry.told = true;
        self.told.set(self.told.get() + 1);
        entry.connection.signal(Signal::Cut(outcome));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.silent.all.borrow_mut().remove(&self.number).is_some_and(|entry| entry.told) {
            self.silent.told.set(self.silent.told.get() - 1);
        }
    }
}

/// Ends each whose time is over, for as long as the worker lives.
pub(super) async fn end_late(worker: Rc<Worker>) {
    let (silent, timeout) = (worker.silent(), worker.config().sniff.timeout);
    loop {
        // Whoever comes while nobody waits is not due before that either.
        let due = silent.oldest().unwrap_or_else(Instant::now) + timeout;
        tokio::time::sleep_until(due.into()).await;
        silent.end_late(timeout, Instant::now());
    }
}

/// At each tick: while memory is short, half of those that wait go.
pub(super) fn relieve(worker: &Worker) {
    if worker.shared().pressure.memory_is_short() {
        worker.silent().shed_newest();
    }
}
