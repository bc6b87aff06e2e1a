//! Every rule of every kind, and the exact words for who breaks it.

use super::*;

#[test]
fn every_rule_of_a_service_is_checked() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: ExternalName, \
                ports: [{name: a, port: 80}, {name: a, port: 81}, {name: b, port: 80}, \
                {name: c, port: 80, protocol: UDP}]}\n";
    check_broken(
        text,
        &[
            "a.yaml:1: error: Service default/a: spec.ports[1].name: port name `a` is there twice: \
         each needs its own",
            "a.yaml:1: error: Service default/a: spec.ports[2].port: port `80/Tcp` is there twice: \
         each needs its own",
            "a.yaml:1: error: Service default/a: spec.externalName: is missing: a Service of type \
         ExternalName needs it",
        ],
    );
    for (spec, expected) in [
        (
            "{type: Foo}",
            "spec.type: unknown variant `Foo`, expected one of `ClusterIP`, \
             `NodePort`, `LoadBalancer`, `ExternalName`",
        ),
        ("{ports: [{name: a}]}", "spec.ports[0]: missing field `port`"),
        (
            "{ports: [{port: -1}]}",
            "spec.ports[0].port: invalid type: integer `-1`, expected a port, 1 to 65535",
        ),
        (
            "{ports: [{port: http}]}",
            "spec.ports[0].port: invalid type: string \"http\", expected a port, 1 to 65535",
        ),
        (
            "{ports: [{port: 1, protocol: X}]}",
            "spec.ports[0].protocol: unknown variant `X`, \
                                               expected one of `TCP`, `UDP`, `SCTP`",
        ),
        ("{selector: [a]}", "spec.selector: invalid type: sequence, expected a map of texts"),
    ] {
        let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {spec}\n");
        check_broken(text, &[&format!("a.yaml:4: error: Service default/a: {expected}")]);
    }
}

#[test]
fn every_rule_of_endpoints_is_checked() {
    let slice = |rest: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: a\n  labels: \
             {{kubernetes.io/service-name: bar}}\n{rest}\n"
        )
    };
    let names = |text: &str| format!("error: EndpointSlice default/a: {text}");
    for (rest, line, expected) in [
        (
            "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}, {addresses: ['::1']}]",
            1,
            "endpoints[1].addresses[0]: `::1` is not an IPv4 address, as addressType says",
        ),
        (
            "addressType: IPv6\nendpoints: [{addresses: [host.example]}]",
            1,
            "endpoints[0].addresses[0]: `host.example` is not an IPv6 address, as addressType says",
        ),
        (
            "addressType: IPv4\nendpoints: [{addresses: []}]",
            1,
            "endpoints[0].addresses: is empty: an endpoint has an address",
        ),
        (
            "addressType: IPv4\nports: [{name: a, port: 1}, {name: a, port: 2}]",
            1,
            "ports[1].name: port name `a` is there twice: each needs its own",
        ),
        (
            "addressType: IPv4\nports: [{name: a, port: 0}]",
            7,
            "ports[0].port: 0 is not a port: write a number from 1 to 65535",
        ),
        (
            "addressType: IPv4\nports: [{name: a, port: 65536}]",
            7,
            "ports[0].port: 65536 is not a port: write a number from 1 to 65535",
        ),
        (
            "addressType: Other",
            6,
            "addressType: unknown variant `Other`, expected one of `IPv4`, `IPv6`, `FQDN`",
        ),
    ] {
        check_broken(slice(rest), &[&format!("a.yaml:{line}: {}", names(expected))]);
    }
    let nulls = read(slice("addressType: IPv4\nendpoints: null\nports: null"));
    assert!(nulls.items[0].object.is_some() && nulls.problems.is_empty());
    check_broken(
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets:\n- addresses:\n  - ip: x\n",
        &["a.yaml:6: error: Endpoints default/a: subsets[0].addresses[0].ip: invalid IP address \
           syntax"],
    );
}

