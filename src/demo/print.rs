//! How the demo speaks: aligned lines, colour on a terminal only.
//!
//! Must not know: how anything came about.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write},
    net::SocketAddr,
    path::Path,
};

use super::calls::{Call, Outcome};

/// Where the lines go.
pub struct Printer {
    out: Box<dyn Write>,
    colour: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const GREEN: &str = "32";

impl Printer {
    /// Standard output; colour when it is a terminal and `NO_COLOR` is not set.
    #[must_use]
    pub fn stdout() -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { out: Box::new(io::stdout()), colour }
    }

    /// Anywhere, without colour.
    #[must_use]
    pub fn plain(out: Box<dyn Write>) -> Self {
        Self { out, colour: false }
    }

    /// A name and its value.
    pub fn fact(&mut self, name: &str, value: impl fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{name:<9} {value}")?;
        self.out.flush()
    }

    /// A line on its own.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// One call and what came of it.
    pub fn outcome(&mut self, call: &Call, outcome: &Outcome) -> io::Result<()> {
        let verdict = match outcome.good {
            true => self.paint(GREEN, "OK   "),
            false => self.paint(RED, "WRONG"),
        };
        let asked = call.asked.unwrap_or("(none)");
        writeln!(self.out, "{verdict}  {asked:<36}  {}", self.paint(BOLD, &outcome.seen))?;
        self.note("", call.title)?;
        if !outcome.good {
            self.note("expected: ", &outcome.expected)?;
        }
        if let Some(decision) = &outcome.decision {
            self.note("gateway: ", decision.trim_end())?;
        }
        self.out.flush()
    }

    fn note(&mut self, name: &str, text: &str) -> io::Result<()> {
        let note = self.paint(DIM, &format!("{name}{text}"));
        writeln!(self.out, "       {note}")
    }

    /// How to make a call without us.
    pub fn by_hand(&mut self, gateway: SocketAddr, dir: &Path) -> io::Result<()> {
        writeln!(
            self.out,
            "\nBy hand, until Ctrl-C ends this:\n\n{}\n",
            openssl_line(gateway, dir)
        )?;
        self.out.flush()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printer").field("colour", &self.colour).finish_non_exhaustive()
    }
}

/// A command for a shell that asks `bar` through the gateway and prints what the pod said.
#[must_use]
pub fn openssl_line(gateway: SocketAddr, dir: &Path) -> String {
    let file = |name: &str| shell_word(&dir.join("client").join(name).to_string_lossy());
    format!(
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect {gateway} \\\n  \
         -servername outbound_.8080_._.bar.ns2.global -alpn istio \\\n  \
         -cert {} -key {} \\\n  -CAfile {} \\\n  -verify_return_error -verify_quiet -quiet",
        file("cert-chain.pem"),
        file("key.pem"),
        file("trust.pem"),
    )
}

/// Quotes what a shell would not take as it is.
fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b);
    if text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reaches_the_shell_as_it_is() {
        assert_eq!(shell_word("/tmp/.a-b_1"), "/tmp/.a-b_1");
        assert_eq!(shell_word("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(shell_word("/tmp/it's"), r"'/tmp/it'\''s'");
    }
}
