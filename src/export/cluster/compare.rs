//! Whether objects of a cluster are as they are to be.
//!
//! Must not know: how they are read and written.

use std::collections::BTreeSet;

use serde::Deserialize as _;
use serde_json::{Value, json};
use xxhash_rust::xxh64::xxh64;

use crate::manifests::Kind;

/// A digest of what was applied. Without it nobody could see that a field of ours is to go: what is
/// to be is then still part of what is.
const DIGEST: &str = "diolkos/digest";

/// An object of ours as it is.
#[derive(Debug)]
pub(in crate::export) struct Live {
    pub(super) kind: Kind,
    pub(super) object: Value,
}

/// An object as it is to be.
pub(super) struct Wanted {
    pub(super) kind: Kind,
    pub(super) object: Value,
}

impl Live {
    /// Whose gateways it has.
    pub(super) fn clusters(&self) -> Vec<String> {
        let endpoints = self.object["spec"]["endpoints"].as_array().into_iter().flatten();
        let names = endpoints.filter_map(|endpoint| endpoint["labels"]["cluster"].as_str());
        names.map(str::to_owned).collect()
    }
}

/// True when these objects are what the text has, as far as it says.
pub(in crate::export) fn are(live: &[Live], text: &str) -> bool {
    let wanted = wanted(text);
    wanted.len() == live.len()
        && wanted.iter().all(|object| {
            let same = live.iter().find(|live| live.kind == object.kind);
            same.is_some_and(|live| holds(&live.object, &object.object))
        })
}

/// The objects of a text of `object`, each with its digest.
pub(super) fn wanted(text: &str) -> Vec<Wanted> {
    let documents = serde_norway::Deserializer::from_str(text);
    let objects = documents.map(|document| {
        let mut object = Value::deserialize(document).expect("what we wrote can be read");
        let digest = xxh64(object.to_string().as_bytes(), 0);
        object["metadata"]["annotations"] = json!({DIGEST: format!("{digest:016x}")});
        let is_entry = object["kind"] == Kind::ServiceEntry.as_str();
        let kind = if is_entry { Kind::ServiceEntry } else { Kind::DestinationRule };
        Wanted { kind, object }
    });
    objects.collect()
}

/// True when everything of `part` is in `whole`. Others may add fields, and the API its own.
pub(super) fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| holds(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len()
                && whole.iter().zip(part).all(|(whole, part)| holds(whole, part))
        }
        _ => whole == part,
    }
}

/// An object without what changes with each write of anybody, or of nobody.
pub(super) fn settled(mut object: Value) -> Value {
    let volatile: BTreeSet<_> = ["managedFields", "resourceVersion", "generation"].into();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, _| !volatile.contains(&**key));
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(whole: &Value, part: &Value, expected: bool) {
        assert_eq!(holds(whole, part), expected, "{part} in {whole}");
    }

    #[test]
    fn others_may_add_fields_and_the_order_of_lists_counts() {
        let whole = json!({"a": 1, "b": [{"c": "x", "d": 2}, {"c": "y"}], "e": {"f": true}});
        check(&whole, &json!({}), true);
        check(&whole, &json!({"a": 1, "e": {}}), true);
        check(&whole, &json!({"b": [{"c": "x"}, {"c": "y"}]}), true);
        check(&whole, &json!({"b": [{"c": "x"}]}), false);
        check(&whole, &json!({"b": [{"c": "y"}, {"c": "x"}]}), false);
        check(&whole, &json!({"a": 2}), false);
        check(&whole, &json!({"g": 1}), false);
        check(&whole, &json!({"a": {"h": 1}}), false);
    }

    const ENTRY: &str = "kind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a], more: 1}\n";
    const RULE: &str = "---\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a}\n";

    fn live_of(text: &str) -> Vec<Live> {
        let objects = wanted(text).into_iter();
        objects.map(|Wanted { kind, object }| Live { kind, object }).collect()
    }

    #[test]
    fn a_field_that_is_to_go_and_a_rule_that_is_to_go_are_seen() {
        let both = format!("{ENTRY}{RULE}");
        assert!(are(&live_of(&both), &both) && are(&live_of(ENTRY), ENTRY));
        assert!(!are(&live_of(&both), ENTRY), "the rule is to go");
        assert!(!are(&live_of(ENTRY), &both), "the rule is to come");
        assert!(!are(&live_of(ENTRY), &ENTRY.replace(", more: 1", "")), "a field is to go");
        let mut drifted = live_of(ENTRY);
        drifted[0].object["spec"]["hosts"] = json!(["b"]);
        assert!(!are(&drifted, ENTRY), "somebody changed it");
        drifted[0].object = live_of(ENTRY).remove(0).object;
        drifted[0].object["spec"]["theirs"] = json!(1);
        assert!(are(&drifted, ENTRY), "somebody added to it");
    }
}
