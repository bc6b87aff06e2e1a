//! What manifests say, made fit for a terminal. Must not know: what it says.

use std::fmt::{self, Display, Write as _};

/// One line: whatever could end it or move a cursor is escaped.
pub(super) fn line<T: Display>(text: T) -> Shown<T> {
    Shown { text, lines: false }
}

/// Several lines, in which only their ends are left as they are.
pub(super) fn lines<T: Display>(text: T) -> Shown<T> {
    Shown { text, lines: true }
}

/// What [`line`] and [`lines`] print.
pub(super) struct Shown<T> {
    text: T,
    lines: bool,
}

impl<T: Display> Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping { to: f, lines: self.lines }, "{}", self.text)
    }
}

struct Escaping<'a, 'f> {
    to: &'a mut fmt::Formatter<'f>,
    lines: bool,
}

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                // Quotes and backslashes are part of messages and move nothing.
                '"' | '\'' | '\\' => self.to.write_char(c)?,
                '\n' if self.lines => self.to.write_char(c)?,
                _ => write!(self.to, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_is_escaped_and_texts_stay() {
        let odd = "it's `é` \"a\\b\" \u{1b}[2J\r\u{202e}\u{7f}\u{9b}\n";
        let shown = "it's `é` \"a\\b\" \\u{1b}[2J\\r\\u{202e}\\u{7f}\\u{9b}";
        assert_eq!(line(odd).to_string(), format!("{shown}\\n"));
        assert_eq!(lines(odd).to_string(), format!("{shown}\n"));
    }
}
