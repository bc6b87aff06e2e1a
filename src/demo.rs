//! A small cluster on loopback, a gateway in front of it, and calls to it, for people to watch.
//!
//! Stands on `app` and `certs` as any user would.
