//! To which namespaces an object is visible: the sum of its `exportTo`.
//!
//! Pure. Must not know: which kinds of objects have one.

use std::collections::BTreeSet;

use crate::manifests::kinds::{ExportTo, Meta};

/// Where an object is visible.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Visibility {
    /// Everywhere; also what an empty list means.
    everywhere: bool,
    /// Else in these.
    namespaces: BTreeSet<Box<str>>,
}

/// The annotation that holds the list of a Service.
const ANNOTATION: &str = "networking.istio.io/exportTo";

impl Visibility {
    /// Sums up the list of an object in `namespace`. An empty list is Istio's default, everywhere;
    /// a list of `~` alone is nowhere.
    #[must_use]
    pub fn new(list: &[ExportTo], namespace: &str) -> Self {
        let mut visibility = Self { everywhere: list.is_empty(), ..Self::default() };
        for entry in list {
            match entry {
                ExportTo::All => visibility.everywhere = true,
                ExportTo::Nobody => {}
                ExportTo::Own => _ = visibility.namespaces.insert(namespace.into()),
                ExportTo::Namespace(name) => _ = visibility.namespaces.insert(name.clone()),
            }
        }
        visibility
    }

    /// The same, with the list that an empty one stands for.
    #[must_use]
    pub fn or(list: &[ExportTo], default: &[ExportTo], namespace: &str) -> Self {
        Self::new(if list.is_empty() { default } else { list }, namespace)
    }

    /// Reads the annotation of a Service. An entry that cannot be read shows it to nobody; the
    /// second value names it. Without an annotation `default` holds.
    #[must_use]
    pub fn of_service(meta: &Meta, default: &[ExportTo]) -> (Self, Option<String>) {
        let Some(text) = meta.annotations.get(ANNOTATION) else {
            return (Self::new(default, &meta.namespace), None);
        };
        let mut list = Vec::new();
        let mut unread = None;
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            list.push(ExportTo::parse(entry).unwrap_or_else(|| {
                unread = Some(entry.to_owned());
                ExportTo::Nobody
            }));
        }
        (Self::or(&list, default, &meta.namespace), unread)
    }

    /// True when an object in `namespace` sees it.
    #[must_use]
    pub fn visible_to(&self, namespace: &str) -> bool {
        self.everywhere || self.namespaces.contains(namespace)
    }

    /// True when nobody outside `namespace` sees it.
    #[must_use]
    pub fn private_to(&self, namespace: &str) -> bool {
        !self.everywhere && self.namespaces.iter().all(|name| **name == *namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(annotation: &str, own: bool, other: bool, private: bool) {
        let yaml =
            format!("{{name: a, namespace: own, annotations: {{{ANNOTATION}: '{annotation}'}}}}");
        let meta: Meta = serde_norway::from_str(&yaml).expect("metadata");
        let (seen, _) = Visibility::of_service(&meta, &[]);
        let found = (seen.visible_to("own"), seen.visible_to("other"), seen.private_to("own"));
        assert_eq!(found, (own, other, private), "{annotation}");
    }

    #[test]
    fn a_list_is_read_as_istio_reads_it() {
        check("", true, true, false);
        check(" , ", true, true, false);
        check("*", true, true, false);
        check(".", true, false, true);
        check("~", false, false, true);
        check("other", false, true, false);
        check("., other", true, true, false);
        check("elsewhere", false, false, false);
        check("~,*", true, true, false);
    }

    #[test]
    fn an_entry_that_cannot_be_read_shows_it_to_nobody() {
        check("Not_A_Namespace", false, false, true);
    }
}
