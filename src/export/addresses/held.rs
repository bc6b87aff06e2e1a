//! The book as it was found, to be kept where it was found: in a file, or in a ConfigMap.
//!
//! Must not know: which names are exported.

use std::{fs::File, path::PathBuf};

use super::{
    super::ExportError,
    Book,
    config_map::{AddressMap, Version},
    file::{self, AddressFile},
};

/// Where the book is kept.
#[derive(Clone, Debug)]
pub enum Record {
    /// In a file.
    File(AddressFile),
    /// In the importing cluster.
    ConfigMap(AddressMap),
}

/// The book. That of a file is held by us alone until this is dropped; that of a ConfigMap is saved
/// only if nobody has changed it meanwhile.
#[derive(Debug)]
pub struct Held {
    place: String,
    /// Its text; `None`: there is none yet.
    before: Option<String>,
    /// What it holds, and is to hold.
    pub book: Book,
    at: At,
}

#[derive(Debug)]
pub(super) enum At {
    /// Closing the second gives the lock back.
    File(PathBuf, #[allow(dead_code)] Option<File>),
    ConfigMap(AddressMap, Version),
}

impl Record {
    /// Reads it, to be saved when `write` says so.
    ///
    /// # Errors
    /// When it cannot be read, is not what was written there, or is held by another run.
    pub async fn hold(&self, write: bool) -> Result<Held, ExportError> {
        match self {
            Self::File(file) if write => file.hold(),
            Self::File(file) => file.look(),
            Self::ConfigMap(map) => map.hold().await,
        }
    }
}

impl Held {
    /// Of these bytes, found at `place`.
    pub(super) fn new(place: String, bytes: Option<Vec<u8>>, at: At) -> Result<Self, ExportError> {
        let corrupt = |line, problem| ExportError::Corrupt { place: place.clone(), line, problem };
        let before = bytes.map(String::from_utf8).transpose().map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            corrupt(line, "there are bytes that are no text: this is no file of addresses".into())
        })?;
        let book = before.as_deref().map(Book::parse).transpose();
        let book = book.map_err(|fault| corrupt(fault.line, fault.problem))?.unwrap_or_default();
        Ok(Self { place, before, book, at })
    }

    /// Where it would be, when there is none yet.
    #[must_use]
    pub fn absent(&self) -> Option<&str> {
        self.before.is_none().then_some(&*self.place)
    }

    /// True when saving would write other records than there are.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        match &self.before {
            None => !self.book.is_empty(),
            // What a person wrote between the records is left alone while they hold.
            Some(text) => Book::parse(text).as_ref() != Ok(&self.book),
        }
    }

    /// Writes it, if it holds something new.
    ///
    /// # Errors
    /// When it cannot be written; it is then as it was. [`ExportError::Raced`] when somebody has
    /// changed it since it was read.
    pub async fn save(&mut self) -> Result<(), ExportError> {
        if !self.is_changed() {
            return Ok(());
        }
        let text = self.book.text();
        match &mut self.at {
            At::File(path, _) => file::write(path, &text)?,
            At::ConfigMap(map, version) => map.write(&text, version).await?,
        }
        self.before = Some(text);
        Ok(())
    }
}
