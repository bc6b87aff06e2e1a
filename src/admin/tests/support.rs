//! A served port with views that remember, and a raw client. Claims nothing.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::super::{
    Answer, ConnectionFilter, ExplainQuery, Explanation, Listing, Port, Readiness, ReadinessGuards,
    Server, Views, server,
};
use crate::routing::{Endpoint, EndpointSet, Policy};

/// Views that remember what was asked of them.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) guards: ReadinessGuards,
    pub(super) scrapes: AtomicU64,
    level: Mutex<String>,
    done: Mutex<Vec<String>>,
}

impl Fake {
    pub(super) fn note(&self, what: impl Into<String>) {
        self.done.lock().expect("not poisoned").push(what.into());
    }

    pub(super) fn done(&self) -> Vec<String> {
        self.done.lock().expect("not poisoned").clone()
    }
}

impl Views for Fake {
    fn readiness(&self) -> Readiness {
        self.guards.readiness()
    }

    fn metrics_text(&self) -> String {
        format!("scrapes {}\n", self.scrapes.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn clusters(&self, visit: &mut dyn FnMut(&str, &EndpointSet)) {
        let endpoint = Endpoint {
            address: ([10, 0, 0, 1], 8080).into(),
            weight: 2,
            locality: Arc::new(crate::routing::Locality::parse("r/z/s")),
            workload: Arc::default(),
            instance: Arc::from(""),
            added: None,
            state: Arc::default(),
        };
        let policy = Policy { max_connections: Some(9), ..Policy::default() };
        let set = EndpointSet::new(vec![Arc::new(endpoint)], Arc::new(policy));
        visit("outbound_.80_._.a.b", &set);
    }

    fn config_dump(&self) -> Value {
        json!({"settings": "all"})
    }

    fn server_info(&self) -> Value {
        json!({"version": crate::version::VERSION})
    }

    fn connections(&self, filter: ConnectionFilter) -> Answer<Value> {
        if filter.sni.as_deref() == Some("never") {
            return Box::pin(std::future::pending());
        }
        Box::pin(async move {
            json!({"asked": format!("{:?}", filter.source), "limit": filter.limit()})
        })
    }

    fn failures(&self, filter: &ConnectionFilter) -> Listing {
        Listing { text: "a line\n".into(), json: json!({"failed_limit": filter.limit()}) }
    }

    fn explain(&self, query: ExplainQuery) -> Answer<Explanation> {
        let text = format!("{} {:?} {:?}\n", query.sni, query.alpn, query.source);
        let json = json!({"sni": query.sni});
        Box::pin(async move { Explanation { served: true, text, json } })
    }

    fn log_level(&self) -> String {
        self.level.lock().expect("not poisoned").clone()
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        crate::telemetry::check_level(level).map_err(|error| error.to_string())?;
        level.clone_into(&mut self.level.lock().expect("not poisoned"));
        Ok(())
    }

    fn drain_listeners(&self) {
        self.note("drain");
    }

    fn quit(&self) {
        self.note("quit");
    }
}

/// A served port; closes when dropped.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    pub(super) views: Arc<Fake>,
    _stop: mpsc::Sender<()>,
}

pub(super) fn serve_with(port: Port, limits: server::Limits) -> Served {
    let mut server = Server::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    server.limits = limits;
    let address = server.address();
    let views = Arc::new(Fake::default());
    let shown: Arc<dyn Views> = Arc::clone(&views) as _;
    let (stop, stopped) = mpsc::channel::<()>();
    thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let serving = tokio::spawn(server.run(port, shown));
            // Ends with an error when the test drops its end.
            let _ = tokio::task::spawn_blocking(move || stopped.recv()).await;
            serving.abort();
        });
    });
    Served { address, views, _stop: stop }
}

pub(super) fn serve(port: Port) -> Served {
    serve_with(port, server::Limits::default())
}

impl Served {
    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    }

    /// Sends a head and reads to the end: status and whole answer.
    pub(super) fn send(&self, head: &str) -> (u16, String) {
        let mut stream = self.connect();
        stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).expect("sent");
        read_answer(stream)
    }

    pub(super) fn ask(&self, request: &str) -> (u16, String) {
        self.send(&format!("{request} HTTP/1.1\r\nHost: {}", self.address))
    }
}

pub(super) fn read_answer(mut stream: TcpStream) -> (u16, String) {
    let mut answer = Vec::new();
    // A refused request may be answered and reset while we still send; what came counts.
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8(answer).expect("text");
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.unwrap_or(0), text)
}

pub(super) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
