//! The control plane: how manifests become the published table.
//!
//! Sources bring objects, `translate` turns objects into routes (pure), `catalog` is the one
//! writer that publishes. Must not know: a client's connection, sockets, metrics of the data
//! plane.
