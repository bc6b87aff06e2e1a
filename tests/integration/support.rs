//! A gateway on port 0 and scripted peers around it. Helpers make things happen; they assert
//! nothing about the gateway.

pub mod hello;
pub mod mesh;
pub mod process;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use diolkos::{
    gateway::{Config, Gateway, Handle, Running, outcome::Outcome},
    routing::{
        Endpoint, EndpointSet, Host, Policy, Route, RouteTable, Service, ServiceKind,
        ServiceRoutes, SharedTable,
    },
};

// The gateway from its files, other commands that stay, and the programs of others: Envoy, an API
// server.
pub mod cage;
pub mod cluster;
pub mod daemon;
pub mod envoy;
pub mod front;
pub mod host;
pub mod http;
pub mod tools;

/// A real ClientHello of OpenSSL for `outbound_.8080_._.bar.ns2.global`, ALPN `istio`.
pub const HELLO: &[u8] = include_bytes!("../data/hellos/openssl.bin");

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway that serves `bar.ns2.global`, port 8080, from the endpoints given.
pub struct World {
    running: Option<Running>,
    handle: Handle,
    pub address: SocketAddr,
    /// Whether it was told to splice.
    pub splices: bool,
    /// What it serves.
    pub table: Arc<SharedTable>,
}

impl World {
    /// Starts a gateway with one worker and the settings as `change` leaves them.
    pub fn start(endpoints: &[SocketAddr], change: impl FnOnce(&mut Config)) -> Self {
        Self::serve(table_of(endpoints, Policy::default()), change)
    }

    /// Starts a gateway that serves `table`.
    pub fn serve(table: RouteTable, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { listen: vec![([127, 0, 0, 1], 0).into()], ..Config::default() };
        change(&mut config);
        let splices = config.relay.splice;
        let shared = Arc::new(SharedTable::new());
        shared.publish(table);
        let gateway = Gateway::bind(config).expect("bind");
        let running = gateway.start(Arc::clone(&shared)).expect("start");
        let address = running.addresses()[0];
        let handle = running.handle();
        Self { running: Some(running), handle, address, splices, table: shared }
    }

