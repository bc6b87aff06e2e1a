//! Whether Envoy, running as Istio's gateway, and this gateway would do the same.
//!
//! ```text
//! Envoy's config dump ─▶ dump ─▶ theirs ─┐
//!                                        ├─▶ compare ─▶ report
//! manifests ─▶ discovery::Catalog ─▶ ours ┘
//! ```
//!
//! Both sides come to one form, a `view::Seen`: which server names are let in, by which ALPN, and
//! what is behind each. What differs is told with the object that is responsible. Must not know:
//! files, the command line, how a report is shown to whom.

mod compare;
mod dump;
mod entry;
mod ours;
mod report;
mod theirs;
mod view;

pub use compare::compare;
pub use dump::{DUMP_BYTES_MAX, Dump, DumpError};
pub use report::{Difference, NameReport, Report, Sums, Verdict};

#[cfg(test)]
mod tests;
