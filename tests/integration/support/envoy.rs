//! An Envoy with one worker thread and every port chosen by the kernel.
//!
//! Must not know: what it proxies.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use serde_json::{Value, json};

use super::{eventually, http, tools::Process};

/// A running Envoy, killed when dropped; a test that panics shows its log.
pub struct Envoy {
    process: Process,
    name: &'static str,
    log: PathBuf,
    admin: SocketAddr,
}

impl Envoy {
    /// Starts it and waits until it serves. Its files are written to `dir`.
    pub fn start(binary: &Path, dir: &Path, name: &'static str, resources: Value) -> Self {
        Self::boot(binary, dir, name, json!({"static_resources": resources}))
    }

    /// The same, where its resources need not be static.
    pub fn boot(binary: &Path, dir: &Path, name: &'static str, mut config: Value) -> Self {
        let file = |ending: &str| dir.join(format!("{name}.{ending}"));
        config["admin"] = json!({"address": loopback(0)});
        fs::write(file("json"), config.to_string()).expect("write");
        let log = file("log");
        let mut command = Command::new(binary);
        command.args(["--concurrency", "1", "--disable-hot-restart", "-c"]);
        command.arg(file("json")).arg("--admin-address-path").arg(file("admin"));
        command.args(["-l", "warning", "--component-log-level", "connection:debug"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&log).expect("create"));
        let process = Process::start(&mut command);
        let mut envoy = Self { process, name, log, admin: ([127, 0, 0, 1], 0).into() };
        envoy.admin = eventually("Envoy says where its admin listens", || {
            assert!(envoy.process.ended().is_none(), "Envoy has ended");
            fs::read_to_string(file("admin")).ok()?.trim().parse().ok()
        });
        eventually("Envoy is ready", || {
            assert!(envoy.process.ended().is_none(), "Envoy has ended");
            let ready = http::request(envoy.admin, "GET", "/ready", b"").ok()?;
            (ready.status == 200).then_some(())
        });
        envoy
    }

    /// Where the listener of this name listens.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let all: Value = serde_json::from_str(&self.ask("/listeners?format=json")).expect("JSON");
        let statuses = all["listener_statuses"].as_array().expect("listeners");
        let found = statuses.iter().find(|l| l["name"] == name).expect("a listener of this name");
        let at = &found["local_address"]["socket_address"];
        let (ip, port) = (at["address"].as_str(), at["port_value"].as_u64());
        format!("{}:{}", ip.expect("ip"), port.expect("port")).parse().expect("an address")
    }

    /// The value of a counter.
    pub fn count(&self, name: &str) -> u64 {
        let all = self.ask("/stats");
        let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// How often its log holds this text. TLS errors are in it.
    pub fn said(&self, text: &str) -> usize {
        fs::read_to_string(&self.log).expect("the log").matches(text).count()
    }

    /// What it says of itself, endpoints included.
    pub fn dump(&self) -> String {
        self.ask("/config_dump?include_eds")
    }

    fn ask(&self, path: &str) -> String {
        http::request(self.admin, "GET", path, b"").expect("Envoy's admin answers").text()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("the end of the log of Envoy {:?}:\n{}", self.name, last.join("\n"));
        }
    }
}

/// An address of Envoy's configuration.
pub fn loopback(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}
