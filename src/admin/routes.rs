//! The paths of each port, and what each answers.
//!
//! Must not know: sockets; how a view comes by its facts.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderValue, Response as HttpResponse, StatusCode, header},
    middleware::{from_fn, map_response},
    response::{Html, IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time;

use super::{
    Answer, ConnectionFilter, ExplainQuery, Port, Views, clusters,
    guards::{only_by_loopback_name, only_from_loopback, only_from_own_page, post_only},
    page,
};
use crate::metrics;

/// How long a scrape may be given to others too, on ports that strangers reach: many scrapers then
/// cost as much as one.
const SCRAPE_SHARED: Duration = Duration::from_millis(250);

/// What a port answers with.
#[derive(Clone)]
pub(super) struct App {
    /// The facts.
    pub views: Arc<dyn Views>,
    /// For an answer that workers are asked for.
    pub answer_timeout: Duration,
}

/// A question that is not answered, and why.
type Refusal = (StatusCode, String);

/// The paths of `port`; `loopback` when only this machine reaches it.
pub(super) fn router(port: Port, app: App, loopback: bool) -> Router {
    let router = match port {
        Port::Admin => admin(),
        Port::Health => Router::new().route("/healthz/ready", get(healthz)),
        Port::Agent => Router::new()
            .route("/drain", command(drain))
            .route("/quitquitquit", command(quit))
            .route_layer(from_fn(only_from_loopback))
            .route("/healthz/ready", get(healthz))
            .route("/stats/prometheus", shared_scrape()),
        Port::Metrics => Router::new().route("/stats/prometheus", shared_scrape()),
    };
    let router = router.fallback(not_found).layer(from_fn(only_from_own_page));
    let router = if loopback { router.layer(from_fn(only_by_loopback_name)) } else { router };
    router.layer(map_response(harden)).with_state(app)
}

fn admin() -> Router<App> {
    Router::new()
        .route("/", get(index))
        .route("/ready", get(ready))
        .route("/clusters", get(show_clusters))
        .route("/config_dump", get(config_dump))
        .route("/stats", get(scrape))
        .route("/stats/prometheus", get(scrape))
        .route("/server_info", get(server_info))
        .route("/logging", get(log_level).post(set_log_level))
        .route("/connections", get(connections))
        .route("/explain", get(explain))
        .route("/drain_listeners", command(drain))
        .route("/quitquitquit", command(quit))
}

/// A path that changes something.
fn command<H, T>(handler: H) -> MethodRouter<App>
where
    H: axum::handler::Handler<T, App>,
    T: 'static,
{
    post(handler).fallback(post_only)
}

async fn index(State(app): State<App>) -> Html<String> {
    Html(page::render(&app.views.readiness(), &app.views.log_level()))
}

/// As Envoy answers, with what is worth knowing after it.
async fn ready(State(app): State<App>) -> Response {
    let readiness = app.views.readiness();
    let (status, word) = match readiness.ready {
        true => (StatusCode::OK, "LIVE"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "NOT READY"),
    };
    let reasons: String = readiness.reasons.iter().map(|reason| format!("{reason}\n")).collect();
    (status, format!("{word}\n{reasons}")).into_response()
}

/// For a probe that comes over the network: the reasons stay on the admin port.
async fn healthz(State(app): State<App>) -> Response {
    match app.views.readiness().ready {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
    }
}

#[derive(Default, Deserialize)]
struct Format {
    format: Option<String>,
}

impl Format {
    fn is_json(&self) -> bool {
        self.format.as_deref() == Some("json")
    }
}

async fn show_clusters(
    State(app): State<App>,
    query: Result<Query<Format>, QueryRejection>,
) -> Result<Response, Refusal> {
    Ok(match asked(query)?.is_json() {
        true => json(&clusters::json(&*app.views)),
        false => clusters::text(&*app.views).into_response(),
    })
}

async fn config_dump(State(app): State<App>) -> Response {
    json(&app.views.config_dump())
}

async fn server_info(State(app): State<App>) -> Response {
    json(&app.views.server_info())
}

async fn scrape(State(app): State<App>) -> Response {
    exposition(app.views.metrics_text().into())
}

/// A scrape that is made at most four times a second, however many ask for it.
fn shared_scrape() -> MethodRouter<App> {
    let last: Arc<Mutex<Option<(Instant, Bytes)>>> = Arc::default();
    get(async move |State(app): State<App>| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, text)) = &*last
            && made.elapsed() < SCRAPE_SHARED
        {
            return exposition(text.clone());
        }
        let text = Bytes::from(app.views.metrics_text());
        *last = Some((Instant::now(), text.clone()));
        exposition(text)
    })
}

