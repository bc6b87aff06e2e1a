//! The book in a ConfigMap of the importing cluster: every run reads it there, whichever host it is
//! on, and none writes over what another has written.
//!
//! Must not know: what a record means.

use serde_json::{Value, json};

use super::{
    super::{ExportError, OWNER, OWNER_LABEL},
    held::{At, Held},
};
use crate::manifests::kubernetes::{Client, Missing, Refusal};

/// Under which key of its data the text stands.
const KEY: &str = "addresses";
/// What Kubernetes takes for all data of a ConfigMap.
const BYTES_MAX: usize = 1 << 20;

/// Where the ConfigMap is.
#[derive(Clone, Debug)]
pub struct AddressMap {
    client: Client,
    namespace: String,
    name: String,
}

/// The object as it was read; `None`: there is none yet.
pub(super) type Version = Option<Value>;

impl AddressMap {
    /// That of this name, which need not exist.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the API does not tell, or the ConfigMap is not what was written there.
    pub(super) async fn hold(&self) -> Result<Held, ExportError> {
        let found = self.client.read(&self.path(&self.name)).await;
        let found = found.map_err(|source| self.failed("reading", source))?;
        let text = match &found {
            None => None,
            Some(object) => match object["data"][KEY].as_str() {
                Some(text) => Some(text.to_owned()),
                None => {
                    let problem = format!("its data has no key `{KEY}`");
                    return Err(ExportError::Corrupt { place: self.place(), line: 1, problem });
                }
            },
        };
        let bytes = text.map(String::into_bytes);
        Held::new(self.place(), bytes, At::ConfigMap(self.clone(), found))
    }

    /// Writes it in place of the version that was read, and of no other.
    pub(super) async fn write(&self, text: &str, version: &mut Version) -> Result<(), ExportError> {
        if text.len() > BYTES_MAX {
            return Err(ExportError::TooLarge { place: self.place(), bytes: text.len() });
        }
        let written = match version {
            None => {
                let metadata = json!({"name": self.name, "namespace": self.namespace,
                    "labels": {OWNER_LABEL: OWNER}});
                let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
                    "data": {KEY: text}});
                self.client.create(&self.path(""), &object).await
            }
            Some(object) => {
                let mut object = object.clone();
                object["data"][KEY] = text.into();
                self.client.replace(&self.path(&self.name), &object).await
            }
        };
        match written {
            Ok(object) => *version = Some(object),
            // Deleted since it was read: the next run says that it is lost, or begins anew.
            Err(Refusal::Changed | Refusal::Absent(Missing::Object)) => {
                return Err(ExportError::Raced { place: self.place() });
            }
            Err(source) => return Err(self.failed("writing", source)),
        }
        Ok(())
    }

    fn place(&self) -> String {
        format!("ConfigMap {}/{}", self.namespace, self.name)
    }

    fn path(&self, name: &str) -> String {
        let path = format!("/api/v1/namespaces/{}/configmaps", self.namespace);
        if name.is_empty() { path } else { format!("{path}/{name}") }
    }

    fn failed(&self, doing: &'static str, source: Refusal) -> ExportError {
        let server = self.client.server();
        ExportError::Api { place: format!("{} at {server}", self.place()), doing, source }
    }
}
