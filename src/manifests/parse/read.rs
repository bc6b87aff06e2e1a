//! Reads one document as one kind.
//!
//! Must not know: files, other documents. Guards the YAML parser: it builds every event of a
//! document in memory first, about 100 bytes each, and libyaml has no limit of depth.

use serde::de::DeserializeOwned;

use super::{DOCUMENT_BYTES_MAX, fault::Fault, unread};
use crate::manifests::{
    Kind, Object,
    kinds::{
        DestinationRule, EndpointSlice, Endpoints, EnvoyFilter, Gateway, Namespace, Node,
        PeerAuthentication, Pod, Service, ServiceEntry, WorkloadEntry, budget, scalar, tree::Tree,
    },
};

/// Flow collections inside each other. Real objects have 10.
const DEPTH_MAX: usize = 200;
/// Characters that can start an event; each line of block style has two.
const EVENTS_MAX: usize = 1_000_000;

/// Reads an object and tells its unknown fields.
pub(super) fn read(kind: Kind, text: &str) -> Result<(Object, Vec<Fault>), Fault> {
    if text.contains("<<:") {
        return read_typed(kind, &merged(text)?);
    }
    read_typed(kind, text)
}

fn read_typed(kind: Kind, text: &str) -> Result<(Object, Vec<Fault>), Fault> {
    let mut unknown = Vec::new();
    let faults = kind.is_istio().then_some((kind, &mut unknown));
    let object = match kind {
        Kind::Service => tracked::<Service>(text, faults)?.into(),
        Kind::EndpointSlice => tracked::<EndpointSlice>(text, faults)?.into(),
        Kind::Endpoints => tracked::<Endpoints>(text, faults)?.into(),
        Kind::Pod => tracked::<Pod>(text, faults)?.into(),
        Kind::Node => {
            let mut node: Node = tracked(text, faults)?;
            node.meta.namespace = scalar::shared("");
            node.into()
        }
        Kind::Namespace => {
            let mut namespace: Namespace = tracked(text, faults)?;
            namespace.meta.namespace = scalar::shared("");
            namespace.into()
        }
        Kind::Gateway => tracked::<Gateway>(text, faults)?.into(),
        Kind::ServiceEntry => tracked::<ServiceEntry>(text, faults)?.into(),
        Kind::DestinationRule => tracked::<DestinationRule>(text, faults)?.into(),
        Kind::WorkloadEntry => tracked::<WorkloadEntry>(text, faults)?.into(),
        Kind::PeerAuthentication => tracked::<PeerAuthentication>(text, faults)?.into(),
        Kind::EnvoyFilter => tracked::<EnvoyFilter>(text, faults)?.into(),
    };
    Ok((object, unknown))
}

/// Reads any type, without regard to unknown fields.
pub(super) fn untracked<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    tracked(text, None)
}

/// JSON is read as JSON, for speed and for its escapes; when that fails it is read as YAML, whose
/// errors name the field.
fn tracked<T: DeserializeOwned>(
    text: &str,
    mut faults: Option<(Kind, &mut Vec<Fault>)>,
) -> Result<T, Fault> {
    if text.trim_start().starts_with('{') {
        budget::start(text.len());
        let mut json = serde_json::Deserializer::from_str(text);
        if let Ok(value) = deserialize(&mut json, &mut faults)
            && json.end().is_ok()
        {
            return Ok(value);
        }
        if let Some((_, faults)) = &mut faults {
            faults.clear();
        }
    }
    guard(text)?;
    budget::start(text.len());
    deserialize(serde_norway::Deserializer::from_str(text), &mut faults).map_err(Fault::from)
}

fn deserialize<'de, D, T>(
    deserializer: D,
    faults: &mut Option<(Kind, &mut Vec<Fault>)>,
) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: DeserializeOwned,
{
    match faults {
        None => T::deserialize(deserializer),
        Some((kind, faults)) => serde_ignored::deserialize(deserializer, |path| {
            faults.extend(unread::unknown_field(*kind, &path));
        }),
    }
}

/// Refuses what would take the YAML parser too much time or memory.
fn guard(text: &str) -> Result<(), Fault> {
    let refuse = |what: String| Err(Fault::new(format!("{what}: split it or remove it")).at(1));
    if text.len() > DOCUMENT_BYTES_MAX {
        let len = text.len();
        return refuse(format!("it has {len} bytes, more than {DOCUMENT_BYTES_MAX}"));
    }
    let (mut depth, mut deepest, mut events) = (0_usize, 0, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
                events += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b':' | b'-' | b'?' | b'\n' => events += 1,
            _ => {}
        }
    }
    if deepest > DEPTH_MAX {
        return refuse(format!("it is nested {deepest} deep, more than {DEPTH_MAX}"));
    }
    if events > EVENTS_MAX {
        return refuse(format!("it has more than {EVENTS_MAX} values"));
    }
    Ok(())
}

/// Applies YAML's merge keys (`<<: *defaults`), which Kubernetes' own tools apply too. The fields
/// of the result are found; their lines are not.
fn merged(text: &str) -> Result<String, Fault> {
    let Tree(mut value) = untracked(text)?;
    value.apply_merge().map_err(Fault::from)?;
    serde_json::to_string(&value).map_err(Fault::from)
}
