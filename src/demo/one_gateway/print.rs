//! How the calls to the one gateway are told.
//!
//! Must not know: how anything came about.

use std::{io, net::SocketAddr, path::Path};

use super::calls::{Call, Outcome};
use crate::demo::print::{Printer, Style, shell_word};

/// One call and what came of it.
pub fn outcome(printer: &mut Printer, call: &Call, outcome: &Outcome) -> io::Result<()> {
    let asked = call.asked.unwrap_or("(none)");
    let seen = printer.paint(Style::Bold, &outcome.seen);
    printer.verdict(outcome.good, &format!("{asked:<36}  {seen}"))?;
    printer.note(call.title)?;
    if !outcome.good {
        printer.note(&format!("expected: {}", outcome.expected))?;
    }
    if let Some(decision) = &outcome.decision {
        printer.note(&format!("gateway: {}", decision.trim_end()))?;
    }
    Ok(())
}

/// How to make a call without us.
pub fn by_hand(printer: &mut Printer, gateway: SocketAddr, dir: &Path) -> io::Result<()> {
    let line = openssl_line(gateway, dir);
    printer.line(&format!("\nBy hand, until Ctrl-C ends this:\n\n{line}\n"))
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
