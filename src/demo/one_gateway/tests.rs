//! The demo without the real gateway: its calls straight to the pods, and its judgement of a
//! stand-in gateway, right or wrong in one thing.

use std::{
    process::Command,
    sync::{Arc, Mutex},
};

use rustls::AlertDescription;

use super::{
    client::{Answer, Seen, call, echo, get},
    material::CALLER,
    print::openssl_line,
    *,
};
use stand_in::Fault;

mod stand_in;

const NAME: &str = "outbound_.8080_.v1_.bar.ns2.global";

fn with_pods<T>(test: impl AsyncFnOnce(Material, Pods) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let material = Material::make(SystemTime::now()).unwrap();
    runtime.block_on(async {
        let (bar, secret) = (material.bar_tls().unwrap(), material.secret_tls().unwrap());
        let pods = Pods::start(bar, secret).await.unwrap();
        test(material, pods).await
    })
}

#[test]
fn a_pod_says_who_it_is_and_who_asked() {
    let seen = with_pods(async |material, pods| {
        let tls = material.caller_tls("istio").unwrap();
        call(pods.address(pods::BAR[2]), &tls, Some(NAME), &get()).await
    });
    let Seen::Answer(answer) = seen else { panic!("{seen}") };
    assert_eq!(answer.field("pod"), Some("bar-v2-a"));
    assert_eq!(answer.field("version"), Some("v2"));
    assert_eq!(answer.field("request"), Some("GET / HTTP/1.1"));
    assert_eq!(answer.field("server name"), Some(NAME));
    assert_eq!(answer.field("alpn"), Some("istio"));
    assert_eq!(answer.field("caller"), Some(CALLER));
}

#[test]
fn a_mebibyte_comes_back_after_our_half_is_closed() {
    let body: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_be_bytes).collect();
    let seen = with_pods(async |material, pods| {
        let tls = material.caller_tls("istio").unwrap();
        call(pods.address(pods::BAR[0]), &tls, Some(NAME), &echo(&body)).await
    });
    assert!(seen == Seen::Answer(Answer { body }), "{seen}");
}

#[test]
fn a_pod_refuses_another_root_with_an_alert_that_arrives() {
    with_pods(async |material, pods| {
        let tls = material.stranger_tls("istio").unwrap();
        for _ in 0..20 {
            let seen = call(pods.address(pods::BAR[0]), &tls, Some(NAME), &get()).await;
            assert_eq!(seen, Seen::Alert(AlertDescription::UnknownCA));
        }
    });
}

#[test]
fn a_caller_refuses_a_pod_of_another_service() {
    let seen = with_pods(async |material, pods| {
        let tls = material.caller_tls("istio").unwrap();
        call(pods.address(pods::SECRET), &tls, Some(NAME), &get()).await
    });
    let Seen::Failed(why) = seen else { panic!("{seen}") };
    assert!(why.contains("it is spiffe://cluster.local/ns/ns2/sa/secret"), "{why}");
}

#[test]
fn the_line_to_try_by_hand_works_when_pasted() {
    let dir = tempfile::tempdir().unwrap();
    let said = with_pods(async |material, pods| {
        material.write(dir.path()).unwrap();
        let line = openssl_line(pods.address(pods::BAR[1]), dir.path());
        // The pods need this thread.
        tokio::task::spawn_blocking(move || shell(&line)).await.unwrap()
    });
    let Some(said) = said else { return };
    assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
    assert!(said.contains("pod: bar-v1-b") && said.contains(CALLER), "{said}");
    assert!(!said.contains("error"), "{said}");
}

/// Runs a line as a person would; `None`, said aloud, without openssl. In CI it must be there.
fn shell(line: &str) -> Option<String> {
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI is set and openssl is not installed");
        println!("skipped: openssl is not installed");
        return None;
    }
    let output = Command::new("timeout").args(["20", "sh", "-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}\n{output:?}");
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn never() -> impl Future<Output = ()> {
    std::future::pending()
}

/// Everything printed, to look at.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn play_with(fault: Fault) -> (bool, String) {
    let page = Page::default();
    let args = DemoArgs { once: true, listen: (Ipv4Addr::LOCALHOST, 0).into(), keep: None };
    let start = |manifests: &Path, listen| stand_in::start(manifests, listen, fault);
    let good = play(&args, start, Printer::plain(Box::new(page.clone())), never()).unwrap();
    (good.unwrap(), page.text())
}

