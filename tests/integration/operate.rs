//! The program as its operator sees it: readiness, the operators' ports, signals, exit codes.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Pod, eventually,
    hello::Hello,
    mesh::{Files, Service, gateway, gateway_for},
    process::{self, Process, diolkos, http},
    read_to_end,
};

/// One service, `bar`, with one pod, under `*.global`.
fn mesh(pod: &Pod) -> (Files, Service) {
    let bar = Service::new("bar", &[pod.address]);
    let files = [("gateway.yaml", &gateway(&["*.global"])[..]), ("bar.yaml", &bar.yaml())];
    (Files::with(&files), bar)
}

/// A connection through the gateway on which a byte came back.
fn relayed(
    process: &Process,
    pod: &Pod,
    bar: &Service,
) -> (std::net::TcpStream, std::net::TcpStream) {
    let mut client = process.ask(&bar.key());
    let mut server = pod.accept_hello(&Hello::new(&bar.key()).wire());
    server.write_all(b"x").expect("write");
    client.read_exact(&mut [0]).expect("read");
    (client, server)
}

fn ping(client: &mut impl Read, server: &mut impl Write) {
    server.write_all(b"ping").expect("write");
    let mut got = [0; 4];
    client.read_exact(&mut got).expect("read");
    assert_eq!(&got, b"ping");
}

#[test]
fn it_is_ready_when_a_gateway_selects_it_and_says_what_is_missing_before() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    files.write("gateway.yaml", &gateway_for("istio: eastwestgateway", &["*.global"]));
    let process = Process::start(files.path(), &[]);
    let ready = process.get("admin", "/ready");
    assert_eq!(ready.status, 503);
    for part in ["istio-system/cross-network", "istio", "eastwestgateway", "ingressgateway"] {
        assert!(ready.body.contains(part), "{part} in {}", ready.body);
    }
    for port in ["health", "agent"] {
        assert_eq!(process.get(port, "/healthz/ready").status, 503);
    }
    assert_eq!(process.sample("diolkos_ready"), Some(0.0));
    // Not ready is no reason to leave a client without its answer.
    assert_eq!(read_to_end(&mut process.ask(&bar.key())).0, [21, 3, 3, 0, 2, 2, 112]);

    files.write("gateway.yaml", &gateway(&["*.global"]));
    eventually("it is ready", || (process.get("admin", "/ready").status == 200).then_some(()));
    for port in ["health", "agent"] {
        assert_eq!(process.get(port, "/healthz/ready").status, 200);
    }
    assert_eq!(process.sample("diolkos_ready"), Some(1.0));
    relayed(&process, &pod, &bar);
}

#[test]
fn a_gateway_without_selection_is_ready_when_told_so() {
    let process = Process::start(Files::new().path(), &["gateway.require_selection=false"]);
    assert_eq!(process.get("health", "/healthz/ready").status, 200);
}

#[test]
fn every_path_of_the_operators_ports_answers() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let process = Process::start(files.path(), &["gateway.require_selection=true"]);
    let live = relayed(&process, &pod, &bar);
    let key = bar.key();
    let admin = [
        ("/", "diolkos"),
        ("/ready", "LIVE"),
        ("/clusters", "outbound_.8080_._.bar.ns2.svc.cluster.local"),
        ("/config_dump", "\"problems\""),
        ("/stats", "diolkos_accepted_total"),
        ("/stats/prometheus", "diolkos_accepted_total"),
        ("/server_info", "LIVE"),
        ("/logging", "info"),
        ("/connections", "\"live\": 1"),
        (&format!("/explain?sni={key}")[..], "pass"),
    ];
    for (path, part) in admin {
        let answer = process.get("admin", path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.contains(part), "{path}: {}", answer.body);
    }
    for (port, path) in [
        ("agent", "/stats/prometheus"),
        ("metrics", "/stats/prometheus"),
        ("agent", "/healthz/ready"),
    ] {
        assert_eq!(process.get(port, path).status, 200, "{port} {path}");
    }
    for (port, path) in [("health", "/config_dump"), ("metrics", "/ready"), ("admin", "/nothing")] {
        assert_eq!(process.get(port, path).status, 404, "{port} {path}");
    }
    assert_eq!(process.get("admin", "/quitquitquit").status, 405);
    assert_eq!(process.post("admin", "/logging?level=debug").status, 200);
    assert!(process.get("admin", "/logging").body.contains("debug"));
    assert_eq!(process.post("admin", "/logging?level=loud").status, 400);

    let connection = &process.json("/connections")["connections"][0];
    assert_eq!(connection["upstream"], pod.address.to_string());
    assert_eq!(connection["downstream"], live.0.local_addr().expect("address").to_string());
    assert_eq!(connection["stage"], "relay");
    let info = process.json("/server_info");
    assert_eq!(info["listen"][0], process.address.to_string());
}

