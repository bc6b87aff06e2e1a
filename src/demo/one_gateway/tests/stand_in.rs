//! A stand-in for the gateway that knows the demo's names by heart, right or with one fault.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    path::Path,
    thread,
};

use rustls::server::Acceptor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};

use crate::demo::RunningGateway;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    IgnoresSubsets,
    ComparesCase,
    ExportsAll,
    ServesPlain,
    AnyAlpn,
    DefaultService,
    FinEndsAll,
    Silent,
}

/// Starts it on a thread of its own, as the real one would be.
pub(super) fn start(
    manifests: &Path,
    listen: SocketAddr,
    fault: Fault,
) -> anyhow::Result<RunningGateway> {
    let listener = StdListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let bar = std::fs::read_to_string(manifests.join("2-bar.yaml"))?;
    let port = bar.split("targetPort: ").nth(1).and_then(|s| s.lines().next());
    let port: u16 = port.expect("a target port").parse()?;
    let (decided, decisions) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            tokio::select! {
                () = serve(listener, port, fault, decided) => {}
                _ = stopped => {}
            }
        });
    });
    let stop = Box::new(move || {
        drop(stop);
        thread.join().unwrap();
    });
    Ok(RunningGateway { address, decisions, stop })
}

async fn serve(
    listener: TcpListener,
    port: u16,
    fault: Fault,
    decided: mpsc::UnboundedSender<String>,
) {
    for turn in 0.. {
        let (downstream, _) = listener.accept().await.unwrap();
        let decided = decided.clone();
        tokio::spawn(async move {
            let decision = one(downstream, port, fault, turn).await;
            if fault != Fault::Silent {
                // The demo may be over before its last connection.
                let _ = decided.send(decision);
            }
        });
    }
}

async fn one(mut downstream: TcpStream, port: u16, fault: Fault, turn: u8) -> String {
    let (mut acceptor, mut hello) = (Acceptor::default(), Vec::new());
    let accepted = loop {
        let start = hello.len();
        downstream.read_buf(&mut hello).await.unwrap();
        acceptor.read_tls(&mut &hello[start..]).unwrap();
        if let Some(accepted) = acceptor.accept().map_err(|(e, _)| e).unwrap() {
            break accepted;
        }
    };
    let client_hello = accepted.client_hello();
    let alpn_is_ours =
        client_hello.alpn().is_some_and(|mut offered| offered.any(|p| p == b"istio"));
    // rustls folds the name; one that compares case must look at the bytes.
    let shouted = hello.windows(8).any(|w| w == b"OUTBOUND");
    let name = match shouted && fault == Fault::ComparesCase {
        true => "OUTBOUND",
        false => client_hello.server_name().unwrap_or_default(),
    };
    let pod = match alpn_is_ours || fault == Fault::AnyAlpn {
        true => pod_for(name, fault, turn),
        false => Err(120),
    };
    match pod {
        Ok(last) => {
            let address = SocketAddr::from((Ipv4Addr::new(127, 20, 0, last), port));
            let mut upstream = TcpStream::connect(address).await.unwrap();
            upstream.write_all(&hello).await.unwrap();
            if fault == Fault::FinEndsAll {
                until_first_fin(&mut downstream, &mut upstream).await;
            } else {
                let _ = copy_bidirectional(&mut downstream, &mut upstream).await;
            }
            format!("relayed to {address}")
        }
        Err(alert) => {
            downstream.write_all(&[21, 3, 3, 0, 2, 2, alert]).await.unwrap();
            downstream.shutdown().await.unwrap();
            let _ = downstream.read_to_end(&mut Vec::new()).await;
            format!("refused with alert {alert}")
        }
    }
}

/// The last byte of a pod's address, or an alert.
fn pod_for(name: &str, fault: Fault, turn: u8) -> Result<u8, u8> {
    match name {
        "outbound_.8080_._.bar.ns2.global" => Ok(11 + turn % 3),
        "outbound_.8080_.v1_.bar.ns2.global" => Ok(11 + turn % 2),
        "outbound_.8080_.v2_.bar.ns2.global" if fault == Fault::IgnoresSubsets => Ok(11),
        "outbound_.8080_.v2_.bar.ns2.global" => Ok(13),
        "outbound_.8080_._.secret.ns2.global" if fault == Fault::ExportsAll => Ok(14),
        "outbound_.8080_._.plain.ns2.global" if fault == Fault::ServesPlain => Ok(15),
        "outbound_.8080_._.plain.ns2.global" => Err(80),
        "" if fault == Fault::DefaultService => Ok(11),
        _ => Err(112),
    }
}

async fn until_first_fin(downstream: &mut TcpStream, upstream: &mut TcpStream) {
    let (mut from, mut to) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = downstream.read(&mut from) => match read {
                Ok(n) if n > 0 => upstream.write_all(&from[..n]).await.unwrap(),
                _ => return,
            },
            read = upstream.read(&mut to) => match read {
                Ok(n) if n > 0 => downstream.write_all(&to[..n]).await.unwrap(),
                _ => return,
            },
        }
    }
}
