//! What the documents say, held against the code: the README's tables, commands and pasted answers,
//! the settings file, every file of `config/`, the Dockerfile.
//!
//! `DIOLKOS_UPDATE_README=1 cargo test --test docs` writes the tables and the answers anew. Must
//! not know: how anything works.

use std::{fs, path::PathBuf, process::Command};

use clap::{CommandFactory as _, Parser as _};
use diolkos::{
    app::offline::Loaded,
    cli::Cli,
    config::{Override, Settings, Sources},
    gateway::{
        outcome::Outcome,
        refuse::{Alert, alert_for},
    },
    manifests::parse,
    metrics::names::{self, ISTIO_TCP_LABELS, Kind, Metric},
};
use serde_norway::Value;

#[path = "docs/deployed.rs"]
mod deployed;
#[path = "docs/image.rs"]
mod image;
#[path = "docs/kustomized.rs"]
mod kustomized;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(text: &str) -> Value {
    serde_norway::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// The README with its tables and answers as the code has them now.
fn readme_of_the_code() -> String {
    let readme = replaced(&text("README.md"), "outcomes", &outcomes());
    with_answers(&replaced(&readme, "metrics", &metrics()))
}

/// One test, so that only one writes.
#[test]
fn the_readmes_tables_and_answers_are_those_of_the_code() {
    let (written, owed) = (text("README.md"), readme_of_the_code());
    if std::env::var_os("DIOLKOS_UPDATE_README").is_some() {
        fs::write(root().join("README.md"), owed).expect("a writable README");
        return;
    }
    let differ = written.lines().zip(owed.lines()).find(|(is, owed)| is != owed);
    assert!(
        written == owed,
        "README.md is not what the code says; DIOLKOS_UPDATE_README=1 cargo test --test docs \
         writes it. First difference (is, owed): {differ:#?}"
    );
}

/// `text` with what stands between the two comments called `name` replaced.
fn replaced(text: &str, name: &str, table: &str) -> String {
    let part = |from: usize, mark: &str| {
        from + text[from..].find(mark).unwrap_or_else(|| panic!("the README has no {mark}"))
    };
    let start = part(0, &format!("<!-- {name}:"));
    let start = part(start, "-->\n") + "-->\n".len();
    let end = part(start, &format!("<!-- end of {name} -->"));
    format!("{}{table}{}", &text[..start], &text[end..])
}

fn outcomes() -> String {
    let mut table =
        "| Reason | Stage | Flags | Alert | Means |\n|---|---|---|---|---|\n".to_owned();
    for outcome in Outcome::ALL {
        let alert = alert_for(outcome).map_or_else(|| "–".into(), alert_text);
        let (reason, stage) = (outcome.reason(), outcome.stage().as_str());
        let (flags, help) = (outcome.flags(), outcome.help());
        table += &format!("| `{reason}` | {stage} | {flags} | {alert} | {help} |\n");
    }
    table
}

/// Number and name, as RFC 8446 writes them.
fn alert_text(alert: Alert) -> String {
    let mut name = String::new();
    for c in format!("{alert:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    format!("{} {name}", alert.record()[6])
}

fn metrics() -> String {
    let mut table = "| Metric | Kind | Labels | One is |\n|---|---|---|---|\n".to_owned();
    for metric in names::ALL {
        let Metric { name, help, .. } = metric;
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let labels = match metric.labels {
            [] => "–".to_owned(),
            labels if labels == ISTIO_TCP_LABELS => "those of Istio's TCP metrics".to_owned(),
            labels => labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", "),
        };
        table += &format!("| `{name}` | {kind} | {labels} | {help} |\n");
    }
    table
}

/// What stands in a fenced block of one language, and what stands around it.
struct Block {
    start: usize,
    end: usize,
}

fn blocks(text: &str, language: &str) -> Vec<Block> {
    let fence = format!("```{language}\n");
    let starts = text.match_indices(&fence).map(|(at, fence)| at + fence.len());
    starts
        .map(|start| Block {
            start,
            end: start + text[start..].find("```").expect("a closed block"),
        })
        .collect()
}

/// Runs each command pasted in a `console` block and puts its answer there. Of `check`, the
/// settings in force, which the README leaves out, are cut.
fn with_answers(readme: &str) -> String {
    let mut owed = readme.to_owned();
    for Block { start, end } in blocks(readme, "console").into_iter().rev() {
        let line = readme[start..end].lines().next().expect("a command");
        let words = line.strip_prefix("$ diolkos ").unwrap_or_else(|| panic!("not ours: {line}"));
        let answer = diolkos(&words.split_whitespace().collect::<Vec<_>>());
        let answer = answer.split_once("# manifests\n").map_or(&*answer, |(_, found)| found);
        owed.replace_range(start..end, &format!("{line}\n{answer}"));
    }
    owed
}

/// What the program prints when it is run in the root of the repository.
fn diolkos(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_diolkos"))
        .args(arguments)
        .current_dir(root())
        .env_clear()
        .output()
        .expect("the program runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.is_empty(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// The lines of all shell blocks, without comments, prompts and line ends that are escaped.
fn commands(text: &str) -> Vec<String> {
    let shell = ["sh", "console"].iter().flat_map(|language| {
        blocks(text, language).into_iter().map(move |block| (*language, block))
    });
    let mut found = Vec::new();
    for (language, Block { start, end }) in shell {
        for line in text[start..end].replace("\\\n", " ").lines() {
            let line = match language {
                "console" => line.strip_prefix("$ ").unwrap_or_default(),
                _ => line,
            };
            let line = line.split(" #").next().unwrap_or_default();
            let line = line.trim().trim_end_matches('&').trim_end();
            if !line.is_empty() && !line.starts_with('#') {
                found.push(line.to_owned());
            }
        }
    }
    found
}

#[test]
fn the_first_commands_of_the_readme_are_its_two() {
    assert_eq!(commands(&text("README.md"))[..2], ["cargo run --release -- demo", "cargo test"]);
}

#[test]
fn every_command_in_the_readme_can_be_typed() {
    let readme = text("README.md");
    let spans = code_spans(&readme).into_iter().filter(|s| s.starts_with("cargo run"));
    let mut ours = 0;
    for line in commands(&readme).into_iter().chain(spans.map(str::to_owned)) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let arguments = match words[..] {
            ["diolkos", ..] => &words[..],
            ["cargo", "run", "--release", "--", ..] => &words[3..],
            ["cargo", "test" | "build", ..] | ["docker" | "kubectl", ..] => continue,
            ["python3" | "sleep" | "dig" | "curl" | "openssl", ..] => continue,
            _ => panic!("who runs `{line}`?"),
        };
        Cli::try_parse_from(arguments).unwrap_or_else(|error| panic!("{line}: {error}"));
        ours += 1;
    }
    assert!(ours >= 8, "{ours} commands of ours");
}

#[test]
fn help_and_readme_name_every_command() {
    let (help, readme) = (diolkos(&["--help"]), text("README.md"));
    let mut root = Cli::command();
    root.build();
    let names: Vec<&str> = root.get_subcommands().map(|c| c.get_name()).collect();
    for name in names.iter().filter(|name| **name != "help") {
        assert!(help.contains(&format!("\n  {name} ")), "{name} is not in the help");
        assert!(readme.contains(&format!("\n| `diolkos {name}` |")), "{name} is not in the README");
    }
    let rows = readme.lines().filter(|line| line.starts_with("| `diolkos ")).count();
    assert_eq!(rows, names.len() - 1, "the README names commands that are none");
}

fn code_spans(text: &str) -> Vec<&str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// `path` alone, or `path: name of a test`.
#[test]
fn files_and_tests_named_in_documents_exist() {
    let mut tests = 0;
    for document in ["README.md", "tests/README.md"] {
        for span in code_spans(&text(document)) {
            let (path, test) = span.split_once(": ").unwrap_or((span, ""));
            let is_path =
                ["src/", "tests/", "config/", "fuzz/"].iter().any(|d| path.starts_with(d));
            if !is_path || path.contains('*') {
                continue;
            }
            assert!(root().join(path).exists(), "{document}: there is no {path}");
            if !test.is_empty() {
                tests += 1;
                let found = text(path).contains(&format!("#[test]\nfn {test}("))
                    || text(path).contains(&format!("    #[test]\n    fn {test}("));
                assert!(found, "{document}: {path} has no test {test}");
            }
        }
    }
    assert!(tests >= 8, "{tests} tests named");
}

#[test]
fn the_settings_file_holds_the_defaults() {
    let file = "config/diolkos.yaml";
    assert_eq!(diolkos(&["check", "--print-defaults"]), text(file));
    let sources = Sources { file: Some(root().join(file)), ..Sources::default() };
    assert_eq!(Settings::load(&sources).expect(file), Settings::default());
}

#[test]
fn the_readme_names_every_section_of_the_settings() {
    let readme = text("README.md");
    let (_, table) = readme.split_once("| Section | Says |").expect("the table of sections");
    let rows = table.lines().skip(2).map_while(|row| row.strip_prefix("| `"));
    let named: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    let settings = yaml(&text("config/diolkos.yaml"));
    let sections = settings.as_mapping().expect("sections").keys();
    assert_eq!(named, sections.filter_map(Value::as_str).collect::<Vec<_>>());
}

/// Manifests as `check` reads them, with settings as `--set` gives them.
fn load(manifests: &[PathBuf], set: &[&str]) -> (Settings, Loaded) {
    let mut overrides: Vec<_> =
        set.iter().map(|text| Override::assignment(text).expect("key=value")).collect();
    let paths = manifests.iter().map(|path| format!("'{}'", path.display()));
    let paths = format!("manifests.directories=[{}]", paths.collect::<Vec<_>>().join(", "));
    overrides.push(Override::assignment(&paths).expect("key=value"));
    let settings = Settings::load(&Sources { overrides, ..Sources::default() }).expect("settings");
    let loaded = Loaded::read(&settings).expect("manifests");
    (settings, loaded)
}

fn assert_clean(loaded: &Loaded) {
    assert!(loaded.problems().is_empty(), "{:#?}", loaded.problems());
    assert!(loaded.report().findings.is_empty(), "{:#?}", loaded.report().findings);
    assert!(!loaded.report().selection.selected.is_empty(), "no Gateway selects us");
}

#[test]
fn the_manifests_of_the_demo_load_without_a_word() {
    let (_, loaded) = load(&[root().join("config/demo")], &["gateway.listen=127.0.0.1:15443"]);
    assert_clean(&loaded);
    let report = loaded.report();
    let exposed: Vec<&str> = report.exposed.iter().map(|service| &*service.host).collect();
    assert_eq!(exposed, ["bar.ns2.global", "plain.ns2.global"]);
    assert_eq!(report.left_out.len(), 1, "only the pod without a sidecar");
}

/// What the entry of the importing cluster makes a sidecar ask for is what the exporting cluster's
/// Gateway object exposes.
#[test]
fn the_samples_for_istio_belong_together() {
    let importing = ["service-entry", "destination-rule"];
    let [entry, rule] = importing.map(|name| yaml(&text(&format!("config/istio/{name}.yaml"))));
    let host = entry["spec"]["hosts"][0].as_str().expect("a host");
    assert_eq!(rule["spec"]["host"], host);
    assert_eq!(entry["spec"]["endpoints"][0]["ports"]["http"], 15443);
    let port = entry["spec"]["ports"][0]["number"].as_u64().expect("a port");
    let subsets = rule["spec"]["subsets"].as_sequence().expect("subsets").iter();
    let names = subsets.map(|subset| subset["name"].as_str().expect("a name"));

    let manifests = ["config/istio/gateway.yaml", "config/demo/2-bar.yaml"].map(|p| root().join(p));
    let set = ["gateway.listen=127.0.0.1:15443", "gateway.labels={app: diolkos}"];
    let (settings, loaded) = load(&manifests, &set);
    assert_clean(&loaded);
    for subset in names.chain([""]) {
        let asked = format!("outbound_.{port}_.{subset}_.{host}");
        let explanation = loaded.explain(&settings, &asked, vec!["istio".into()], None);
        assert_eq!(explanation.refused_at(), None, "{explanation}");
    }
    let (_, all) = load(&[root().join("config/istio")], &set[1..]);
    assert_clean(&all);
}

#[test]
fn every_file_of_config_is_known_to_a_test_and_parses() {
    let mut files = 0;
    for directory in [
        "config/demo",
        "config/istio",
        "config/kubernetes",
        "config/kubernetes/dns",
        "config/kubernetes/export",
        "config/kubernetes/canary/global",
        "config/kubernetes/canary/multi-primary",
    ] {
        for entry in fs::read_dir(root().join(directory)).expect(directory) {
            let path = entry.expect("an entry").path();
            // Patches are half an object; another test knows them.
            if path.is_dir() || path.ends_with("searches.yaml") {
                continue;
            }
            let parsed = parse(&path.clone().into(), &fs::read(&path).expect("a file"));
            assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
            assert!(!parsed.items.is_empty() || !parsed.skipped.is_empty(), "{path:?} is empty");
            files += 1;
        }
    }
    assert!(files >= 12, "{files} files");
}

/// Paths of a machine, and hosts that serve packages or images: a clone works anywhere.
#[test]
fn no_file_names_a_machine_or_a_registry() {
    let parts = [
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("/wo", "rk/"),
        ("docker", ".io"),
        ("ghcr", ".io"),
        ("gcr", ".io"),
        ("quay", ".io"),
        ("arti", "factory"),
    ];
    let mut git = Command::new("git");
    git.args(["ls-files", "-co", "--exclude-standard"]).current_dir(root());
    let listed = git.output().map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8(listed).expect("paths");
    if listed.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "CI runs on a clone and has git");
        return eprintln!("skipped: git lists no files here");
    }
    for path in listed.lines().filter(|path| *path != "Cargo.lock") {
        // What is not text has no such names.
        let Ok(text) = fs::read_to_string(root().join(path)) else { continue };
        for (a, b) in parts {
            assert!(!text.contains(&format!("{a}{b}")), "{path} names {a}{b}");
        }
    }
}
