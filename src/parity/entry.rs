//! Reads one part of a dump, so that what is wrong with it costs only that and is told by its name.
//!
//! Must not know: what the parts mean.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// Reads a part. The error says which field is wrong, in words for who reads a dump.
pub(super) fn read<'a, T: Deserialize<'a>>(part: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(part.get()).map_err(|error| why(part.get(), &error))
}

/// The name at this path of a part that cannot be read as a whole.
pub(super) fn name(part: &RawValue, path: &[&str]) -> Option<String> {
    let value: Value = serde_json::from_str(part.get()).ok()?;
    let named = path.iter().try_fold(&value, |value, key| value.get(key))?;
    named.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Without the place, which would be that in the part and not in the file.
fn why(text: &str, error: &serde_json::Error) -> String {
    let shown = error.to_string();
    let shown = shown.rsplit_once(" at line ").map_or(&*shown, |(shown, _)| shown);
    match field(text, error) {
        Some(field) => format!("{field}: {shown}"),
        None => shown.to_owned(),
    }
}

/// The last key before the place of an error: serde itself does not name it.
fn field<'t>(text: &'t str, error: &serde_json::Error) -> Option<&'t str> {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let place = lines.map(str::len).sum::<usize>() + error.column();
    let before = text.as_bytes().get(..place.min(text.len()))?;
    let end = before.windows(2).rposition(|pair| pair == b"\":")?;
    let start = before[..end].iter().rposition(|byte| *byte == b'"')? + 1;
    text.get(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[serde(rename = "b")]
        _b: u8,
    }

    fn check(text: &str, expected: &str) {
        let raw: &RawValue = serde_json::from_str(text).expect("JSON");
        let read = read::<std::collections::BTreeMap<String, Inner>>(raw);
        assert_eq!(read.expect_err("wrong"), expected, "{text}");
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        let text = "b: invalid type: string \"x\", expected u8";
        check(r#"{"a": {"b": "x"}, "c": {"b": 1}}"#, text);
        check("{\"d\": {\"b\": 1},\n \"a\":\n {\"é\": 1, \"b\":\n \"x\"}}", text);
        check(r#"{"a": {"b":"x" , "c": {"b": 1}}}"#, text);
        let raw: &RawValue = serde_json::from_str(r#"{"a": {"n": "x", "m": 1}}"#).expect("JSON");
        assert_eq!(name(raw, &["a", "n"]).as_deref(), Some("x"));
        assert_eq!((name(raw, &["a", "m"]), name(raw, &["b", "n"])), (None, None));
    }
}
