//! Bytes from the network, made fit for a log line. Must not know: where they came from.

use std::fmt::{self, Write as _};

/// A server name has at most 255 bytes; what is longer is not worth a line.
const BYTES_MAX: usize = 255;

/// Prints bytes so that they cannot end a line, close a quote or move a terminal's cursor:
/// printable ASCII stays, but `\`, `"` and everything else become `\xNN`. More than 255 bytes are
/// cut, marked by `\...`, which no bytes print as.
#[must_use]
pub fn escape(bytes: &[u8]) -> Escaped<'_> {
    Escaped(bytes)
}

/// What [`escape`] prints.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0.iter().take(BYTES_MAX) {
            match byte {
                b'\\' | b'"' => write!(f, "\\x{byte:02x}")?,
                b' '..=b'~' => f.write_char(char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        if self.0.len() > BYTES_MAX { f.write_str("\\...") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_itself_or_its_number() {
        for byte in 0..=u8::MAX {
            let kept = (0x20..0x7f).contains(&byte) && byte != b'\\' && byte != b'"';
            let expected =
                if kept { char::from(byte).to_string() } else { format!("\\x{byte:02x}") };
            assert_eq!(escape(&[byte]).to_string(), expected);
        }
    }

    #[test]
    fn names_stay_readable() {
        let name = b"outbound_.8080_._.bar.ns2.global";
        assert_eq!(escape(name).to_string().as_bytes(), name);
        assert_eq!(escape("é\r\n".as_bytes()).to_string(), "\\xc3\\xa9\\x0d\\x0a");
        assert_eq!(escape(b"").to_string(), "");
    }

    #[test]
    fn what_is_longer_than_a_name_is_cut_and_marked() {
        let whole = [b'a'; 255];
        assert_eq!(escape(&whole).to_string(), "a".repeat(255));
        assert_eq!(escape(&[b'a'; 256]).to_string(), "a".repeat(255) + "\\...");
        assert_eq!(escape(&[0; 70_000]).to_string().len(), 255 * 4 + 4);
    }
}
