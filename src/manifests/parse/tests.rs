//! Everything that can be wrong with a file, and that it is told by file, line, object and field.

use super::*;

mod hostile;
mod rules;

fn read(text: impl AsRef<[u8]>) -> Parsed {
    parse(&Arc::from(Path::new("a.yaml")), text.as_ref())
}

fn problems(parsed: &Parsed) -> Vec<String> {
    parsed.problems.iter().map(ToString::to_string).collect()
}

/// The objects, broken ones with a `!`.
fn objects(parsed: &Parsed) -> Vec<String> {
    let print = |item: &Item| {
        let mark = if item.object.is_some() { "" } else { "!" };
        format!("{mark}{}:{}", item.reference, item.line)
    };
    parsed.items.iter().map(print).collect()
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: ns2\nspec:\n  \
         ports:\n  - name: http\n    port: 80\n"
    )
}

/// One object of `kind` in ns2 with this `spec`, which starts in line 6.
fn istio(kind: &str, spec: &str) -> String {
    let group = if kind == "PeerAuthentication" { "security" } else { "networking" };
    format!(
        "apiVersion: {group}.istio.io/v1beta1\nkind: {kind}\nmetadata:\n  name: x\n  \
         namespace: ns2\nspec: {spec}\n"
    )
}

/// The object is broken, and told to be so with exactly these words.
fn check_broken(text: impl AsRef<[u8]>, expected: &[&str]) {
    let parsed = read(&text);
    let shown = String::from_utf8_lossy(text.as_ref()).into_owned();
    assert_eq!(problems(&parsed), expected, "{shown}");
    assert!(parsed.items.iter().all(|item| item.object.is_none()), "{shown}");
    assert_eq!(parsed.items.len(), 1, "{shown}");
}

#[test]
fn a_file_that_ends_broken_may_have_been_cut_off_there() {
    let broken = "apiVersion: v1\nkind: Service\nmetadata:\n  name: b\nspec: [\n";
    let cut = read(format!("{}---\n{broken}", service("a")));
    assert!(cut.unreadable && cut.items.len() == 2);
    let whole = read(format!("{broken}---\n{}", service("a")));
    assert!(!whole.unreadable && whole.items.len() == 2);
}

#[test]
fn a_file_that_ends_in_a_broken_document_of_a_foreign_kind_says_so() {
    let broken = b"apiVersion: v1\nkind: Secret\nmetadata: {name: b}\ntype: \xff\n";
    let cut = read([service("a").as_bytes(), b"---\n", broken].concat());
    assert!(cut.unreadable && cut.items.len() == 1);
    let told = problems(&cut);
    assert!(told.len() == 1 && told[0].contains(": warning: "), "{told:?}");
    let whole = read([broken, b"---\n".as_slice(), service("a").as_bytes()].concat());
    assert!(!whole.unreadable && problems(&whole).is_empty());
}

#[test]
fn a_keepalive_beyond_the_kernels_is_told() {
    let told = |keepalive: &str| {
        let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\n\
                    spec: {host: a, trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: ";
        problems(&read(format!("{rule}{keepalive}}}}}}}}}\n")))
    };
    assert!(told("{probes: 127, time: 32767s, interval: 32767s}").is_empty());
    let odd = told("{probes: 128, time: 32768s, interval: 10h}");
    for (told, field) in odd.iter().zip(["probes: ", "time: ", "interval: "]) {
        assert!(told.contains(": warning: ") && told.contains(field), "{told}");
    }
    assert_eq!(odd.len(), 3, "{odd:?}");
}

#[test]
fn documents_are_read_apart_from_each_other() {
    let text = format!(
        "\u{feff}# comment\n---\n{}---\n# nothing\n---\nkind: Service\napiVersion: \
        v1\nmetadata:\n  \
         name: broken\nspec: [\n---\r\n{}---\n",
        service("a"),
        service("b").replace('\n', "\r\n"),
    );
    let parsed = read(text);
    assert_eq!(
        objects(&parsed),
        ["Service ns2/a:3", "!Service default/broken:15", "Service ns2/b:21"]
    );
    let problem = &problems(&parsed)[0];
    assert!(problem.starts_with("a.yaml:"), "{problem}");
    assert!(problem.contains(": error: Service default/broken: "), "{problem}");
    assert!(!parsed.unreadable);
}

#[test]
fn a_list_is_read_item_by_item() {
    let indent = |text: String| text.replace('\n', "\n  ").trim_end().to_owned();
    let text = format!(
        "apiVersion: v1\nitems:\n- {}\n- {}\n- {}\nkind: \
        List\nmetadata:\n  resourceVersion: \"\"\n",
        indent(service("a")),
        indent(service("b").replace("80", "0")),
        indent(service("c")),
    );
    let parsed = read(text);
    assert_eq!(objects(&parsed), ["Service ns2/a:3", "!Service ns2/b:12", "Service ns2/c:21"]);
    assert_eq!(
        problems(&parsed),
        ["a.yaml:20: error: Service ns2/b: spec.ports[0].port: 0 is not a port: write a number \
            from \
         1 to 65535"]
    );
}

#[test]
fn json_is_read_too() {
    let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}"#;
    assert_eq!(objects(&read(service)), ["Service default/a:1"]);
    let list = format!("{{\"kind\":\"List\",\"apiVersion\":\"v1\",\n\"items\":[{service}]}}");
    assert_eq!(objects(&read(list)), ["Service default/a:2"]);
    let typed = r#"{"kind":"ServiceList","apiVersion":"v1","items":[{"metadata":{"name":"a"}}]}"#;
    assert_eq!(objects(&read(typed)), ["Service default/a:1"]);
    check_broken(
        "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"a\"},\n\
         \"spec\":{\"ports\":[{\"port\":70000}]}}",
        &["a.yaml:2: error: Service default/a: spec.ports[0].port: 70000 is not a port: write a \
           number from 1 to 65535"],
    );
}

