//! Cuts a file into documents at its `---` lines.
//!
//! Must not know: what a document says. A `---` at the start of a line always divides, whatever
//! stands around it, so a quote that is never closed ends with its document.

/// A part of a file.
#[derive(Debug, PartialEq)]
pub(super) struct Document<'a> {
    pub(super) bytes: &'a [u8],
    /// The line of its first byte, from 1.
    pub(super) line: usize,
}

/// The documents of a file, also empty ones.
pub(super) fn documents(bytes: &[u8]) -> impl Iterator<Item = Document<'_>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut rest = Some(bytes);
    let mut line = 1;
    std::iter::from_fn(move || {
        let whole = rest?;
        let (bytes, after) = match marker(whole) {
            Some(at) => (&whole[..at], Some(&whole[at + 3..])),
            None => (whole, None),
        };
        let document = Document { bytes, line };
        line += newlines(bytes);
        rest = after;
        Some(document)
    })
}

/// The next `---` at the start of a line and before a space, a tab or the end of the line.
fn marker(bytes: &[u8]) -> Option<usize> {
    let is_marker = |at: usize| {
        bytes[at..].starts_with(b"---")
            && matches!(bytes.get(at + 3), None | Some(b' ' | b'\t' | b'\r' | b'\n'))
    };
    let mut at = 0;
    loop {
        if is_marker(at) {
            return Some(at);
        }
        at += bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
    }
}

pub(super) fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// The text from its first line that is no comment, blank, `...` or `%` directive, and the
/// number of lines before. Empty when there is no other line.
pub(super) fn without_comments(text: &str) -> (&str, usize) {
    let mut rest = text;
    let mut skipped = 0;
    for line in text.split_inclusive('\n') {
        let start = line.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
        let is_blank = start.is_empty() || start.starts_with('#');
        if !is_blank && !line.starts_with('%') && line.trim_end() != "..." {
            return (rest, skipped);
        }
        rest = &rest[line.len()..];
        skipped += 1;
    }
    ("", skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, usize)]) {
        let found: Vec<_> = documents(text.as_bytes())
            .map(|document| (std::str::from_utf8(document.bytes).expect("UTF-8"), document.line))
            .collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn a_marker_at_the_start_of_a_line_divides() {
        check("", &[("", 1)]);
        check("a\n---\nb\n", &[("a\n", 1), ("\nb\n", 2)]);
        check("---\na\n--- # next\nb", &[("", 1), ("\na\n", 1), (" # next\nb", 3)]);
        check("a\r\n---\r\nb\r\n", &[("a\r\n", 1), ("\r\nb\r\n", 2)]);
        check("\u{feff}---\na", &[("", 1), ("\na", 1)]);
        check("a\n---", &[("a\n", 1), ("", 2)]);
        check("a: |\n  ---\nb: '\n---\nc", &[("a: |\n  ---\nb: '\n", 1), ("\nc", 4)]);
        check("a\n---x\n----\n -- -\n", &[("a\n---x\n----\n -- -\n", 1)]);
    }

    #[test]
    fn a_document_starts_after_its_comments() {
        for text in ["", "\n \n", "# a\n  # b\r\n", "%YAML 1.2\n", "\u{feff}\n", "...\n"] {
            assert_eq!(without_comments(text).0, "", "{text:?}");
        }
        assert_eq!(without_comments("a"), ("a", 0));
        assert_eq!(without_comments("# a\r\n\nb: c\n# d\n"), ("b: c\n# d\n", 2));
        assert_eq!(without_comments("\n  a: 1\n"), ("  a: 1\n", 1));
    }
}
