//! What the operators' ports show of this process.
//!
//! The only shapes that are serialised. Must not know: HTTP.

mod failures;

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::Instant,
};

use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::{
    control::{Order, Parts},
    discovery::{Ask, OwnedQuestion},
    parts::Shared,
    source_gate,
    status::Status,
};
use crate::{
    admin::{Answer, ConnectionFilter, ExplainQuery, Explanation, Listing, Port, Readiness, Views},
    config::Settings,
    gateway::{ConnectionView, Handle},
    manifests::{
        Asks,
        kubernetes::{Followed, Health, State as FollowState},
    },
    metrics::{Metrics, Samples, names},
    resolver::{NameStatus, Names},
    routing::{EndpointSet, RouteTable, SharedTable},
    telemetry::Level,
    version::VERSION,
};

/// The views of a running gateway.
#[derive(Debug)]
pub(super) struct AppViews {
    settings: Settings,
    table: Arc<SharedTable>,
    status: Arc<Status>,
    metrics: Shared<Metrics>,
    questions: Asks<Ask>,
    names: Arc<Names>,
    level: Option<Level>,
    gateway: watch::Receiver<Option<Handle>>,
    orders: watch::Sender<Order>,
    addresses: Vec<(Port, SocketAddr)>,
    started: Instant,
}

impl AppViews {
    pub(super) fn new(
        parts: Parts,
        gateway: watch::Receiver<Option<Handle>>,
        orders: watch::Sender<Order>,
        addresses: Vec<(Port, SocketAddr)>,
    ) -> Self {
        let Parts { settings, table, status, metrics, questions, names, level } = parts;
        register(&metrics, &status, &names);
        let started = Instant::now();
        Self {
            settings,
            table,
            status,
            metrics,
            questions,
            names,
            level,
            gateway,
            orders,
            addresses,
            started,
        }
    }
}

impl Views for AppViews {
    fn readiness(&self) -> Readiness {
        self.status.readiness()
    }

