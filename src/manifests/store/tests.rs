//! What stays in force when files change, break, move and go.

use super::*;
use crate::manifests::parse;

fn file(name: &str) -> Arc<Path> {
    Path::new(name).into()
}

fn update(files: &[(&str, Option<&str>)]) -> Update {
    files
        .iter()
        .map(|(name, text)| {
            let file = file(name);
            let parsed = text.map(|text| parse(&file, text.as_bytes()));
            News::File(file, parsed)
        })
        .collect()
}

fn service(name: &str, port: u32) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: \
         {port}}}]}}\n"
    )
}

/// What an update did, as `+added ~changed -removed`.
fn apply(store: &mut Store, files: &[(&str, Option<&str>)]) -> String {
    let changes = store.apply(update(files));
    let with = |mark: char, list: &[ObjectRef]| {
        list.iter().map(|reference| format!("{mark}{}", reference.name)).collect::<Vec<_>>()
    };
    let all = [with('+', &changes.added), with('~', &changes.changed), with('-', &changes.removed)];
    all.concat().join(" ")
}

fn port(store: &Store, name: &str) -> Option<u16> {
    store.objects().services.get("default", name).map(|service| service.spec.ports[0].port)
}

fn problems(store: &Store) -> Vec<String> {
    store.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn an_update_tells_what_it_did() {
    let mut store = Store::new();
    let both = service("a", 80) + &service("b", 80);
    assert_eq!(apply(&mut store, &[("1.yaml", Some(&both))]), "+a +b");
    assert_eq!(apply(&mut store, &[("1.yaml", Some(&both))]), "");
    let changed = service("b", 81) + &service("c", 80);
    assert_eq!(apply(&mut store, &[("1.yaml", Some(&changed))]), "+c ~b -a");
    assert_eq!(apply(&mut store, &[("1.yaml", None)]), "-b -c");
    assert_eq!((store.files(), store.objects().len()), (0, 0));
    assert!(store.held.is_empty());
}

#[test]
fn what_did_not_change_keeps_its_memory() {
    let mut store = Store::new();
    apply(&mut store, &[("1.yaml", Some(&service("a", 80)))]);
    let before = store.objects().services.get("default", "a").cloned().expect("a");
    let more = format!("# moved down\n{}{}", service("b", 80), service("a", 80));
    assert_eq!(apply(&mut store, &[("1.yaml", Some(&more))]), "+b");
    let after = store.objects().services.get("default", "a").cloned().expect("a");
    assert!(Arc::ptr_eq(&before, &after));
}

#[test]
fn a_broken_object_is_replaced_by_its_last_good_version() {
    let mut store = Store::new();
    let good = service("a", 80) + &service("b", 80);
    apply(&mut store, &[("1.yaml", Some(&good))]);
    let broken = service("a", 0) + &service("b", 81) + &service("new", 0);
    assert_eq!(apply(&mut store, &[("1.yaml", Some(&broken))]), "~b");
    assert_eq!((port(&store, "a"), port(&store, "new")), (Some(80), None));
    let told = problems(&store);
    let field = "spec.ports[0].port: 0 is not a port: write a number from 1 to 65535";
    assert_eq!(
        told,
        [
            format!(
                "1.yaml:5: error: Service default/a: {field} (its last good version stays in use)"
            ),
            format!("1.yaml:15: error: Service default/new: {field} (it is left out)"),
        ]
    );
    assert_eq!(apply(&mut store, &[("1.yaml", Some(&broken))]), "");
    assert_eq!(apply(&mut store, &[("1.yaml", Some(&good))]), "~b");
    assert!(store.problems().is_empty());
}

#[test]
fn a_broken_object_that_is_removed_goes() {
    let mut store = Store::new();
    apply(&mut store, &[("1.yaml", Some(&service("a", 80)))]);
    apply(&mut store, &[("1.yaml", Some(&service("a", 0)))]);
    assert_eq!(apply(&mut store, &[("1.yaml", Some(""))]), "-a");
    assert_eq!(apply(&mut store, &[("1.yaml", Some(&service("a", 0)))]), "");
    assert_eq!(port(&store, "a"), None);
}

#[test]
fn a_file_that_no_longer_parses_keeps_its_objects() {
    let mut store = Store::new();
    let good = service("a", 80) + &service("b", 80);
    apply(&mut store, &[("1.yaml", Some(&good)), ("2.yaml", Some(&service("c", 80)))]);
    let torn = service("a", 81) + "---\napiVersion: v1\nki";
    assert_eq!(apply(&mut store, &[("1.yaml", Some(&torn))]), "~a");
    assert_eq!(port(&store, "b"), Some(80));
    let told = problems(&store);
    assert!(told[0].starts_with("1.yaml:9: error: "), "{told:?}");
    assert!(told[0].ends_with("(objects that this file held before stay in use)"), "{told:?}");
    let gone = Parsed::unreadable(&file("1.yaml"), "cannot be opened".into());
    assert!(store.apply(vec![News::File(file("1.yaml"), Some(gone))]).is_empty());
    assert_eq!(
        problems(&store),
        ["1.yaml: error: cannot be opened (objects that this file held before stay in use)"]
    );
    assert_eq!(apply(&mut store, &[("1.yaml", Some(&service("a", 81)))]), "-b");
}

#[test]
fn the_first_file_in_path_order_wins() {
    let mut store = Store::new();
    apply(&mut store, &[("2.yaml", Some(&service("a", 82)))]);
    assert_eq!(apply(&mut store, &[("1.yaml", Some(&service("a", 81)))]), "~a");
    assert_eq!(
        problems(&store),
        ["2.yaml:2: warning: Service default/a: is also in 1.yaml:2, which is used: remove one \
            of \
         the two"]
    );
    assert_eq!(apply(&mut store, &[("2.yaml", Some(&service("a", 83)))]), "");
    let (place, line) = store.place_of(&reference("a")).expect("a place");
    assert_eq!((place.as_ref(), line), (Path::new("1.yaml"), 2));
    assert_eq!(apply(&mut store, &[("1.yaml", None)]), "~a");
    assert_eq!(port(&store, "a"), Some(83));
    assert!(store.problems().is_empty());
}

fn reference(name: &str) -> ObjectRef {
    ObjectRef {
        kind: crate::manifests::Kind::Service,
        namespace: "default".into(),
        name: name.into(),
    }
}

#[test]
fn an_object_that_moves_between_files_stays_in_force() {
    let mut store = Store::new();
    apply(&mut store, &[("1.yaml", Some(&service("a", 80)))]);
    let moved: &[(&str, Option<&str>)] = &[("1.yaml", None), ("2.yaml", Some(&service("a", 80)))];
    assert_eq!(apply(&mut store, moved), "");
    assert_eq!(port(&store, "a"), Some(80));
    let broken = service("a", 0);
    assert_eq!(apply(&mut store, &[("2.yaml", None), ("3.yaml", Some(&broken))]), "");
    assert_eq!(port(&store, "a"), Some(80));
}

#[test]
fn each_skipped_kind_is_noted_once() {
    let mut store = Store::new();
    let map = "apiVersion: v1\nkind: ConfigMap\n---\napiVersion: v1\nkind: ConfigMap\n";
    let changes = store.apply(update(&[("1.yaml", Some(map)), ("2.yaml", Some(map))]));
    assert!(changes.problems && changes.is_empty());
    assert_eq!(
        problems(&store),
        ["1.yaml:1: note: 4 of kind v1 ConfigMap skipped: this kind is not used here"]
    );
}

#[test]
fn problems_are_told_only_when_they_change() {
    let mut store = Store::new();
    let broken = service("a", 0);
    assert!(store.apply(update(&[("1.yaml", Some(&broken))])).problems);
    assert!(!store.apply(update(&[("1.yaml", Some(&broken))])).problems);
    assert!(!store.apply(update(&[("2.yaml", Some(&service("b", 80)))])).problems);
    assert!(store.apply(update(&[("1.yaml", None)])).problems);
}

/// An object as the API of a cluster tells it.
fn told_alone(name: &str, port: &str) -> News {
    let source = file("kubernetes");
    let reference =
        ObjectRef { kind: Kind::Service, namespace: "default".into(), name: name.into() };
    let json = format!(
        "{{\"metadata\": {{\"name\": \"{name}\", \"namespace\": \"default\"}}, \
         \"spec\": {{\"ports\": [{{\"port\": {port}}}]}}}}"
    );
    News::Object(source.clone(), crate::manifests::parse_single(&source, reference, &json))
}

#[test]
fn an_object_told_alone_is_replaced_by_its_last_good_version_and_forgotten_when_it_goes() {
    let mut store = Store::new();
    let changes = store.apply(vec![told_alone("a", "80"), told_alone("b", "81")]);
    assert_eq!(changes.added.len(), 2);
    assert!(store.apply(vec![told_alone("a", "80")]).is_empty(), "the same again");

    let changes = store.apply(vec![told_alone("a", "800000")]);
    assert!(changes.is_empty() && changes.problems);
    assert_eq!((port(&store, "a"), port(&store, "b")), (Some(80), Some(81)));
    let told = problems(&store);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("kubernetes: error: Service default/a: spec.ports[0].port: ")
            && told[0].ends_with("(its last good version stays in use)"),
        "{told:?}"
    );

    let reference = |name: &str| ObjectRef {
        kind: Kind::Service,
        namespace: "default".into(),
        name: name.into(),
    };
    let changes = store.apply(vec![News::Gone(file("kubernetes"), reference("a"))]);
    assert!(changes.problems && changes.removed == [reference("a")]);
    assert!(problems(&store).is_empty());
    assert!(store.singles.is_empty());
}

