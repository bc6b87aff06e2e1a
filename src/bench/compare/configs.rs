//! The rivals' configurations for one and the same set of routes. Must not know: how they run.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

/// What every gateway is told.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Files go here.
    pub dir: &'a Path,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Behind every route.
    pub pods: &'a [SocketAddr],
    /// How many routes.
    pub routes: usize,
    /// Whether all this will change while it works.
    pub changing: bool,
    /// The pod that the first route does without for now.
    pub left_out: Option<usize>,
    /// Where diolkos is to answer its operators; `None`: nowhere.
    pub operators: Option<SocketAddr>,
    /// What diolkos is told beside its defaults, as `key=value`.
    pub settings: &'a [String],
    /// Workers.
    pub workers: usize,
    /// Connections that HAProxy is to be ready for.
    pub connections: usize,
}

impl<'a> Site<'a> {
    /// Two descriptors for each are what a process may usually have.
    pub const CONNECTIONS: usize = 9_500;

    /// One route that does not change, one worker.
    #[must_use]
    pub fn new(dir: &'a Path, listen: SocketAddr, pods: &'a [SocketAddr]) -> Self {
        Self {
            dir,
            listen,
            pods,
            routes: 1,
            changing: false,
            left_out: None,
            operators: None,
            settings: &[],
            workers: 1,
            connections: Self::CONNECTIONS,
        }
    }

    /// A route's pods, each with its number.
    #[must_use]
    pub fn pods_of(&self, route: usize) -> Vec<(usize, SocketAddr)> {
        let left_out = self.left_out.filter(|_| route == 0);
        let pods = self.pods.iter().copied().enumerate();
        pods.filter(|(n, _)| Some(*n) != left_out).collect()
    }
}

/// The server name of a route.
#[must_use]
pub fn name(route: usize) -> String {
    format!("outbound_.8080_._.svc-{route}.bench.global")
}

/// The first server names.
#[must_use]
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(name).collect()
}

/// HAProxy's map from names to backends.
#[must_use]
pub fn haproxy_map(site: &Site<'_>) -> String {
    (0..site.routes).map(|i| format!("{} b{i}\n", name(i))).collect()
}

/// HAProxy: one thread, splicing, waking with the hello there.
#[must_use]
pub fn haproxy(site: &Site<'_>, map: &Path) -> String {
    let (listen, map) = (site.listen, map.display());
    let connections = site.connections;
    // By this socket a new process is given the listeners of the one before.
    let hand_over = match site.changing {
        true => {
            format!("  stats socket {}/s level admin expose-fd listeners\n", site.dir.display())
        }
        false => String::new(),
    };
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn {connections}\n  maxpipes 256\n{hand_over}\
         defaults\n  mode tcp\n  option splice-auto\n  timeout connect 10s\n  timeout client 1h\n  \
         timeout server 1h\n\
         frontend f\n  bind {listen} defer-accept\n  tcp-request inspect-delay 5s\n  \
         tcp-request content accept if {{ req.ssl_hello_type 1 }}\n  \
         use_backend %[req.ssl_sni,lower,map({map})]\n"
    );
    for i in 0..site.routes {
        let _ = writeln!(text, "backend b{i}\n  balance leastconn");
        for (n, pod) in site.pods_of(i) {
            let _ = writeln!(text, "  server s{n} {pod}");
        }
    }
    text
}

/// nginx: one process, `ssl_preread`; where it is to change, a master that starts such processes.
#[must_use]
pub fn nginx(site: &Site<'_>, module: &str) -> String {
    let dir = site.dir.display();
    let master = if site.changing { "on" } else { "off" };
    let mut text = format!(
        "load_module {module};\ndaemon off;\nmaster_process {master};\npid {dir}/pid;\n\
         error_log stderr error;\nevents {{ worker_connections 19500; }}\nstream {{\n\
         map_hash_max_size 262144;\nmap_hash_bucket_size 256;\nproxy_timeout 1h;\n\
         map $ssl_preread_server_name $to {{\n"
    );
    for i in 0..site.routes {
        let _ = writeln!(text, "  {} b{i};", name(i));
    }
    text.push_str("}\n");
    for i in 0..site.routes {
        let _ = write!(text, "upstream b{i} {{ least_conn;");
        for (_, pod) in site.pods_of(i) {
            let _ = write!(text, " server {pod};");
        }
        text.push_str(" }\n");
    }
    let listen = site.listen;
    let _ = writeln!(
        text,
        "server {{ listen {listen} backlog=4096; ssl_preread on; proxy_pass $to; }}\n}}"
    );
    text
}