#[test]
fn explain_says_the_same_over_http_and_on_the_command_line() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let process = Process::start(files.path(), &[]);
    let admin = process.port("admin").to_string();
    for (name, alpn, code) in [
        (bar.key(), "istio", 0),
        (bar.key(), "h2", 1),
        ("outbound_.8081_._.bar.ns2.global".into(), "istio", 1),
        ("outbound_.8080_._.bat.ns2.global".into(), "istio", 1),
        ("bar.ns2.global".into(), "istio", 1),
    ] {
        let path = format!("/explain?sni={name}&alpn={alpn}");
        let answer = process.get("admin", &path);
        // A view that was answered, whatever it says.
        let ask = |place: &[&str]| {
            let output = diolkos()
                .args(["explain", &name, "--alpn", alpn])
                .args(["--set", "gateway.listen=127.0.0.1:0"])
                .args(place)
                .output()
                .expect("run");
            (output.status.code(), String::from_utf8(output.stdout).expect("text"))
        };
        let dir = files.path().to_str().expect("text");
        assert_eq!(ask(&["--admin", &admin]), (Some(code), answer.body.clone()), "{path}");
        assert_eq!(ask(&["--manifests", dir]), (Some(code), answer.body), "{path}");
    }
}

/// The lines of a scrape that are samples, without their values.
fn series(scrape: &str) -> Vec<String> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

#[test]
fn a_scrape_has_istios_names_and_labels_and_never_a_name_from_the_network() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let process = Process::start(files.path(), &[]);
    let (mut client, mut server) = relayed(&process, &pod, &bar);
    client.write_all(b"12345").expect("write");
    server.read_exact(&mut [0; 5]).expect("read");
    drop((client, server));
    let closed = || {
        let scrape = process.get("admin", "/stats/prometheus").body;
        scrape.contains("istio_tcp_connections_closed_total{").then_some(scrape)
    };
    let scrape = eventually("the connection is closed", closed);
    let labels = "{reporter=\"source\",source_workload=\"istio-ingressgateway\",\
         source_canonical_service=\"istio-ingressgateway\",source_canonical_revision=\"latest\",\
         source_workload_namespace=\"istio-system\",source_principal=\"unknown\",\
         source_app=\"istio-ingressgateway\",source_version=\"unknown\",\
         source_cluster=\"unknown\",destination_workload=\"bar-0\",\
         destination_workload_namespace=\"ns2\",destination_principal=\"unknown\",\
         destination_app=\"bar\",destination_version=\"unknown\",\
         destination_service=\"bar.ns2.svc.cluster.local\",\
         destination_canonical_service=\"bar\",destination_canonical_revision=\"latest\",\
         destination_service_name=\"bar\",destination_service_namespace=\"ns2\",\
         destination_cluster=\"unknown\",request_protocol=\"tcp\",response_flags=\"-\",\
         connection_security_policy=\"unknown\"}";
    let hello = Hello::new(&bar.key()).wire().len();
    for (name, value) in [
        ("istio_tcp_connections_opened_total", 1),
        ("istio_tcp_connections_closed_total", 1),
        ("istio_tcp_received_bytes_total", hello + 5),
        ("istio_tcp_sent_bytes_total", 1),
    ] {
        let sample = format!("{name}{labels} {value}\n");
        assert!(scrape.contains(&sample), "{sample}in {scrape}");
    }

    let before = series(&scrape);
    for i in 0..1000 {
        let name = match i % 4 {
            0 => format!("outbound_.8080_._.r{i}.ns2.global"),
            1 => format!("outbound_.{i}_._.bar.ns2.global"),
            2 => format!("outbound_.8080_.s{i}_.bar.ns2.global"),
            _ => format!("x{i}.example.com"),
        };
        read_to_end(&mut process.ask(&name));
    }
    let refused = || {
        let sample = |reason| format!("diolkos_connections_total{{outcome=\"{reason}\"}}");
        let reasons = ["unknown_name", "no_such_port", "no_such_subset", "bad_name"];
        let sum: f64 = reasons.iter().filter_map(|r| process.sample(&sample(r))).sum();
        (sum >= 1000.0).then_some(())
    };
    eventually("all are counted", refused);
    assert_eq!(series(&process.get("admin", "/stats/prometheus").body), before);
}

