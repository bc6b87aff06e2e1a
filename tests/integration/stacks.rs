//! Clients with TLS stacks of their own, through the gateway to pods that demand certificates.
//!
//! Every stack makes the same calls. An answer names the pod, the caller and the name asked for, so
//! it shows that the right pod was reached and that nothing on the way opened the connection; a
//! refusal must be an alert that the stack can put into its own words.

use std::{process::Command, time::Duration};

use diolkos::demo::one_gateway::{
    client::{self, Seen},
    material::CALLER,
};

use crate::support::{
    PATIENCE,
    tools::{self, Said},
};

mod world;

use world::World;

/// What one call is and what must become of it.
struct Call {
    server_name: &'static str,
    alpn: &'static str,
    expected: Expected,
}

enum Expected {
    /// One of these answers.
    Pods(&'static [&'static str]),
    /// This alert, and this reason in the access log.
    Alert(u8, &'static str),
}

use Expected::{Alert, Pods};

const fn call(server_name: &'static str, alpn: &'static str, expected: Expected) -> Call {
    Call { server_name, alpn, expected }
}

const BAR: &str = "outbound_.8080_._.bar.ns2.global";

/// ALPN `istio` where a stack has no reason to say something else.
const CALLS: [Call; 7] = [
    call("outbound_.8080_.v1_.bar.ns2.global", "istio", Pods(&["bar-v1-a", "bar-v1-b"])),
    call("outbound_.8080_.v2_.bar.ns2.global", "istio", Pods(&["bar-v2-a"])),
    call(BAR, "istio", Pods(&["bar-v1-a", "bar-v1-b", "bar-v2-a"])),
    call("outbound_.8080_._.nobody.ns2.global", "istio", Alert(112, "unknown_name")),
    call("outbound_.8080_.v9_.bar.ns2.global", "istio", Alert(112, "no_such_subset")),
    call(BAR, "http/1.1", Alert(120, "alpn_denied")),
    call("outbound_.8080_._.plain.ns2.global", "istio", Alert(80, "no_endpoint")),
];

/// How a stack words an alert.
type Words = [(u8, &'static str); 3];

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: bar\r\n\r\n";

/// Makes every call of [`CALLS`].
fn check(world: &World, words: &Words, mut ask: impl FnMut(&Call) -> Said) {
    for (before, call) in CALLS.iter().enumerate() {
        judge(world, words, before, call, ask(call));
    }
}

/// `before`: how many connections the gateway had served before this one.
fn judge(world: &World, words: &Words, before: usize, call: &Call, said: Said) {
    let Call { server_name, alpn, expected } = call;
    let line = &world.front.lines(before + 1)[before];
    assert_eq!(line["requested_server_name"], *server_name);
    assert_eq!(line["alpn"], *alpn, "offered, as the gateway read it");
    match expected {
        Pods(pods) => {
            assert!(said.good, "{server_name}: {said:#?}");
            let field = |key| field(&said.stdout, key);
            let pod = field("pod");
            assert!(pods.contains(&pod), "{server_name} was answered by {pod}");
            assert_eq!(field("server name"), *server_name);
            assert_eq!(field("caller"), CALLER);
            assert_eq!(field("alpn"), *alpn, "chosen by the pod");
            assert_eq!(line["upstream_workload"], pod);
            assert_eq!(line["outcome"], "ok");
        }
        Alert(number, reason) => {
            let (_, words) = words.iter().find(|(n, _)| n == number).expect("worded");
            assert!(!said.good, "{server_name}: {said:#?}");
            assert!(said.stderr.contains(words), "{server_name}: no {words:?} in {said:#?}");
            assert!(!said.stdout.contains("pod:"), "{server_name}: {said:#?}");
            assert_eq!(line["outcome"], *reason);
        }
    }
}

/// The value of the line `key: value` in an answer.
fn field<'a>(answer: &'a str, key: &str) -> &'a str {
    let value = |line: &'a str| line.trim_end().strip_prefix(key)?.strip_prefix(": ");
    answer.lines().find_map(value).unwrap_or_else(|| panic!("no {key} in {answer}"))
}

#[test]
fn openssl_reaches_its_pods_and_reads_the_alerts() {
    let Some(openssl) = tools::find("openssl") else { return };
    for version in ["-tls1_2", "-tls1_3"] {
        let world = World::start(|_| {});
        let words = [
            (112, "tlsv1 unrecognized name"),
            (120, "SSL alert number 120"),
            (80, "tlsv1 alert internal error"),
        ];
        check(&world, &words, |call| {
            let mut client = Command::new(&openssl);
            client.args(["s_client", "-quiet", "-verify_return_error", version]);
            client.args(["-connect", &world.front.address.to_string()]);
            client.args(["-servername", call.server_name, "-alpn", call.alpn]);
            client.arg("-cert").arg(world.file("cert-chain.pem"));
            client.arg("-cert_chain").arg(world.file("cert-chain.pem"));
            client.arg("-key").arg(world.file("key.pem"));
            client.arg("-CAfile").arg(world.file("root-cert.pem"));
            tools::run(&mut client, REQUEST, PATIENCE)
        });
    }
}

