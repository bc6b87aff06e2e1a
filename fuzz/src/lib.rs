//! The fuzz targets' checks as a crate.
//!
//! Must not know: libFuzzer.

pub mod checks;
pub mod control;
// By path, as the tests include it, so that its own module is found from both.
#[path = "relay.rs"]
pub mod relay;
