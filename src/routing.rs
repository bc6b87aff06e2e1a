//! The waist: what the gateway knows about names and endpoints, shared by both planes.
//!
//! Pure facts. Must not know: I/O, time, randomness (both are arguments), logs, metrics, serde,
//! where a fact came from. One writer publishes a [`RouteTable`]; readers load it once for each
//! connection and then load the cell of the [`Route`] they found, once. A change of endpoints
//! swaps cells; a change of names or policy publishes a new table.

use std::sync::Arc;

use arc_swap::ArcSwap;

pub mod balance;
pub mod endpoint;
pub mod endpoint_set;
pub mod host;
pub mod outlier;
pub mod policy;
pub mod subset_key;
pub mod table;
pub mod tiers;
pub mod warmup;

mod affinity;
mod budget;

pub use balance::Balance;
pub use endpoint::{Endpoint, EndpointState, Locality, Workload};
pub use endpoint_set::{EndpointSet, Lease, Pick, Tried};
pub use host::{Host, HostPattern};
pub use outlier::{Fault, Outlier};
pub use policy::{Keepalive, Policy};
pub use subset_key::SubsetKey;
pub use table::{
    Miss, Rewrite, Route, RouteState, RouteTable, Service, ServiceKind, ServiceRoutes,
};
pub use tiers::{Place, TIERS_MAX};
pub use warmup::Warmup;

/// The published table: many readers, one writer.
#[derive(Debug)]
pub struct SharedTable(ArcSwap<RouteTable>);

impl SharedTable {
    /// Starts with the empty table, which refuses every name.
    #[must_use]
    pub fn new() -> Self {
        Self(ArcSwap::from_pointee(RouteTable::default()))
    }

    /// The table of this moment. A connection calls this once.
    #[must_use]
    pub fn load(&self) -> Arc<RouteTable> {
        self.0.load_full()
    }

    /// Replaces the table. Only `discovery::catalog` calls this.
    pub fn publish(&self, table: RouteTable) {
        self.0.store(Arc::new(table));
    }
}

impl Default for SharedTable {
    fn default() -> Self {
        Self::new()
    }
}
