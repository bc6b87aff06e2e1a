//! Something about the objects that the operator should know.
//!
//! Must not know: files and lines, which the objects' source knows and `app` puts in front.

use std::fmt;

use crate::manifests::{Kind, ObjectRef, kinds::Meta};

/// One remark about one object. The object is served all the same, but for what the remark says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Which object.
    pub object: ObjectRef,
    /// Which field of it, as its manifest writes it.
    pub field: &'static str,
    /// What is wrong or odd, and what follows.
    pub message: String,
}

impl Finding {
    /// A remark about the object that has this metadata.
    #[must_use]
    pub fn new(kind: Kind, meta: &Meta, field: &'static str, message: impl Into<String>) -> Self {
        let object = ObjectRef { kind, namespace: meta.namespace.clone(), name: meta.name.clone() };
        Self { object, field, message: message.into() }
    }
}

/// `namespace/name`, as rules and policies are named to people.
pub(super) fn full_name(meta: &Meta) -> String {
    format!("{}/{}", meta.namespace, meta.name)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.field, self.message)
    }
}
