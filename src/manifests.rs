//! The input language: Kubernetes and Istio manifests, exactly as `kubectl apply` takes them.
//!
//! Kinds, parser, per-object errors, watched directories, last good object. Must not know: what a
//! gateway, a DNS server or a sidecar makes of the objects.
