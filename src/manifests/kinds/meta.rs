//! `metadata` of every kind.
//!
//! Must not know: what a label or an annotation means.

use std::{num::NonZeroU64, sync::Arc};

use serde::{Deserialize, Deserializer};

use super::{Labels, List, scalar};

/// Who an object is. Annotations are kept only when somebody could read them: their key has
/// `istio.io/`, `kubernetes.io/` or `diolkos`, and kubectl's copy of the whole object is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Meta {
    /// Name, never empty.
    pub name: Arc<str>,
    /// Namespace; `default` when the manifest has none, empty for Node and Namespace.
    pub namespace: Arc<str>,
    /// Labels.
    pub labels: Labels,
    /// Annotations; of `sidecar.istio.io/status` only that it is there.
    pub annotations: Labels,
    /// `creationTimestamp`. An object in a file usually has none: it sorts before all others.
    pub created: Option<Created>,
    /// The controller among `ownerReferences`, else the first; a Service does not count.
    pub owner: Option<Box<Owner>>,
    /// `generateName`.
    pub generate_name: Option<Box<str>>,
}

/// An owner, such as the ReplicaSet of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `ReplicaSet`, `StatefulSet`, `Job` ...
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// A time as Kubernetes writes it, in UTC to the second: the digits of `2024-05-06T07:08:09Z` as
/// one number, which sorts as the time does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Created(NonZeroU64);

impl Created {
    /// Reads `2024-05-06T07:08:09Z`; fractions of a second are not kept.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const SHAPE: &[u8; 19] = b"dddd-dd-ddTdd:dd:dd";
        let (time, rest) = text.as_bytes().split_at_checked(SHAPE.len())?;
        let fits = SHAPE.iter().zip(time).all(|(shape, byte)| match shape {
            b'd' => byte.is_ascii_digit(),
            _ => shape == byte,
        });
        if !fits || rest.last() != Some(&b'Z') {
            return None;
        }
        let digits = time.iter().filter(|byte| byte.is_ascii_digit());
        let number = digits.fold(0, |number, byte| number * 10 + u64::from(byte - b'0'));
        NonZeroU64::new(number).map(Self)
    }
}

impl<'de> Deserialize<'de> for Created {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar::parsed(deserializer, |text| {
            Self::parse(text).ok_or_else(|| {
                format!(
                    "`{text}` is not a time as Kubernetes writes it, such as 2024-05-06T07:08:09Z"
                )
            })
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    name: Option<Arc<str>>,
    #[serde(default, deserialize_with = "scalar::optional_shared_text")]
    namespace: Option<Arc<str>>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    annotations: Labels,
    #[serde(default)]
    creation_timestamp: Option<Created>,
    #[serde(default)]
    owner_references: List<WrittenOwner>,
    #[serde(default, deserialize_with = "scalar::optional_text")]
    generate_name: Option<Box<str>>,
}

#[derive(Deserialize)]
struct WrittenOwner {
    #[serde(deserialize_with = "scalar::shared_text")]
    kind: Arc<str>,
    #[serde(deserialize_with = "scalar::shared_text")]
    name: Arc<str>,
    #[serde(default, deserialize_with = "scalar::or_default")]
    controller: bool,
}

impl TryFrom<Written> for Meta {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Some(name) = written.name.filter(|name| !name.is_empty()) else {
            return Err(
                "metadata.name is missing: give the object a name (generateName is not enough)",
            );
        };
        // The owner of an EndpointSlice is its Service, which its label names already.
        let owners = written.owner_references;
        let owners = || owners.iter().filter(|owner| &*owner.kind != "Service");
        let owner = owners().find(|owner| owner.controller).or_else(|| owners().next());
        Ok(Self {
            name,
            namespace: written.namespace.unwrap_or_else(|| scalar::shared("default")),
            labels: written.labels,
            annotations: written.annotations.filtered(kept_annotation),
            created: written.creation_timestamp,
            owner: owner
                .map(|owner| Owner { kind: owner.kind.clone(), name: owner.name.clone() }.into()),
            generate_name: written.generate_name,
        })
    }
}

fn kept_annotation<'a>(key: &str, value: &'a str) -> Option<&'a str> {
    match key {
        "kubectl.kubernetes.io/last-applied-configuration" => None,
        // Some hundred bytes of JSON that nobody reads.
        "sidecar.istio.io/status" => Some(""),
        _ if ["istio.io/", "kubernetes.io/", "diolkos"].iter().any(|part| key.contains(part)) => {
            Some(value)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(yaml: &str) -> Meta {
        serde_norway::from_str(yaml).expect("metadata")
    }

    #[test]
    fn what_is_not_written_has_its_default() {
        let meta = meta("{name: bar, creationTimestamp: null, labels: null}");
        assert_eq!((&*meta.name, &*meta.namespace), ("bar", "default"));
        assert!(meta.labels.is_empty() && meta.annotations.is_empty());
        assert_eq!((meta.created, meta.owner, meta.generate_name), (None, None, None));
    }

    #[test]
    fn a_name_is_required() {
        for yaml in ["{}", "{name: ''}", "{name: null}", "{generateName: bar-}"] {
            let error = serde_norway::from_str::<Meta>(yaml).expect_err(yaml).to_string();
            assert!(error.contains("metadata.name is missing"), "{error}");
        }
    }

    #[test]
    fn only_annotations_that_somebody_reads_are_kept() {
        let meta = meta(
            "{name: a, annotations: {networking.istio.io/exportTo: '.', \
             sidecar.istio.io/status: '{\"version\":1}', note: x, \
             kubectl.kubernetes.io/last-applied-configuration: '{}'}}",
        );
        assert_eq!(
            meta.annotations.to_string(),
            "networking.istio.io/exportTo=.,sidecar.istio.io/status="
        );
    }

    #[test]
    fn the_controller_is_the_owner() {
        let owner = |yaml: &str| meta(yaml).owner.map(|owner| owner.name.to_string());
        let two = "{name: a, ownerReferences: [{kind: A, name: x}, \
                   {kind: ReplicaSet, name: y, controller: true}]}";
        assert_eq!(owner(two).as_deref(), Some("y"));
        assert_eq!(owner("{name: a, ownerReferences: [{kind: A, name: x}]}").as_deref(), Some("x"));
        assert_eq!(owner("{name: a, ownerReferences: [{kind: Service, name: x}]}"), None);
    }

    #[test]
    fn times_sort_as_they_follow_each_other() {
        let parse = Created::parse;
        assert!(parse("2024-05-06T07:08:09Z") < parse("2024-05-06T07:08:10Z"));
        assert!(parse("2023-12-31T23:59:59.999Z") < parse("2024-01-01T00:00:00Z"));
        assert!(parse("2024-05-06T07:08:09.5Z").is_some());
        for text in
            ["", "yesterday", "2024-05-06", "2024-05-06T07:08:09", "2024-05-06T07:08:0\u{e9}Z"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
