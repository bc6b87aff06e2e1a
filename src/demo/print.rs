//! How the demo speaks: aligned lines, colour on a terminal only.
//!
//! Must not know: how anything came about.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write},
};

use crate::telemetry::stdout;

/// Where the lines go.
pub struct Printer {
    out: Box<dyn Write>,
    colour: bool,
}

/// How a word is to stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// What matters in a line.
    Bold,
    /// What explains.
    Dim,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
}

impl Printer {
    /// Standard output; colour when it is a terminal and `NO_COLOR` is not set.
    #[must_use]
    pub fn stdout() -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { out: Box::new(stdout()), colour }
    }

    /// Anywhere, without colour.
    #[must_use]
    pub fn plain(out: Box<dyn Write>) -> Self {
        Self { out, colour: false }
    }

    /// A name and its value.
    pub fn fact(&mut self, name: &str, value: impl fmt::Display) -> io::Result<()> {
        self.line(&format!("{name:<9} {value}"))
    }

    /// A line on its own.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// `OK` or `WRONG` and what was seen.
    pub fn verdict(&mut self, good: bool, seen: &str) -> io::Result<()> {
        let verdict = match good {
            true => self.paint(Style::Good, "OK   "),
            false => self.paint(Style::Bad, "WRONG"),
        };
        self.line(&format!("{verdict}  {seen}"))
    }

    /// A remark below a verdict.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        let note = self.paint(Style::Dim, text);
        self.line(&format!("       {note}"))
    }

    /// The text, made to stand out where there is colour.
    #[must_use]
    pub fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "1;31",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printer").field("colour", &self.colour).finish_non_exhaustive()
    }
}

/// Quotes what a shell would not take as it is.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%=,[]".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reaches_the_shell_as_it_is() {
        assert_eq!(shell_word("/tmp/.a-b_1"), "/tmp/.a-b_1");
        assert_eq!(shell_word("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(shell_word("/tmp/it's"), r"'/tmp/it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
