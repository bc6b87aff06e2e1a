//! Build facts: what this binary calls itself. Must not know: anything else.

/// The crate's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
