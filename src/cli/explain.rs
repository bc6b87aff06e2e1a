//! `diolkos explain`: what happens to a connection that asks for a name. Must not know: how it is
//! decided.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::{
    ExplainArgs,
    shown::{line, lines},
};
use crate::{
    app::offline::Loaded,
    config::{Settings, Sources},
    telemetry::stdout,
};

/// A gateway that does not answer in this time is not well.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<bool> {
    let mut out = stdout();
    if let Some(admin) = args.admin {
        let (served, text) = ask(admin, args)?;
        write!(out, "{}", lines(text))?;
        return Ok(served);
    }
    let settings = Settings::load(&args.sources(Sources::of_this_process())?)?;
    let loaded = Loaded::read(&settings)?;
    let explanation = loaded.explain(&settings, &args.sni, args.offered(), args.source);
    write!(out, "{}", lines(&explanation))?;
    for problem in loaded.problems() {
        writeln!(io::stderr(), "{}", line(&problem))?;
    }
    Ok(explanation.refused_at().is_none())
}

/// Asks a running gateway. Its operators' port speaks plain HTTP/1.1, of which a request of one
/// line and an answer read to its end are enough.
fn ask(admin: SocketAddr, args: &ExplainArgs) -> anyhow::Result<(bool, String)> {
    let mut query =
        format!("sni={}&alpn={}", encoded(&args.sni), encoded(&args.offered().join(",")));
    if let Some(source) = args.source {
        query += &format!("&source={source}");
    }
    let answer = (|| {
        let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /explain?{query} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        io::Result::Ok(answer)
    })();
    let answer = answer.with_context(|| {
        format!("no gateway answers at {admin}; is it running, and is its admin.listen that?")
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    match status {
        "200" => Ok((!says_refused(body), body.to_owned())),
        _ => bail!("{admin} answered {status}: {}", body.trim()),
    }
}

/// True when a gate refuses, in the words of an explanation: the name, and under it a line for
/// each gate with its verdict second.
fn says_refused(explanation: &str) -> bool {
    let mut verdicts = explanation.lines().skip(1).map(|line| line.split_whitespace().nth(1));
    verdicts.any(|verdict| verdict == Some("REFUSED"))
}

/// Percent-encodes what is not unreserved (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~,".contains(&b);
    text.bytes()
        .map(|b| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_admin_port_says_whether_a_gate_refuses() {
        let passed =
            "REFUSED REFUSED\n  form      pass     port 1\n    in   10.0.0.7:80  REFUSED\n";
        assert!(!says_refused(passed));
        assert!(says_refused("x\n  form      pass     port 1\n  alpn      REFUSED  offers h2\n"));
    }

    #[test]
    fn a_name_is_encoded_for_a_query() {
        assert_eq!(encoded("outbound_.8080_._.bar"), "outbound_.8080_._.bar");
        assert_eq!(encoded("outbound|80||a b&c"), "outbound%7C80%7C%7Ca%20b%26c");
    }
}
