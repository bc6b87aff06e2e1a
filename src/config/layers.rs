//! Folds what a file, the environment and the command line say into one tree of keys.
//!
//! Must not know: what a key means, or which values make sense together.

use std::{collections::BTreeMap, path::Path};

use serde_norway::{Mapping, Value};

use super::{
    Invalid, Origin, Settings, SettingsError,
    keys::{self, KNOWN, TOMBSTONES, Tombstone},
    ranges::Violation,
};

/// Something that the command line says about one key.
#[derive(Clone, Debug)]
pub struct Override {
    /// As the user knows it, for messages: `--workers`, `--set`.
    pub flag: String,
    /// The dotted key.
    pub key: String,
    /// The value.
    pub given: Given,
}

/// A value from the command line.
#[derive(Clone, Debug)]
pub enum Given {
    /// Read as the key wants it: YAML, or `a,b` for a list.
    Text(String),
    /// A list whose items are taken as they are.
    List(Vec<String>),
}

impl Override {
    /// Reads `KEY=VALUE` of `--set`.
    ///
    /// # Errors
    /// When there is no `=` or nothing before it.
    pub fn assignment(text: &str) -> Result<Self, SettingsError> {
        let flag = format!("--set {text}");
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                let given = Given::Text(value.to_owned());
                Ok(Self { flag: "--set".into(), key: key.trim().to_owned(), given })
            }
            _ => Err(SettingsError::NotAnAssignment { flag }),
        }
    }
}

/// Keys with values and the layer that set each; what is absent has its default.
#[derive(Debug, Default)]
pub(super) struct Tree(BTreeMap<String, (Value, Origin)>);

impl Tree {
    /// Sets a known key after trying whether its type fits.
    pub(super) fn set(
        &mut self,
        key: &str,
        value: Value,
        origin: &Origin,
    ) -> Result<(), SettingsError> {
        if let Err(error) = serde_norway::from_value::<Settings>(nest([(key, &value)])) {
            let reason = plain(&error.to_string());
            return Err(invalid(key, &value, reason, origin.clone()));
        }
        self.0.insert(key.to_owned(), (value, origin.clone()));
        Ok(())
    }

    /// Reads the whole tree.
    pub(super) fn read(&self) -> Result<Settings, SettingsError> {
        let values = self.0.iter().map(|(key, (value, _))| (key.as_str(), value));
        serde_norway::from_value(nest(values))
            .map_err(|error| invalid("settings", &Value::Null, error.to_string(), Origin::Default))
    }

    /// Names the layer that a violation comes from.
    pub(super) fn blame(&self, violation: Violation) -> SettingsError {
        let unset = || (KNOWN.get(violation.key).cloned().unwrap_or_default(), Origin::Default);
        let (value, origin) = self.0.get(violation.key).cloned().unwrap_or_else(unset);
        invalid(violation.key, &value, violation.expected, origin)
    }
}

