//! The gateway as it is used: real sockets on port 0, real bytes, one module for each stage.

#![allow(unreachable_pub)]

mod support;

// Bytes both ways, FIN as FIN, RST as RST; each case by copy and by splice.
mod relay;

// Envoy as the sidecar at both ends.
mod envoy;

// TLS stacks of others as clients.
mod stacks;
