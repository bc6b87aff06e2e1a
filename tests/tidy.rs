//! The style, as a test: who may import whom, how long a file is, how it opens, what no file says.
//!
//! Reads source files only. A list of exceptions may only shrink.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Top-level modules by tier, lowest first. A module may import from lower tiers.
const TIERS: &[&[&str]] = &[
    &["routing"],
    &["manifests", "net", "resolver", "metrics", "telemetry", "certs", "version"],
    &["gateway", "discovery", "dns", "sidecar", "export", "parity", "admin"],
    &["app", "config"],
    &["main", "cli", "demo", "bench"],
];

/// Imports inside a tier, beside those from lower ones. The rest of a tier are strangers.
const SAME_TIER: &[(&str, &[&str])] = &[
    ("dns", &["discovery"]),
    ("sidecar", &["discovery"]),
    ("export", &["discovery"]),
    ("parity", &["discovery"]),
    ("app", &["config"]),
    ("main", &["cli", "demo", "bench"]),
    ("cli", &["demo", "bench"]),
    ("demo", &["bench"]),
];

/// Plumbing that may use other plumbing: metrics reads no other, net uses the keepalive of routing
/// only, certs and manifests stand alone.
const LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// Longer than the rule allows, with the reason. May only shrink.
const LONG_FILES: &[(&str, &str)] = &[];
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

struct Source {
    path: String,
    text: String,
}

impl Source {
    fn module(&self) -> &str {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        path.split(['/', '.']).next().unwrap_or_default()
    }

    /// The text without in-file tests, comments and doc comments.
    fn production(&self) -> String {
        let text = self.text.split("#[cfg(test)]").next().unwrap_or_default();
        text.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn sources(dir: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(dir)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|e| e.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                found.push(read(root, entry));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "{dir} holds no source");
    found
}

fn read(root: &Path, path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).expect("a source file");
    let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
    Source { path, text }
}

fn tier(module: &str) -> Option<usize> {
    TIERS.iter().position(|tier| tier.contains(&module))
}

fn may_import(from: &str, to: &str) -> bool {
    let (Some(above), Some(below)) = (tier(from), tier(to)) else { return false };
    let friends = SAME_TIER.iter().find(|(m, _)| *m == from).map_or(&[][..], |(_, f)| *f);
    below < above || from == to || friends.contains(&to)
}

/// Every `crate::module`, `diolkos::module`, and the first parts of `use crate::{a, b::c}`.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for prefix in ["crate::", "use diolkos::"] {
        for (at, _) in text.match_indices(prefix) {
            let rest = &text[at + prefix.len()..];
            if let Some(group) = rest.strip_prefix('{') {
                found.extend(group_heads(group));
            } else {
                found.push(head(rest));
            }
        }
    }
    found.retain(|module| !module.is_empty());
    found
}

