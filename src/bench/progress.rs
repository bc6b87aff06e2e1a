//! One line on the terminal that says how far long work is; nothing where there is no terminal.
//!
//! Must not know: what the work is.

use std::io::{self, IsTerminal as _, Write as _};

/// The line.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// On standard error, when that is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        Self { shown: io::stderr().is_terminal() }
    }

    /// Says nothing.
    #[must_use]
    pub fn quiet() -> Self {
        Self { shown: false }
    }

    /// True when somebody sees it.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// Replaces the line.
    pub fn say(&self, text: &str) {
        if self.shown {
            // A terminal that is gone is no reason to stop working.
            let _ = write!(io::stderr(), "\r\x1b[2K{text}");
            let _ = io::stderr().flush();
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.say("");
    }
}

/// A bar of `width` characters, filled to `done` of `all`.
#[must_use]
pub fn bar(done: usize, all: usize, width: usize) -> String {
    let filled = (done * width).checked_div(all).unwrap_or(width).min(width);
    format!("[{}{}]", "=".repeat(filled), " ".repeat(width - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        assert_eq!([bar(0, 4, 4), bar(1, 4, 4), bar(9, 4, 4)], ["[    ]", "[=   ]", "[====]"]);
        assert_eq!(bar(0, 0, 2), "[==]");
    }
}