#[test]
fn every_rule_of_a_service_entry_is_checked() {
    for (spec, line, expected) in [
        ("{}", 1, "spec.hosts: is empty: list at least one host"),
        (
            "{hosts: ['*']}",
            1,
            "spec.hosts[0]: `*` is not a host of a service: write a name or `*.suffix`",
        ),
        (
            "{hosts: ['*foo.global']}",
            6,
            "spec.hosts[0]: `*foo.global` is not a host: write a DNS name, `*` or `*.suffix`",
        ),
        (
            "{hosts: [a.b], addresses: [240.0.0.0/33]}",
            1,
            "spec.addresses[0]: `240.0.0.0/33` is not an IP address or a CIDR range",
        ),
        (
            "{hosts: [a.b], ports: [{number: 80, name: a}, {number: 80, name: b}]}",
            1,
            "spec.ports[1].number: port `80` is there twice: each needs its own",
        ),
        (
            "{hosts: [a.b], ports: [{number: 80, name: a, protocol: SMTP}]}",
            6,
            "spec.ports[0].protocol: unknown protocol `SMTP`: write TCP, TLS, HTTP, HTTP2, HTTPS, \
          GRPC, GRPC-Web, HTTP_PROXY, Mongo, Redis, MySQL, HBONE or UDP",
        ),
        (
            "{hosts: [a.b], location: MARS}",
            6,
            "spec.location: unknown variant `MARS`, expected `MESH_EXTERNAL` or `MESH_INTERNAL`",
        ),
        (
            "{hosts: [a.b], exportTo: ['a b']}",
            6,
            "spec.exportTo[0]: `a b` is not a namespace, `*`, `.` or `~`",
        ),
    ] {
        let told = format!("a.yaml:{line}: error: ServiceEntry ns2/x: {expected}");
        check_broken(istio("ServiceEntry", spec), &[&told]);
    }
}

#[test]
fn every_rule_of_a_service_entrys_endpoints_is_checked() {
    let ports = "ports: [{number: 80, name: http}]";
    for (spec, line, expected) in [
        (
            "{hosts: [a.b], resolution: STATIC, endpoints: [{address: a.example}]}",
            1,
            "spec.endpoints[0].address: `a.example` is not an IP address: write one, or resolution \
          DNS",
        ),
        (
            "{hosts: [a.b], resolution: DNS, endpoints: [{address: 'a b'}]}",
            1,
            "spec.endpoints[0].address: `a b` is not an IP address, a host or a unix: path",
        ),
        (
            "{hosts: [a.b], resolution: STATIC, endpoints: [{}]}",
            1,
            "spec.endpoints[0].address: is missing: write an address, or the network whose gateway \
          is dialled",
        ),
        (
            "{hosts: [a.b], resolution: STATIC, endpoints: [{address: 1.2.3.4, weight: \
            4294967295}, \
          {address: 1.2.3.5}]}",
            1,
            "spec.endpoints: the weights sum to 4294967296, more than 4294967295: scale them down",
        ),
        (
            "{hosts: [a.b], endpoints: [{address: 1.2.3.4}]}",
            1,
            "spec.endpoints: is there with resolution NONE: write resolution STATIC or DNS",
        ),
        (
            "{hosts: [a.b], resolution: STATIC, workloadSelector: {labels: {a: b}}, \
          endpoints: [{address: 1.2.3.4}]}",
            1,
            "spec.workloadSelector: stands beside endpoints: keep one of the two",
        ),
        (
            "{hosts: [a.b], resolution: STATIC, ports: [{number: 80, name: http}], \
          endpoints: [{address: 1.2.3.4, ports: {htp: 15443}}]}",
            1,
            "spec.endpoints[0].ports.htp: the ServiceEntry has no port named `htp`",
        ),
        (
            "{hosts: [a.b], endpoints: [{address: 1.2.3.4, ports: {http: 0}}]}",
            6,
            "spec.endpoints[0].ports.http: 0 is not a port: write a number from 1 to 65535",
        ),
        (
            "{hosts: [a.b], endpoints: [{address: 1.2.3.4, weight: -1}]}",
            6,
            "spec.endpoints[0].weight: invalid type: integer `-1`, expected u32",
        ),
    ] {
        let told = format!("a.yaml:{line}: error: ServiceEntry ns2/x: {expected}");
        check_broken(istio("ServiceEntry", spec), &[&told]);
    }
    let unix = format!(
        "{{hosts: [a.b], resolution: STATIC, {ports}, endpoints: [{{address: 'unix:///a'}}, \
         {{network: n2}}]}}"
    );
    let parsed = read(istio("ServiceEntry", &unix));
    assert!(parsed.items[0].object.is_some());
    assert_eq!(
        problems(&parsed),
        ["a.yaml:1: warning: ServiceEntry ns2/x: spec.endpoints[0].address: a unix: path is \
            never \
         dialled from here"]
    );
}