#[test]
fn a_list_leaves_only_what_is_in_it_and_other_sources_alone() {
    let mut store = Store::new();
    store.apply(update(&[("x.yaml", Some(&service("filed", 80)))]));
    store.apply(vec![told_alone("a", "80"), told_alone("b", "81")]);
    let only = |kind, namespace: Option<&str>, names: &[&str]| {
        let reference =
            |name: &&str| ObjectRef { kind, namespace: "default".into(), name: (**name).into() };
        let listed = names.iter().map(reference).collect();
        let part = Part { kind, namespace: namespace.map(Into::into), name: None };
        News::Only(file("kubernetes"), part, listed)
    };
    let named = Part { kind: Kind::Service, namespace: None, name: Some("c".into()) };
    let named = News::Only(file("kubernetes"), named, BTreeSet::new());
    assert!(store.apply(vec![named]).is_empty(), "another name");
    assert!(store.apply(vec![only(Kind::Pod, None, &[])]).is_empty(), "another kind");
    assert!(store.apply(vec![only(Kind::Service, Some("ns9"), &[])]).is_empty(), "elsewhere");
    let changes = store.apply(vec![only(Kind::Service, None, &["b"])]);
    assert_eq!((changes.removed.len(), &*changes.removed[0].name), (1, "a"));
    assert_eq!((port(&store, "b"), port(&store, "filed")), (Some(81), Some(80)));
    let changes = store.apply(vec![only(Kind::Service, Some("default"), &[])]);
    assert_eq!(changes.removed.len(), 1);
    assert_eq!(port(&store, "filed"), Some(80), "a file's object is not the API's");
}
