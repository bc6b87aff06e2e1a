//! All objects of all files, with the last good version of each that is broken now.
//!
//! Must not know: how files are found, read and watched. Everything here happens in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::{
    Object, ObjectRef, Problem, Severity,
    index::Objects,
    parse::{Parsed, Skipped},
};

/// New contents of files, by path; `None`: the file is gone.
pub type Update = Vec<(Arc<Path>, Option<Parsed>)>;

/// Which objects in force an update touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In force now, and were not before.
    pub added: Vec<ObjectRef>,
    /// In force with other contents than before, as far as they are read.
    pub changed: Vec<ObjectRef>,
    /// No longer in force.
    pub removed: Vec<ObjectRef>,
    /// [`Store::problems`] lists something else than before.
    pub problems: bool,
}

impl Changes {
    /// True when no object in force was touched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    /// Every object in force that was touched.
    pub fn iter(&self) -> impl Iterator<Item = &ObjectRef> {
        self.added.iter().chain(&self.changed).chain(&self.removed)
    }
}

/// The objects of all files. When two files hold the same object, the first in path order that
/// has a good version wins.
#[derive(Debug, Default)]
pub struct Store {
    files: BTreeMap<Arc<Path>, Contents>,
    held: BTreeMap<(ObjectRef, Arc<Path>), Held>,
    /// Objects that more than one file holds.
    shared: BTreeSet<ObjectRef>,
    objects: Objects,
}

/// What one file holds.
#[derive(Debug)]
struct Contents {
    references: Box<[ObjectRef]>,
    problems: Box<[Problem]>,
    skipped: Skipped,
}

/// One object in one file.
#[derive(Debug)]
struct Held {
    /// Its last good version; `None` when it never had one.
    object: Option<Object>,
    line: usize,
}

impl Store {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The objects in force.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// How many files are held.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// The file and line of an object in force.
    #[must_use]
    pub fn place_of(&self, reference: &ObjectRef) -> Option<(&Arc<Path>, usize)> {
        let mut holders = self.holders(reference);
        holders.find(|(_, held)| held.object.is_some()).map(|(file, held)| (file, held.line))
    }

    /// Takes in new contents of files, all at once: an object that moves from one file of the
    /// update to another stays in force. What did not change keeps its `Arc`.
    pub fn apply(&mut self, update: Update) -> Changes {
        let mut touched = BTreeSet::new();
        let mut changes = Changes::default();
        for (file, parsed) in update {
            let old = self.files.remove(&file);
            let new = match parsed {
                Some(parsed) => self.replace(&file, old.as_ref(), parsed, &mut touched),
                None => None,
            };
            for reference in old.iter().flat_map(|contents| &contents.references) {
                let stays = new.as_ref().is_some_and(|new| new.holds(reference));
                if !stays {
                    self.held.remove(&(reference.clone(), file.clone()));
                    touched.insert(reference.clone());
                }
            }
            changes.problems |= told(old.as_ref()) != told(new.as_ref());
            if let Some(new) = new {
                self.files.insert(file, new);
            }
        }
        for reference in touched {
            self.settle(reference, &mut changes);
        }
        changes
    }

