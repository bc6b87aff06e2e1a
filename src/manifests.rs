//! The input language: Kubernetes and Istio manifests, exactly as `kubectl apply` takes them.
//!
//! Kinds, parser, per-object errors, sources (watched directories, the Kubernetes API), last good
//! object. Must not know: what a
//! gateway, a DNS server or a sidecar makes of the objects.

pub mod directories;
pub mod index;
pub mod keeper;
pub mod kinds;
pub mod kubernetes;
pub mod parse;
pub mod problem;
pub mod source;
pub mod store;

pub use directories::{Directories, OpenError};
pub use index::{Index, Objects};
pub use keeper::{Asks, Keep, Keeper};
pub use kinds::{Kind, Object, ObjectRef};
pub use kubernetes::Kubernetes;
pub use parse::{Parsed, Single, parse, parse_single};
pub use problem::{Problem, Severity};
pub use source::{Source, SourceError, Sources};
pub use store::{Changes, News, Store, Update};
