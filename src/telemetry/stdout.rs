//! Standard output, whose errors say what they are about. Must not know: what is printed.

use std::io::{self, Write};

/// Standard output. When it cannot be written, its error says so, of the same kind.
#[must_use]
pub fn stdout() -> Named<io::Stdout> {
    Named(io::stdout())
}

/// What [`stdout`] gives.
#[derive(Debug)]
pub struct Named<W>(W);

impl<W: Write> Write for Named<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

fn named(error: io::Error) -> io::Error {
    match error.kind() {
        // Is tried again, and never seen by anybody.
        io::ErrorKind::Interrupted => error,
        kind => io::Error::new(kind, format!("standard output cannot be written: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_cannot_be_written_and_keeps_its_kind() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let error = writeln!(Named(full), "{}", 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let said = error.to_string();
        assert!(said.starts_with("standard output cannot be written: No space left"), "{said}");
    }
}
