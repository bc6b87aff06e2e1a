//! The control plane: how manifests become the published table.
//!
//! ```text
//! objects ─▶ world ─▶ facts of one service ─▶ gates and policy ─▶ plan ─▶ table
//!            (maps)   kubernetes, service_entry   build             catalog publishes
//! ```
//!
//! Everything here is pure but the last step: [`Catalog`] is the one writer that publishes. Must
//! not know: a client's connection, sockets, files, metrics of the data plane.

pub mod address;
pub mod catalog;
pub mod change;
pub mod check;
pub mod explain;
pub mod exposure;
pub mod finding;
pub mod identity;
pub mod left_out;
pub mod visibility;

mod build;
mod destination_rule;
mod facts;
mod kubernetes;
mod locality;
mod mesh;
mod names;
mod nearest;
mod objects;
mod outlier;
mod peer_authentication;
mod per_pod;
mod pods;
mod policy;
mod pool;
mod routes;
mod service_entry;
mod world;

#[cfg(test)]
mod tests;

pub use address::AddressRefusal;
pub use catalog::{Applied, Catalog, Summary};
pub use change::Change;
pub use check::CheckReport;
pub use explain::{Explanation, Gate, Question};
pub use exposure::{ExposedHosts, Exposure, NearestGateway, SelectedServer, Selection};
pub use finding::Finding;
pub use identity::{Identity, NetworkView, Role};
pub use left_out::{LeftOut, Place, Reason};
pub use visibility::Visibility;