    /// Everything that is wrong now: per file and line, then one note for each kind that is
    /// skipped.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.files.values().flat_map(|contents| contents.problems.iter().cloned()).collect();
        problems.extend(self.shared.iter().flat_map(|reference| self.duplicates(reference)));
        problems.sort();
        problems.extend(self.skipped());
        problems
    }

    /// Takes in one file and returns what it holds now.
    fn replace(
        &mut self,
        file: &Arc<Path>,
        old: Option<&Contents>,
        parsed: Parsed,
        touched: &mut BTreeSet<ObjectRef>,
    ) -> Option<Contents> {
        let mut references: BTreeSet<ObjectRef> = BTreeSet::new();
        for item in parsed.items {
            let key = (item.reference.clone(), file.clone());
            let before = self.held.remove(&key).and_then(|held| held.object);
            let before = before.or_else(|| self.objects.get(&item.reference));
            let object = match (item.object, before) {
                (Some(new), Some(before)) if new == before => Some(before),
                (Some(new), _) => Some(new),
                (None, before) => before,
            };
            self.held.insert(key, Held { object, line: item.line });
            touched.insert(item.reference.clone());
            references.insert(item.reference);
        }
        if parsed.unreadable {
            // One of them may be the object whose name cannot be read.
            references.extend(old.into_iter().flat_map(|old| old.references.iter().cloned()));
        }
        let mut problems = parsed.problems;
        for problem in problems.iter_mut().filter(|problem| problem.severity == Severity::Error) {
            let key = problem.object.clone().map(|reference| (reference, file.clone()));
            let held = key.and_then(|key| self.held.get(&key));
            let consequence = match held {
                Some(Held { object: Some(_), .. }) => "its last good version stays in use",
                Some(Held { object: None, .. }) => "it is left out",
                None => "objects that this file held before stay in use",
            };
            problem.message = format!("{} ({consequence})", problem.message).into();
        }
        let references = references.into_iter().collect();
        Some(Contents { references, problems: problems.into(), skipped: parsed.skipped })
    }

    /// Puts the right version of one object in force.
    fn settle(&mut self, reference: ObjectRef, changes: &mut Changes) {
        let new = self.holders(&reference).find_map(|(_, held)| held.object.clone());
        let is_shared = self.holders(&reference).nth(1).is_some();
        changes.problems |= is_shared != self.shared.contains(&reference);
        if is_shared {
            self.shared.insert(reference.clone());
        } else {
            self.shared.remove(&reference);
        }
        let old = self.objects.get(&reference);
        let list = match (&old, &new) {
            (None, None) => return,
            (Some(old), Some(new)) if old == new => return,
            (None, Some(_)) => &mut changes.added,
            (Some(_), Some(_)) => &mut changes.changed,
            (Some(_), None) => &mut changes.removed,
        };
        self.objects.set(&reference, new);
        list.push(reference);
    }

    /// The files that hold an object, in path order.
    fn holders(&self, reference: &ObjectRef) -> impl Iterator<Item = (&Arc<Path>, &Held)> {
        let first = (reference.clone(), Arc::from(Path::new("")));
        let range = self.held.range(first..);
        let reference = reference.clone();
        range
            .take_while(move |((other, _), _)| *other == reference)
            .map(|((_, file), held)| (file, held))
    }

    fn duplicates(&self, reference: &ObjectRef) -> Vec<Problem> {
        let Some((winner, winner_line)) = self.place_of(reference) else { return Vec::new() };
        let others = self.holders(reference).filter(|(file, _)| *file != winner);
        others
            .map(|(file, held)| Problem {
                file: file.clone(),
                line: held.line,
                object: Some(reference.clone()),
                field: None,
                message: format!(
                    "is also in {}:{winner_line}, which is used: remove one of the two",
                    winner.display()
                )
                .into(),
                severity: Severity::Warning,
            })
            .collect()
    }

    fn skipped(&self) -> Vec<Problem> {
        let mut kinds: BTreeMap<&str, (&Arc<Path>, usize, usize)> = BTreeMap::new();
        for (file, contents) in &self.files {
            for (kind, (line, count)) in &contents.skipped {
                kinds.entry(kind).or_insert((file, *line, 0)).2 += count;
            }
        }
        let note = |(kind, (file, line, count)): (&str, (&Arc<Path>, usize, usize))| Problem {
            file: file.clone(),
            line,
            object: None,
            field: None,
            message: format!("{count} of kind {kind} skipped: this kind is not used here").into(),
            severity: Severity::Note,
        };
        kinds.into_iter().map(note).collect()
    }
}

impl Contents {
    fn holds(&self, reference: &ObjectRef) -> bool {
        self.references.binary_search(reference).is_ok()
    }
}

fn told(contents: Option<&Contents>) -> (&[Problem], Option<&Skipped>) {
    let skipped = contents.map(|contents| &contents.skipped).filter(|skipped| !skipped.is_empty());
    (contents.map_or(&[], |contents| &contents.problems), skipped)
}

#[cfg(test)]
mod tests;
