//! What is known of the process as a whole: loaded, selected, draining; the last load's problems.
//!
//! Written by the discovery thread and the shutdown, read by the views. A reader never waits for a
//! load. Must not know: how it is shown.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{
    admin::Readiness,
    discovery::{Selection, Summary},
    manifests::{Kind, Problem, Severity, kubernetes::Health},
};

/// The state of the process.
#[derive(Debug)]
pub(super) struct Status {
    require_selection: bool,
    /// The Kubernetes API, where it is followed.
    kubernetes: Option<Arc<Health>>,
    state: Mutex<State>,
}

/// One moment of it.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// When the manifests were last read; `None` before the first load.
    pub(super) read: Option<Instant>,
    pub(super) problems: Arc<[Problem]>,
    pub(super) selection: Selection,
    pub(super) generation: u64,
    pub(super) report: Arc<Report>,
    accepting: bool,
    draining: bool,
}

/// What takes a walk over everything to know; follows a change a little later.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) summary: Summary,
    pub(super) findings: Vec<String>,
    pub(super) left_out: Vec<String>,
    pub(super) objects: Vec<(Kind, usize)>,
}

impl Status {
    pub(super) fn new(require_selection: bool, kubernetes: Option<Arc<Health>>) -> Self {
        Self { require_selection, kubernetes, state: Mutex::default() }
    }

    /// How well the Kubernetes API is followed; `None` where it is not.
    pub(super) fn kubernetes(&self) -> Option<&Health> {
        self.kubernetes.as_deref()
    }

    /// The manifests were read, and this is in force. True for the first time.
    pub(super) fn changed(&self, generation: u64, selection: &Selection) -> bool {
        let mut state = self.lock();
        let is_first = state.read.replace(Instant::now()).is_none();
        state.generation = generation;
        if state.selection != *selection {
            state.selection = selection.clone();
        }
        is_first
    }

    /// These are the problems now.
    pub(super) fn problems(&self, mut problems: Vec<Problem>) {
        problems.sort_unstable();
        self.lock().problems = problems.into();
    }

    pub(super) fn report(&self, report: Report) {
        self.lock().report = Arc::new(report);
    }

    pub(super) fn accepting(&self) {
        self.lock().accepting = true;
    }

    pub(super) fn drain(&self) {
        self.lock().draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.lock().draining
    }

    pub(super) fn snapshot(&self) -> State {
        self.lock().clone()
    }

    /// Ready when the first load is done (of the Kubernetes API too, where that is followed), connections are accepted, a Gateway selects us, and we
    /// are not leaving.
    pub(super) fn readiness(&self) -> Readiness {
        let state = self.lock();
        let mut reasons = Vec::new();
        if state.draining {
            reasons.push("draining".to_owned());
        }
        if state.read.is_none() {
            reasons.push("the manifests are being loaded".to_owned());
        } else if !state.accepting {
            reasons.push("workers are being started".to_owned());
        } else if self.require_selection && state.selection.selected.is_empty() {
            reasons.push(format!(
                "{} (gateway.require_selection=false makes it ready all the same)",
                not_selected(&state.selection)
            ));
        }
        let ready = reasons.is_empty();
        reasons.extend(self.kubernetes().map(Health::reasons).unwrap_or_default());
        let broken = state.problems.iter().filter(|p| p.severity == Severity::Error);
        reasons.extend(broken.take(REASONS_MAX).map(ToString::to_string));
        Readiness { ready, reasons }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Broken objects named in the readiness detail; all of them are in `/config_dump`.
const REASONS_MAX: usize = 20;

fn not_selected(selection: &Selection) -> String {
    match &selection.nearest {
        Some(nearest) => {
            format!("no Gateway with an AUTO_PASSTHROUGH server selects us: {nearest}")
        }
        None => "there is no Gateway with an AUTO_PASSTHROUGH server".to_owned(),
    }
}