    fn metrics_text(&self) -> String {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).text()
    }

    fn clusters(&self, visit: &mut dyn FnMut(&str, &EndpointSet)) {
        let table = self.table.load();
        let mut services: Vec<_> = table.services().collect();
        services.sort_unstable_by_key(|s| &s.service.host);
        for route in services.into_iter().flat_map(|s| &s.routes) {
            visit(&route.to_string(), &route.endpoints.load());
        }
    }

    fn config_dump(&self) -> Value {
        let state = self.status.snapshot();
        let report = &state.report;
        let objects = report.objects.iter().map(|(kind, n)| (kind.as_str().to_owned(), json!(n)));
        json!({
            "settings": serde_json::to_value(&self.settings).unwrap_or_default(),
            "kubernetes": self.status.kubernetes().map(kubernetes),
            "generation": state.generation,
            "age_seconds": state.read.map(|read| read.elapsed().as_secs_f64()),
            "objects": Value::Object(objects.collect()),
            "problems": state.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "remarks": report.findings,
            "left_out": report.left_out,
            "resolved_names": resolved_names(&self.names),
            "services": services(&self.table.load()),
        })
    }

    fn server_info(&self) -> Value {
        let ports: Vec<_> = self
            .addresses
            .iter()
            .map(|(port, at)| json!({ "port": port.to_string(), "address": at.to_string() }))
            .collect();
        let readiness = self.status.readiness();
        let state = match (readiness.ready, self.status.is_draining()) {
            (_, true) => "DRAINING",
            (true, false) => "LIVE",
            (false, false) => "INITIALIZING",
        };
        json!({
            "version": VERSION,
            "state": state,
            "uptime_seconds": self.started.elapsed().as_secs(),
            "listen": self.settings.gateway.listen,
            "ports": ports,
            "connections": self.gateway.borrow().as_ref().map_or(0, Handle::active),
            "limits": self.gateway.borrow().as_ref().map(limits),
        })
    }

    fn connections(&self, filter: ConnectionFilter) -> Answer<Value> {
        let gateway = self.gateway.borrow().clone();
        Box::pin(async move {
            let Some(gateway) = gateway else { return json!({ "connections": [], "live": 0 }) };
            let all = gateway.connections().await;
            let live = all.len();
            let shown = all.iter().filter(|c| is_wanted(c, &filter)).take(filter.limit());
            json!({ "live": live, "connections": shown.map(connection).collect::<Vec<_>>() })
        })
    }

    fn failures(&self, filter: &ConnectionFilter) -> Listing {
        let gateway = self.gateway.borrow().clone();
        let failures = gateway.map(|gateway| gateway.failures()).unwrap_or_default();
        failures::listing(&failures, filter)
    }

    fn explain(&self, query: ExplainQuery) -> Answer<Explanation> {
        let question = OwnedQuestion {
            server_name: query.sni,
            alpn: query.alpn,
            alpn_wanted: self.settings.gateway.alpn.clone(),
        };
        let (reply, answer) = oneshot::channel();
        self.questions.ask(Ask::Explain(question, reply));
        let (settings, source) = (self.settings.clone(), query.source);
        Box::pin(async move {
            match answer.await {
                Ok(mut explanation) => {
                    source_gate::add(&mut explanation, &settings, source);
                    let served = explanation.refused_at().is_none();
                    let steps: Vec<_> = explanation
                        .steps
                        .iter()
                        .map(|step| {
                            json!({
                                "gate": step.gate.as_str(),
                                "passed": step.passed,
                                "seen": step.seen,
                                "hints": step.hints,
                            })
                        })
                        .collect();
                    let json = json!({
                        "server_name": explanation.server_name,
                        "served": served,
                        "steps": steps,
                    });
                    Explanation { served, text: explanation.to_string(), json }
                }
                Err(_) => Explanation {
                    served: false,
                    text: "the discovery thread does not answer".into(),
                    json: Value::Null,
                },
            }
        })
    }

    fn log_level(&self) -> String {
        self.level.as_ref().map_or_else(|| "unknown".into(), Level::current)
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        match &self.level {
            Some(handle) => handle.set(level).map_err(|error| error.to_string()),
            None => Err("the log of this process is not ours to change".into()),
        }
    }

    fn drain_listeners(&self) {
        self.orders.send_if_modified(|order| {
            let first = *order == Order::None;
            if first {
                *order = Order::Drain;
            }
            first
        });
    }

    fn quit(&self) {
        let _ = self.orders.send(Order::Quit);
    }
}

/// What is in force, after what the process found of its own means.
fn limits(gateway: &Handle) -> Value {
    json!({
        "connections_max": gateway.connections_max(),
        "hellos_max": gateway.hellos_max(),
        "memory_short": gateway.is_memory_short(),
    })
}

fn is_wanted(view: &ConnectionView, filter: &ConnectionFilter) -> bool {
    let named = |part: &String| view.route.as_ref().is_some_and(|route| route.contains(part));
    filter.sni.as_ref().is_none_or(named)
        && filter.source.is_none_or(|source| view.downstream.ip() == source)
        && filter.endpoint.is_none_or(|at| view.upstream.is_some_and(|up| up.ip() == at))
}

fn connection(view: &ConnectionView) -> Value {
    json!({
        "id": format!("{}.{}", view.worker, view.key),
        "stage": view.stage,
        "downstream": view.downstream.to_string(),
        "route": view.route,
        "upstream": view.upstream.map(|up| up.to_string()),
        "bytes_received": view.received,
        "bytes_sent": view.sent,
        "age_seconds": view.age.as_secs_f64(),
        "idle_seconds": view.idle.as_secs_f64(),
        "spliced": view.spliced,
    })
}

fn resolved_names(names: &Names) -> Vec<Value> {
    let name = |(name, status): (Arc<str>, NameStatus)| {
        json!({
            "name": &*name,
            "state": status.state(),
            "addresses": &*status.addresses,
            "age_seconds": status.resolved.map(|at| at.elapsed().as_secs_f64()),
            "error": status.error,
        })
    };
    names.known().into_iter().map(name).collect()
}

fn kubernetes(health: &Health) -> Value {
    let followed = |followed: Followed| {
        json!({
            "kind": followed.kind.as_str(),
            "namespace": followed.namespace,
            "state": followed.state.as_str(),
            "seconds": followed.since.elapsed().as_secs_f64(),
            "why": followed.state.why(),
        })
    };
    json!({
        "server": health.server(),
        "age_seconds": health.age().as_secs_f64(),
        "followed": health.followed().into_iter().map(followed).collect::<Vec<_>>(),
    })
}

