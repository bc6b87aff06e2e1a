//! What operators ask: readiness, metrics, clusters, connections, explain, log level.
//!
//! Must not know: the planes; `app` hands it named views as closures.
