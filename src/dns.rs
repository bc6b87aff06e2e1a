//! Answers `<name>.<namespace>.global` from ServiceEntries.
//!
//! Not built yet: this page holds the place in the import table. Will know `manifests` and hosts;
//! must not know the gateway, the sidecar or a client's connection.
