//! Two texts side by side. Must not know: what they say.

/// Between the columns.
const GAP: usize = 3;

/// Lines of two columns of the same width: sentences wrapped at blanks, each on lines of its own.
#[must_use]
pub fn beside(left: &[String], right: &[String], width: usize) -> Vec<String> {
    let column = width.saturating_sub(GAP) / 2;
    let (left, right) = (wrapped(left, column), wrapped(right, column));
    let line = |n: usize| {
        let at = |lines: &[String]| lines.get(n).cloned().unwrap_or_default();
        let (left, right) = (at(&left), at(&right));
        let pad = column.saturating_sub(left.chars().count()) + GAP;
        format!("{left}{}{right}", " ".repeat(pad)).trim_end().to_owned()
    };
    (0..left.len().max(right.len())).map(line).collect()
}

/// The second and further lines of a sentence are indented by two.
fn wrapped(sentences: &[String], width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for sentence in sentences {
        let mut line = String::new();
        for word in sentence.split_whitespace() {
            let length = line.chars().count() + 1 + word.chars().count();
            if !line.trim().is_empty() && length > width {
                lines.push(std::mem::replace(&mut line, " ".to_owned()));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: &[&str], right: &[&str], expected: &[&str]) {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(beside(&owned(left), &owned(right), 23), expected);
    }

    #[test]
    fn sentences_are_wrapped_at_blanks_and_stand_beside_each_other() {
        check(&["one two", "three"], &["four"], &["one two      four", "three"]);
        check(
            &["one two three"],
            &["a", "b", "c"],
            &["one two      a", "  three      b", "             c"],
        );
    }

    #[test]
    fn a_word_that_is_too_long_stays_whole() {
        check(&["anextremelylongword b"], &["x"], &["anextremelylongword   x", "  b"]);
    }
}