#[test]
fn every_rule_of_a_destination_rule_is_checked() {
    for (spec, line, expected) in [
        ("{}", 6, "spec: missing field `host`"),
        (
            "{host: a, subsets: [{name: v1}, {name: v1}]}",
            1,
            "spec.subsets[1].name: subset `v1` is there twice: each needs its own",
        ),
        (
            "{host: a, subsets: [{name: v_1}]}",
            1,
            "spec.subsets[0].name: `v_1` is not a subset name: write up to 63 letters, digits and \
          inner `-`",
        ),
    ] {
        let told = format!("a.yaml:{line}: error: DestinationRule ns2/x: {expected}");
        check_broken(istio("DestinationRule", spec), &[&told]);
    }
}

#[test]
fn every_rule_of_a_traffic_policy_is_checked() {
    let policy = |policy: &str| format!("{{host: a, trafficPolicy: {policy}}}");
    for (spec, line, expected) in [
        (
            policy("{loadBalancer: {simple: FASTEST}}"),
            6,
            "spec.trafficPolicy.loadBalancer.simple: unknown variant `FASTEST`, expected one of \
          `UNSPECIFIED`, `RANDOM`, `PASSTHROUGH`, `ROUND_ROBIN`, `LEAST_CONN`, `LEAST_REQUEST`",
        ),
        (
            policy("{loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}"),
            1,
            "spec.trafficPolicy.loadBalancer: has both simple and consistentHash: keep one of them",
        ),
        (
            policy("{loadBalancer: {consistentHash: {maglev: {}, ringHash: {}}}}"),
            1,
            "spec.trafficPolicy.loadBalancer.consistentHash: has both ringHash and maglev: keep \
          one of them",
        ),
        (
            policy("{loadBalancer: {consistentHash: {maglev: {tableSize: 65536}}}}"),
            1,
            "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: 65536 is not a \
          prime number up to 5000011: try 65537",
        ),
        (
            policy("{loadBalancer: {consistentHash: {minimumRingSize: 9000000}}}"),
            1,
            "spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize: 9000000 is more than \
          8388608: lower it",
        ),
        (
            policy("{loadBalancer: {warmup: {aggression: 1}}}"),
            1,
            "spec.trafficPolicy.loadBalancer.warmup.duration: is missing: say how long an \
          endpoint is new",
        ),
        (
            policy("{loadBalancer: {warmup: {duration: 1s, aggression: 0.5}}}"),
            1,
            "spec.trafficPolicy.loadBalancer.warmup.aggression: 0.5 is not 1 or more: 1 is even",
        ),
        (
            policy("{loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 1}}]}}}"),
            1,
            "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to: the shares sum to \
          1: make it 100",
        ),
        (
            policy("{connectionPool: {tcp: {connectTimeout: 10}}}"),
            6,
            "spec.trafficPolicy.connectionPool.tcp.connectTimeout: `10` is not a duration: write \
            it \
          like 10s, 0.5s, 500ms or 1h30m",
        ),
        (
            policy("{connectionPool: {tcp: {connectTimeout: 0s}}}"),
            1,
            "spec.trafficPolicy.connectionPool.tcp.connectTimeout: is shorter than 1ms: allow some \
          time",
        ),
        (
            policy("{portLevelSettings: [{port: {number: 0}}]}"),
            6,
            "spec.trafficPolicy.portLevelSettings[0].port.number: 0 is not a port: write a number \
          from 1 to 65535",
        ),
        (
            policy(
                "{portLevelSettings: [{port: {number: 1}, outlierDetection: \
                 {maxEjectionPercent: 101}}]}",
            ),
            1,
            "spec.trafficPolicy.portLevelSettings[0].outlierDetection.maxEjectionPercent: 101 is \
          more than 100 per cent",
        ),
        (
            policy("{portLevelSettings: [{port: {number: 1}}, {port: {number: 1}}]}"),
            1,
            "spec.trafficPolicy.portLevelSettings[1].port.number: port `1` is there twice: each \
          needs its own",
        ),
        (
            policy("{tls: {mode: TLS}}"),
            6,
            "spec.trafficPolicy.tls.mode: unknown variant `TLS`, expected one of `DISABLE`, \
          `SIMPLE`, `MUTUAL`, `ISTIO_MUTUAL`",
        ),
    ] {
        let told = format!("a.yaml:{line}: error: DestinationRule ns2/x: {expected}");
        check_broken(istio("DestinationRule", &spec), &[&told]);
    }
}

