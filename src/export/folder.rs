//! The directory that is written to: one file for each host, and files of others beside them.
//!
//! A file is ours when every object in it says so and it has the name that we would give it. What
//! is not ours is never replaced or removed. Must not know: what is exported, addresses.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    ExportError, Remark, atomic,
    destination::{Changes, Found, Kept, Ours},
    taken::is_ours,
};
use crate::{
    manifests::{Object, parse, parse::FILE_BYTES_MAX},
    routing::HostPattern,
};

/// A directory of files that hold one host each.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The directory at this path, which need not exist.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of this host.
    #[must_use]
    pub fn file_of(&self, host: &str) -> PathBuf {
        self.path.join(file_name(host))
    }

    /// The file at this host's place, if it is not ours.
    pub(super) fn other_at(&self, host: &str, found: &Found) -> Option<PathBuf> {
        found.others.contains(&file_name(host)).then(|| self.file_of(host))
    }

    /// Reads every manifest in it, not those in directories below.
    pub(super) fn look(&self) -> Result<Found, ExportError> {
        let mut found = Found::default();
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(self.failed("reading", error)),
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            // A name that is no text is not ours and no manifest of anybody.
            let Some(name) = path.file_name().and_then(OsStr::to_str) else { continue };
            let manifest = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
            if manifest && !name.starts_with('.') {
                take(&mut found, &path, name);
            }
        }
        Ok(found)
    }

    /// Writes and removes.
    pub(super) fn apply(&self, changes: &Changes) -> Result<(), ExportError> {
        if changes.write.is_empty() && changes.remove.is_empty() {
            return Ok(());
        }
        fs::create_dir_all(&self.path).map_err(|error| self.failed("making", error))?;
        atomic::tidy(&self.path);
        let names: Vec<_> =
            changes.write.iter().map(|(host, text)| (file_name(host), text)).collect();
        let files: Vec<(&OsStr, &[u8])> =
            names.iter().map(|(name, text)| (OsStr::new(name), text.as_bytes())).collect();
        if !files.is_empty() {
            atomic::replace_all(&self.path, &files).map_err(|e| self.failed("writing", e))?;
        }
        for host in &changes.remove {
            match fs::remove_file(self.path.join(file_name(host))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed("removing from", error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> ExportError {
        ExportError::File { path: self.path.clone(), doing, source }
    }
}

/// The name of the file of a host.
fn file_name(host: &str) -> String {
    format!("{host}.yaml")
}

/// Adds what is in a file to what was found.
fn take(found: &mut Found, path: &Path, name: &str) {
    let shown = path.display().to_string();
    let bytes = match read_regular(path) {
        Ok(bytes) => bytes,
        Err(why) => {
            found.others.insert(name.to_owned());
            let text = format!("{shown}: is left alone: {why}");
            return found.remarks.push(Remark::note(text));
        }
    };
    let parsed = parse(&path.into(), &bytes);
    let good = parsed.problems.is_empty() && parsed.skipped.is_empty();
    let objects = parsed.items.iter().filter_map(|item| Some((item.line, item.object.as_ref()?)));
    let objects: Vec<(usize, &Object)> = objects.collect();
    let whole = good && objects.len() == parsed.items.len() && !objects.is_empty();
    if whole && objects.iter().all(|(_, object)| is_ours(object.meta(), None)) {
        let host = objects.iter().find_map(|(_, object)| host_of(object));
        if let Some(host) = host.filter(|host| file_name(host) == name) {
            let clusters = objects.iter().flat_map(|(_, object)| clusters_of(object)).collect();
            found.ours.insert(host, Ours { kept: Kept::File(bytes), clusters });
            return;
        }
    }
    found.others.insert(name.to_owned());
    for (line, object) in objects.iter().filter(|(_, object)| !is_ours(object.meta(), None)) {
        found.taken.add(object, Some(format!("{shown}:{line}")));
    }
    if objects.iter().any(|(_, object)| is_ours(object.meta(), None)) {
        let text = format!(
            "{shown}: holds objects of this program and is not as it was written: it is left \
             alone; remove it to have it written anew"
        );
        found.remarks.push(Remark::warning(text));
    }
    found.remarks.extend(parsed.problems.iter().filter_map(|problem| {
        let error = problem.severity == crate::manifests::Severity::Error;
        error.then(|| Remark::warning(format!("left alone: {problem}")))
    }));
}

/// The one host of a ServiceEntry of ours.
fn host_of(object: &Object) -> Option<String> {
    let Object::ServiceEntry(entry) = object else { return None };
    match &entry.spec.hosts[..] {
        [host] => match &host.0 {
            HostPattern::Exact(host) => Some(host.to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn clusters_of(object: &Object) -> Vec<String> {
    let Object::ServiceEntry(entry) = object else { return Vec::new() };
    let labels = entry.spec.endpoints.iter().filter_map(|e| e.labels.get("cluster"));
    labels.map(ToOwned::to_owned).collect()
}

/// The bytes of a regular file; links, pipes and devices are nothing that we wrote.
fn read_regular(path: &Path) -> Result<Vec<u8>, String> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let open = fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = open.map_err(|error| match path.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => "it is a link".to_owned(),
        _ => error.to_string(),
    })?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    if metadata.len() > FILE_BYTES_MAX as u64 {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, FILE_BYTES_MAX as u64), &mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
