//! What a cluster offers, from manifests as its gateway reads them.

use std::path::Path;

use super::*;
use crate::manifests::{News, Severity, parse};

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: istio-system}
spec:
  servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH},
    hosts: ['*.global']}]
";

/// A Service in ns2 with one endpoint in a mesh, or without (`tls: false`).
fn service(name: &str, ports: &str, ready: bool, tls: bool) -> String {
    let mode = if tls { "istio" } else { "disabled" };
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: ns2, labels: {{app: {name}}}}}
spec: {{ports: [{ports}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}-a, namespace: ns2, labels: {{security.istio.io/tlsMode: {mode}}}}}
status: {{podIP: 10.2.0.1}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-s, namespace: ns2, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 80}}, {{name: '', port: 80}}, {{name: tcp-db, port: 81}}]
endpoints:
- {{addresses: [10.2.0.1], conditions: {{ready: {ready}}}, targetRef: {{kind: Pod, name: {name}-a}}}}
"
    )
}

fn read(reader: &mut Reader, store: &mut Store, documents: &[&str]) -> View {
    let file: Arc<Path> = Path::new("a.yaml").into();
    let parsed = parse(&file, documents.join("\n---\n").as_bytes());
    let changes = store.apply(vec![News::File(file, Some(parsed))]);
    reader.take(store, &changes)
}

fn view_of(documents: &[&str], wanted: Wanted) -> View {
    let mut reader = Reader::new("c2", Identity::default(), wanted);
    read(&mut reader, &mut Store::new(), documents)
}

/// `host: number name protocol, ... [subsets]`.
fn offers(view: &View) -> Vec<String> {
    let port = |port: &Port| format!("{} {} {}", port.number, port.name, port.protocol);
    let offer = |(host, offer): (&String, &Offer)| {
        let ports: Vec<_> = offer.ports.iter().map(port).collect();
        format!("{host}: {} [{}]", ports.join(", "), offer.subsets.join(" "))
    };
    view.offers.iter().map(offer).collect()
}

fn remarks(view: &View) -> Vec<String> {
    view.remarks.iter().map(ToString::to_string).collect()
}

const HTTP: &str = "{name: http, port: 8080}";

#[test]
fn what_the_gateway_serves_is_offered_with_its_subsets() {
    let bar = service("bar", "{name: http, port: 8080}, {name: tcp-db, port: 90}", true, true);
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bar, namespace: ns2}
spec: {host: bar, subsets: [{name: V2, labels: {v: b}}, {name: v1, labels: {v: a}}, {name: empty}]}
";
    let view = view_of(&[GATEWAY, &bar, rule], Wanted::default());
    assert_eq!(offers(&view), ["bar.ns2.global: 90 tcp-db TCP, 8080 http HTTP [empty v1 v2]"]);
    assert_eq!(remarks(&view), [""; 0]);
    assert!(!view.broken);
}

#[test]
fn what_the_gateway_would_refuse_is_not_offered_and_the_reason_is_said() {
    let check = |documents: &[&str], said: &str| {
        let view = view_of(documents, Wanted::default());
        assert_eq!(offers(&view), [""; 0], "{said}");
        assert_eq!(remarks(&view).len(), 1, "{:?}", remarks(&view));
        let found = &remarks(&view)[0];
        assert!(found.starts_with("note: c2: Service ns2/bar is not exported: "), "{found}");
        assert!(found.contains(said), "{found}: {said}");
    };
    let bar = service("bar", HTTP, true, true);
    check(&[&bar], "hosts: ");
    check(&[&GATEWAY.replace("*.global", "ns3/*.global"), &bar], "hosts: ");
    let hidden =
        bar.replace("labels: {app: bar}", "annotations: {networking.istio.io/exportTo: .}");
    check(&[GATEWAY, &hidden], "exportTo: ");
    check(&[GATEWAY, &service("bar", HTTP, true, false)], "tlsMode is not istio");
    check(&[GATEWAY, &service("bar", "{name: dns, port: 53, protocol: UDP}", true, true)], "port");
    let named = "apiVersion: v1\nkind: Service\nmetadata: {name: bar, namespace: ns2}\n\
                 spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}";
    check(&[GATEWAY, named], "service: ");
    let disabled = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: p, namespace: ns2}
spec: {mtls: {mode: DISABLE}}
";
    check(&[GATEWAY, &bar, disabled], "PeerAuthentication");
}

#[test]
fn one_port_may_be_shut_and_the_others_offered() {
    let disabled = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: p, namespace: ns2}
spec: {selector: {matchLabels: {security.istio.io/tlsMode: istio}}, portLevelMtls: {81: {mode: DISABLE}}}
";
    let bar = service("bar", "{name: http, port: 8080}, {name: tcp-db, port: 90}", true, true);
    let view = view_of(&[GATEWAY, &bar, disabled], Wanted::default());
    assert_eq!(offers(&view), ["bar.ns2.global: 8080 http HTTP []"]);
    let said = remarks(&view);
    assert!(
        said[0].starts_with("note: c2: Service ns2/bar: port 90 is not exported: "),
        "{said:?}"
    );
    assert_eq!(said.len(), 1);
}

