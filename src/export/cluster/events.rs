//! Events about objects that are left alone, so that whoever looks at one of them sees why.
//!
//! Must not know: when an object is left alone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use xxhash_rust::xxh64::xxh64;

use super::{OWNER, Remark, text};
use crate::{
    manifests::kubernetes::{Client, Refusal},
    telemetry,
};

/// The same is not told again before this, however often a run finds it.
const AGAIN: Duration = Duration::from_secs(600);
/// Of a message: the API takes 1,024 bytes.
const MESSAGE_CHARS_MAX: usize = 256;

/// Writes Events. Clones share what was told.
#[derive(Clone, Debug)]
pub(super) struct Events {
    client: Client,
    /// By name, when.
    told: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Events {
    pub(super) fn new(client: Client) -> Self {
        Self { client, told: Arc::default() }
    }

    /// Warns of a conflict at this object. An Event that cannot be written is a remark.
    pub(super) async fn tell(&self, object: &Value, message: &str) -> Option<Remark> {
        let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
        let metadata = &object["metadata"];
        let key = format!("{}/{}/{message}", object["kind"], metadata["uid"]);
        let name = format!("{OWNER}.{:016x}", xxh64(key.as_bytes(), 0));
        if self.was_told(&name) {
            return None;
        }
        let namespace = text(&metadata["namespace"]);
        let told = self.write(object, (namespace, &name), &message).await;
        let why = told.err()?;
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        Some(Remark::warning(format!("an Event in {namespace} could not be written: {why}")))
    }

    fn was_told(&self, name: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, when| when.elapsed() < AGAIN);
        if told.contains_key(name) {
            return true;
        }
        told.insert(name.to_owned(), Instant::now());
        false
    }

    /// One Event for each thing to say, which counts how often it was said.
    async fn write(
        &self,
        object: &Value,
        (namespace, name): (&str, &str),
        message: &str,
    ) -> Result<(), Refusal> {
        let all = format!("/api/v1/namespaces/{namespace}/events");
        let (path, now) = (format!("{all}/{name}"), telemetry::now());
        if let Some(before) = self.client.read(&path).await? {
            let count = before["count"].as_u64().unwrap_or(0) + 1;
            let patch = json!({"count": count, "lastTimestamp": now});
            return self.client.merge(&path, &patch).await.map(drop);
        }
        let metadata = &object["metadata"];
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {"apiVersion": object["apiVersion"], "kind": object["kind"],
                "namespace": namespace, "name": metadata["name"], "uid": metadata["uid"]},
            "type": "Warning", "reason": "Conflict", "message": message,
            "source": {"component": OWNER}, "reportingComponent": OWNER,
            "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        });
        match self.client.create(&all, &event).await {
            // Another run has just told it.
            Err(Refusal::Changed) => Ok(()),
            told => told.map(drop),
        }
    }
}
