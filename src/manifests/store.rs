//! All objects of all files, with the last good version of each that is broken now.
//!
//! Must not know: how files are found, read and watched. Everything here happens in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::{
    Kind, Object, ObjectRef, Problem, Severity,
    index::Objects,
    parse::{Item, Parsed, Single, Skipped},
    problem::place,
};

/// What a source has to tell, in order.
pub type Update = Vec<News>;

/// One thing that a source has to tell. A path names a file, or a source that tells of each object
/// on its own, such as the API of a cluster.
#[derive(Debug)]
pub enum News {
    /// New contents of a file; `None`: the file is gone.
    File(Arc<Path>, Option<Parsed>),
    /// An object of this source as it is now.
    Object(Arc<Path>, Single),
    /// An object that this source has no more.
    Gone(Arc<Path>, ObjectRef),
    /// Of a part, this source has these objects and no others.
    Only(Arc<Path>, Part, BTreeSet<ObjectRef>),
}

/// A part of what a source has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Of this kind.
    pub kind: Kind,
    /// In this namespace; `None`: in all.
    pub namespace: Option<Arc<str>>,
    /// Of this name; `None`: of any.
    pub name: Option<Arc<str>>,
}

impl Part {
    fn holds(&self, reference: &ObjectRef) -> bool {
        self.kind == reference.kind
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == reference.namespace)
            && self.name.as_ref().is_none_or(|name| *name == reference.name)
    }
}

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
    /// What is wrong with objects that were told of on their own.
    singles: BTreeMap<(ObjectRef, Arc<Path>), Box<[Problem]>>,
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

    /// Takes in what sources tell, all at once: an object that moves from one file of the update to
    /// another stays in force. What did not change keeps its `Arc`.
    pub fn apply(&mut self, update: Update) -> Changes {
        let mut touched = BTreeSet::new();
        let mut changes = Changes::default();
        for news in update {
            changes.problems |= match news {
                News::File(file, parsed) => self.file(file, parsed, &mut touched),
                News::Object(source, single) => self.single(source, single, &mut touched),
                News::Gone(source, reference) => self.gone((reference, source), &mut touched),
                News::Only(source, part, listed) => {
                    let others = self.others(&source, &part, &listed);
                    let forget = |key| self.gone(key, &mut touched);
                    // Each of them, hence no `any`.
                    others.into_iter().map(forget).fold(false, |any, told| any | told)
                }
            };
        }
        for reference in touched {
            self.settle(reference, &mut changes);
        }
        changes
    }

    /// Takes in a file. True when other problems are told than before, as below.
    fn file(
        &mut self,
        file: Arc<Path>,
        parsed: Option<Parsed>,
        touched: &mut BTreeSet<ObjectRef>,
    ) -> bool {
        let old = self.files.remove(&file);
        let new = match parsed {
            Some(parsed) => self.replace(&file, old.as_ref(), parsed, touched),
            None => None,
        };
        for reference in old.iter().flat_map(|contents| &contents.references) {
            let stays = new.as_ref().is_some_and(|new| new.holds(reference));
            if !stays {
                self.held.remove(&(reference.clone(), file.clone()));
                touched.insert(reference.clone());
            }
        }
        let is_news = told(old.as_ref()) != told(new.as_ref());
        if let Some(new) = new {
            self.files.insert(file, new);
        }
        is_news
    }

    /// Takes in one object.
    fn single(
        &mut self,
        source: Arc<Path>,
        single: Single,
        touched: &mut BTreeSet<ObjectRef>,
    ) -> bool {
        let Single { item, mut problems } = single;
        let key = (item.reference.clone(), source);
        touched.insert(item.reference.clone());
        self.hold(item, &key.1);
        self.tell_consequences(&mut problems, &key.1, false);
        let before = self.singles.remove(&key);
        let is_news = before.as_deref().unwrap_or_default() != problems.as_slice();
        if !problems.is_empty() {
            self.singles.insert(key, problems.into());
        }
        is_news
    }

    /// Forgets one object.
    fn gone(&mut self, key: (ObjectRef, Arc<Path>), touched: &mut BTreeSet<ObjectRef>) -> bool {
        self.held.remove(&key);
        let was_told = self.singles.remove(&key).is_some();
        touched.insert(key.0);
        was_told
    }

    /// What `source` holds of a part beside what is `listed`.
    fn others(
        &self,
        source: &Arc<Path>,
        part: &Part,
        listed: &BTreeSet<ObjectRef>,
    ) -> Vec<(ObjectRef, Arc<Path>)> {
        let namespace = part.namespace.clone().unwrap_or_default();
        let first = ObjectRef { kind: part.kind, namespace, name: "".into() };
        let range = self.held.range((first, Arc::from(Path::new("")))..).map(|(key, _)| key);
        range
            .take_while(|(other, _)| other.kind == part.kind)
            .filter(|(other, file)| part.holds(other) && file == source && !listed.contains(other))
            .cloned()
            .collect()
    }

    /// Everything that is wrong now: per file and line, then one note for each kind that is
    /// skipped.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.files.values().flat_map(|contents| contents.problems.iter().cloned()).collect();
        problems.extend(self.singles.values().flatten().cloned());
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
            touched.insert(item.reference.clone());
            references.insert(item.reference.clone());
            self.hold(item, file);
        }
        let listed = references.len();
        if parsed.unreadable {
            // One of them may be the object whose name cannot be read, or stand behind the end.
            references.extend(old.into_iter().flat_map(|old| old.references.iter().cloned()));
        }
        let mut problems = parsed.problems;
        self.tell_consequences(&mut problems, file, references.len() > listed);
        let references = references.into_iter().collect();
        Some(Contents { references, problems: problems.into(), skipped: parsed.skipped })
    }

    /// Holds an object as `file` has it now; a broken one as it was last good.
    fn hold(&mut self, item: Item, file: &Arc<Path>) {
        let key = (item.reference, file.clone());
        let before = self.held.remove(&key).and_then(|held| held.object);
        let before = before.or_else(|| self.objects.get(&key.0));
        let object = match (item.object, before) {
            (Some(new), Some(before)) if new == before => Some(before),
            (Some(new), _) => Some(new),
            (None, before) => before,
        };
        self.held.insert(key, Held { object, line: item.line });
    }

    /// Adds to each error what it means for the object that has it.
    fn tell_consequences(&self, problems: &mut [Problem], file: &Arc<Path>, others: bool) {
        for problem in problems.iter_mut().filter(|problem| problem.severity == Severity::Error) {
            let key = problem.object.clone().map(|reference| (reference, file.clone()));
            let held = key.and_then(|key| self.held.get(&key));
            let consequence = match (held, others) {
                (Some(Held { object: Some(_), .. }), false) => "its last good version stays in use",
                (Some(Held { object: Some(_), .. }), true) => {
                    "its last good version stays in use, and so does what this file held before"
                }
                (Some(Held { object: None, .. }), _) => "it is left out",
                (None, _) => "objects that this file held before stay in use",
            };
            problem.message = format!("{} ({consequence})", problem.message).into();
        }
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
                    "is also in {}, which is used: remove one of the two",
                    place(winner, winner_line)
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
