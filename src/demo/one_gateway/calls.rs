//! The calls of the demo: what is asked, what should come of it, and what did.
//!
//! Must not know: how lines are printed, who the gateway is.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{AlertDescription, ClientConfig};
use tokio::{sync::mpsc::UnboundedReceiver, time::timeout};

use super::{
    client::{self, Answer, Seen, alert_name},
    material::{CALLER, Material},
    pods::Pods,
};

/// One line of the story: a server name, called once or until the expectation is met.
#[derive(Debug)]
pub struct Call {
    /// What is asked for and what should happen, in words.
    pub title: &'static str,
    /// The server name; `None` sends none.
    pub asked: Option<&'static str>,
    alpn: &'static str,
    from: Caller,
    expected: Expected,
}

#[derive(Debug, Clone, Copy)]
enum Caller {
    Sleep,
    Stranger,
}

#[derive(Debug)]
enum Expected {
    /// Only these pods answer, and each of them in the end.
    Pods(&'static [&'static str]),
    /// Every byte comes back.
    Echo,
    /// TLS ends with this alert.
    Alert(AlertDescription),
}

/// What came of a call.
#[derive(Debug)]
pub struct Outcome {
    /// What should have come of it.
    pub expected: String,
    /// What did.
    pub seen: String,
    /// The gateway's own words about it, the last of several.
    pub decision: Option<String>,
    /// Whether both agree.
    pub good: bool,
}

/// Every pod of a service should have answered after so many calls: by chance alone, one of three
/// stays away that long once in 10^10 runs.
const CALLS_MAX: usize = 60;
/// A gateway reports a connection when it ends, which is just after our call did.
const PATIENCE: Duration = Duration::from_secs(2);
/// One that did not is not waited for as long again.
const PATIENCE_LOST: Duration = Duration::from_millis(50);
const ECHO_BYTES: usize = 1 << 20;

const REFUSED: Expected = Expected::Alert(AlertDescription::UnrecognisedName);

const fn call(title: &'static str, asked: &'static str, expected: Expected) -> Call {
    Call { title, asked: Some(asked), alpn: "istio", from: Caller::Sleep, expected }
}

/// All calls, in the order of the story.
pub const CALLS: [Call; 13] = [
    call(
        "the whole service: all three pods",
        "outbound_.8080_._.bar.ns2.global",
        Expected::Pods(&["bar-v1-a", "bar-v1-b", "bar-v2-a"]),
    ),
    call(
        "subset v1: its two pods",
        "outbound_.8080_.v1_.bar.ns2.global",
        Expected::Pods(&["bar-v1-a", "bar-v1-b"]),
    ),
    call(
        "subset v2: its one pod",
        "outbound_.8080_.v2_.bar.ns2.global",
        Expected::Pods(&["bar-v2-a"]),
    ),
    call(
        "upper case: the same service",
        "OUTBOUND_.8080_.V2_.BAR.NS2.GLOBAL",
        Expected::Pods(&["bar-v2-a"]),
    ),
    call(
        "1 MiB, our half closed: every byte comes back",
        "outbound_.8080_._.bar.ns2.global",
        Expected::Echo,
    ),
    call("a service that does not exist", "outbound_.8080_._.nobody.ns2.global", REFUSED),
    call("a subset that does not exist", "outbound_.8080_.v9_.bar.ns2.global", REFUSED),
    call("a port that the service has not", "outbound_.9090_._.bar.ns2.global", REFUSED),
    call("a service not exported to us", "outbound_.8080_._.secret.ns2.global", REFUSED),
    call(
        "a service whose pod has no sidecar: no endpoint",
        "outbound_.8080_._.plain.ns2.global",
        Expected::Alert(AlertDescription::InternalError),
    ),
    Call {
        title: "ALPN h2, which is no sidecar's",
        asked: Some("outbound_.8080_._.bar.ns2.global"),
        alpn: "h2",
        from: Caller::Sleep,
        expected: Expected::Alert(AlertDescription::NoApplicationProtocol),
    },
    Call {
        title: "no server name",
        asked: None,
        alpn: "istio",
        from: Caller::Sleep,
        expected: REFUSED,
    },
    Call {
        title: "a certificate of another root: the pod refuses",
        asked: Some("outbound_.8080_._.bar.ns2.global"),
        alpn: "istio",
        from: Caller::Stranger,
        expected: Expected::Alert(AlertDescription::UnknownCA),
    },
];

/// Where calls go, and where the gateway's words about them come from.
#[derive(Debug)]
pub struct Ways<'a> {
    address: SocketAddr,
    decisions: UnboundedReceiver<String>,
    patience: Duration,
    pods: &'a Pods,
    material: &'a Material,
}

