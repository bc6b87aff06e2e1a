//! What is wrong with a manifest, and where: the form in which every problem is told.
//!
//! Must not know: how problems are found, logged or counted.

use std::{
    fmt::{self, Write as _},
    path::Path,
    sync::Arc,
};

use super::ObjectRef;

/// One thing that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub file: Arc<Path>,
    /// The line in it, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// The object, when it could be identified.
    pub object: Option<ObjectRef>,
    /// The field, such as `spec.ports[0].port`.
    pub field: Option<Box<str>>,
    /// What is wrong and what to do about it.
    pub message: Box<str>,
    /// How bad it is.
    pub severity: Severity,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The object, or a part of the file, is not used as it is written.
    Error,
    /// It is used, but perhaps not as its writer thought.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    /// In lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `dir/a.yaml:12`, or the path alone where there is no line.
#[must_use]
pub fn place(file: &Path, line: usize) -> String {
    match line {
        0 => file.display().to_string(),
        line => format!("{}:{line}", file.display()),
    }
}

/// `dir/a.yaml:12: error: Service ns2/bar: spec.ports[0].port: 0 is not a port: ...`, in one line
/// whatever the manifest says: who may write one may not write the log.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = OneLine(f);
        write!(f, "{}: {}: ", place(&self.file, self.line), self.severity)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)
    }
}

struct OneLine<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                // Part of messages; they move nothing.
                '"' | '\'' | '\\' => self.0.write_char(c)?,
                _ => write!(self.0, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::Kind;

    #[test]
    fn a_problem_names_file_line_object_and_field() {
        let object = ObjectRef { kind: Kind::Service, namespace: "ns2".into(), name: "bar".into() };
        let mut problem = Problem {
            file: Path::new("dir/a.yaml").into(),
            line: 12,
            object: Some(object),
            field: Some("spec.ports[0].port".into()),
            message: "0 is not a port".into(),
            severity: Severity::Error,
        };
        let text = "dir/a.yaml:12: error: Service ns2/bar: spec.ports[0].port: 0 is not a port";
        assert_eq!(problem.to_string(), text);
        (problem.line, problem.object, problem.field) = (0, None, None);
        assert_eq!(problem.to_string(), "dir/a.yaml: error: 0 is not a port");
        problem.message = "`x\n2026 ERROR \u{1b}]0;t\u{7}\0` is no \"host\"".into();
        let text = "dir/a.yaml: error: `x\\n2026 ERROR \\u{1b}]0;t\\u{7}\\0` is no \"host\"";
        assert_eq!(problem.to_string(), text, "it forges no line");
    }
}
