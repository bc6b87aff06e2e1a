//! From the bytes of one file to objects and problems.
//!
//! Must not know: other files, what was in this file before. Each document is read on its own, so
//! a broken one never hurts its neighbours. Bounded, whatever the bytes are: by file, document,
//! depth, elements, objects and broken documents.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::{Kind, Object, ObjectRef, Problem, Severity};

mod documents;
mod fault;
mod header;
mod items;
mod read;
mod unread;
mod validate;

use documents::documents;
use fault::Fault;
use header::Header;

/// Bytes of a file; the API server takes 3 MB per object, and 100,000 ServiceEntries are 60 MB.
pub const FILE_BYTES_MAX: usize = 64 << 20;
/// Bytes of one YAML document; etcd takes 1.5 MB per object.
pub const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// Objects of one file.
pub const OBJECTS_MAX: usize = 500_000;
/// Broken documents of one file, after which the rest of it is not read.
pub const BROKEN_MAX: usize = 1_000;
/// Lists inside lists.
const LIST_DEPTH_MAX: usize = 4;

/// Kinds that were skipped: where each was seen first, and how often.
pub type Skipped = BTreeMap<Box<str>, (usize, usize)>;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Its objects, each once.
    pub items: Vec<Item>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// Kinds that are not read.
    pub skipped: Skipped,
    /// A part of it could not be read so far that its objects could be named, or what is broken is
    /// its end.
    pub unreadable: bool,
}

/// An object of a file.
#[derive(Debug)]
pub struct Item {
    /// Its identity.
    pub reference: ObjectRef,
    /// Where it starts.
    pub line: usize,
    /// The object; `None` when it is broken.
    pub object: Option<Object>,
}

impl Parsed {
    /// A file that could not be read at all, and why.
    #[must_use]
    pub fn unreadable(file: &Arc<Path>, message: String) -> Self {
        let problem = Problem {
            file: file.clone(),
            line: 0,
            object: None,
            field: None,
            message: message.into(),
            severity: Severity::Error,
        };
        Self { problems: vec![problem], unreadable: true, ..Self::default() }
    }
}

/// Reads the contents of `file`.
#[must_use]
pub fn parse(file: &Arc<Path>, bytes: &[u8]) -> Parsed {
    if bytes.len() > FILE_BYTES_MAX {
        return Parsed::unreadable(
            file,
            format!(
                "the file has {} bytes, more than the {FILE_BYTES_MAX} that are read: split it",
                bytes.len()
            ),
        );
    }
    let mut parsing = Parsing::new(file);
    for document in documents(bytes) {
        if parsing.is_over(document.line) {
            break;
        }
        (parsing.ends_broken, parsing.untold) = (false, None);
        match std::str::from_utf8(document.bytes) {
            Ok(text) => parsing.document(text, document.line, None, 0),
            Err(error) => {
                let before = document.bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = document.line + documents::newlines(before);
                let text = String::from_utf8_lossy(document.bytes);
                let fault = Fault::new("it is not UTF-8: save the file as UTF-8").at(line);
                parsing.broken(&text, document.line, None, fault);
            }
        }
    }
    // Cut off there, perhaps, and then there were others behind it.
    parsing.parsed.unreadable |= parsing.ends_broken;
    if let Some((line, fault)) = parsing.untold.take() {
        parsing.tell(None, line, Fault { severity: Severity::Warning, ..fault });
    }
    parsing.parsed
}

/// One object as a source gives it that tells of each on its own, and what is wrong with it.
#[derive(Debug)]
pub struct Single {
    /// The object, in line 0.
    pub item: Item,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// Reads one object of a known kind and name, in the JSON of the Kubernetes API. `source` stands
/// in its problems for the file.
#[must_use]
pub fn parse_single(source: &Arc<Path>, reference: ObjectRef, json: &str) -> Single {
    let (object, faults) = match read::read_json(reference.kind, json) {
        Ok((object, mut faults)) => {
            validate::check(&object, &mut faults);
            (Some(object), faults)
        }
        Err(fault) => (None, vec![fault]),
    };
    let object = object.filter(|object| {
        let is_broken = faults.iter().any(|fault| fault.severity == Severity::Error);
        !is_broken && object.reference() == reference
    });
    let problem = |fault: Fault| Problem {
        file: source.clone(),
        line: 0,
        object: Some(reference.clone()),
        field: fault.field,
        message: fault.message,
        severity: fault.severity,
    };
    let problems = faults.into_iter().map(problem).collect();
    Single { item: Item { reference, line: 0, object }, problems }
}

struct Parsing<'f> {
    file: &'f Arc<Path>,
    parsed: Parsed,
    /// Where each object was seen first.
    seen: BTreeSet<ObjectRef>,
    broken: usize,
    /// The document that was read last could not be read.
    ends_broken: bool,
    /// Why, and where it starts, when it is of a kind that is not used here.
    untold: Option<(usize, Fault)>,
}

