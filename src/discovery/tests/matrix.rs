//! Istio's AUTO_PASSTHROUGH matrix: server name × exposure × evidence of mesh TLS.

use super::*;

const KEY: &str = "outbound_.8080_._.bar.ns2.svc.cluster.local";
const ALL_THREE: &str = "10.0.0.1:80 10.0.0.2:80 10.0.0.3:80";

fn gateway(selector: &str, mode: &str, hosts: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: Gateway, \
         metadata: {{name: gw, namespace: elsewhere}}, spec: {{selector: {selector}, servers: \
         [{{port: {{number: 443, name: tls, protocol: TLS}}, tls: {{mode: {mode}}}, \
         hosts: {hosts}}}]}}}}"
    )
}

#[test]
fn the_test_vectors_of_the_key_hold() {
    let catalog = catalog(&[&gateway("{}", "AUTO_PASSTHROUGH", "['*.global']"), BAR, V1]);
    let v1 = "10.0.0.1:80 10.0.0.2:80";
    for (name, expected) in [
        ("outbound_.8080_._.bar.ns2.global", Ok(ALL_THREE)),
        ("outbound_.8080_.v1_.bar.ns2.global", Ok(v1)),
        ("OUTBOUND_.8080_._.Bar.NS2.global", Ok(ALL_THREE)),
        ("outbound_.8080_.V1_.bar.ns2.global", Ok(v1)),
        ("outbound_.8080_.v1.2_.bar.ns2.global", Err(Gate::Subset)),
        ("outbound_.08080_._.bar.ns2.global", Err(Gate::Form)),
        ("outbound_.+8080_._.bar.ns2.global", Err(Gate::Form)),
        ("outbound_.0_._.bar.ns2.global", Err(Gate::Form)),
        ("outbound_.65536_._.bar.ns2.global", Err(Gate::Form)),
        ("outbound_._._.bar.ns2.global", Err(Gate::Form)),
        ("outbound_.8080_.bar.ns2.global", Err(Gate::Form)),
        ("inbound_.8080_._.bar.ns2.global", Err(Gate::Form)),
        ("outbound|8080||bar.ns2.global", Err(Gate::Form)),
        ("bar.ns2.global", Err(Gate::Form)),
        ("", Err(Gate::Form)),
        (KEY, Err(Gate::Hosts)),
        ("outbound_.8080_._.bar.ns2.global.evil.com", Err(Gate::Service)),
        ("outbound_.8080_._.x.global.global", Err(Gate::Service)),
        ("outbound_.8080_._.global", Err(Gate::Service)),
        ("outbound_.80_._.bar.ns2.global", Err(Gate::Port)),
        ("outbound_.8080_._.baz.ns2.global", Err(Gate::Service)),
    ] {
        check(&catalog, name, expected);
    }
}

const V1: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bar, namespace: ns2}
spec: {host: bar, subsets: [{name: v1, labels: {version: v1}}]}
";

