//! What a goal is, and what came of it. Must not know: how anything is measured.

use serde::Serialize;

use super::{Peer, Stage};

/// Something that is to hold when things go wrong.
#[derive(Debug)]
pub(super) struct Goal {
    pub(super) name: &'static str,
    /// What is done, in a few words.
    pub(super) done: &'static str,
    /// The figure to reach.
    pub(super) reach: &'static str,
    pub(super) how: How,
}

/// Puts one gateway through it.
type Measure = fn(&Stage<'_>, Peer) -> anyhow::Result<Cell>;

#[derive(Debug)]
pub(super) enum How {
    /// From outside; rivals too, where that means something.
    Measured { measure: Measure, rivals: bool },
    /// By tests in this file, not here.
    Tested(&'static str),
}

impl Goal {
    pub(super) const fn tested(
        name: &'static str,
        done: &'static str,
        reach: &'static str,
        by: &'static str,
    ) -> Self {
        Self { name, done, reach, how: How::Tested(by) }
    }

    pub(super) fn measure(&self, stage: &Stage<'_>, peer: Peer) -> anyhow::Result<Cell> {
        match self.how {
            How::Measured { measure, .. } => measure(stage, peer),
            How::Tested(by) => Ok(Cell::not(&format!("by test: {by}"))),
        }
    }
}

/// What one gateway made of a goal.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Measured in this run.
    Measured {
        /// The figure.
        figure: String,
        /// Whether it reaches what is to be reached.
        met: bool,
    },
    /// Nothing was measured, and why.
    NotMeasured(String),
}

impl Cell {
    pub(super) fn measured(met: bool, figure: impl Into<String>) -> Self {
        Self::Measured { figure: figure.into(), met }
    }

    pub(super) fn not(why: &str) -> Self {
        Self::NotMeasured(why.to_owned())
    }

    /// It could not be put through it, which is its fault until shown otherwise.
    pub(super) fn missed(error: &anyhow::Error) -> Self {
        Self::measured(false, format!("{error:#}"))
    }
}

/// One goal, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub goal: &'static str,
    /// What was done.
    pub done: &'static str,
    /// The figure to reach.
    pub reach: &'static str,
    /// What diolkos made of it.
    pub ours: Cell,
    /// What the others made of the same.
    pub theirs: Vec<(Peer, Cell)>,
}

impl Row {
    /// True when ours was measured and does not reach the figure.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        matches!(self.ours, Cell::Measured { met: false, .. })
    }
}