#[test]
fn other_kinds_are_skipped_without_being_read() {
    let parsed = read(
        "apiVersion: apps/v1\nkind: Deployment\nspec: [\n---\napiVersion: v1\nkind: List\nitems: \
        []\n\
         ---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\n",
    );
    assert!(parsed.items.is_empty() && parsed.problems.is_empty() && !parsed.unreadable);
    let skipped: Vec<_> = parsed.skipped.iter().map(|(kind, at)| (&**kind, *at)).collect();
    assert_eq!(
        skipped,
        [("apps/v1 Deployment", (1, 2)), ("gateway.networking.k8s.io/v1 Gateway", (9, 1))]
    );
}

#[test]
fn what_names_no_object_makes_the_file_unreadable() {
    for (text, expected) in [
        ("just text", "a.yaml:1: error: "),
        ("a: [\n", "a.yaml:2: error: "),
        ("---\n\nmetadata: {name: a}\n", "a.yaml:3: error: it has no apiVersion or no kind"),
        ("kind: Service\nmetadata: {name: a}\n", "a.yaml:1: error: it has no apiVersion"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {generateName: a-}\n",
            "a.yaml:1: error: metadata.name is missing",
        ),
        ("apiVersion: v1\nkind: Service\n", "a.yaml:1: error: missing field `metadata`"),
        ("apiVersion: v1\nkind: List\nitems: 1\n", "a.yaml:3: error: items: invalid type"),
    ] {
        let parsed = read(text);
        assert!(parsed.unreadable && parsed.items.is_empty(), "{text}");
        let problems = problems(&parsed);
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{text}: {problems:?}");
    }
}

#[test]
fn an_object_that_is_there_twice_is_used_once() {
    let parsed = read(format!("{}---\n{}", service("a"), service("a")));
    assert_eq!(objects(&parsed), ["Service ns2/a:1"]);
    assert_eq!(
        problems(&parsed),
        ["a.yaml:11: warning: Service ns2/a: is also in line 1 of this file, which is used: \
            remove \
         one of the two"]
    );
}

#[test]
fn unknown_fields_of_istio_kinds_are_warnings() {
    let spec = "{host: a, hots: b, trafficPolicy: {connectionPool: {http: {a: 1}, tcp: {maxConn: \
    1}}, \
                tunnel: {}}, subsets: [{name: v1, label: {}}]}\nstatus: {a: b}\nextra: 1";
    let parsed = read(istio("DestinationRule", spec));
    assert!(parsed.items[0].object.is_some());
    let warning = |field: &str| {
        format!(
            "a.yaml:1: warning: DestinationRule ns2/x: {field}: Istio's DestinationRule has no \
            such \
             field: correct or remove it"
        )
    };
    let fields = [
        "spec.hots",
        "spec.trafficPolicy.connectionPool.tcp.maxConn",
        "spec.subsets[0].label",
        "extra",
    ];
    assert_eq!(problems(&parsed), fields.map(warning));
    let gateway = istio(
        "Gateway",
        "{servers: [{port: {number: 1, targetPort: 2}, hosts: [a], \
                                    tls: {credentialName: a, credential: b}}]}",
    );
    let problems = problems(&read(gateway));
    assert!(problems.len() == 1 && problems[0].contains("spec.servers[0].tls.credential: "));
    let service = service("a") + "  unknown: 1\n";
    assert!(read(service).problems.is_empty());
}

#[test]
fn anchors_and_merge_keys_work_inside_one_object() {
    let rule = "\n  host: a\n  trafficPolicy: &p {tls: {mode: SIMPLE}}\n  subsets:\n  - name: \
    v1\n    \
                trafficPolicy: *p\n  - name: v2\n    trafficPolicy:\n      <<: *p\n";
    let parsed = read(istio("DestinationRule", rule));
    assert_eq!(problems(&parsed), Vec::<String>::new());
    let Some(Object::DestinationRule(rule)) = &parsed.items[0].object else { panic!("no rule") };
    assert_eq!(rule.spec.subsets[0].traffic_policy, rule.spec.traffic_policy);
    assert_eq!(rule.spec.subsets[1].traffic_policy, rule.spec.traffic_policy);
}

#[test]
fn a_cluster_rewrite_is_found_in_either_form() {
    let settings = "{cluster_pattern: '\\.global$', cluster_replacement: .svc.cluster.local}";
    for spec in [
        format!(
            "{{filters: [{{filterName: envoy.filters.network.tcp_cluster_rewrite, \
                 filterConfig: {settings}}}]}}"
        ),
        format!(
            "{{configPatches: [{{patch: {{value: {{typed_config: {{value: {settings}}}}}}}}}]}}"
        ),
    ] {
        let parsed = read(istio("EnvoyFilter", &spec));
        let Some(Object::EnvoyFilter(filter)) = &parsed.items[0].object else { panic!("{spec}") };
        assert_eq!(&*filter.rewrites[0].pattern, "\\.global$");
        assert_eq!(&*filter.rewrites[0].replacement, ".svc.cluster.local");
    }
}