fn services(table: &RouteTable) -> Vec<Value> {
    let mut all: Vec<_> = table.services().collect();
    all.sort_unstable_by_key(|s| &s.service.host);
    let routes = |routes: &crate::routing::ServiceRoutes| -> Vec<Value> {
        let route = |r: &Arc<crate::routing::Route>| {
            json!({
                "port": r.port,
                "subset": &*r.subset,
                "endpoints": r.endpoints.load().endpoints().len(),
                "connections": r.state.connections(),
            })
        };
        routes.routes.iter().map(route).collect()
    };
    let service = |s: &crate::routing::ServiceRoutes| {
        json!({
            "host": s.service.host.as_str(),
            "namespace": &*s.service.namespace,
            "name": &*s.service.name,
            "exposed": s.exposed,
            "exposed_as_alias": s.exposed_as_alias,
            "routes": routes(s),
        })
    };
    all.into_iter().map(service).collect()
}

/// Registers what a scrape reads of the control plane.
fn register(metrics: &Shared<Metrics>, status: &Arc<Status>, names: &Arc<Names>) {
    let mut registry = metrics.lock().unwrap_or_else(PoisonError::into_inner);
    let resolved = Arc::clone(names);
    registry.collect(&names::RESOLVED_NAMES, move |samples: &mut Samples| {
        let known = resolved.known();
        for state in NameStatus::STATES {
            let n = known.values().filter(|status| status.state() == state).count();
            samples.put(&[state], n);
        }
    });
    let mut each = |metric, read: fn(&Status, &mut Samples)| {
        let status = Arc::clone(status);
        registry.collect(metric, move |samples: &mut Samples| read(&status, samples));
    };
    each(&names::ISTIO_BUILD, |_, samples| samples.put(&["proxy", VERSION], 1u64));
    each(&names::READY, |status, samples| {
        samples.put(&[], u64::from(status.readiness().ready));
    });
    each(&names::MANIFEST_OBJECTS, |status, samples| {
        for (kind, n) in &status.snapshot().report.objects {
            samples.put(&[kind.as_str()], *n);
        }
    });
    each(&names::MANIFEST_PROBLEMS, |status, samples| {
        use crate::manifests::Severity as S;
        let problems = status.snapshot().problems;
        for severity in [S::Error, S::Warning, S::Note] {
            let n = problems.iter().filter(|p| p.severity == severity).count();
            samples.put(&[severity.as_str()], n);
        }
    });
    each(&names::KUBERNETES_FOLLOWED, |status, samples| {
        let Some(health) = status.kubernetes() else { return };
        let followed = health.followed();
        for state in FollowState::ALL {
            let n = followed.iter().filter(|followed| followed.state.as_str() == state).count();
            samples.put(&[state], n);
        }
    });
    each(&names::KUBERNETES_AGE_SECONDS, |status, samples| {
        if let Some(health) = status.kubernetes() {
            samples.put(&[], health.age().as_secs_f64());
        }
    });
    each(&names::KUBERNETES_EVENTS, |status, samples| {
        if let Some(health) = status.kubernetes() {
            samples.put(&[], health.events());
        }
    });
    each(&names::KUBERNETES_LISTS, |status, samples| {
        if let Some(health) = status.kubernetes() {
            samples.put(&[], health.lists());
        }
    });
    each(&names::TABLE_GENERATION, |s, samples| samples.put(&[], s.snapshot().generation));
    each(&names::TABLE_SERVICES, |s, out| out.put(&[], s.snapshot().report.summary.services));
    each(&names::TABLE_ROUTES, |s, out| out.put(&[], s.snapshot().report.summary.routes));
    each(&names::TABLE_ENDPOINTS, |s, out| out.put(&[], s.snapshot().report.summary.endpoints));
    each(&names::CONFIG_AGE_SECONDS, |status, samples| {
        if let Some(read) = status.snapshot().read {
            samples.put(&[], read.elapsed().as_secs_f64());
        }
    });
}
