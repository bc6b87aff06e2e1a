//! What can be wrong with settings, in words that say where and what to do.
//!
//! Must not know: how layers are folded.

use std::{fmt, path::PathBuf};

use thiserror::Error;

/// The layer that set a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The built-in value.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("defaults"),
            Self::File(path) => path.display().fmt(f),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Why there are no settings.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("{}: is not YAML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// A section holds something else than keys.
    #[error("{origin}: {section} must hold keys with values, such as {example}")]
    NotASection {
        /// The layer.
        origin: Origin,
        /// The section, or the file as a whole.
        section: String,
        /// A key that could stand there.
        example: String,
    },
    /// No such key.
    #[error("{origin}: there is no setting {key}; the nearest is {nearest}")]
    Unknown {
        /// The layer.
        origin: Origin,
        /// As it was written.
        key: String,
        /// In the same notation.
        nearest: String,
    },
    /// A key that has another name now.
    #[error("{origin}: the setting {key} is now called {now}; rename it")]
    Renamed {
        /// The layer.
        origin: Origin,
        /// The old name.
        key: String,
        /// The new name.
        now: String,
    },
    /// A value of the wrong type or outside its range.
    #[error(transparent)]
    Invalid(Box<Invalid>),
    /// `--set` without a key and a value.
    #[error("{flag}: expected KEY=VALUE, such as gateway.workers=2")]
    NotAnAssignment {
        /// The flag with what followed it.
        flag: String,
    },
}

impl SettingsError {
    /// Whether the command line itself is wrong, rather than something it names.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NotAnAssignment { .. } => true,
            Self::Unreadable { .. } | Self::Syntax { .. } => false,
            Self::NotASection { origin, .. }
            | Self::Unknown { origin, .. }
            | Self::Renamed { origin, .. } => matches!(origin, Origin::Flag(_)),
            Self::Invalid(invalid) => matches!(invalid.origin, Origin::Flag(_)),
        }
    }
}

/// A value that a key cannot take.
#[derive(Debug, Error)]
#[error("{origin}: {key}: {value} cannot be taken: {reason}; the default is {default}")]
pub struct Invalid {
    /// The layer.
    pub origin: Origin,
    /// The key.
    pub key: String,
    /// As it was written.
    pub value: String,
    /// What is expected.
    pub reason: String,
    /// A value that would do.
    pub default: String,
}
