//! A small CA for meshes under test: one root, an intermediate for each cluster, SPIFFE leaves.
//!
//! Must not know: the gateway, which holds no key.