#[test]
fn only_hosts_of_a_gateway_that_selects_us_are_served() {
    let labels = [("istio", "ingressgateway"), ("app", "gw")].into_iter().collect();
    let identity = Identity { labels, ..Identity::default() };
    let auto = "AUTO_PASSTHROUGH";
    let (own, alias) = (KEY, "outbound_.8080_._.bar.ns2.global");
    let (no, yes) = (Err(Gate::Hosts), Ok(ALL_THREE));
    for (selector, mode, hosts, asked_own, asked_alias) in [
        ("{}", auto, "['*']", yes, yes),
        ("{istio: ingressgateway}", auto, "['*']", yes, yes),
        ("{istio: ingressgateway, app: gw}", auto, "['*']", yes, yes),
        ("{istio: other}", auto, "['*']", no, no),
        ("{istio: ingressgateway, more: x}", auto, "['*']", no, no),
        ("{}", "PASSTHROUGH", "['*']", no, no),
        ("{}", "MUTUAL", "['*']", no, no),
        ("{}", "ISTIO_MUTUAL", "['*']", no, no),
        ("{}", auto, "['*.global']", no, yes),
        ("{}", auto, "['*.local']", yes, no),
        ("{}", auto, "['bar.ns2.svc.cluster.local']", yes, no),
        ("{}", auto, "['bar.ns2.global']", no, yes),
        ("{}", auto, "['*.ns2.global']", no, yes),
        ("{}", auto, "['*.ns1.global']", no, no),
        ("{}", auto, "['ns2/*']", yes, yes),
        ("{}", auto, "['ns1/*']", no, no),
        ("{}", auto, "['./*']", no, no),
        ("{}", auto, "['*/*.global']", no, yes),
        ("{}", auto, "['ns1/*', 'ns2/bar.ns2.global']", no, yes),
        ("{}", auto, "[]", no, no),
    ] {
        let catalog = catalog_of(identity.clone(), &[&gateway(selector, mode, hosts), BAR]);
        check(&catalog, own, asked_own);
        check(&catalog, alias, asked_alias);
    }
}

#[test]
fn a_service_that_is_not_exported_to_the_gateway_is_not_served() {
    let no = Err(Gate::ExportTo);
    for (export_to, expected) in [
        ("'*'", Ok(ALL_THREE)),
        ("'.'", no),
        ("'~'", no),
        ("istio-system", Ok(ALL_THREE)),
        ("'ns1,istio-system'", Ok(ALL_THREE)),
        ("ns1", no),
        ("'bad name'", no),
    ] {
        let annotated = BAR.replacen(
            "{name: bar, namespace: ns2}",
            &format!(
                "{{name: bar, namespace: ns2, annotations: \
                 {{networking.istio.io/exportTo: {export_to}}}}}"
            ),
            1,
        );
        check(&catalog(&[EXPOSE_ALL, &annotated]), KEY, expected);
    }
}

/// One pod behind 10.0.0.1, by its labels, annotations and containers.
fn world(pod: &str, policies: &str) -> Catalog {
    let slice = "
apiVersion: v1
kind: Service
metadata: {name: bar, namespace: ns2}
spec: {ports: [{name: http, port: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: bar-1, namespace: ns2, labels: {kubernetes.io/service-name: bar}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: bar-1}}]
";
    let pod = format!("{{apiVersion: v1, kind: Pod, {pod}}}");
    catalog(&[EXPOSE_ALL, slice, &pod, policies])
}

const LABELLED: &str =
    "metadata: {name: bar-1, namespace: ns2, labels: {app: bar, security.istio.io/tlsMode: istio}}";
const PLAIN: &str = "metadata: {name: bar-1, namespace: ns2, labels: {app: bar}}";

#[test]
fn only_endpoints_known_to_speak_mesh_tls_are_served() {
    let denied = "metadata: {name: bar-1, namespace: ns2, \
                  labels: {security.istio.io/tlsMode: disabled}, \
                  annotations: {sidecar.istio.io/status: '{}'}}";
    let annotated = "metadata: {name: bar-1, namespace: ns2, \
                     annotations: {sidecar.istio.io/status: '{}'}}";
    let container = format!("{PLAIN}, spec: {{containers: [{{name: istio-proxy}}]}}");
    let init = format!("{PLAIN}, spec: {{initContainers: [{{name: istio-proxy}}]}}");
    let other = format!("{PLAIN}, spec: {{containers: [{{name: web}}]}}");
    let unknown = "metadata: {name: another, namespace: ns2}";
    for (pod, served) in [
        (LABELLED, true),
        (annotated, true),
        (container.as_str(), true),
        (init.as_str(), true),
        (PLAIN, false),
        (other.as_str(), false),
        (denied, false),
        (unknown, false),
    ] {
        let expected = if served { Ok("10.0.0.1:80") } else { Err(Gate::Endpoints) };
        let catalog = world(pod, "");
        check(&catalog, KEY, expected);
        let reason = left_out(&catalog, "bar.ns2.svc.cluster.local", "10.0.0.1:80");
        assert_eq!(reason.is_some_and(|reason| reason.starts_with("no mesh TLS")), !served);
    }
}

