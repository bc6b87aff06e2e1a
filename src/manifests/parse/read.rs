//! Reads one document as one kind.
//!
//! Must not know: files, other documents. Guards the YAML parser: it builds every event of a
//! document in memory first, about 100 bytes each, and libyaml has no limit of depth.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::{DOCUMENT_BYTES_MAX, fault::Fault, unread};
use crate::manifests::{
    Kind, Object,
    kinds::{
        ConfigMap, DestinationRule, EndpointSlice, Endpoints, EnvoyFilter, Gateway, Namespace,
        Node, PeerAuthentication, Pod, Service, ServiceEntry, WorkloadEntry, budget, scalar,
        tree::Tree,
    },
};

/// Reads an object and tells its unknown fields.
pub(super) fn read(kind: Kind, text: &str) -> Result<(Object, Vec<Fault>), Fault> {
    if text.contains("<<:") {
        return read_typed(kind, &Yaml(&merged(text)?));
    }
    read_typed(kind, &Yaml(text))
}

/// Reads an object that the Kubernetes API wrote, some twenty times faster than as YAML.
pub(super) fn read_json(kind: Kind, text: &str) -> Result<(Object, Vec<Fault>), Fault> {
    // Only the YAML parser knows the path of the field; and what it can read is good enough.
    read_typed(kind, &Json(text)).or_else(|_| read(kind, text))
}

/// How an object is written.
trait Written {
    /// Reads any type, without regard to unknown fields.
    fn untracked<T: DeserializeOwned>(&self) -> Result<T, Fault>;

    /// Reads a type and tells its unknown fields.
    fn tracked<T: DeserializeOwned>(&self, told: (Kind, &mut Vec<Fault>)) -> Result<T, Fault>;
}

struct Yaml<'a>(&'a str);

struct Json<'a>(&'a str);

impl Written for Yaml<'_> {
    fn untracked<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        untracked(self.0)
    }

    fn tracked<T: DeserializeOwned>(
        &self,
        (kind, faults): (Kind, &mut Vec<Fault>),
    ) -> Result<T, Fault> {
        let text = &*as_yaml(self.0);
        let tell =
            |path: serde_ignored::Path<'_>| faults.extend(unread::unknown_field(kind, &path));
        serde_ignored::deserialize(yaml(text)?, tell).map_err(Fault::from)
    }
}

impl Written for Json<'_> {
    fn untracked<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        budget::start(self.0.len());
        serde_json::from_str(self.0).map_err(Fault::from)
    }

    fn tracked<T: DeserializeOwned>(
        &self,
        (kind, faults): (Kind, &mut Vec<Fault>),
    ) -> Result<T, Fault> {
        budget::start(self.0.len());
        let tell =
            |path: serde_ignored::Path<'_>| faults.extend(unread::unknown_field(kind, &path));
        let mut json = serde_json::Deserializer::from_str(self.0);
        serde_ignored::deserialize(&mut json, tell).map_err(Fault::from)
    }
}

/// Each kind has one way to be read: where unknown fields are told (Istio's kinds, all of whose
/// fields we know by name) or where they are not.
fn read_typed(kind: Kind, text: &impl Written) -> Result<(Object, Vec<Fault>), Fault> {
    let mut unknown = Vec::new();
    let told = (kind, &mut unknown);
    let object = match kind {
        Kind::Service => text.untracked::<Service>()?.into(),
        Kind::EndpointSlice => text.untracked::<EndpointSlice>()?.into(),
        Kind::Endpoints => text.untracked::<Endpoints>()?.into(),
        Kind::Pod => text.untracked::<Pod>()?.into(),
        Kind::Node => {
            let mut node: Node = text.untracked()?;
            node.meta.namespace = scalar::shared("");
            node.into()
        }
        Kind::Namespace => {
            let mut namespace: Namespace = text.untracked()?;
            namespace.meta.namespace = scalar::shared("");
            namespace.into()
        }
        Kind::Gateway => text.tracked::<Gateway>(told)?.into(),
        Kind::ServiceEntry => text.tracked::<ServiceEntry>(told)?.into(),
        Kind::DestinationRule => text.tracked::<DestinationRule>(told)?.into(),
        Kind::WorkloadEntry => text.tracked::<WorkloadEntry>(told)?.into(),
        Kind::PeerAuthentication => text.tracked::<PeerAuthentication>(told)?.into(),
        Kind::EnvoyFilter => text.untracked::<EnvoyFilter>()?.into(),
        Kind::ConfigMap => text.untracked::<ConfigMap>()?.into(),
    };
    Ok((object, unknown))
}

/// Reads any type, without regard to unknown fields.
pub(super) fn untracked<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    let text = &*as_yaml(text);
    T::deserialize(yaml(text)?).map_err(Fault::from)
}

fn yaml(text: &str) -> Result<serde_norway::Deserializer<'_>, Fault> {
    guard(text)?;
    budget::start(text.len());
    Ok(serde_norway::Deserializer::from_str(text))
}

/// JSON is YAML but for two things that libyaml does not take: pairs of escaped surrogates, and
/// tabs. JSON that holds a backslash or a tab is written out anew, without either.
fn as_yaml(text: &str) -> Cow<'_, str> {
    if !text.trim_start().starts_with('{') || !text.contains(['\\', '\t']) {
        return text.into();
    }
    budget::start(text.len());
    let plain = serde_json::from_str(text).ok().and_then(|Tree(v)| serde_json::to_string(&v).ok());
    plain.map_or(text.into(), Cow::Owned)
}

/// Refuses what would take the YAML parser too much time or memory.
fn guard(text: &str) -> Result<(), Fault> {
    let refuse = |what: String| Err(Fault::new(format!("{what}: split it or remove it")).at(1));
    if text.len() > DOCUMENT_BYTES_MAX {
        let len = text.len();
        return refuse(format!("it has {len} bytes, more than {DOCUMENT_BYTES_MAX}"));
    }
    budget::too_much(text).map_or(Ok(()), refuse)
}

/// Applies YAML's merge keys (`<<: *defaults`), which Kubernetes' own tools apply too. The fields
/// of the result are found; their lines are not.
fn merged(text: &str) -> Result<String, Fault> {
    let Tree(mut value) = untracked(text)?;
    value.apply_merge().map_err(Fault::from)?;
    serde_json::to_string(&value).map_err(Fault::from)
}