impl<'a> Ways<'a> {
    /// To `address`, with these pods behind it. `decisions` gives one line for each connection
    /// when it has ended.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        decisions: UnboundedReceiver<String>,
        pods: &'a Pods,
        material: &'a Material,
    ) -> Self {
        Self { address, decisions, patience: PATIENCE, pods, material }
    }

    /// Gives the gateway's lines to somebody else, after the last call.
    #[must_use]
    pub fn into_decisions(self) -> UnboundedReceiver<String> {
        self.decisions
    }

    /// Makes one call, again and again where several pods are expected, and judges it.
    pub async fn make(&mut self, call: &Call) -> anyhow::Result<Outcome> {
        let tls = match call.from {
            Caller::Sleep => self.material.caller_tls(call.alpn)?,
            Caller::Stranger => self.material.stranger_tls(call.alpn)?,
        };
        let (good, seen, decision) = match &call.expected {
            Expected::Pods(pods) => self.until_all_answered(call.asked, &tls, pods).await,
            Expected::Echo => self.echo(call.asked, &tls).await,
            Expected::Alert(alert) => {
                let (seen, decision) = self.once(call.asked, &tls, &client::get()).await;
                (seen == Seen::Alert(*alert), seen.to_string(), decision)
            }
        };
        let (silent, touched) = (decision.is_none(), self.touched());
        let mut outcome =
            Outcome { expected: call.expected.to_string(), seen, decision, good: good && !silent };
        if silent {
            outcome.seen.push_str("; and the gateway reported no connection");
        }
        if let Some(touched) = touched {
            outcome.good = false;
            outcome.seen.push_str(&touched);
        }
        Ok(outcome)
    }

    async fn until_all_answered(
        &mut self,
        asked: Option<&str>,
        tls: &Arc<ClientConfig>,
        pods: &[&str],
    ) -> (bool, String, Option<String>) {
        let mut answered = BTreeSet::new();
        for calls in 1..=CALLS_MAX {
            let (seen, decision) = self.once(asked, tls, &client::get()).await;
            match told_by(&seen, asked) {
                Ok(pod) if pods.contains(&&*pod) => answered.insert(pod),
                Ok(pod) => return (false, pod, decision),
                Err(wrong) => return (false, wrong, decision),
            };
            if answered.len() == pods.len() || decision.is_none() || calls == CALLS_MAX {
                let plural = if calls == 1 { "" } else { "s" };
                let names: Vec<_> = answered.iter().map(String::as_str).collect();
                let seen = format!("{} ({calls} call{plural})", names.join(", "));
                return (answered.len() == pods.len(), seen, decision);
            }
        }
        (false, "no call was made".to_owned(), None)
    }

    async fn echo(
        &mut self,
        asked: Option<&str>,
        tls: &Arc<ClientConfig>,
    ) -> (bool, String, Option<String>) {
        let sent = noise(ECHO_BYTES);
        let (seen, decision) = self.once(asked, tls, &client::echo(&sent)).await;
        match seen {
            Seen::Answer(Answer { body }) if body == sent => {
                (true, format!("{} bytes, all equal", body.len()), decision)
            }
            Seen::Answer(Answer { body }) => {
                let same = body.iter().zip(&sent).take_while(|(a, b)| a == b).count();
                (false, format!("{} bytes, equal up to byte {same}", body.len()), decision)
            }
            other => (false, other.to_string(), decision),
        }
    }

    async fn once(
        &mut self,
        asked: Option<&str>,
        tls: &Arc<ClientConfig>,
        request: &[u8],
    ) -> (Seen, Option<String>) {
        // What came late belongs to an earlier call.
        while self.decisions.try_recv().is_ok() {}
        let seen = client::call(self.address, tls, asked, request).await;
        let decision = timeout(self.patience, self.decisions.recv()).await.unwrap_or_default();
        if decision.is_none() {
            self.patience = PATIENCE_LOST;
        }
        (seen, decision)
    }

    fn touched(&self) -> Option<String> {
        let connections = self.pods.plain_connections();
        (connections > 0)
            .then(|| format!("; and the pod without a sidecar got {connections} connections"))
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pods(pods) => f.write_str(&pods.join(", ")),
            Self::Echo => write!(f, "{ECHO_BYTES} bytes, all equal"),
            Self::Alert(alert) => f.write_str(&alert_name(*alert)),
        }
    }
}

/// The pod that answered, if it saw the caller and the name as they are: nothing on the way has
/// opened the connection.
fn told_by(seen: &Seen, asked: Option<&str>) -> Result<String, String> {
    let Seen::Answer(answer) = seen else {
        return Err(seen.to_string());
    };
    let pod = answer.field("pod").ok_or("an answer that names no pod")?;
    let caller = answer.field("caller").unwrap_or("nobody");
    if caller != CALLER {
        return Err(format!("{pod}, which was called by {caller} instead of {CALLER}"));
    }
    let name = answer.field("server name").unwrap_or_default();
    if !name.eq_ignore_ascii_case(asked.unwrap_or("none")) {
        return Err(format!("{pod}, which was asked for {name}"));
    }
    Ok(pod.to_owned())
}

/// Bytes without a pattern, so that none can be lost or swapped unseen.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