#[test]
fn every_rule_of_the_other_istio_kinds_is_checked() {
    for (kind, spec, line, expected) in [
        (
            "Gateway",
            "{servers: [{port: {number: 15443}, hosts: []}]}",
            1,
            "spec.servers[0].hosts: is empty: list at least one host, or `*`",
        ),
        (
            "Gateway",
            "{servers: [{port: {number: 15443}, hosts: ['*a.global']}]}",
            6,
            "spec.servers[0].hosts[0]: `*a.global` is not a host: write a DNS name, `*` or \
          `*.suffix`",
        ),
        (
            "Gateway",
            "{servers: [{port: {number: 1}, hosts: [a], tls: {mode: AUTO}}]}",
            6,
            "spec.servers[0].tls.mode: unknown variant `AUTO`, expected one of `PASSTHROUGH`, \
          `SIMPLE`, `MUTUAL`, `AUTO_PASSTHROUGH`, `ISTIO_MUTUAL`, `OPTIONAL_MUTUAL`",
        ),
        (
            "WorkloadEntry",
            "{}",
            1,
            "spec.address: is missing: write an address, or the network whose gateway is dialled",
        ),
        (
            "WorkloadEntry",
            "{address: 'a b'}",
            1,
            "spec.address: `a b` is not an IP address, a host or a unix: path",
        ),
        (
            "PeerAuthentication",
            "{mtls: {mode: ON}}",
            6,
            "spec.mtls.mode: unknown variant `ON`, expected one of `UNSET`, `DISABLE`, \
            `PERMISSIVE`, \
          `STRICT`",
        ),
        (
            "PeerAuthentication",
            "{portLevelMtls: {80: {mode: DISABLE}}}",
            1,
            "spec.portLevelMtls: needs a selector: ports of a whole namespace or mesh have no mode",
        ),
        (
            "PeerAuthentication",
            "{portLevelMtls: {'99999': {mode: DISABLE}}}",
            6,
            "spec.portLevelMtls: 99999 is not a port: write a number from 1 to 65535",
        ),
    ] {
        let told = format!("a.yaml:{line}: error: {kind} ns2/x: {expected}");
        check_broken(istio(kind, spec), &[&told]);
    }
}