#[test]
fn a_destination_rule_speaks_before_every_other_evidence() {
    let disabled = "
---
{apiVersion: security.istio.io/v1, kind: PeerAuthentication,
 metadata: {name: default, namespace: istio-system}, spec: {mtls: {mode: DISABLE}}}";
    for (mode, pod, served) in [
        ("ISTIO_MUTUAL", PLAIN, true),
        ("DISABLE", LABELLED, false),
        ("SIMPLE", LABELLED, false),
        ("MUTUAL", LABELLED, false),
    ] {
        for peer in ["", disabled] {
            let rule = format!(
                "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, \
                 metadata: {{name: bar, namespace: ns2}}, spec: {{host: bar, \
                 trafficPolicy: {{tls: {{mode: {mode}}}}}}}}}{peer}"
            );
            let expected = if served { Ok("10.0.0.1:80") } else { Err(Gate::Endpoints) };
            check(&world(pod, &rule), KEY, expected);
        }
    }
}

#[test]
fn a_peer_authentication_that_disables_speaks_before_the_label() {
    for (namespace, spec, served) in [
        ("istio-system", "mtls: {mode: DISABLE}", false),
        ("ns2", "mtls: {mode: DISABLE}", false),
        ("ns1", "mtls: {mode: DISABLE}", true),
        ("ns2", "mtls: {mode: PERMISSIVE}", true),
        ("ns2", "mtls: {mode: STRICT}", true),
        ("ns2", "selector: {matchLabels: {app: bar}}, mtls: {mode: DISABLE}", false),
        ("ns2", "selector: {matchLabels: {app: x}}, mtls: {mode: DISABLE}", true),
        ("ns2", "selector: {matchLabels: {app: bar}}, portLevelMtls: {80: {mode: DISABLE}}", false),
        (
            "ns2",
            "selector: {matchLabels: {app: bar}}, portLevelMtls: {8080: {mode: DISABLE}}",
            true,
        ),
    ] {
        let policy = format!(
            "{{apiVersion: security.istio.io/v1beta1, kind: PeerAuthentication, \
             metadata: {{name: p, namespace: {namespace}}}, spec: {{{spec}}}}}"
        );
        let expected = if served { Ok("10.0.0.1:80") } else { Err(Gate::Endpoints) };
        check(&world(LABELLED, &policy), KEY, expected);
    }
}

#[test]
fn the_gate_for_mesh_tls_can_be_opened() {
    let identity = Identity { require_mesh_tls: false, ..Identity::default() };
    let plain = BAR.replace("security.istio.io/tlsMode: istio", "a: b");
    check(&catalog_of(identity, &[EXPOSE_ALL, &plain]), KEY, Ok(ALL_THREE));
    check(&catalog(&[EXPOSE_ALL, &plain]), KEY, Err(Gate::Endpoints));
}

#[test]
fn an_istio_protocol_must_be_offered() {
    let catalog = catalog(&[EXPOSE_ALL, BAR]);
    let refused = |alpn, alpn_wanted| {
        Explanation::new(&Question { server_name: KEY, alpn, alpn_wanted }, &catalog).refused_at()
    };
    assert_eq!(refused(Some(&["istio-peer-exchange", "h2"]), ALPN), None);
    assert_eq!(refused(Some(&["h2", "istio"]), ALPN), None);
    assert_eq!(refused(Some(&["h2", "http/1.1"]), ALPN), Some(Gate::Alpn));
    assert_eq!(refused(Some(&[]), ALPN), Some(Gate::Alpn));
    assert_eq!(refused(Some(&[]), &[]), None);
    assert_eq!(refused(None, ALPN), None);
}
