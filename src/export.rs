//! Writes the ServiceEntries and DestinationRules by which one cluster calls services of others,
//! each name with a stable address.
//!
//! ```text
//! manifests of each other cluster ─▶ offers ─▶ one import for each host ─▶ address ─▶ objects
//!                                    offer     merge                       addresses   object
//!
//! manifests of the importing cluster, what is there already ─▶ what others own: left alone
//!                                                              taken, destination
//! objects ─▶ a directory of files, or the API of the importing cluster
//!            folder                cluster
//! ```
//!
//! Beside that, `sameness` compares clusters: what one calls, another has.
//!
//! What is offered is judged by `discovery`, as that cluster's gateway would. The file of addresses
//! is the only allocator. Must not know: connections, the command line, how remarks are shown.

use std::{fmt, net::IpAddr, path::PathBuf};

pub mod addresses;
pub mod cluster;
pub mod destination;
pub mod folder;
pub mod merge;
pub mod object;
pub mod offer;
pub mod peer;
pub mod range;
pub mod sameness;
pub mod taken;

mod atomic;
mod names;
mod sync;

pub use addresses::{AddressFile, AddressMap, Book, Record};
pub use cluster::{Cluster, Deed};
pub use destination::Destination;
pub use folder::Folder;
pub use merge::Import;
pub use object::{Failover, Form, Shape};
pub use offer::{Offer, Reader, View, Wanted};
pub use peer::{GatewayAddress, Peer};
pub use range::Range;
pub use sync::{Done, Export};
pub use taken::Taken;

use crate::manifests::{Severity, kubernetes::Refusal};

/// The label that says whose an object is, and the value that says: ours.
pub const OWNER_LABEL: &str = "app.kubernetes.io/managed-by";
/// See [`OWNER_LABEL`]. In a cluster it is the name of the field manager too.
pub const OWNER: &str = "diolkos-export";
/// The label of objects that were applied to a cluster, and whose value says by which exporter: two
/// of them leave each other's objects alone. Files have none, since tools that apply files bring
/// labels of their own.
pub const EXPORTER_LABEL: &str = "diolkos/exporter";

/// Something that the operator should know. An error fails a run, after all that is good was
/// written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, what is wrong, and what follows.
    pub text: String,
}

impl Remark {
    fn error(text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, text: text.into() }
    }

    fn warning(text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, text: text.into() }
    }

    fn note(text: impl Into<String>) -> Self {
        Self { severity: Severity::Note, text: text.into() }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.text)
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file of addresses, or a file beside it, could not be read or written.
    #[error("{path}: {doing}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file of addresses is not what was written there. It is never overwritten then: the
    /// addresses in it are in use.
    #[error("{place}:{line}: {problem}; it is left as it is: mend it, or bring back a copy of it")]
    Corrupt {
        /// The file, or the ConfigMap.
        place: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// What we wrote holds addresses, and the file of addresses is not there: names would get
    /// others.
    #[error(
        "{record}: there is none, but {place} holds {count} {what} of ours with addresses: bring it \
         back, or remove those to begin anew"
    )]
    Lost {
        /// The file of addresses, or the ConfigMap.
        record: String,
        /// What is written to.
        place: String,
        /// How many are in it.
        count: usize,
        /// How one is called there.
        what: &'static str,
    },
    /// Nothing is exported any more: more likely a directory is empty or a flag is wrong.
    #[error(
        "{place}: nothing is exported now, and all {count} {what} of ours in it would be removed, \
         {first} first; is a cluster's directory empty, --selector or --annotation mistyped? \
         Nothing was written; --allow-empty allows it"
    )]
    Empty {
        /// What is written to.
        place: String,
        /// How many are in it.
        count: usize,
        /// How one is called there.
        what: &'static str,
        /// The first host of them.
        first: String,
    },
    /// The API did not do what was asked. What was written before stays, and a further run goes on
    /// from there.
    #[error("{place}: {doing}")]
    Api {
        /// What was asked for, and where.
        place: String,
        /// What was tried.
        doing: &'static str,
        /// What the API says.
        source: Refusal,
    },
    /// Somebody changed the record of addresses since it was read.
    #[error("{place}: others change it all the while: try again")]
    Raced {
        /// The ConfigMap.
        place: String,
    },
    /// More names than a ConfigMap can hold.
    #[error(
        "{place}: with {bytes} bytes the addresses are more than a ConfigMap holds (1 MiB): free \
         names that are gone with --forget, or keep them in a file with --addresses FILE"
    )]
    TooLarge {
        /// The ConfigMap.
        place: String,
        /// How many it would have.
        bytes: usize,
    },
    /// Another run holds the file of addresses for too long.
    #[error("{path}: another run holds the file: try again when it has ended", path = path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

/// True for an address that sidecars of Istio 1.4 and later never see: their rules let loopback
/// pass.
#[must_use]
pub fn escapes_capture(address: IpAddr) -> bool {
    address.is_loopback()
}
