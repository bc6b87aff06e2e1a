//! Asks the API: one request, one answer, or the trouble there was.
//!
//! Must not know: when to ask again.

use std::time::Duration;

use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::client::{Body, ConfigExt as _};
use serde::Deserialize;
use tower::{BoxError, Service as _, ServiceBuilder, ServiceExt as _, util::BoxCloneSyncService};

use super::{AccessError, access::Found, lines, resource::group_path};
use crate::manifests::store::Part;

/// For an answer to begin.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// For the next bytes of one.
const BYTES_PATIENCE: Duration = Duration::from_secs(30);
/// Of an answer that is no list.
const STATUS_BYTES_MAX: usize = 64 << 10;
/// A page of a list: 500 objects of 130 kB each. All kinds together take at most 13 times as much.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// An API server that vanished is noticed after 30 s and three probes, 10 s apart.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// The API of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Api(BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// What we knew is too old to go on from: 410.
    Expired,
    /// There is no such kind: 404.
    Absent,
    /// We may not: 403.
    Forbidden(String),
    /// To ask again will not help: we are not known, or this is not the API that was meant.
    Hopeless(String),
    /// Anything else.
    Other(String),
}

/// What the API says when it says no.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    code: u16,
    message: String,
}

/// What a version of a group has.
#[derive(Deserialize)]
struct Served {
    #[serde(default)]
    resources: Vec<ServedKind>,
}

#[derive(Deserialize)]
struct ServedKind {
    name: String,
}

impl Api {
    pub(super) fn new(found: &Found) -> Result<Self, AccessError> {
        let (access, unusable) = (&found.access, |error| found.unusable(&error));
        // First, so that a command which fails is run once.
        let auth = access.auth_layer().map_err(unusable)?;
        let (time, interval, probes) = KEEPALIVE;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(ANSWER_PATIENCE / 2));
        tcp.set_keepalive(Some(time));
        tcp.set_keepalive_interval(Some(interval));
        tcp.set_keepalive_retries(Some(probes));
        let tls = access.rustls_https_connector_with_connector(tcp).map_err(unusable)?;
        let service = ServiceBuilder::new()
            .layer(access.base_uri_layer())
            .option_layer(auth)
            .layer(access.extra_headers_layer().map_err(unusable)?)
            .map_err(BoxError::from)
            .service(Client::builder(TokioExecutor::new()).build(tls));
        Ok(Self(BoxCloneSyncService::new(service)))
    }

    /// Asks for what is at a path; its body is still to come.
    pub(super) async fn open(&self, path: &str) -> Result<Incoming, Trouble> {
        let request = Request::get(path).header("accept", "application/json");
        let request = request.body(Body::empty()).map_err(|error| Trouble::of_error(&error))?;
        let answer = self.ask(request).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            code => {
                let bytes = collect(answer.into_body(), STATUS_BYTES_MAX).await.unwrap_or_default();
                let status: Status = serde_json::from_slice(&bytes).unwrap_or_default();
                Err(Status { code: code.as_u16(), ..status }.into())
            }
        }
    }

    /// Sends any request; gives the code and the body of the answer, whatever it says.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<(StatusCode, Vec<u8>), Trouble> {
        let answer = self.ask(request).await?;
        let code = answer.status();
        Ok((code, collect(answer.into_body(), ANSWER_BYTES_MAX).await?))
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<Incoming>, Trouble> {
        let mut service = self.0.clone();
        let answer = async { service.ready().await?.call(request).await };
        match tokio::time::timeout(ANSWER_PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Trouble::of_request(told(&*error))),
            Err(_) => Err(Trouble::Other(format!("no answer in {ANSWER_PATIENCE:?}"))),
        }
    }

    /// Asks for what is at a path, and for the whole of it.
    pub(super) async fn whole(&self, path: &str) -> Result<Vec<u8>, Trouble> {
        collect(self.open(path).await?, ANSWER_BYTES_MAX).await
    }

    /// The path of a kind, in the first of its versions that this API has.
    pub(super) async fn locate(&self, scope: &Part) -> Result<String, Trouble> {
        if !scope.kind.is_istio() {
            return Ok(scope.path(scope.kind.api_versions()[0]));
        }
        for api_version in scope.kind.api_versions() {
            let served = match self.whole(&group_path(api_version)).await {
                Ok(served) => served,
                Err(Trouble::Absent) => continue,
                Err(trouble) => return Err(trouble),
            };
            let served: Served =
                serde_json::from_slice(&served).map_err(|error| Trouble::of_error(&error))?;
            if served.resources.iter().any(|kind| kind.name == scope.plural()) {
                return Ok(scope.path(api_version));
            }
        }
        Err(Trouble::Absent)
    }
}

