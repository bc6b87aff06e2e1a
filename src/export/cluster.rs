//! The importing cluster's API: objects applied to it, and objects of others beside them.
//!
//! An object is ours when its labels say so. What is not ours is never changed or deleted, nor are
//! fields that somebody else manages: that is left alone, and said in an Event. Must not know: what
//! is exported, addresses.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::{
    EXPORTER_LABEL, ExportError, OWNER, OWNER_LABEL, Remark,
    destination::{Applied, Changes, Found, Kept, Ours},
};
use crate::manifests::{
    Kind,
    kubernetes::{Client, Refusal},
};

mod compare;
mod events;

pub(super) use compare::{Live, are};
use compare::{Wanted, holds, settled, wanted};
use events::Events;

/// As in `object`, whose texts are applied.
const VERSION: &str = "networking.istio.io/v1alpha3";
/// The API of the importing cluster, and who writes there.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: String,
    client: Client,
    namespace: String,
    exporter: String,
    events: Events,
}

/// What was done to an object, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// What.
    pub what: What,
    /// Its kind, namespace and name.
    pub object: String,
}

/// What can be done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum What {
    Create,
    Change,
    Delete,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Delete => "delete",
        })
    }
}

impl Cluster {
    /// The cluster of this name. Objects are of `namespace`, and of the exporter of this name.
    #[must_use]
    pub fn new(name: &str, client: Client, namespace: &str, exporter: &str) -> Self {
        Self {
            name: name.to_owned(),
            events: Events::new(client.clone()),
            client,
            namespace: namespace.to_owned(),
            exporter: exporter.to_owned(),
        }
    }

    /// What it is called.
    #[must_use]
    pub fn place(&self) -> String {
        format!("cluster {} ({})", self.name, self.client.server())
    }

    /// Reads every object of the kinds that we write, in the namespace where ours are.
    pub(super) async fn look(&self) -> Result<Found, ExportError> {
        let mut found = Found::default();
        let mut ours: BTreeMap<String, Vec<Live>> = BTreeMap::new();
        for kind in [Kind::ServiceEntry, Kind::DestinationRule] {
            let listed = self.client.list(&self.path(kind, None)).await;
            for mut object in listed.map_err(|why| self.failed(kind, "listing", why))? {
                let name = text(&object["metadata"]["name"]).to_owned();
                object["apiVersion"] = VERSION.into();
                object["kind"] = kind.as_str().into();
                if self.is_ours(&object) {
                    ours.entry(name).or_default().push(Live { kind, object });
                } else {
                    found.foreign.insert((kind, name), object);
                }
            }
        }
        found.ours.extend(ours.into_iter().map(|(host, live)| {
            let clusters = live.iter().flat_map(Live::clusters).collect();
            (host, Ours { kept: Kept::Objects(live), clusters })
        }));
        Ok(found)
    }

    /// Creates, changes and deletes objects; with `write` false the API only says what it would do.
    pub(super) async fn apply(
        &self,
        changes: &Changes,
        found: &Found,
        write: bool,
    ) -> Result<Applied, ExportError> {
        let mut applied = Applied::default();
        for (kind, name) in changes.clashes.iter().filter(|_| write) {
            if let Some(object) = found.foreign.get(&(*kind, name.clone())) {
                let text = "diolkos export would write an object of this name: this one has not the \
                            labels of the exporter and is left alone";
                applied.remarks.extend(self.events.tell(object, text).await);
            }
        }
        for (host, text) in &changes.write {
            let (wanted, before) = (wanted(text), live(found, host));
            let deeds = applied.deeds.len();
            for object in &wanted {
                let before = before.iter().find(|live| live.kind == object.kind);
                self.put((host, object), before, write, &mut applied).await?;
            }
            let is_wanted = |live: &Live| wanted.iter().any(|object| object.kind == live.kind);
            for gone in before.iter().filter(|live| !is_wanted(live)) {
                self.delete((host, gone), write, &mut applied).await?;
            }
            if applied.deeds.len() > deeds {
                applied.written.push(host.clone());
            }
        }
        for host in &changes.remove {
            let deeds = applied.deeds.len();
            for gone in live(found, host) {
                self.delete((host, gone), write, &mut applied).await?;
            }
            if applied.deeds.len() > deeds {
                applied.removed.push(host.clone());
            }
        }
        Ok(applied)
    }

