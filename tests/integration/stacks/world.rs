//! The demo's cluster with a gateway before it. Must not know: who calls.

use std::{
    path::PathBuf,
    thread::{self, JoinHandle},
    time::SystemTime,
};

use diolkos::demo::one_gateway::{
    material::{Material, write_manifests},
    pods::Pods,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::support::front::Front;

/// Pods, gateway, and the caller's key and certificates as files.
pub struct World {
    // In this order: the gateway ends before its pods, the files last.
    pub front: Front,
    _pods: RunningPods,
    pub material: Material,
    dir: TempDir,
}

impl World {
    /// Starts everything, with the gateway's settings as `change` leaves them.
    pub fn start(change: impl FnOnce(&mut Value)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let material = Material::make(SystemTime::now()).expect("certificates");
        material.write(dir.path()).expect("certificates as files");
        let pods = RunningPods::start(&material);
        write_manifests(dir.path(), pods.port).expect("manifests");
        let front = Front::start(dir.path(), change);
        Self { front, _pods: pods, material, dir }
    }

    /// The directory with the caller's `key.pem`, `cert-chain.pem` and `root-cert.pem`.
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("client")
    }

    /// One of them.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files().join(name)
    }
}

/// The pods on a thread of their own.
struct RunningPods {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RunningPods {
    fn start(material: &Material) -> Self {
        let (bar, secret) = (material.bar_tls().expect("TLS"), material.secret_tls().expect("TLS"));
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("runtime").block_on(async {
                let pods = Pods::start(bar, secret).await.expect("pods");
                tell.send(pods.port()).expect("the test waits");
                // An error says that the test is gone.
                let _ = stopped.await;
            });
        });
        let port = told.recv().expect("the pods run");
        Self { port, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for RunningPods {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the pods panicked");
        }
    }
}
