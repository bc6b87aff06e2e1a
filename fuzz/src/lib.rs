//! The fuzz targets' checks as a crate.
//!
//! Must not know: libFuzzer.

pub mod checks;