#[test]
fn a_right_gateway_gets_an_ok_for_every_call() {
    let (good, page) = play_with(Fault::None);
    assert!(good, "{page}");
    assert_eq!(page.matches("OK ").count(), CALLS.len(), "{page}");
    assert!(page.contains("All 13 as they should be."), "{page}");
    assert!(!page.contains('\x1b'), "no colour where there is no terminal");
}

#[test]
fn each_fault_of_a_gateway_is_told() {
    for (fault, wrong_call) in [
        (Fault::IgnoresSubsets, "subset v2: its one pod"),
        (Fault::ComparesCase, "upper case: the same service"),
        (Fault::ExportsAll, "a service not exported to us"),
        (Fault::ServesPlain, "a service whose pod has no sidecar: no endpoint"),
        (Fault::AnyAlpn, "ALPN h2, which is no sidecar's"),
        (Fault::DefaultService, "no server name"),
        (Fault::FinEndsAll, "1 MiB, our half closed: every byte comes back"),
    ] {
        let (good, page) = play_with(fault);
        assert!(!good, "{fault:?}\n{page}");
        let verdict =
            page.lines().zip(page.lines().skip(1)).find(|(_, title)| title.trim() == wrong_call);
        let (verdict, _) = verdict.expect("every call has its title");
        assert!(verdict.starts_with("WRONG"), "{fault:?}\n{page}");
    }
}

#[test]
fn a_gateway_that_reports_nothing_is_wrong() {
    let (good, page) = play_with(Fault::Silent);
    assert!(!good && page.contains("the gateway reported no connection"), "{page}");
}

#[test]
fn a_port_in_use_comes_with_what_to_do() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = taken.local_addr().unwrap();
    let args = DemoArgs { once: true, listen, keep: None };
    let start = |manifests: &Path, listen| stand_in::start(manifests, listen, Fault::None);
    let printer = Printer::plain(Box::new(io::sink()));
    let error = play(&args, start, printer, never()).unwrap_err();
    assert!(format!("{error:#}").contains("--listen 127.0.0.1:0"), "{error:#}");
}

#[test]
fn a_gateway_off_loopback_is_refused() {
    let args = DemoArgs { listen: ([0, 0, 0, 0], 15443).into(), ..DemoArgs::default() };
    let start = |_: &Path, _| panic!("not started");
    let error = play(&args, start, Printer::plain(Box::new(io::sink())), never()).unwrap_err();
    assert!(error.to_string().contains("--listen 127.0.0.1:15443"), "{error}");
}

#[test]
fn it_runs_on_and_tells_what_is_called_by_hand() {
    let page = Page::default();
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().join("kept");
    let args =
        DemoArgs { once: false, listen: (Ipv4Addr::LOCALHOST, 0).into(), keep: Some(dir.clone()) };
    let start = |manifests: &Path, listen| stand_in::start(manifests, listen, Fault::None);
    // A person: waits for the line, pastes it, reads what comes, stops the demo.
    let person = async {
        let told = |page: &str| page.matches("\ngateway   relayed to").count();
        let line = loop {
            let text = page.text();
            match text.split_once("ends this:\n\n").and_then(|(_, rest)| rest.split_once("\n\n")) {
                Some((line, _)) => break line.to_owned(),
                None => tokio::task::yield_now().await,
            }
        };
        assert_eq!(told(&page.text()), 0);
        let said = tokio::task::spawn_blocking(move || shell(&line)).await.unwrap();
        let Some(said) = said else { return };
        assert!(said.contains("pod: bar-v"), "{said}");
        while told(&page.text()) == 0 {
            tokio::task::yield_now().await;
        }
    };
    let person = async { timeout(Duration::from_secs(30), person).await.expect("in time") };
    let printer = Printer::plain(Box::new(page.clone()));
    assert_eq!(play(&args, start, printer, person).unwrap(), Some(true), "{}", page.text());
    assert!(dir.join("manifests/2-bar.yaml").exists() && dir.join("client/key.pem").exists());

    let printer = Printer::plain(Box::new(io::sink()));
    let error = play(&args, start, printer, never()).unwrap_err();
    assert!(error.to_string().contains("never overwritten"), "{error}");
}

#[test]
fn it_stops_when_told_to_in_the_middle() {
    let page = Page::default();
    let args = DemoArgs { once: false, listen: (Ipv4Addr::LOCALHOST, 0).into(), keep: None };
    let start = |manifests: &Path, listen| stand_in::start(manifests, listen, Fault::None);
    let printer = Printer::plain(Box::new(page.clone()));
    let good = play(&args, start, printer, std::future::ready(())).unwrap();
    let page = page.text();
    assert!(good.is_none() && page.contains("Stopped before all calls"), "{page}");
}
