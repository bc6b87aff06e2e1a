//! Files that are there whole or not at all, also after a crash.
//!
//! Must not know: what they hold.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// What a file that is being written is called: hidden, so that nobody reads it.
const PREFIX: &str = ".diolkos-export.";
/// Above so many files the file system is flushed once, and not each file.
const SINGLE_MAX: usize = 32;

/// Writes a file in place of the one that is there, if any, whose permissions it takes over.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    replace_all(folder_of(path), &[(name, bytes)])
}

/// Writes files into `folder`: none of them half, and none replaced before all are on disk.
pub(super) fn replace_all(folder: &Path, files: &[(&OsStr, &[u8])]) -> io::Result<()> {
    let mut written = Written(Vec::new());
    for (index, (name, bytes)) in files.iter().enumerate() {
        let new = format!("{PREFIX}{}.{index}", std::process::id());
        let (path, new) = (folder.join(name), folder.join(new));
        // Of a run that was cut short; the writers of one directory take turns.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
        written.0.push((new, path.clone()));
        if let Ok(old) = path.symlink_metadata()
            && old.is_file()
        {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(bytes)?;
        if files.len() <= SINGLE_MAX {
            file.sync_all()?;
        }
    }
    let folder = File::open(folder)?;
    if files.len() > SINGLE_MAX {
        rustix::fs::syncfs(&folder)?;
    }
    while let Some((new, path)) = written.0.last() {
        fs::rename(new, path)?;
        written.0.pop();
    }
    folder.sync_all()
}

/// Removes what a run that was cut short left in `folder`.
pub(super) fn tidy(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// New files that have not taken their place; dropped, they are removed.
struct Written(Vec<(PathBuf, PathBuf)>);

impl Drop for Written {
    fn drop(&mut self) {
        for (new, _) in &self.0 {
            let _ = fs::remove_file(new);
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