async fn collect(mut body: Incoming, max: usize) -> Result<Vec<u8>, Trouble> {
    let mut whole = Vec::new();
    while let Some(bytes) = lines::data(&mut body, BYTES_PATIENCE).await? {
        if whole.len() + bytes.len() > max {
            let text = format!("an answer has more than {} MiB and is not read on", max >> 20);
            return Err(Trouble::Other(text));
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole)
}

impl Trouble {
    /// An error and what is behind it.
    pub(super) fn of_error(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Other(told(error))
    }

    /// Why a request was not answered. By its text: neither TLS nor the resolver give more.
    fn of_request(why: String) -> Self {
        let has = |part: &str| why.contains(part);
        let of_certificate = has("invalid peer certificate")
            || has("received fatal alert") && (has("Certificate") || has("UnknownCA"));
        let unknown_host = has("Name or service not known")
            || has("Name does not resolve")
            || has("No address associated with hostname");
        if has("InvalidContentType") {
            Self::Hopeless(format!("{why} (is this an http port spoken to by https?)"))
        } else if of_certificate || unknown_host {
            Self::Hopeless(why)
        } else {
            Self::Other(why)
        }
    }
}

/// An error and what is behind it, each part once.
pub(super) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let part = error.to_string();
        // Some repeat what is behind them.
        if parts.last().is_none_or(|last: &String| !last.ends_with(&part)) {
            parts.push(part);
        }
        next = error.source();
    }
    shown(&parts.join(": "))
}

impl From<Status> for Trouble {
    fn from(Status { code, message }: Status) -> Self {
        match code {
            410 => Self::Expired,
            404 => Self::Absent,
            403 => Self::Forbidden(shown(&message)),
            401 => Self::Hopeless(answered(code, &message)),
            // The API itself gives a reason.
            400 if message.is_empty() => Self::Hopeless(format!(
                "{} (is this an https port spoken to by http?)",
                answered(code, &message)
            )),
            _ => Self::Other(answered(code, &message)),
        }
    }
}

/// `401: Unauthorized`; the code has a name where nobody says more.
pub(super) fn answered(code: u16, message: &str) -> String {
    if message.is_empty() {
        return StatusCode::from_u16(code).map_or(code.to_string(), |code| code.to_string());
    }
    format!("{code}: {}", shown(message))
}

/// A text of the API's as it may stand in a log.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    let mut shown = String::new();
    for c in text.chars().take(CHARS_MAX) {
        if c.is_control() { shown.extend(c.escape_debug()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn an_endless_answer_is_not_read_on() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.read_exact(&mut [0; 4]).expect("a request");
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .expect("an answer begins");
            let chunk = [&b"100000\r\n"[..], &[b' '; 1 << 20], b"\r\n"].concat();
            let mut chunks = 0;
            while stream.write_all(&chunk).is_ok() {
                chunks += 1;
            }
            chunks
        });
        let access = kube::Config::new(format!("http://{address}").parse().expect("a URL"));
        let found = Found { access, whence: "a test".to_owned(), user: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let answer = runtime.block_on(async { Api::new(&found).expect("good").whole("/").await });
        let told = "an answer has more than 64 MiB and is not read on";
        assert_eq!(answer, Err(Trouble::Other(told.to_owned())));
        drop(runtime);
        // What the system holds is little more.
        let chunks = server.join().expect("it ends");
        assert!((64..96).contains(&chunks), "{chunks} MiB were taken");
    }

    #[test]
    fn some_reasons_do_not_go_away() {
        let check = |why: &str, hopeless: bool| {
            let trouble = Trouble::of_request(why.to_owned());
            assert_eq!(matches!(trouble, Trouble::Hopeless(_)), hopeless, "{why}");
        };
        check("connect: invalid peer certificate: UnknownIssuer", true);
        check("received fatal alert: CertificateRequired", true);
        check("received fatal alert: InternalError", false);
        check("received corrupt message of type InvalidContentType", true);
        check("dns error: failed to lookup address information: Name or service not known", true);
        check("dns error: Temporary failure in name resolution", false);
        check("tcp connect error: Connection refused (os error 111)", false);
    }

    #[test]
    fn trouble_is_told_by_its_code_and_shown_on_one_line() {
        let of = |code, message: &str| Trouble::from(Status { code, message: message.into() });
        assert_eq!(of(410, "too old resource version"), Trouble::Expired);
        assert_eq!(of(404, ""), Trouble::Absent);
        assert_eq!(of(403, "no\nway"), Trouble::Forbidden("no\\nway".into()));
        assert_eq!(of(500, "etcd"), Trouble::Other("500: etcd".into()));
        assert_eq!(of(500, ""), Trouble::Other("500 Internal Server Error".into()));
        assert_eq!(of(401, "Unauthorized"), Trouble::Hopeless("401: Unauthorized".into()));
        assert_eq!(of(400, "limit: odd"), Trouble::Other("400: limit: odd".into()));
        let http = "400 Bad Request (is this an https port spoken to by http?)";
        assert_eq!(of(400, ""), Trouble::Hopeless(http.into()));
        assert_eq!(shown(&"x".repeat(1_000)).len(), 300);
    }
}