/// Sets what a file says.
pub(super) fn apply_file(tree: &mut Tree, path: &Path) -> Result<(), SettingsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
    let value: Value = serde_norway::from_str(&text).map_err(|error| SettingsError::Syntax {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    apply_value(tree, value, &Origin::File(path.to_owned()), &TOMBSTONES)
}

/// Sets what a document says.
pub(super) fn apply_value(
    tree: &mut Tree,
    document: Value,
    origin: &Origin,
    tombstones: &[Tombstone],
) -> Result<(), SettingsError> {
    let mut open = vec![(String::new(), document)];
    while let Some((name, value)) = open.pop() {
        if KNOWN.contains_key(&name) {
            tree.set(&name, value, origin)?;
            continue;
        }
        if !name.is_empty() && !keys::is_section(&name) {
            return Err(unknown(&name, origin, tombstones));
        }
        match value {
            Value::Null => {}
            Value::Mapping(map) => open.extend(children(&name, map)),
            _ => return Err(not_a_section(&name, origin)),
        }
    }
    Ok(())
}

/// Sets what `DIOLKOS_*` variables say.
pub(super) fn apply_environment(
    tree: &mut Tree,
    environment: &[(String, String)],
) -> Result<(), SettingsError> {
    for (name, text) in environment.iter().filter(|(name, _)| name.starts_with("DIOLKOS_")) {
        let origin = Origin::Environment(name.clone());
        match KNOWN.keys().find(|key| keys::variable(key) == *name) {
            Some(key) => tree.set(key, value_of(key, text), &origin)?,
            None if is_service_link(name) => {}
            None => return Err(unknown_variable(name, origin)),
        }
    }
    Ok(())
}

/// Sets what one flag says.
pub(super) fn apply_override(tree: &mut Tree, given: &Override) -> Result<(), SettingsError> {
    let origin = Origin::Flag(given.flag.clone());
    let key = given.key.as_str();
    if !KNOWN.contains_key(key) {
        return Err(match keys::is_section(key) {
            true => not_a_section(key, &origin),
            false => unknown(key, &origin, &TOMBSTONES),
        });
    }
    let value = match &given.given {
        Given::Text(text) => value_of(key, text),
        Given::List(items) => items.iter().cloned().map(Value::String).collect(),
    };
    tree.set(key, value, &origin)
}

/// Reads a text as the key's default suggests: texts are taken whole, so that `[::]:15443` or
/// `1.30` need no quotes; lists may be `a,b`, maps `a=b,c=d`; the rest, and lists and maps in
/// brackets, are YAML.
fn value_of(key: &str, text: &str) -> Value {
    let yaml = || serde_norway::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let items = || text.split(',').map(str::trim).filter(|item| !item.is_empty());
    match KNOWN.get(key) {
        Some(Value::String(_)) => Value::String(text.to_owned()),
        Some(Value::Sequence(_)) if !(text.starts_with('[') && text.ends_with(']')) => {
            items().map(|item| Value::String(item.to_owned())).collect()
        }
        Some(Value::Mapping(_)) if !text.trim_start().starts_with('{') => {
            let pair = |item: &str| {
                let (name, value) = item.split_once('=')?;
                Some((Value::String(name.to_owned()), Value::String(value.to_owned())))
            };
            let pairs: Option<Mapping> = items().map(pair).collect();
            pairs.map_or_else(|| Value::String(text.to_owned()), Value::Mapping)
        }
        _ => yaml(),
    }
}

/// Kubernetes sets variables for each Service of the namespace: a Service named `diolkos` or
/// `diolkos-gateway` gives `DIOLKOS_PORT`, `DIOLKOS_GATEWAY_SERVICE_HOST`,
/// `DIOLKOS_PORT_15443_TCP_ADDR`. They are not settings, and must not keep a pod from starting.
fn is_service_link(name: &str) -> bool {
    let numbered = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split("_PORT_").skip(1).any(numbered)
}

/// Entries of a map with dotted names, the first last: they are taken from the end.
fn children(section: &str, map: Mapping) -> Vec<(String, Value)> {
    let dotted = |(name, value): (Value, Value)| {
        let name = match name {
            Value::String(name) => name,
            other => inline(&other),
        };
        let dot = if section.is_empty() { "" } else { "." };
        (format!("{section}{dot}{name}"), value)
    };
    let mut entries: Vec<_> = map.into_iter().map(dotted).collect();
    entries.reverse();
    entries
}

/// One document of dotted keys.
fn nest<'a>(entries: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Value {
    let mut root = Value::Mapping(Mapping::new());
    for (key, value) in entries {
        let mut at = &mut root;
        for name in key.split('.') {
            if !at.is_mapping() {
                *at = Value::Mapping(Mapping::new());
            }
            let map = at.as_mapping_mut().expect("made one just now");
            at = map.entry(Value::String(name.to_owned())).or_insert(Value::Null);
        }
        *at = value.clone();
    }
    root
}

fn unknown(key: &str, origin: &Origin, tombstones: &[Tombstone]) -> SettingsError {
    let (origin, key) = (origin.clone(), key.to_owned());
    match tombstones.iter().find(|tombstone| tombstone.was == key) {
        Some(tombstone) => SettingsError::Renamed { origin, key, now: tombstone.now.to_owned() },
        None => {
            let nearest = keys::nearest(&key, keys::writable());
            SettingsError::Unknown { origin, key, nearest }
        }
    }
}

fn unknown_variable(name: &str, origin: Origin) -> SettingsError {
    if let Some(old) = TOMBSTONES.iter().find(|old| keys::variable(old.was) == name) {
        return SettingsError::Renamed {
            origin,
            key: old.was.to_owned(),
            now: keys::variable(old.now),
        };
    }
    let nearest = keys::nearest(name, KNOWN.keys().map(|key| keys::variable(key)));
    SettingsError::Unknown { origin, key: name.to_owned(), nearest }
}

fn not_a_section(name: &str, origin: &Origin) -> SettingsError {
    let example = KNOWN.keys().find(|key| key.starts_with(name)).cloned().unwrap_or_default();
    let section = if name.is_empty() { "the file" } else { name }.to_owned();
    SettingsError::NotASection { origin: origin.clone(), section, example }
}

fn invalid(key: &str, value: &Value, reason: String, origin: Origin) -> SettingsError {
    let default = KNOWN.get(key).map(inline).unwrap_or_default();
    let (key, value) = (key.to_owned(), inline(value));
    SettingsError::Invalid(Box::new(Invalid { origin, key, value, reason, default }))
}

/// What serde says, without the names of our types.
fn plain(reason: &str) -> String {
    reason.replace("usize", "a whole number").replace("u32", "a whole number")
}

/// A value on one line, cut where it gets long.
fn inline(value: &Value) -> String {
    let json = serde_json::to_string(value).unwrap_or_else(|_| format!("{value:?}"));
    match json.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &json[..end]),
        None => json,
    }
}