#[test]
fn a_name_does_not_come_and_go_with_its_pods() {
    for documents in [
        vec![service("bar", HTTP, false, true)],
        vec![
            "apiVersion: v1\nkind: Service\nmetadata: {name: bar, namespace: ns2}\n\
              spec: {ports: [{name: http, port: 8080}]}"
                .to_owned(),
        ],
    ] {
        let documents: Vec<&str> = documents.iter().map(String::as_str).chain([GATEWAY]).collect();
        let view = view_of(&documents, Wanted::default());
        assert_eq!(offers(&view), ["bar.ns2.global: 8080 http HTTP []"]);
    }
}

#[test]
fn a_name_that_cannot_be_one_is_an_error() {
    let bar = service("bar", HTTP, true, true).replace("namespace: ns2", "namespace: Ns_2");
    let view = view_of(&[GATEWAY, &bar], Wanted::default());
    assert_eq!(offers(&view), [""; 0]);
    assert_eq!(view.remarks[0].severity, Severity::Error);
    assert!(view.remarks[0].text.starts_with("c2: Service Ns_2/bar is not exported: its name"));
}

#[test]
fn only_what_is_selected_is_looked_at() {
    let annotated = |value: &str| {
        let at = format!("labels: {{app: bar}}, annotations: {{diolkos/export: '{value}'}}");
        service("bar", HTTP, true, true).replace("labels: {app: bar}", &at)
    };
    let (yes, foo) = (annotated("true"), service("foo", HTTP, true, true));
    let check = |wanted: Wanted, expected: &[&str]| {
        let view = view_of(&[GATEWAY, &yes, &foo], wanted);
        let hosts: Vec<_> = view.offers.keys().map(|host| host.split('.').next()).collect();
        assert_eq!(hosts, expected.iter().map(|host| Some(*host)).collect::<Vec<_>>());
        assert_eq!(remarks(&view), [""; 0], "what is not selected is not a remark");
    };
    let labels = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Labels>();
    let annotation =
        |value: Option<&str>| vec![("diolkos/export".to_owned(), value.map(ToOwned::to_owned))];
    check(Wanted::default(), &["bar", "foo"]);
    check(Wanted { labels: labels(&[("app", "foo")]), ..Wanted::default() }, &["foo"]);
    check(Wanted { annotations: annotation(None), ..Wanted::default() }, &["bar"]);
    check(Wanted { annotations: annotation(Some("true")), ..Wanted::default() }, &["bar"]);
    check(Wanted { annotations: annotation(Some("no")), ..Wanted::default() }, &[]);
    let both = Wanted { labels: labels(&[("app", "foo")]), annotations: annotation(None) };
    check(both, &[]);
}

#[test]
fn a_broken_object_keeps_its_last_good_version_and_is_told() {
    let mut reader = Reader::new("c2", Identity::default(), Wanted::default());
    let mut store = Store::new();
    let bar = service("bar", HTTP, true, true);
    let before = read(&mut reader, &mut store, &[GATEWAY, &bar]);
    let broken = bar.replace("port: 8080", "port: 0");
    let after = read(&mut reader, &mut store, &[GATEWAY, &broken]);
    assert_eq!(after.offers, before.offers);
    assert!(after.broken && !before.broken);
    let gone = read(&mut reader, &mut store, &[GATEWAY]);
    assert_eq!(gone, View::default());
}

#[test]
fn a_service_entry_is_offered_when_its_annotation_asks_for_it() {
    let gateway = GATEWAY.replace("'*.global'", "'*.global', '*.vm.example'");
    let entry = |hosts: &str, annotations: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: old, namespace: ns2, annotations: {{{annotations}}}}}
spec:
  hosts: [{hosts}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: web, protocol: HTTP}}, {{number: 53, name: dns, protocol: UDP}}]
  endpoints: [{{address: 10.2.0.7, labels: {{security.istio.io/tlsMode: istio}}}}]
"
        )
    };
    let wanted =
        || Wanted { annotations: vec![("diolkos/export".to_owned(), None)], ..Wanted::default() };
    let asked = entry("db.vm.example, db.ns2.global, else.example", "diolkos/export: 'true'");
    let view = view_of(&[&gateway, &asked], wanted());
    assert_eq!(offers(&view), ["db.vm.example: 80 web HTTP []"]);
    let said = remarks(&view);
    assert_eq!(said.len(), 2, "{said:?}");
    let start = "note: c2: ServiceEntry ns2/old is not exported: ";
    assert!(said.iter().all(|said| said.starts_with(start)), "{said:?}");
    assert!(said[0].contains("service: ") && said[1].contains("hosts: "), "{said:?}");
    let silent = entry("db.vm.example", "");
    for (documents, wanted) in
        [([&*gateway, &silent], wanted()), ([&*gateway, &asked], Wanted::default())]
    {
        assert_eq!(view_of(&documents, wanted), View::default());
    }
}

#[test]
fn a_port_without_a_name_gets_one() {
    let view = view_of(&[GATEWAY, &service("bar", "{port: 8080}", true, true)], Wanted::default());
    assert_eq!(offers(&view), ["bar.ns2.global: 8080 tcp-8080 TCP []"]);
}