#[test]
fn sigterm_lets_connections_finish_and_clients_find_another_gateway() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let mut process = Process::start(files.path(), &["drain.pause=700ms", "drain.deadline=30s"]);
    let (mut client, mut server) = relayed(&process, &pod, &bar);
    assert_eq!(process.get("health", "/healthz/ready").status, 200);

    let begun = Instant::now();
    process.signal(Signal::TERM);
    eventually("it is not ready", || {
        (process.get("health", "/healthz/ready").status == 503).then_some(())
    });
    assert!(begun.elapsed() < Duration::from_millis(500), "not ready at once");
    assert_eq!(process.json("/server_info")["state"], "DRAINING");
    let second = relayed(&process, &pod, &bar);
    assert!(begun.elapsed() < Duration::from_millis(700), "accepted during the pause");

    process.said("leaving: not accepting");
    assert!(begun.elapsed() >= Duration::from_millis(700));
    assert!(std::net::TcpStream::connect(process.address).is_err(), "refused from then on");
    ping(&mut client, &mut server);
    assert!(process.is_alive(), "it waits for live connections");
    drop(second);
    ping(&mut client, &mut server);

    server.shutdown(Shutdown::Write).expect("shutdown");
    drop(client);
    drop(server);
    let done = Instant::now();
    assert_eq!(process.ended(Duration::from_secs(5)).code(), Some(0));
    assert!(done.elapsed() < Duration::from_secs(1), "{:?}", done.elapsed());
    eventually("both are in the access log", || {
        (process.lines().iter().filter(|l| l.contains(" ok ")).count() == 2).then_some(())
    });
}

#[test]
fn at_the_deadline_what_is_left_is_reset_and_logged() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let mut process = Process::start(files.path(), &["drain.pause=0s", "drain.deadline=300ms"]);
    let (mut client, mut server) = relayed(&process, &pod, &bar);
    process.signal(Signal::TERM);
    assert_eq!(read_to_end(&mut client), (vec![], false));
    assert_eq!(read_to_end(&mut server), (vec![], false));
    assert_eq!(process.ended(Duration::from_secs(5)).code(), Some(0));
    eventually("its line is written before the end", || {
        process.lines().iter().any(|line| line.contains(" drained ")).then_some(())
    });
}

#[test]
fn a_second_sigterm_ends_it_within_a_second_at_any_time() {
    thread::scope(|scope| {
        let phases = [
            ("leaving: not ready", "drain.pause=60s"),
            ("leaving: not accepting", "drain.pause=0s"),
        ];
        for (message, pause) in phases {
            for second in [Signal::TERM, Signal::INT] {
                scope.spawn(move || {
                    let pod = Pod::new();
                    let (files, bar) = mesh(&pod);
                    let mut process = Process::start(files.path(), &[pause, "drain.deadline=60s"]);
                    let live = relayed(&process, &pod, &bar);
                    process.signal(Signal::TERM);
                    process.said(message);
                    assert!(process.is_alive());
                    let begun = Instant::now();
                    process.signal(second);
                    assert_eq!(process.ended(Duration::from_secs(5)).code(), Some(0));
                    assert!(
                        begun.elapsed() < Duration::from_millis(1_300),
                        "{:?}",
                        begun.elapsed()
                    );
                    drop(live);
                });
            }
        }
    });
}

#[test]
fn quitquitquit_and_drain_do_what_they_say() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let mut process = Process::start(files.path(), &["drain.pause=0s", "drain.deadline=0s"]);
    let (mut client, mut server) = relayed(&process, &pod, &bar);
    assert_eq!(process.post("admin", "/drain_listeners").status, 200);
    process.said("drained by order: not accepting");
    assert_eq!(process.get("health", "/healthz/ready").status, 503);
    assert!(std::net::TcpStream::connect(process.address).is_err());
    ping(&mut client, &mut server);
    assert_eq!(read_to_end(&mut client), (vec![], true), "ended at a quiet moment");
    assert_eq!(read_to_end(&mut server), (vec![], true));
    assert!(process.is_alive());
    assert_eq!(process.post("agent", "/quitquitquit").status, 200);
    assert_eq!(process.ended(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn sighup_reads_again_and_other_signals_do_nothing() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let settings = Files::with(&[("diolkos.yaml", "log: {level: info}\n")]);
    let mut command = process::gateway(files.path(), &[]);
    command.arg("--config").arg(settings.at("diolkos.yaml"));
    let mut process = Process::spawn(command);
    let (mut client, mut server) = relayed(&process, &pod, &bar);
    for _ in 0..20 {
        for signal in [Signal::USR1, Signal::USR2, Signal::PIPE, Signal::WINCH] {
            process.signal(signal);
        }
    }
    settings.write("diolkos.yaml", "log: {level: debug}\n");
    process.signal(Signal::HUP);
    process.said("settings and manifests were read again");
    assert!(process.get("admin", "/logging").body.contains("debug"));
    settings.write("diolkos.yaml", "log: {level: debug}\ndrain: {pause: 1s}\n");
    process.signal(Signal::HUP);
    process.said("manifests were read again; these settings need a restart");
    assert!(process.log().iter().any(|line| line["changed"] == "drain.pause"), "it is named");
    settings.write("diolkos.yaml", "drain: {pase: 1s}\n");
    process.signal(Signal::HUP);
    eventually("the mistake is named", || {
        let said = |line: &Value| line["message"].as_str().is_some_and(|m| m.contains("pase"));
        process.log().iter().any(said).then_some(())
    });
    assert!(process.is_alive());
    ping(&mut client, &mut server);
    relayed(&process, &pod, &bar);
}

/// Runs it to its end and gives its exit code and what it said.
fn fails(mut command: std::process::Command) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).output().expect("run");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_port_that_is_taken_is_named_and_ends_the_start() {
    let files = Files::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let running = Process::start(files.path(), &["gateway.require_selection=false"]);
    let cases = [
        ("--listen", taken.local_addr().expect("address").to_string()),
        ("--admin", taken.local_addr().expect("address").to_string()),
        ("--health", running.port("admin").to_string()),
        // Another gateway, which shares its port among its own workers only.
        ("--listen", running.address.to_string()),
    ];
    for (flag, address) in cases {
        let mut command = diolkos();
        command.arg("gateway").arg("--manifests").arg(files.path());
        command.args(["--set", "agent.listen=off"]);
        for other in ["--listen", "--admin", "--health", "--metrics"] {
            let free = if other == "--listen" { "127.0.0.1:0" } else { "off" };
            command.args([other, if other == flag { &address } else { free }]);
        }
        let (code, said) = fails(command);
        assert_eq!(code, Some(1), "{flag} {address}: {said}");
        let clear = said.contains(&address) && said.contains("in use");
        assert!(clear && !said.contains("panicked"), "{flag}: {said}");
    }
}

