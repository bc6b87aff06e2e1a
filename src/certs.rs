//! A small CA for meshes under test: one root, an intermediate for each cluster, SPIFFE leaves.
//!
//! Must not know: the gateway, which holds no key; who calls whom; the wall clock (every function
//! that stamps a certificate takes the instant).
//!
//! The material has the shape that Istio expects: what [`Authority::write`] leaves in a directory
//! is the content of istiod's secret `cacerts`, and a [`Leaf`] is what an agent would be given.
//!
//! ```no_run
//! # use diolkos::certs::{Authority, Peers, SpiffeId, client_config, roots};
//! # fn example() -> Result<(), diolkos::certs::CertsError> {
//! let now = std::time::SystemTime::now();
//! let root = Authority::root(now)?;
//! let cluster1 = root.cluster("cluster1", now)?;
//! let client = cluster1.workload(&SpiffeId::new("cluster.local", "ns1", "sleep")?, now)?;
//! let tls = client_config(&client, roots(&[root.certificate()])?, Peers::Any, &["istio"])?;
//! # Ok(()) }
//! ```

use std::{io, path::PathBuf};

pub mod audit;
pub mod authority;
pub mod credentials;
pub mod files;
pub mod spiffe;
pub mod tls;
pub mod verify;
pub mod workload;

mod chain;
mod secret;

pub use audit::{Audit, Remark, audit};
pub use authority::Authority;
pub use credentials::Credentials;
pub use files::Existing;
pub use spiffe::SpiffeId;
pub use tls::{client_config, roots, server_config};
pub use verify::{NamePattern, Peers, Seen, explain};
pub use workload::Leaf;

/// Why certificates could not be made, read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file could not be read or written.
    #[error("{path}: {doing}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A private key is never overwritten unasked: certificates already out in the world may need
    /// it.
    #[error(
        "{path}: exists, and keys and certificates are never overwritten: choose another \
         directory, or move this one away",
        path = path.display()
    )]
    Exists {
        /// The file in the way.
        path: PathBuf,
    },
    /// A file holds something else than expected.
    #[error("{path}: {problem}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A text is no workload identity.
    #[error("{text:?} is not a workload identity: {problem}")]
    Identity {
        /// The text.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An authority cannot issue what was asked of it.
    #[error("{authority} cannot issue {asked}: {why}")]
    Issue {
        /// The authority's name.
        authority: String,
        /// What was asked.
        asked: String,
        /// The rule that forbids it.
        why: &'static str,
    },
    /// The certificate library refused.
    #[error("making a certificate failed")]
    Make(#[from] rcgen::Error),
    /// The TLS library refused.
    #[error("preparing TLS failed")]
    Tls(#[from] rustls::Error),
}
