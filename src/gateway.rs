//! The data plane: a connection from accept to its last byte.
//!
//! `bind` first (every error that should stop start-up), `run` later. Must not know: YAML,
//! Kubernetes, files, keys, how the table came to be.