#[test]
fn gnutls_reaches_its_pods_and_reads_the_alerts() {
    let Some(gnutls) = tools::find("gnutls-cli") else { return };
    let world = World::start(|_| {});
    let words = [
        (112, "Received alert [112]: The server name sent was not recognized"),
        (120, "Received alert [120]: No supported application protocol could be negotiated"),
        (80, "Received alert [80]: Internal error"),
    ];
    check(&world, &words, |call| {
        let mut client = Command::new(&gnutls);
        // It cannot be told to leave the host's name alone; what else it finds is looked at below.
        client.arg("--insecure");
        client.arg(format!("--sni-hostname={}", call.server_name));
        client.arg(format!("--alpn={}", call.alpn));
        client.arg("--x509certfile").arg(world.file("cert-chain.pem"));
        client.arg("--x509keyfile").arg(world.file("key.pem"));
        client.arg("--x509cafile").arg(world.file("root-cert.pem"));
        client.args(["-p", &world.front.address.port().to_string(), "127.0.0.1"]);
        let mut said = tools::run(&mut client, REQUEST, PATIENCE);
        if said.good {
            let status = field(&said.stdout, "- Status");
            let only = "The certificate is NOT trusted. \
                        The name in the certificate does not match the expected.";
            assert_eq!(status, only, "the chain leads to the root");
        } else {
            // It reports on both.
            said.stderr.push_str(&said.stdout);
        }
        said
    });
}

#[test]
fn go_reaches_its_pods_and_reads_the_alerts() {
    let Some(go) = tools::find("go") else { return };
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/go-client/main.go");
    let binary = concat!(env!("CARGO_TARGET_TMPDIR"), "/go-client");
    let mut build = Command::new(go);
    build.args(["build", "-o", binary, source]);
    build.envs([("GOPROXY", "off"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", "")]);
    // The standard library's TLS is compiled once for each machine.
    let built = tools::run(&mut build, b"", Duration::from_secs(300));
    assert!(built.good, "{built:#?}");
    let world = World::start(|_| {});
    let words = [
        (112, "remote error: tls: unrecognized name"),
        (120, "remote error: tls: no application protocol"),
        (80, "remote error: tls: internal error"),
    ];
    check(&world, &words, |call| {
        let mut client = Command::new(binary);
        client.args([&world.front.address.to_string(), call.server_name, call.alpn]);
        client.arg(world.files());
        tools::run(&mut client, b"", PATIENCE)
    });
}

#[test]
fn python_reaches_its_pods_and_reads_the_alerts() {
    let Some(python) = tools::find("python3") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/python-client.py");
    let world = World::start(|_| {});
    let words = [
        (112, "tlsv1 unrecognized name"),
        (120, "no application protocol"),
        (80, "tlsv1 alert internal error"),
    ];
    check(&world, &words, |call| {
        let mut client = Command::new(&python);
        let port = world.front.address.port().to_string();
        client.args([script, "127.0.0.1", &port, call.server_name, call.alpn]);
        client.arg(world.files());
        tools::run(&mut client, b"", PATIENCE)
    });
}

#[test]
fn rustls_with_a_post_quantum_hello_reaches_its_pods_and_reads_the_alerts() {
    let world = World::start(|_| {});
    let words = [
        (112, "alert 112 unrecognized_name"),
        (120, "alert 120 no_application_protocol"),
        (80, "alert 80 internal_error"),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("runtime");
    check(&world, &words, |call| {
        let tls = world.material.caller_tls(call.alpn).expect("TLS");
        let name = Some(call.server_name);
        let seen = runtime.block_on(client::call(world.front.address, &tls, name, REQUEST));
        match seen {
            Seen::Answer(answer) => Said {
                good: true,
                stdout: String::from_utf8(answer.body).expect("text"),
                stderr: String::new(),
            },
            refused => Said { good: false, stdout: String::new(), stderr: refused.to_string() },
        }
    });
    for line in world.front.lines(CALLS.len()) {
        let groups = line["key_share_groups"].as_array().expect("groups");
        assert!(groups.contains(&"0x11ec".into()), "X25519MLKEM768 is among {groups:?}");
    }
}

/// The calls of [`CALLS`] in curl's own ALPN.
fn ask_with_curl(curl: &std::path::Path, world: &World, call: &Call) -> Said {
    let port = world.front.address.port();
    let mut client = Command::new(curl);
    // No certificate holds the host's name, and curl knows no other. The pod checks curl's.
    client.args(["-sS", "--insecure", "--http1.1", "--noproxy", "*"]);
    // To the pod's FIN, as the others: having all of the body it would leave with a reset.
    client.arg("--ignore-content-length");
    client.arg("--cert").arg(world.file("cert-chain.pem"));
    client.arg("--key").arg(world.file("key.pem"));
    client.args(["--resolve", &format!("{}:{port}:127.0.0.1", call.server_name)]);
    client.arg(format!("https://{}:{port}/", call.server_name));
    tools::run(&mut client, b"", PATIENCE)
}

const CURLS_WORDS: Words = [
    (112, "tlsv1 unrecognized name"),
    (120, "no application protocol"),
    (80, "tlsv1 alert internal error"),
];

#[test]
fn curl_reaches_its_pods_when_any_alpn_will_do() {
    let Some(curl) = tools::find("curl") else { return };
    let world = World::start(|settings| settings["gateway"]["alpn"] = serde_json::json!([]));
    let calls = CALLS.into_iter().filter(|call| call.alpn == "istio");
    for (before, call) in calls.enumerate() {
        let call = Call { alpn: "http/1.1", ..call };
        let said = ask_with_curl(&curl, &world, &call);
        judge(&world, &CURLS_WORDS, before, &call, said);
    }
}

#[test]
fn curl_is_refused_for_its_alpn_whatever_it_asks_for() {
    let Some(curl) = tools::find("curl") else { return };
    let world = World::start(|_| {});
    for (before, call) in CALLS.into_iter().enumerate() {
        let call = Call { alpn: "http/1.1", expected: Alert(120, "alpn_denied"), ..call };
        let said = ask_with_curl(&curl, &world, &call);
        judge(&world, &CURLS_WORDS, before, &call, said);
    }
}