#[test]
fn a_wrong_command_line_is_status_2_and_a_wrong_directory_status_1() {
    let wrong = [
        ("gateway.wrokers=2", 2, "wrokers"),
        ("gateway.workers=many", 2, "many"),
        ("no_value", 2, "no_value"),
        ("drain.pause=5", 2, "drain.pause"),
    ];
    let files = Files::new();
    for (setting, expected, part) in wrong {
        let (code, said) = fails(process::gateway(files.path(), &[setting]));
        assert_eq!(code, Some(expected), "{setting}: {said}");
        assert!(said.contains(part), "{setting}: {said}");
    }
    let mut unknown = diolkos();
    unknown.args(["gateway", "--lisen", "127.0.0.1:0"]);
    assert_eq!(fails(unknown).0, Some(2));
    let (code, said) = fails(process::gateway(&files.at("nowhere"), &[]));
    assert!(code == Some(1) && said.contains("nowhere"), "{code:?} {said}");
}

#[test]
fn with_every_operators_port_off_it_serves_all_the_same() {
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let off = ["admin.listen=off", "health.listen=off", "agent.listen=off", "metrics.listen=off"];
    let mut command = diolkos();
    command.arg("gateway").arg("--manifests").arg(files.path());
    command.args(["--listen", "127.0.0.1:0", "--set", "log.format=json"]);
    for setting in off {
        command.args(["--set", setting]);
    }
    let process = Process::spawn(command);
    relayed(&process, &pod, &bar);
    assert!(!process.log().iter().any(|line| line["message"] == "listening"));
}

#[test]
fn a_stranger_who_asks_the_admin_port_by_another_name_is_refused() {
    let process = Process::start(Files::new().path(), &[]);
    let to = process.port("admin");
    let mut stream = std::net::TcpStream::connect(to).expect("connect");
    write!(stream, "GET /config_dump HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
        .expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(http(to, "GET", "/config_dump").status, 200);
}

#[test]
fn a_standard_output_that_is_full_is_what_the_error_names() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let pod = Pod::new();
    let (files, bar) = mesh(&pod);
    let (dir, name) = (files.path().to_string_lossy(), bar.key());
    let made = tempfile::tempdir().expect("a directory");
    for line in [
        "check --print-defaults".to_owned(),
        format!("check --manifests {dir}"),
        format!("explain {name} --manifests {dir}"),
        format!("certs root --out {}", made.path().join("root").display()),
        "dns --print-stub coredns".to_owned(),
        "bench serve --listen 127.0.0.1:0".to_owned(),
        "bench run --target 127.0.0.1:1 --sni a --count 1".to_owned(),
        "demo --once --scene gateway --listen 127.0.0.1:0".to_owned(),
    ] {
        let full = full.try_clone().expect("a descriptor");
        let output = diolkos().args(line.split(' ')).stdout(full).stderr(Stdio::piped()).output();
        let output = output.expect("run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        let why = "standard output cannot be written: No space left on device";
        assert!(said.contains(why), "{line}: {said}");
    }
}