fn head(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut at_start) = (0, Vec::new(), true);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if at_start && !c.is_whitespace() => {
                heads.push(head(&group[i..]));
                at_start = false;
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn modules_import_only_from_below() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        if source.path == "src/lib.rs" {
            continue;
        }
        let module = source.module();
        assert!(tier(module).is_some(), "{}: module `{module}` is in no tier", source.path);
        for import in imports(&source.production()) {
            // A macro or an item of the crate's root is none of the modules.
            if tier(&import).is_some() && !may_import(module, &import) {
                wrong.push(format!("{}: `{module}` may not import `{import}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What stands outside a module's world, by the crates that it must not name.
#[test]
fn modules_do_not_name_what_they_must_not_know() {
    let forbidden: BTreeMap<&str, &[&str]> = BTreeMap::from([
        (
            "routing",
            &["tokio", "tracing", "serde", "prometheus_client", "std::net::Tcp", "Instant::now"][..],
        ),
        ("gateway", &["rustls", "rcgen", "kube", "serde_norway", "notify", "hickory"]),
        ("discovery", &["rustls", "rcgen", "TcpStream", "prometheus_client"]),
        // kube has its TLS, and `rustls` in the name of a function.
        ("manifests", &["tokio::net", "rustls::", "prometheus_client"]),
        ("admin", &["rustls", "notify", "serde_norway"]),
    ]);
    let mut wrong = Vec::new();
    for source in sources("src").iter().filter(|source| !source.path.contains("/tests")) {
        for word in forbidden.get(source.module()).copied().unwrap_or_default() {
            if source.production().contains(word) {
                wrong.push(format!("{} names {word}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_catalog_publishes_a_table() {
    let publishers: Vec<String> = sources("src")
        .into_iter()
        .filter(|s| s.path != "src/routing.rs" && s.production().contains(".publish("))
        .map(|s| s.path)
        .collect();
    assert!(
        publishers.iter().all(|path| path.starts_with("src/discovery/catalog")),
        "{publishers:?}"
    );
}

#[test]
fn every_file_opens_with_its_charter() {
    for dir in ["src", "tests"] {
        for source in sources(dir) {
            assert!(source.text.starts_with("//!"), "{} does not open with //!", source.path);
        }
    }
}

#[test]
fn files_and_functions_are_short() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let lines = source.text.lines().count();
        let allowed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        if lines > LINES_MAX && !allowed {
            wrong.push(format!("{}: {lines} lines", source.path));
        }
        if lines <= LINES_MAX && allowed {
            wrong.push(format!("{} is short now: take it from LONG_FILES", source.path));
        }
        // A table of cases is as long as it has cases.
        let production = source.text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = source.path.contains("/tests");
        for (name, length) in long_functions(if is_test { "" } else { production }) {
            let id = format!("{}:{name}", source.path);
            if !LONG_FUNCTIONS.iter().any(|(allowed, _)| *allowed == id) {
                wrong.push(format!("{id}: {length} lines"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Functions above the limit: from a line that begins one to the closing brace of its indentation.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let bare = line.trim_start();
        let Some(at) = bare.find("fn ").filter(|at| {
            let before = &bare[..*at];
            before.split_whitespace().all(|w| {
                w.starts_with("pub")
                    || ["async", "const", "unsafe", "extern", "in"].contains(&w)
                    || w.ends_with(')')
            })
        }) else {
            continue;
        };
        let indent = &line[..line.len() - bare.len()];
        let close = format!("{indent}}}");
        let length = lines[i..].iter().position(|l| *l == close).unwrap_or(0) + 1;
        if length > FUNCTION_LINES_MAX {
            long.push((head(&bare[at + 3..]), length));
        }
    }
    long
}

#[test]
fn no_file_holds_what_should_not_stay() {
    let words = ["dbg!(", "todo!(", "unimplemented!(", "FIXME", "XXX"];
    let mut wrong = Vec::new();
    for dir in ["src", "tests"] {
        for source in sources(dir) {
            if source.path == "tests/tidy.rs" {
                continue;
            }
            for word in words.iter().filter(|word| source.text.contains(**word)) {
                wrong.push(format!("{} holds {word}", source.path));
            }
            let sleeps = source.text.contains("thread::sleep") && dir == "tests";
            if sleeps {
                wrong.push(format!("{} sleeps; wait for a condition", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stands_in_one_file() {
    for source in sources("src") {
        let text = source.production();
        let has =
            text.contains("unsafe {") || text.contains("unsafe fn") || text.contains("unsafe impl");
        assert!(!has || source.path == "src/net/sys.rs", "{} holds unsafe code", source.path);
    }
}

#[test]
fn the_table_of_imports_knows_what_it_forbids() {
    assert!(may_import("gateway", "routing") && may_import("app", "gateway"));
    assert!(!may_import("routing", "net") && !may_import("gateway", "discovery"));
    assert!(!may_import("discovery", "admin") && may_import("dns", "discovery"));
    assert_eq!(imports("use crate::{net, routing::{A, B}, x};"), ["net", "routing", "x"]);
    assert_eq!(imports("crate::metrics::names"), ["metrics"]);
}

/// A clock that is set must end no connection early or late: deadlines are of the monotonic clock,
/// and only these read the other, for a log's lines and for certificates.
#[test]
fn the_wall_clock_is_read_for_logs_and_certificates_only() {
    const READERS: &[&str] = &[
        "src/bench/material.rs",
        "src/certs",
        "src/cli/certs.rs",
        "src/cli/check/",
        "src/demo/",
        "src/gateway/access_log",
        "src/gateway/report.rs",
        "src/sidecar/keyring.rs",
        "src/sidecar/metrics.rs",
        "src/telemetry/json.rs",
    ];
    let reads = |source: &&Source| {
        let text = source.production();
        ["SystemTime", "UNIX_EPOCH", "CLOCK_REALTIME"].iter().any(|name| text.contains(name))
    };
    let mut all = sources("src");
    all.retain(|source| !source.path.ends_with("tests.rs"));
    let readers: Vec<&str> = all.iter().filter(reads).map(|source| &*source.path).collect();
    let strangers: Vec<_> =
        readers.iter().filter(|path| !READERS.iter().any(|r| path.starts_with(r))).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    assert!(readers.contains(&"src/gateway/report.rs"), "the list is looked at: {readers:?}");
}
