//! The log: subscriber, format, live change of level, and the one function that escapes bytes from
//! the network.
//!
//! Must not know: who logs what.
