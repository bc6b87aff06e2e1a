//! Manifests in, decisions out: what a catalog makes of snippets of YAML.
//!
//! Must not know: how a decision is reached.

use std::sync::Arc;

use serde::Deserialize;
use serde_norway::{Deserializer, Value, from_value};

use super::{Applied, Catalog, Change, Explanation, Gate, Identity, Question};
use crate::{
    manifests::{Kind, Object, ObjectRef},
    routing::{SharedTable, SubsetKey},
};

/// What changes touch, what they leave alone, and how much it costs.
mod changes;
/// The objects of Istio's multicluster charts.
mod chart;
/// Joining Services, slices, Endpoints and pods.
mod endpoints;
/// ServiceEntries, WorkloadEntries and networks.
mod entries;
/// Nearest misses and the report of a check.
mod explanations;
/// Locality tiers, from nodes and rules to places in a set.
mod localities;
/// Exposure and mesh TLS: Istio's matrix.
mod matrix;
/// The mesh's ConfigMap.
mod mesh;
/// Names of single pods of headless Services.
mod per_pod;
/// DestinationRules: which is in force, and what it comes to.
mod rules;

const ALPN: &[&str] =
    &["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// A gateway selected by a Gateway that exposes everything.
const EXPOSE_ALL: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: all, namespace: istio-system}
spec:
  selector: {}
  servers:
  - {port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ['*']}
";

/// Service ns2/bar, port 8080 `http` on target port 80, with three pods that have sidecars.
const BAR: &str = "
apiVersion: v1
kind: Service
metadata: {name: bar, namespace: ns2}
spec: {ports: [{name: http, port: 8080, targetPort: 80}], selector: {app: bar}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: bar-1, namespace: ns2, labels: {kubernetes.io/service-name: bar}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints:
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: bar-1}}
- {addresses: [10.0.0.2], targetRef: {kind: Pod, name: bar-2}}
- {addresses: [10.0.0.3], targetRef: {kind: Pod, name: bar-3}}
---
apiVersion: v1
kind: Pod
metadata: {name: bar-1, namespace: ns2, labels: {app: bar, version: v1, security.istio.io/tlsMode: istio}}
---
apiVersion: v1
kind: Pod
metadata: {name: bar-2, namespace: ns2, labels: {app: bar, version: v1, security.istio.io/tlsMode: istio}}
---
apiVersion: v1
kind: Pod
metadata: {name: bar-3, namespace: ns2, labels: {app: bar, version: v2, security.istio.io/tlsMode: istio}}
";

/// Reads a YAML stream of manifests.
fn objects(yaml: &str) -> Vec<Object> {
    let documents = Deserializer::from_str(yaml).map(|d| Value::deserialize(d).expect("YAML"));
    documents.filter(|value| !value.is_null()).map(object).collect()
}

fn object(value: Value) -> Object {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let kind = Kind::parse(&text("apiVersion"), &text("kind")).expect("a kind");
    macro_rules! read {
        ($($kind:ident)*) => {
            match kind {
                $(Kind::$kind => {
                    Object::$kind(Arc::new(from_value(value).expect(stringify!($kind))))
                })*
            }
        };
    }
    let mut object = read!(Service EndpointSlice Endpoints Pod Node Namespace Gateway ServiceEntry
        DestinationRule WorkloadEntry PeerAuthentication EnvoyFilter ConfigMap);
    // As the parser does: these live in no namespace.
    match &mut object {
        Object::Node(node) => Arc::make_mut(node).meta.namespace = "".into(),
        Object::Namespace(namespace) => Arc::make_mut(namespace).meta.namespace = "".into(),
        _ => {}
    }
    object
}

fn put(catalog: &mut Catalog, yaml: &str) -> Applied {
    let changes: Vec<Change> = objects(yaml).into_iter().map(Change::Put).collect();
    catalog.apply(&changes)
}

fn remove(catalog: &mut Catalog, kind: Kind, namespace: &str, name: &str) -> Applied {
    let reference = ObjectRef { kind, namespace: namespace.into(), name: name.into() };
    catalog.apply(&[Change::Remove(reference)])
}

/// A catalog of these manifests, for a gateway with this identity.
fn catalog_of(identity: Identity, yaml: &[&str]) -> Catalog {
    let mut catalog = Catalog::new(identity, Arc::new(SharedTable::new()));
    put(&mut catalog, &yaml.join("\n---\n"));
    catalog
}

/// A catalog of these manifests, for the default gateway.
fn catalog(yaml: &[&str]) -> Catalog {
    catalog_of(Identity::default(), yaml)
}

/// The addresses that a server name leads to, or the gate that refuses it. The table and the
/// explanation must agree.
fn ask(catalog: &Catalog, server_name: &str) -> Result<Vec<String>, Gate> {
    let question = Question { server_name, alpn: Some(&["istio"]), alpn_wanted: ALPN };
    let explanation = Explanation::new(&question, catalog);
    let name = server_name.to_ascii_lowercase();
    let table = catalog.table();
    let found = SubsetKey::parse(&name).and_then(|key| table.find(&key).ok());
    let addresses = found.map(|route| {
        let set = route.endpoints.load();
        set.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>()
    });
    let explained = explanation.refused_at();
    match addresses {
        Some(addresses) if !addresses.is_empty() => {
            assert_eq!(explained, None, "{explanation}");
            Ok(addresses)
        }
        Some(_) => {
            assert_eq!(explained, Some(Gate::Endpoints), "{explanation}");
            Err(Gate::Endpoints)
        }
        None => Err(explained.expect("the explanation refuses what the table does not have")),
    }
}

/// Asks, and compares with addresses separated by spaces.
#[track_caller]
fn check(catalog: &Catalog, server_name: &str, expected: Result<&str, Gate>) {
    let found = ask(catalog, server_name).map(|addresses| addresses.join(" "));
    assert_eq!(found, expected.map(str::to_owned), "{server_name}");
}

/// Why an address is left out of a host, in words.
fn left_out(catalog: &Catalog, host: &str, place: &str) -> Option<String> {
    let all = catalog.left_out_of(host).iter();
    let mut found = all.filter(|left_out| left_out.place.to_string() == place);
    found.next().map(|left_out| left_out.reason.to_string())
}
