//! A problem of one document, before it is known which file and object that is.
//!
//! Must not know: how documents are read. Lines count from 1 within the document until
//! [`Fault::after`] makes them lines of the file.

use crate::manifests::Severity;

/// What is wrong with a document.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) line: Option<usize>,
    pub(super) field: Option<Box<str>>,
    pub(super) message: Box<str>,
    pub(super) severity: Severity,
}

impl Fault {
    pub(super) fn new(message: impl Into<Box<str>>) -> Self {
        Self { line: None, field: None, message: message.into(), severity: Severity::Error }
    }

    pub(super) fn warning(message: impl Into<Box<str>>) -> Self {
        Self { severity: Severity::Warning, ..Self::new(message) }
    }

    /// In this field.
    pub(super) fn field(self, field: impl Into<Box<str>>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// In this line.
    pub(super) fn at(self, line: usize) -> Self {
        Self { line: Some(line), ..self }
    }

    /// In a document that starts in line `first` of its file.
    pub(super) fn after(self, first: usize) -> Self {
        Self { line: self.line.map(|line| line + first - 1), ..self }
    }
}

/// serde_norway tells the path of the field and the position only inside its message, which reads
/// `path: message at line 3 column 7`.
impl From<serde_norway::Error> for Fault {
    fn from(error: serde_norway::Error) -> Self {
        let text = shortened(without_positions(&error.to_string()));
        let is_path = |text: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/[]?".contains(c);
            !text.is_empty() && text.chars().all(allowed)
        };
        let mut fault = match text.split_once(": ") {
            Some((path, message)) if is_path(path) => Self::new(message).field(path),
            _ => Self::new(text),
        };
        fault.line = error.location().map(|location| location.line());
        fault
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::new(shortened(without_positions(&error.to_string()))).at(error.line().max(1))
    }
}

/// A parser repeats the value that it did not expect, which may be a whole file, or a secret that
/// lies where manifests are looked for.
fn shortened(text: String) -> String {
    const VALUE_MAX: usize = 60;
    let (Some(open), Some(close)) = (text.find('"'), text.rfind('"')) else { return text };
    let value = text.get(open + 1..close).unwrap_or_default();
    let Some((end, _)) = value.char_indices().nth(VALUE_MAX) else { return text };
    let start = value.get(..end).unwrap_or_default();
    let (before, after) = (text.get(..=open), text.get(close..));
    [before.unwrap_or_default(), start, "...", after.unwrap_or_default()].concat()
}

/// Cuts out every ` at line 3 column 7`: those lines count from the start of the document.
fn without_positions(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" at line ") {
        kept.push_str(before);
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
        let column = after.strip_prefix(" column ");
        rest = column.map_or(after, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_apart() {
        #[derive(Debug, serde::Deserialize)]
        struct Outer {
            #[allow(dead_code)]
            inner: Vec<u8>,
        }
        let error =
            |yaml: &str| Fault::from(serde_norway::from_str::<Outer>(yaml).expect_err(yaml));
        let fault = error("# comment\ninner:\n- 1\n- x\n");
        assert_eq!((fault.line, fault.field.as_deref()), (Some(4), Some("inner[1]")));
        assert_eq!(&*fault.message, "invalid type: string \"x\", expected u8");
        assert_eq!(fault.after(10).line, Some(13));
        let fault = error("inner: [1\n");
        assert!(fault.line.is_some() && fault.field.is_none());
        assert!(!fault.message.contains(" line "), "{fault:?}");
    }

    #[test]
    fn a_long_value_is_not_repeated_whole() {
        let secret = "s".repeat(5_000);
        let yaml = format!("\"{secret}\"");
        let error = serde_norway::from_str::<Vec<u8>>(&yaml).expect_err("a text");
        let message = Fault::from(error).message;
        assert!(message.len() < 200 && message.contains("sss...\", expected"), "{message}");
    }
}
