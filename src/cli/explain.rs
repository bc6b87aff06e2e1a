//! `diolkos explain`: what happens to a connection that asks for a name. Must not know: how it is
//! decided.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::{
    ExplainArgs,
    shown::{line, lines},
};
use crate::{
    app::offline::Loaded,
    config::{Settings, Sources},
    telemetry::{escape, stdout},
};

/// A gateway that does not answer in this time is not well.
const PATIENCE: Duration = Duration::from_secs(10);
/// An explanation has a line for each endpoint. Whoever says more than this is no gateway.
const ANSWER_MAX: u64 = 16 << 20;

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
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
        io::Result::Ok(answer)
    })();
    let answer = answer.with_context(|| {
        format!("no gateway answers at {admin}; is it running, and is its admin.listen that?")
    })?;
    let body = body(&answer).with_context(|| {
        format!("what answers at {admin} is no gateway; is its admin.listen that?")
    })?;
    let served = is_served(&body).with_context(|| {
        format!("{admin} answered with no explanation; is its admin.listen that?")
    })?;
    Ok((served, body))
}

/// The body of a whole answer of HTTP/1.1 with status 200.
///
/// # Errors
/// What is wrong with it; its words escaped.
fn body(answer: &[u8]) -> anyhow::Result<String> {
    let answer = std::str::from_utf8(answer).context("the answer is no text")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    ensure!(status == "200", "{}: {}", escape(status.as_bytes()), escape(body.trim().as_bytes()));
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    ensure!(length == Some(Ok(body.len())), "the answer is not whole");
    Ok(body.to_owned())
}

/// Whether no gate refuses, in the words of an explanation: the name, and under it a line for each
/// gate with its verdict second. `None` when they are not the words of one.
fn is_served(explanation: &str) -> Option<bool> {
    let verdicts = explanation.lines().skip(1).map(|line| line.split_whitespace().nth(1));
    let verdicts: Vec<_> = verdicts.collect();
    let refused = verdicts.contains(&Some("REFUSED"));
    (refused || verdicts.contains(&Some("pass"))).then_some(!refused)
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
        assert_eq!(is_served(passed), Some(true));
        let refused = "x\n  form      pass     port 1\n  alpn      REFUSED  offers h2\n";
        assert_eq!(is_served(refused), Some(false));
        assert_eq!((is_served(""), is_served("{\"a\":")), (None, None));
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let check = |answer: &[u8], expected: Result<&str, &str>| {
            let found = body(answer).map_err(|error| error.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned));
        };
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", Ok("ab"));
        for cut in ["content-length: 99999999999", "content-length: 3", "content-length: x", "x: 2"]
        {
            let answer = format!("HTTP/1.1 200 OK\r\n{cut}\r\n\r\nab");
            check(answer.as_bytes(), Err("the answer is not whole"));
        }
        check(b"HTTP/1.1 500 x\r\n\r\n\x1b[31m", Err("500: \\x1b[31m"));
        check(b"SSH-2.0", Err("the answer is not HTTP"));
        check(b"\xff", Err("the answer is no text"));
    }

    #[test]
    fn a_name_is_encoded_for_a_query() {
        assert_eq!(encoded("outbound_.8080_._.bar"), "outbound_.8080_._.bar");
        assert_eq!(encoded("outbound|80||a b&c"), "outbound%7C80%7C%7Ca%20b%26c");
    }
}
