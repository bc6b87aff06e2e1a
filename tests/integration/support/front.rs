//! The gateway as an operator starts it: settings, manifests and access log are files.
//!
//! Must not know: what the manifests say, who calls.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use diolkos::{
    app::{self, App},
    config::{Settings, Sources},
};
use serde_json::{Value, json};

use super::eventually;

/// A running gateway with everything around it; stopped when dropped.
pub struct Front {
    app: Option<App>,
    pub address: SocketAddr,
    log: PathBuf,
}

impl Front {
    /// Serves the manifests in `dir/manifests`; its own files are written to `dir` too. One worker,
    /// a free port of loopback, no operators' ports, and the settings as `change` leaves them.
    pub fn start(dir: &Path, change: impl FnOnce(&mut Value)) -> Self {
        let log = dir.join("access.log");
        let mut settings = json!({
            "gateway": {"listen": ["127.0.0.1:0"], "workers": 1},
            "manifests": {"directories": [dir.join("manifests")]},
            "access_log": {"format": "json", "path": log},
            "admin": {"listen": "off"},
            "health": {"listen": "off"},
            "agent": {"listen": "off"},
            "metrics": {"listen": "off"},
        });
        change(&mut settings);
        let file = dir.join("diolkos.yaml");
        // JSON is YAML.
        fs::write(&file, settings.to_string()).expect("write");
        let sources = Sources { file: Some(file), ..Sources::default() };
        let settings = Settings::load(&sources).expect("settings");
        let start = app::Start { settings, sources, level: None, lines: None };
        let app = app::start(start).expect("start");
        let address = app.addresses()[0];
        Self { app: Some(app), address, log }
    }

    /// The access log, once it has `count` lines.
    pub fn lines(&self, count: usize) -> Vec<Value> {
        eventually("the access log has its lines", || {
            let text = fs::read_to_string(&self.log).expect("the access log");
            // What has no newline yet is still being written.
            let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let lines: Vec<_> =
                whole.map(|line| serde_json::from_str(line).expect("JSON")).collect();
            (lines.len() >= count).then_some(lines)
        })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(app) = self.app.take() {
            app.stop();
        }
    }
}
