//! Where objects go: nowhere, into a directory of files, or to the API of a cluster.
//!
//! All are looked at before a run, and are brought up to date at its end. Must not know: what is
//! exported, addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::Value;

use super::{
    Cluster, Deed, ExportError, Folder, Remark, Taken,
    cluster::{self, Live},
};
use crate::manifests::Kind;

/// Where objects go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// They are only shown.
    Shown,
    /// A file for each host.
    Folder(Folder),
    /// Applied to the importing cluster.
    Cluster(Cluster),
}

/// What is there now.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What is ours, by host.
    pub(super) ours: BTreeMap<String, Ours>,
    /// What objects of others own.
    pub(super) taken: Taken,
    /// Files under names that are not ours.
    pub(super) others: BTreeSet<String>,
    /// Objects of others in a cluster, under names that ours may have.
    pub(super) foreign: BTreeMap<(Kind, String), Value>,
    pub(super) remarks: Vec<Remark>,
}

/// What is there of a host, and is ours.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) kept: Kept,
    /// Clusters whose gateways are in it.
    pub(super) clusters: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) enum Kept {
    /// The bytes of a file.
    File(Vec<u8>),
    /// Objects of a cluster.
    Objects(Vec<Live>),
}

/// What is to become of it.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// By host.
    pub(super) write: BTreeMap<String, String>,
    pub(super) remove: BTreeSet<String>,
    /// Names that objects of others have.
    pub(super) clashes: Vec<(Kind, String)>,
}

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) written: Vec<String>,
    pub(super) removed: Vec<String>,
    pub(super) deeds: Vec<Deed>,
    /// Hosts that were not written as they should be.
    pub(super) refused: BTreeSet<String>,
    pub(super) remarks: Vec<Remark>,
}

impl Destination {
    pub(super) async fn look(&self) -> Result<Found, ExportError> {
        match self {
            Self::Shown => Ok(Found::default()),
            Self::Folder(folder) => folder.look(),
            Self::Cluster(cluster) => cluster.look().await,
        }
    }

    /// Brings it up to date; with `write` false only a cluster is asked what it would say.
    pub(super) async fn apply(
        &self,
        changes: &Changes,
        found: &Found,
        write: bool,
    ) -> Result<Applied, ExportError> {
        match self {
            Self::Shown => return Ok(Applied::default()),
            Self::Folder(folder) if write => folder.apply(changes)?,
            Self::Folder(_) => {}
            Self::Cluster(cluster) => return cluster.apply(changes, found, write).await,
        }
        let written = changes.write.keys().cloned().collect();
        let removed = changes.remove.iter().cloned().collect();
        Ok(Applied { written, removed, ..Applied::default() })
    }

    /// The file at this host's place, if it is somebody else's.
    pub(super) fn other_at(&self, host: &str, found: &Found) -> Option<PathBuf> {
        match self {
            Self::Folder(folder) => folder.other_at(host, found),
            Self::Shown | Self::Cluster(_) => None,
        }
    }

    /// What it is called.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Shown => "standard output".to_owned(),
            Self::Folder(folder) => folder.path().display().to_string(),
            Self::Cluster(cluster) => cluster.place(),
        }
    }

    /// What holds one host there.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        if matches!(self, Self::Cluster(_)) { "entry" } else { "file" }
    }

    /// What hold several.
    #[must_use]
    pub fn units(&self) -> &'static str {
        if matches!(self, Self::Cluster(_)) { "entries" } else { "files" }
    }
}

impl Found {
    /// True when an object of somebody else has this name.
    pub(super) fn is_foreign(&self, kind: Kind, name: &str) -> bool {
        self.foreign.contains_key(&(kind, name.to_owned()))
    }

    /// What of these hosts would have the name of an object of somebody else.
    pub(super) fn clashes<'h>(
        &self,
        hosts: impl Iterator<Item = &'h String>,
    ) -> Vec<(Kind, String)> {
        let names = hosts.flat_map(|host| {
            [Kind::ServiceEntry, Kind::DestinationRule].map(|kind| (kind, host.clone()))
        });
        names.filter(|name| self.foreign.contains_key(name)).collect()
    }
}

impl Ours {
    /// True when it is as this text has it.
    pub(super) fn is(&self, text: &str) -> bool {
        match &self.kept {
            Kept::File(bytes) => bytes == text.as_bytes(),
            Kept::Objects(live) => cluster::are(live, text),
        }
    }
}
