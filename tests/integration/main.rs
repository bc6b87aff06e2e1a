//! The gateway as it is used: real sockets on port 0, real bytes, one module for each stage.

#![allow(unreachable_pub)]

mod support;

// Connections that are not relayed: what the client is told, and that nobody else hears of it.
mod refuse;
// Behind a proxy that says who dialled it.
mod proxy_header;
// From the route to a connected endpoint, and the limits of the route.
mod connect;
// The hello is sent and nothing has come back: who is asked next, and when nobody is.
mod first_flight;
// Whether a real Envoy and we would do the same.
mod parity;
// Which endpoint: sources, new pods, single pods.
mod policy;
// The program from outside: ports, signals, exit codes.
mod operate;
// When it leaves, or an endpoint does: who is ended, when, and who is not.
mod leave;
// As a pod is confined: nobody, a root that cannot be written, few system calls.
mod confined;
// A kernel that refuses what it is asked, or has no memory left.
mod kernel;
// Manifests that change under a running gateway.
mod manifests_live;
// A real API server as the source of objects.
mod kubernetes;
// What is served and what is not, cell by cell.
mod matrix;
// How much at once.
mod limits;
// Endpoints that fail, and hellos that nobody can answer.
mod outlier;
// How TLS handshakes end, as far as a stranger can see.
mod handshakes;
// Too much of something, or from the wrong place.
mod overload;
// Every way in which a connection ends, made, counted and logged.
mod outcomes;
// Bytes both ways, FIN as FIN, RST as RST; each case by copy and by splice.
mod relay;
// Peers that do anything in any order.
mod walk;

// What goes wrong between hosts, not on them.
mod faults;

// What is made for a mesh, and what OpenSSL and Envoy say of it.
mod certs;

// Names, asked by dig, by raw packets and by resolvers of whole hosts.
mod dns;

// Objects written for another cluster, and what DNS and a gateway make of them.
mod export;

// Envoy as the sidecar at both ends.
mod envoy;

// The way out: ServiceEntries, network views, host names.
mod egress;

// Clusters on one machine, as anybody can see them.
mod demo;
// Envoy's gateway and ours, in two columns.
mod against;

// Our own sidecar at either end, beside itself and beside Envoy.
mod sidecar;

// Clusters on hosts of their own, which reach each other by their gateways and not otherwise.
mod hosts;

// TLS stacks of others as clients.
mod stacks;

// The load test, run as a program.
mod bench;
