//! The metric registry, its text exposition, and process metrics.
//!
//! Must not know: what is being counted.

pub mod names;
