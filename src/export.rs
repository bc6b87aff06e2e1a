//! Writes the ServiceEntries and DestinationRules by which one cluster calls services of others,
//! each name with a stable address.
//!
//! ```text
//! manifests of each other cluster ─▶ offers ─▶ one import for each host ─▶ address ─▶ objects
//!                                    offer     merge                       addresses   object
//!
//! manifests of the importing cluster, directory written to ─▶ what others own: left alone
//!                                                             taken, folder
//! ```
//!
//! Beside that, `sameness` compares clusters: what one calls, another has.
//!
//! What is offered is judged by `discovery`, as that cluster's gateway would. The file of addresses
//! is the only allocator. Must not know: connections, the command line, how remarks are shown.

use std::{fmt, net::IpAddr, path::PathBuf};

pub mod addresses;
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

pub use addresses::{AddressFile, Book};
pub use folder::Folder;
pub use merge::Import;
pub use object::{Failover, Form, Shape};
pub use offer::{Offer, Reader, View, Wanted};
pub use peer::{GatewayAddress, Peer};
pub use range::Range;
pub use sync::{Done, Export};
pub use taken::Taken;

use crate::manifests::Severity;

/// The label that says whose an object is, and the value that says: ours.
pub const OWNER_LABEL: &str = "app.kubernetes.io/managed-by";
/// See [`OWNER_LABEL`].
pub const OWNER: &str = "diolkos-export";

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
    #[error(
        "{path}:{line}: {problem}; the file is left as it is: mend it, or bring back a copy of it",
        path = path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// Files in the directory hold addresses, and the file of addresses is not there: names would
    /// get others.
    #[error(
        "{path}: there is no such file, but {folder} holds {count} files of ours with addresses: \
         bring the file of addresses back, or remove those files to begin anew",
        path = path.display(),
        folder = folder.display()
    )]
    Lost {
        /// The file of addresses.
        path: PathBuf,
        /// The directory that is written to.
        folder: PathBuf,
        /// How many files of ours are in it.
        count: usize,
    },
    /// Nothing is exported any more: more likely a directory is empty or a flag is wrong.
    #[error(
        "{folder}: nothing is exported now, and all {count} files of ours in it would be removed, \
         {first} first; is a cluster's directory empty, --selector or --annotation mistyped? \
         Nothing was written; --allow-empty allows it",
        folder = folder.display()
    )]
    Empty {
        /// The directory that is written to.
        folder: PathBuf,
        /// How many files of ours are in it.
        count: usize,
        /// The first host of them.
        first: String,
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
