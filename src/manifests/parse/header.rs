//! Finds what kind of object a document is, and its name even when the rest of it is broken.
//!
//! Must not know: the kinds. Keys at the start of a line are found without a YAML parser, which
//! makes skipping a foreign object as cheap as finding its end.

use std::sync::Arc;

use serde::Deserialize;

use super::{fault::Fault, read};
use crate::manifests::kinds::scalar;

/// `apiVersion` and `kind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) api_version: Box<str>,
    pub(super) kind: Box<str>,
}

/// A document as far as it names itself.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    #[serde(default, deserialize_with = "scalar::optional_text")]
    api_version: Option<Box<str>>,
    #[serde(default, deserialize_with = "scalar::optional_text")]
    kind: Option<Box<str>>,
    #[serde(default)]
    metadata: Option<NamedMeta>,
}

#[derive(Default, Deserialize)]
#[serde(expecting = "a map with name and namespace")]
struct NamedMeta {
    #[serde(default, deserialize_with = "scalar::optional_text")]
    name: Option<Box<str>>,
    #[serde(default, deserialize_with = "scalar::optional_text")]
    namespace: Option<Box<str>>,
}

impl Header {
    /// The header of a document; what it does not say itself, `default` says.
    pub(super) fn find(text: &str, default: Option<&Self>) -> Result<Self, Fault> {
        let (api_version, kind) = (top_level(text, "apiVersion"), top_level(text, "kind"));
        if let (Some(api_version), Some(kind)) = (api_version, kind) {
            return Ok(Self { api_version: api_version.into(), kind: kind.into() });
        }
        let named: Named = read::untracked(text)?;
        Self::of(&named, default)
            .ok_or_else(|| Fault::new("it has no apiVersion or no kind: write both").at(1))
    }

    fn of(named: &Named, default: Option<&Self>) -> Option<Self> {
        let api_version = named.api_version.as_ref().or(default.map(|d| &d.api_version))?;
        let kind = named.kind.as_ref().or(default.map(|d| &d.kind))?;
        Some(Self { api_version: api_version.clone(), kind: kind.clone() })
    }

    /// For a list the header of its items, if they need none of their own: a `ServiceList` holds
    /// Services, a `List` holds anything. `None` for what is not a list.
    pub(super) fn list_item(&self) -> Option<Option<Self>> {
        match self.kind.strip_suffix("List")? {
            "" if &*self.api_version == "v1" => Some(None),
            "" => None,
            kind => Some(Some(Self { kind: kind.into(), ..self.clone() })),
        }
    }
}

/// The header, namespace and name of a document that may be broken. `None` when it has no name.
pub(super) fn identity(
    text: &str,
    default: Option<&Header>,
) -> Option<(Header, Arc<str>, Arc<str>)> {
    let named = read::untracked::<Named>(text).unwrap_or_else(|_| scan(text));
    let header = Header::of(&named, default)?;
    let meta = named.metadata?;
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    Some((header, namespace.into(), meta.name?.into()))
}

/// Reads the names of a document line by line, as far as it is in block style.
fn scan(text: &str) -> Named {
    let metadata = text.lines().skip_while(|line| line.trim_end() != "metadata:").skip(1);
    let below =
        metadata.take_while(|line| line.starts_with([' ', '#']) || line.trim_end().is_empty());
    let below: Vec<&str> = below.filter(|line| !line.trim_start().starts_with('#')).collect();
    let indent = below.iter().find(|line| !line.trim().is_empty()).map_or(0, |l| indent(l));
    let child = |key: &str| {
        let mut children = below.iter().filter_map(|line| line.get(indent..));
        children.find_map(|line| value(line, key)).map(Box::from)
    };
    Named {
        api_version: top_level(text, "apiVersion").map(Box::from),
        kind: top_level(text, "kind").map(Box::from),
        metadata: Some(NamedMeta { name: child("name"), namespace: child("namespace") }),
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The plain value of a key that starts a line.
fn top_level<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| value(line, key))
}

/// The value in `key: value`, when it is plain or simply quoted.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(key)?.strip_prefix(':')?;
    let rest = if rest.starts_with([' ', '\t']) { rest.trim() } else { return None };
    let plain = match rest.split_once(" #") {
        Some((value, _)) => value.trim_end(),
        None => rest,
    };
    let quoted = |quote| plain.strip_prefix(quote).and_then(|p: &str| p.strip_suffix(quote));
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(plain);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"./-_".contains(&b);
    (!value.is_empty() && value.bytes().all(allowed)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_found_in_every_style() {
        for text in [
            "apiVersion: v1\nkind: Service\n",
            "kind: 'Service' # x\r\nmetadata: {}\r\napiVersion: \"v1\"\r\n",
            "{apiVersion: v1, kind: Service}",
            "{\"kind\":\"Service\",\n\"apiVersion\":\"v1\"}",
            "  apiVersion: v1\n  kind: Service\n",
            "? apiVersion\n: v1\n? kind\n: Service\n",
        ] {
            let header = Header::find(text, None).expect(text);
            assert_eq!((&*header.api_version, &*header.kind), ("v1", "Service"), "{text}");
        }
    }

    #[test]
    fn what_has_no_kind_has_no_header() {
        for text in ["a: b", "- a", "text", "apiVersion: v1", "kind: Service", "a: [", "kind: null"]
        {
            assert!(Header::find(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn a_broken_document_still_tells_its_name() {
        let identity = |text: &str| {
            let (header, namespace, name) = identity(text, None)?;
            Some(format!("{} {namespace}/{name}", header.kind))
        };
        let broken = "apiVersion: v1\nkind: Service\nmetadata:\n    labels:\n      name: no\n    \
                      name: bar\n\n    # x\n    namespace: ns2 # x\nspec:\n  a: [\n";
        assert_eq!(identity(broken).as_deref(), Some("Service ns2/bar"));
        let flow = "{apiVersion: v1, kind: Service, metadata: {name: bar}, spec: 1}";
        assert_eq!(identity(flow).as_deref(), Some("Service default/bar"));
        assert_eq!(identity("apiVersion: v1\nkind: Service\nmetadata:\nspec: [\n"), None);
        assert_eq!(identity("kind: Service\nmetadata:\n  name: a\nspec: [\n"), None);
    }

    #[test]
    fn a_list_says_what_its_items_are() {
        let item = |api_version: &str, kind: &str| {
            let header = Header { api_version: api_version.into(), kind: kind.into() };
            header.list_item().map(|item| item.map(|item| item.kind.to_string()))
        };
        assert_eq!(item("v1", "List"), Some(None));
        assert_eq!(item("v1", "ServiceList"), Some(Some("Service".into())));
        assert_eq!(item("v1", "Service"), None);
    }
}