    async fn put(
        &self,
        (host, wanted): (&str, &Wanted),
        before: Option<&Live>,
        write: bool,
        applied: &mut Applied,
    ) -> Result<(), ExportError> {
        if before.is_some_and(|live| holds(&live.object, &wanted.object)) {
            return Ok(());
        }
        let (kind, path) = (wanted.kind, self.path(wanted.kind, Some(host)));
        let mut before = before.map(|live| live.object.clone());
        if before.is_none() {
            // The list is older than this moment, and apply would merge with what is there.
            before = self.client.read(&path).await.map_err(|e| self.failed(kind, "reading", e))?;
            if let Some(other) = before.as_ref().filter(|object| !self.is_ours(object)) {
                let text = "somebody else has just created it: it is left alone";
                return self.refuse((kind, host), text, Some(other), (write, applied)).await;
            }
        }
        let mut object = wanted.object.clone();
        if let Some(before) = &before {
            // Whoever takes our labels off it meanwhile makes this fail.
            object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        }
        match self.client.apply(&path, &object, OWNER, !write).await {
            Ok(now) => {
                let what = if before.is_some() { What::Change } else { What::Create };
                // Others may have added to a list what is not compared by `holds`.
                if before.is_none_or(|before| settled(before) != settled(now)) {
                    applied.deeds.push(Deed { what, object: self.shown(kind, host) });
                }
                Ok(())
            }
            Err(Refusal::Managed(why)) => {
                self.refuse((kind, host), &why, before.as_ref(), (write, applied)).await
            }
            Err(refusal) => self.pass_over((kind, host), "applying", refusal, applied),
        }
    }

    async fn delete(
        &self,
        (host, gone): (&str, &Live),
        write: bool,
        applied: &mut Applied,
    ) -> Result<(), ExportError> {
        let metadata = &gone.object["metadata"];
        let version = (text(&metadata["uid"]), text(&metadata["resourceVersion"]));
        let path = self.path(gone.kind, Some(host));
        match self.client.delete(&path, version, !write).await {
            Ok(()) => {
                let object = self.shown(gone.kind, host);
                applied.deeds.push(Deed { what: What::Delete, object });
                Ok(())
            }
            Err(Refusal::Absent(_)) => Ok(()),
            Err(refusal) => self.pass_over((gone.kind, host), "deleting", refusal, applied),
        }
    }

    /// Leaves an object alone and says so, also in an Event.
    async fn refuse(
        &self,
        (kind, host): (Kind, &str),
        why: &str,
        object: Option<&Value>,
        (write, applied): (bool, &mut Applied),
    ) -> Result<(), ExportError> {
        let shown = self.shown(kind, host);
        applied.remarks.push(Remark::error(format!("{host}: {shown} is left alone: {why}")));
        applied.refused.insert(host.to_owned());
        if let Some(object) = object.filter(|_| write) {
            let text = format!("diolkos export leaves this object alone: {why}");
            applied.remarks.extend(self.events.tell(object, &text).await);
        }
        Ok(())
    }

    /// What concerns one object costs only that; anything else ends the run.
    fn pass_over(
        &self,
        (kind, host): (Kind, &str),
        doing: &'static str,
        refusal: Refusal,
        applied: &mut Applied,
    ) -> Result<(), ExportError> {
        let shown = self.shown(kind, host);
        let remark = match refusal {
            Refusal::Changed => {
                Remark::warning(format!("{host}: {shown} was changed meanwhile: to be tried again"))
            }
            Refusal::Unfit(why) => Remark::error(format!("{host}: {shown} is not taken: {why}")),
            refusal => return Err(self.failed(kind, doing, refusal)),
        };
        applied.remarks.push(remark);
        applied.refused.insert(host.to_owned());
        Ok(())
    }

    fn is_ours(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        labels[OWNER_LABEL] == OWNER && labels[EXPORTER_LABEL] == self.exporter.as_str()
    }

    fn path(&self, kind: Kind, name: Option<&str>) -> String {
        let plural = if kind == Kind::ServiceEntry { "serviceentries" } else { "destinationrules" };
        let path = format!("/apis/{VERSION}/namespaces/{}/{plural}", self.namespace);
        name.map_or(path.clone(), |name| format!("{path}/{name}"))
    }

    fn shown(&self, kind: Kind, host: &str) -> String {
        format!("{} {}/{host}", kind.as_str(), self.namespace)
    }

    fn failed(&self, kind: Kind, doing: &'static str, source: Refusal) -> ExportError {
        let place = format!("{}: {} of {}", self.place(), kind.as_str(), self.namespace);
        ExportError::Api { place, doing, source }
    }
}

fn live<'f>(found: &'f Found, host: &str) -> &'f [Live] {
    match found.ours.get(host).map(|ours| &ours.kept) {
        Some(Kept::Objects(live)) => live,
        Some(Kept::File(_)) | None => &[],
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
