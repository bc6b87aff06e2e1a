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
        return read_typed(kind, &merged(text)?);
    }
    read_typed(kind, text)
}

/// Each kind has one way to be read, and so one copy of its code: where unknown fields are told
/// (Istio's kinds, all of whose fields we know by name) or where they are not.
fn read_typed(kind: Kind, text: &str) -> Result<(Object, Vec<Fault>), Fault> {
    let mut unknown = Vec::new();
    let told = (kind, &mut unknown);
    let object = match kind {
        Kind::Service => untracked::<Service>(text)?.into(),
        Kind::EndpointSlice => untracked::<EndpointSlice>(text)?.into(),
        Kind::Endpoints => untracked::<Endpoints>(text)?.into(),
        Kind::Pod => untracked::<Pod>(text)?.into(),
        Kind::Node => {
            let mut node: Node = untracked(text)?;
            node.meta.namespace = scalar::shared("");
            node.into()
        }
        Kind::Namespace => {
            let mut namespace: Namespace = untracked(text)?;
            namespace.meta.namespace = scalar::shared("");
            namespace.into()
        }
        Kind::Gateway => tracked::<Gateway>(text, told)?.into(),
        Kind::ServiceEntry => tracked::<ServiceEntry>(text, told)?.into(),
        Kind::DestinationRule => tracked::<DestinationRule>(text, told)?.into(),
        Kind::WorkloadEntry => tracked::<WorkloadEntry>(text, told)?.into(),
        Kind::PeerAuthentication => tracked::<PeerAuthentication>(text, told)?.into(),
        Kind::EnvoyFilter => untracked::<EnvoyFilter>(text)?.into(),
        Kind::ConfigMap => untracked::<ConfigMap>(text)?.into(),
    };
    Ok((object, unknown))
}

/// Reads any type, without regard to unknown fields.
pub(super) fn untracked<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    let text = &*as_yaml(text);
    T::deserialize(yaml(text)?).map_err(Fault::from)
}

/// Reads a type and tells its unknown fields.
fn tracked<T: DeserializeOwned>(
    text: &str,
    (kind, faults): (Kind, &mut Vec<Fault>),
) -> Result<T, Fault> {
    let text = &*as_yaml(text);
    let tell = |path: serde_ignored::Path<'_>| faults.extend(unread::unknown_field(kind, &path));
    serde_ignored::deserialize(yaml(text)?, tell).map_err(Fault::from)
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
