//! Load-tests any gateway that speaks SNI passthrough, ours or a rival's.
//!
//! Not built yet: this page holds the place in the import table. Must not know the gateway, so
//! that it can be pointed at any.