async fn log_level(State(app): State<App>) -> String {
    format!("{}\n", app.views.log_level())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelQuery {
    level: String,
}

async fn set_log_level(
    State(app): State<App>,
    query: Result<Query<LevelQuery>, QueryRejection>,
) -> Result<String, Refusal> {
    let level = asked(query)?.level;
    app.views.set_log_level(&level).map_err(|error| wrong(&error))?;
    tracing::info!(%level, "log level changed");
    Ok(format!("{}\n", app.views.log_level()))
}

async fn connections(
    State(app): State<App>,
    query: Result<Query<ConnectionFilter>, QueryRejection>,
) -> Result<Response, Refusal> {
    let filter = asked(query)?;
    if filter.failed.is_some() {
        let failures = app.views.failures(&filter);
        return Ok(match filter.format.as_deref() {
            Some("text") => failures.text.into_response(),
            _ => json(&failures.json),
        });
    }
    let shown = in_time(app.views.connections(filter), app.answer_timeout).await?;
    Ok(json(&shown))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainParameters {
    sni: String,
    alpn: Option<String>,
    source: Option<String>,
    format: Option<String>,
}

async fn explain(
    State(app): State<App>,
    query: Result<Query<ExplainParameters>, QueryRejection>,
) -> Result<Response, Refusal> {
    let asked = asked(query)?;
    // What a sidecar offers, unless told.
    let alpn = asked.alpn.as_deref().unwrap_or("istio-peer-exchange,istio");
    let alpn = alpn.split(',').map(str::trim).filter(|name| !name.is_empty());
    let source = match asked.source.as_deref() {
        None | Some("") => None,
        Some(text) => {
            let address = text.parse::<IpAddr>();
            Some(address.map_err(|_| wrong("source: expected an IP address"))?)
        }
    };
    let query = ExplainQuery { sni: asked.sni, alpn: alpn.map(Into::into).collect(), source };
    let explanation = in_time(app.views.explain(query), app.answer_timeout).await?;
    Ok(match asked.format.as_deref() {
        Some("json") => json(&explanation.json),
        _ => explanation.text.into_response(),
    })
}

async fn drain(State(app): State<App>) -> &'static str {
    tracing::info!("drain asked for by HTTP");
    app.views.drain_listeners();
    "OK\n"
}

async fn quit(State(app): State<App>) -> &'static str {
    tracing::info!("end asked for by HTTP");
    app.views.quit();
    "OK\n"
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "no such path\n").into_response()
}

fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    query.map(|Query(asked)| asked).map_err(|rejection| wrong(&rejection.body_text()))
}

fn wrong(why: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, format!("{why}\n"))
}

async fn in_time<T>(answer: Answer<T>, timeout: Duration) -> Result<T, Refusal> {
    let late = |_| (StatusCode::GATEWAY_TIMEOUT, "the workers did not answer\n".to_owned());
    time::timeout(timeout, answer).await.map_err(late)
}

fn json(value: &Value) -> Response {
    let text = format!("{value:#}\n");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn exposition(text: Bytes) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// Nothing is kept, guessed, framed or loaded from elsewhere.
async fn harden(mut response: HttpResponse<axum::body::Body>) -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
                  frame-ancestors 'none'; base-uri 'none'";
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
