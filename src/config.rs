//! The settings: one typed value folded from defaults, the pod's own account of itself, one file,
//! the environment and the command line.
//!
//! Components never import this page; `app` hands each the part it needs. Must not know: what a
//! setting does.
//!
//! Every layer sets keys in one tree; what is unknown, renamed or of the wrong type is refused
//! where it is set, so the message can name the layer. The tree is then read once into
//! [`Settings`].

use std::{path::PathBuf, time::Duration};

pub mod file;
pub mod types;

mod ambient;
mod error;
mod keys;
mod layers;
mod ranges;

pub use error::{Invalid, Origin, SettingsError};
pub use file::Settings;
pub use layers::{Given, Override};

/// `config/diolkos.yaml`: every key with its default and a comment.
pub const DEFAULTS: &str = include_str!("../config/diolkos.yaml");

/// Where settings come from, besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    /// Environment variables; only those that concern us are looked at.
    pub environment: Vec<(String, String)>,
    /// What the command line says, weakest first.
    pub overrides: Vec<Override>,
}

impl Sources {
    /// Only this process's environment.
    #[must_use]
    pub fn of_this_process() -> Self {
        let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        Self { environment: environment.collect(), ..Self::default() }
    }
}

impl Settings {
    /// Folds all layers and reads the result. Called again to reread the file.
    ///
    /// # Errors
    /// The first thing wrong, with the layer and the key that holds it.
    pub fn load(sources: &Sources) -> Result<Self, SettingsError> {
        let mut tree = layers::Tree::default();
        ambient::apply(&mut tree, &sources.environment)?;
        if let Some(path) = &sources.file {
            layers::apply_file(&mut tree, path)?;
        }
        layers::apply_environment(&mut tree, &sources.environment)?;
        for given in &sources.overrides {
            layers::apply_override(&mut tree, given)?;
        }
        let settings = tree.read()?;
        ranges::check(&settings).map_err(|violation| tree.blame(violation))?;
        Ok(settings)
    }

    /// The effective settings, as a file that would give them again.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_norway::to_string(self).expect("settings hold only texts, numbers, lists and maps")
    }
}

impl Settings {
    /// The keys whose values differ, as `section.key`, in the order of the file.
    #[must_use]
    pub fn changed_keys(&self, other: &Self) -> Vec<String> {
        let of = |settings: &Self| serde_json::to_value(settings).unwrap_or_default();
        let (ours, theirs) = (of(self), of(other));
        let sections = ours.as_object().into_iter().flatten();
        let keys = sections.flat_map(|(section, keys)| {
            keys.as_object().into_iter().flatten().map(move |(key, value)| (section, key, value))
        });
        let differs = |(section, key, value): &(&String, &String, &serde_json::Value)| {
            theirs.get(section).and_then(|keys| keys.get(key)) != Some(*value)
        };
        keys.filter(differs).map(|(section, key, _)| format!("{section}.{key}")).collect()
    }
}

/// Reads a duration for which zero means off.
#[must_use]
pub fn off_when_zero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

#[cfg(test)]
mod tests;
