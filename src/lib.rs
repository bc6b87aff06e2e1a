//! diolkos joins service meshes across Kubernetes clusters: this page is its architecture.
//!
//! A client's sidecar opens mutual TLS to a cluster's gateway on port 15443 and writes in the SNI
//! which service it wants: `outbound_.<port>_.<subset>_.<host>`. The gateway reads that name from
//! the ClientHello, finds the local pods behind it, picks one and relays bytes unchanged until
//! both sides are done. It holds no key and terminates nothing.
//!
//! ```text
//!                   one task on one worker thread: gateway/connection.rs holds every branch
//!
//!   accept ─▶ sniff ─▶ route ─▶ connect ─▶ first flight ─▶ relay ─▶ report
//!     │         │        │         │            │            │        │
//!   shed     refuse    refuse    refuse     next endpoint   FIN/RST   one line, once
//!                        │                                   as seen
//!                        ▼
//!                 routing::RouteTable   ◀── published by ──  discovery::catalog
//!                 (immutable snapshot)                         ▲
//!                              manifests in files (watched), objects of the Kubernetes API
//! ```
//!
//! # Reading order
//!
//! [`main`](../src/diolkos/main.rs.html) parses arguments and calls [`app::start`], which builds
//! everything and starts the threads. From there a connection is followed through
//! [`gateway`] (accept), `gateway/connection.rs` (the spine) and the leaf named after each stage.
//! What the gateway knows is in [`routing`]; how it came to know it is in [`discovery`].
//!
//! Around the gateway, each a program of its own: [`sidecar`] gives an application its mutual TLS
//! at either end, [`dns`] answers `.global` names, [`export`] writes the ServiceEntries of other
//! clusters, [`certs`] makes what they trust, [`parity`] holds what a gateway would do against what
//! an Envoy says of itself. Whoever follows objects, in files or in the Kubernetes API, does so
//! through [`manifests::keeper`]; host names of endpoints are kept by [`resolver`]. [`demo`] starts
//! all of them for three clusters on one machine and is the shortest way to see how they fit.
//!
//! # Invariants, above all of absence
//!
//! * The data plane ([`gateway`]) holds no key, parses no YAML, opens no file and resolves no
//!   name. It meets the control plane only in [`routing`].
//! * [`routing`] knows no I/O, no clock, no log and no metric: instants and randomness are
//!   arguments.
//! * One writer: only `discovery::catalog` publishes a table. A reader loads twice for each
//!   connection, each once: the table, then the cell of one endpoint set.
//! * No change of configuration or endpoints ever touches a live connection, unless the operator
//!   asked for it: `relay.on_endpoint_removed`, `relay.rebalance`.
//! * A server name from the network is compared, never used: not as an address to dial, not as a
//!   metric label, not in a log before it went through one escape function.
//! * There is no default backend. What is not exported is refused.
//! * Every accepted connection ends with exactly one [`gateway::outcome::Outcome`], written by a
//!   guard.
//! * `unsafe` stands only in `net/sys.rs`, for the few calls that no crate offers safely.
//!
//! # Who may import whom
//!
//! `tests/tidy.rs` holds this table and checks it.
//!
//! ```text
//! tier 4  main > cli > demo > bench                  (> : may import those to its right)
//! tier 3  app > config
//! tier 2  gateway | discovery | dns | sidecar | export | parity | admin     strangers to each
//!           other, but dns, sidecar, export and parity may use discovery
//! tier 1  manifests | net | resolver | metrics | telemetry | certs | version
//! tier 0  routing
//! ```
//!
//! # Where this differs from what one might expect
//!
//! * The ClientHello is read by our own bounded reader (`gateway/client_hello.rs`), without a TLS
//!   parsing crate. What such a crate would read for us is a record header and six
//!   length-prefixed fields; what it would not do for us is the part that has broken others:
//!   joining records, refusing what BoringSSL refuses, and a verdict for every prefix. Half a
//!   parser of our own next to half a parser of somebody else would be two copies of one layout.
//!   In the tests, rustls's acceptor is the oracle.
//! * Kubernetes and Istio kinds are small serde structures of our own that hold the fields we
//!   read, not generated types: a mesh of 100,000 services is parsed in seconds and the rest of
//!   each object never reaches memory.
//! * Of kube only the client is used: credentials, their renewal, TLS. The loop of list and watch is
//!   our own (`manifests/kubernetes/follow.rs`), because kube's watcher does not tell when a watch is
//!   well again, and then nobody can say how old the last good state is; and because one object that
//!   cannot be read must cost no more than itself.
//! * A table of Maglev is as large as its set needs (401 slots for three endpoints), not 65,537 slots
//!   as in Envoy, unless a rule writes its size: a mesh may ask for 10,000 of them. Slots and rings
//!   are filled as Envoy fills them, so that two gateways side by side send a source to one pod.
#![cfg_attr(not(test), warn(clippy::print_stdout))]

// what happens to a connection, in order
pub mod gateway;

// the waist: facts that both planes share
pub mod routing;

// who decides what is in the table, and those who answer for it
pub mod admin;
pub mod discovery;
pub mod dns;
pub mod export;
pub mod parity;
pub mod sidecar;

// plumbing: knows nothing of gateways
pub mod certs;
pub mod manifests;
pub mod metrics;
pub mod net;
pub mod resolver;
pub mod telemetry;
pub mod version;

// assembly
pub mod app;
pub mod config;

// tools
pub mod bench;
pub mod cli;
pub mod demo;
