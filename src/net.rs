//! Sockets: the options that a gateway sets, in one place.
//!
//! Must not know: TLS, names, routes, which connection a socket belongs to.

#[allow(unsafe_code)]
pub mod sys;
