//! Lists manifest files below a path.
//!
//! Must not know: what is in a file, what was listed before.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Directories inside directories.
const DEPTH_MAX: usize = 32;

/// What identifies the contents of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&fs::Metadata> for Stamp {
    fn from(metadata: &fs::Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What is below a path.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) files: BTreeMap<Arc<Path>, Stamp>,
    /// The real path of each directory, and the path under which it was found.
    pub(super) directories: Vec<(PathBuf, PathBuf)>,
    pub(super) failures: Vec<(PathBuf, io::Error)>,
    seen: HashSet<(u64, u64)>,
}

impl Listing {
    /// Lists `path`, which may be a file of any name. `watch` is called with the real path of each
    /// directory before its entries are read.
    pub(super) fn list(&mut self, path: &Path, watch: &mut dyn FnMut(&Path)) {
        let result = fs::metadata(path).and_then(|metadata| {
            if metadata.is_dir() {
                return self.directory(path, &metadata, watch, 0);
            }
            self.files.insert(path.into(), Stamp::from(&metadata));
            Ok(())
        });
        if let Err(error) = result {
            self.failures.push((path.to_owned(), error));
        }
    }

    fn directory(
        &mut self,
        path: &Path,
        metadata: &fs::Metadata,
        watch: &mut dyn FnMut(&Path),
        depth: usize,
    ) -> io::Result<()> {
        // A link may lead to a directory above.
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        if depth > DEPTH_MAX {
            return Err(io::Error::other(format!("is more than {DEPTH_MAX} directories deep")));
        }
        let real = fs::canonicalize(path)?;
        watch(&real);
        self.directories.push((real, path.to_owned()));
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            if !is_hidden(&name) {
                self.entry(path.join(&name), &name, watch, depth);
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, name: &OsStr, watch: &mut dyn FnMut(&Path), depth: usize) {
        let result = fs::metadata(&path).and_then(|metadata| {
            if metadata.is_dir() {
                self.directory(&path, &metadata, watch, depth + 1)?;
            } else if is_manifest(name) {
                self.files.insert(path.as_path().into(), Stamp::from(&metadata));
            }
            Ok(())
        });
        match result {
            Err(error) if path.is_dir() || is_manifest(name) => self.failures.push((path, error)),
            _ => {}
        }
    }
}

/// Temporary files of editors and the inner directories of a ConfigMap.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// By its ending.
pub(super) fn is_manifest(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    !is_hidden(name) && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// The directory entries, with real parents, whose change gives `root` other contents: itself,
/// each link on the way to it, and for a file the `..data` beside it.
pub(super) fn entrances(root: &Path) -> Vec<PathBuf> {
    let mut entrances = Vec::new();
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    for path in absolute.ancestors() {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let Ok(parent) = fs::canonicalize(parent) else { continue };
        let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
        if path == absolute || is_link {
            if path == absolute && !path.is_dir() {
                entrances.push(parent.join("..data"));
            }
            entrances.push(parent.join(name));
        }
    }
    entrances
}