    /// Ends the gateway, live connections and all. What it counted can still be asked for.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
    }

    /// Answers also after the end.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Connects, and writes all of `bytes` unless the gateway resets meanwhile.
    pub fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut client = self.connect();
        let _ = client.write_all(bytes);
        client
    }

    /// Connects and says nothing.
    pub fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("connect");
        client.set_read_timeout(Some(PATIENCE)).expect("timeout");
        client
    }

    /// Waits until just one connection ended so, none otherwise, and none is live.
    pub fn ended(&self, outcome: Outcome) {
        let handle = self.running().handle();
        let counts = || -> Vec<_> {
            let count = |o: &Outcome| (o.reason(), handle.ended(*o));
            Outcome::ALL.iter().map(count).filter(|(_, n)| *n > 0).collect()
        };
        let deadline = Instant::now() + PATIENCE;
        while counts() != [(outcome.reason(), 1)] || handle.live() > 0 {
            let (counts, live) = (counts(), handle.live());
            let wanted = outcome.reason();
            assert!(Instant::now() < deadline, "wanted {wanted}: {counts:?}, {live} live");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        assert_eq!(handle.accepted(), 1);
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("running")
    }

    /// As the first step of leaving.
    pub fn stop_accepting(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(self.running.as_mut().expect("running").stop_accepting());
    }

    /// Connects and sends the hello.
    pub fn dial(&self) -> TcpStream {
        let mut client = TcpStream::connect(self.address).expect("connect");
        client.set_read_timeout(Some(PATIENCE)).expect("timeout");
        client.write_all(HELLO).expect("hello");
        client
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A table with the one service.
pub fn table_of(endpoints: &[SocketAddr], policy: Policy) -> RouteTable {
    RouteTable::new(vec![service("bar.ns2.global", endpoints, policy, true)], None, 1)
}

/// A service with port 8080 and no subsets.
pub fn service(
    host: &str,
    endpoints: &[SocketAddr],
    policy: Policy,
    exposed: bool,
) -> ServiceRoutes {
    let service = Arc::new(Service {
        host: Host::parse(host).expect("a host"),
        name: host.split('.').next().expect("a label").into(),
        namespace: "ns2".into(),
        kind: ServiceKind::ServiceEntry,
    });
    let endpoint = |address: &SocketAddr| {
        Arc::new(Endpoint {
            address: *address,
            weight: 1,
            locality: Arc::default(),
            workload: Arc::default(),
            instance: Arc::from(""),
            added: None,
            state: Arc::default(),
        })
    };
    let set = EndpointSet::new(endpoints.iter().map(endpoint).collect(), Arc::new(policy));
    let route = Arc::new(Route {
        service: Arc::clone(&service),
        port: 8080,
        subset: "".into(),
        endpoints: ArcSwap::from_pointee(set),
        state: Arc::default(),
    });
    ServiceRoutes { service, exposed, exposed_as_alias: false, routes: Box::new([route]) }
}

/// A pod that is only a listener; the test plays its part.
pub struct Pod {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Pod {
    pub fn new() -> Self {
        Self::at(([127, 0, 0, 1], 0).into())
    }

    /// Where the test wants it.
    pub fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("bind");
        let address = listener.local_addr().expect("address");
        Self { listener, address }
    }

    /// Accepts the gateway's connection and reads the hello from it.
    pub fn accept(&self) -> TcpStream {
        self.accept_hello(HELLO)
    }

    /// Accepts the gateway's connection and reads this hello from it.
    pub fn accept_hello(&self, expected: &[u8]) -> TcpStream {
        let mut stream = self.accept_unread();
        let mut hello = vec![0; expected.len()];
        stream.read_exact(&mut hello).expect("the hello");
        assert_eq!(hello, expected, "the hello comes unchanged");
        stream
    }

    /// Accepts the gateway's connection.
    pub fn accept_unread(&self) -> TcpStream {
        let stream = eventually("a connection reaches the pod", || self.waiting());
        stream.set_nonblocking(false).expect("blocking");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }

    /// A connection that waits to be accepted.
    pub fn waiting(&self) -> Option<TcpStream> {
        self.listener.set_nonblocking(true).expect("nonblocking");
        match self.listener.accept() {
            Ok((stream, _)) => Some(stream),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(e) => panic!("accept: {e}"),
        }
    }

    /// A pod on a host that answers nothing: every segment that comes to it is dropped.
    pub fn unreachable() -> Self {
        let pod = Self::new();
        deaf(&pod.listener);
        pod
    }

    /// From now on one that was unreachable answers.
    pub fn hears_again(&self) {
        socket2::SockRef::from(&self.listener).detach_filter().expect("no filter");
    }

    /// An address at which nobody listens, which answers with RST.
    pub fn closed() -> SocketAddr {
        Self::new().address
    }
}

/// Drops every segment that comes to the socket from now on, unseen and unacknowledged: to its
/// peer it is a host that vanished.
pub fn deaf(socket: &impl std::os::fd::AsFd) {
    // BPF_RET | BPF_K: keep no byte of any packet.
    let keep_nothing = socket2::SockFilter::new(6, 0, 0, 0);
    socket2::SockRef::from(socket).attach_filter(&[keep_nothing]).expect("a filter");
}

/// Closes with RST.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
}

/// Bytes that differ from place to place and from seed to seed.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}

/// Reads to the end: what came, and whether it ended in FIN (true) or RST (false).
pub fn read_to_end(mut stream: impl Read) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return (bytes, true),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return (bytes, false),
            Err(e) => panic!("neither FIN nor RST: {e} after {} bytes", bytes.len()),
        }
    }
}

/// Waits until `look` gives something; fails with `what` after [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