impl<'f> Parsing<'f> {
    fn new(file: &'f Arc<Path>) -> Self {
        Self {
            file,
            parsed: Parsed::default(),
            seen: BTreeSet::new(),
            broken: 0,
            ends_broken: false,
            untold: None,
        }
    }

    /// True once a limit is reached; says so the first time.
    fn is_over(&mut self, line: usize) -> bool {
        let message = if self.parsed.items.len() >= OBJECTS_MAX {
            format!("the file has more than {OBJECTS_MAX} objects: split it; the rest is not read")
        } else if self.broken >= BROKEN_MAX {
            format!("{BROKEN_MAX} documents of the file are broken: the rest is not read")
        } else {
            return false;
        };
        self.tell(None, line, Fault::new(message));
        self.parsed.unreadable = true;
        true
    }

    /// Reads one document, or one item of a list whose items are of the kind `default`.
    fn document(&mut self, text: &str, line: usize, default: Option<&Header>, depth: usize) {
        let (text, comments) = documents::without_comments(text);
        let line = line + comments;
        if text.is_empty() {
            return;
        }
        let header = match Header::find(text, default) {
            Ok(header) => header,
            Err(fault) => return self.broken(text, line, default, fault.after(line)),
        };
        if let Some(item) = header.list_item() {
            return self.list(text, line, item.as_ref(), depth);
        }
        match Kind::parse(&header.api_version, &header.kind) {
            // One of many that programs of every kind have: only the mesh's is ours to read.
            Some(Kind::ConfigMap) if !text.contains("mesh") => self.skip(&header, line),
            Some(kind) => self.object(kind, text, line, default),
            None => self.skip(&header, line),
        }
    }

    fn list(&mut self, text: &str, line: usize, default: Option<&Header>, depth: usize) {
        if depth >= LIST_DEPTH_MAX {
            let fault = Fault::new("lists are nested too deep: list the objects themselves");
            return self.unnamed(line, fault);
        }
        let result = items::each(text, |item, first_line| {
            let line = line + first_line;
            if self.is_over(line) {
                return false;
            }
            self.document(item, line, default, depth + 1);
            true
        });
        if let Err(fault) = result {
            self.unnamed(line, fault.after(line));
        }
    }

    fn object(&mut self, kind: Kind, text: &str, line: usize, default: Option<&Header>) {
        let (object, faults) = match read::read(kind, text) {
            Ok(read) => read,
            Err(fault) => return self.broken(text, line, default, fault.after(line)),
        };
        let reference = object.reference();
        if !self.see(&reference, line) {
            return;
        }
        let mut faults = faults;
        validate::check(&object, &mut faults);
        let is_broken = faults.iter().any(|fault| fault.severity == Severity::Error);
        self.broken += usize::from(is_broken);
        for fault in faults {
            self.tell(Some(&reference), line, fault);
        }
        let object = (!is_broken).then_some(object);
        self.parsed.items.push(Item { reference, line, object });
    }

    /// A document that cannot be read, though its object may have a name.
    fn broken(&mut self, text: &str, line: usize, default: Option<&Header>, fault: Fault) {
        self.ends_broken = true;
        let Some((header, namespace, name)) = header::identity(text, default) else {
            return self.unnamed(line, fault);
        };
        let Some(kind) = Kind::parse(&header.api_version, &header.kind) else {
            self.untold = Some((line, fault));
            return self.skip(&header, line);
        };
        let namespace = if kind.is_namespaced() { namespace } else { "".into() };
        let reference = ObjectRef { kind, namespace, name };
        if self.see(&reference, line) {
            self.broken += 1;
            self.tell(Some(&reference), line, fault);
            self.parsed.items.push(Item { reference, line, object: None });
        }
    }

    fn unnamed(&mut self, line: usize, fault: Fault) {
        self.broken += 1;
        self.parsed.unreadable = true;
        self.tell(None, line, fault);
    }

    /// False when the file had the object before.
    fn see(&mut self, reference: &ObjectRef, line: usize) -> bool {
        if self.seen.insert(reference.clone()) {
            return true;
        }
        self.broken += 1;
        let first = self.parsed.items.iter().find(|item| item.reference == *reference);
        let first = first.map_or(0, |item| item.line);
        let message =
            format!("is also in line {first} of this file, which is used: remove one of the two");
        self.tell(Some(reference), line, Fault::warning(message));
        false
    }

    fn skip(&mut self, header: &Header, line: usize) {
        let Header { api_version, kind } = header;
        // Texts of strangers: a kind is short.
        let name: String = format!("{api_version} {kind}").chars().take(200).collect();
        self.parsed.skipped.entry(name.into()).or_insert((line, 0)).1 += 1;
    }

    fn tell(&mut self, object: Option<&ObjectRef>, line: usize, fault: Fault) {
        self.parsed.problems.push(Problem {
            file: self.file.clone(),
            line: fault.line.unwrap_or(line),
            object: object.cloned(),
            field: fault.field,
            message: fault.message,
            severity: fault.severity,
        });
    }
}

#[cfg(test)]
mod tests;
