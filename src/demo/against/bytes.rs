//! A pod sends 100 KB and breaks off: what reaches the client, and how it ends.
//!
//! Must not know: how a gateway is started.

use std::{collections::BTreeMap, time::Duration};

use tokio::{net::TcpSocket, net::TcpStream};

use super::{
    Told,
    call::{self, Act, End, Pod},
    gateways::{Side, Stage},
    site::Service,
};
use crate::bench::hello::Hello;

const BYTES: usize = 100_000;
const CALLS: usize = 10;
/// A client that is busy elsewhere for so long, and has room for little.
const BUSY: Duration = Duration::from_millis(300);
const ROOM_BYTES: u32 = 8_192;

pub(super) async fn play(stage: &Stage) -> anyhow::Result<Told> {
    let (envoy, ours) = (calls(stage, Side::Envoy).await?, calls(stage, Side::Ours).await?);
    let mut told = Told { envoy: envoy.words(), ours: ours.words(), wrong: Vec::new() };
    for seen in [&ours.at_once, &ours.late] {
        let whole = seen.ends.keys().eq([&End::Reset]) && seen.lost == 0;
        told.expect(whole, format!("all {BYTES} bytes should arrive, and then a reset"));
    }
    Ok(told)
}

#[derive(Default)]
struct Tally {
    lost: usize,
    short: usize,
    ends: BTreeMap<End, usize>,
}

struct Seen {
    at_once: Tally,
    late: Tally,
}

impl Seen {
    fn words(&self) -> Vec<String> {
        let late = format!("a client that reads {} ms later", BUSY.as_millis());
        vec![self.at_once.words("a client that reads at once"), self.late.words(&late)]
    }
}

impl Tally {
    fn words(&self, who: &str) -> String {
        let ends: Vec<_> = self.ends.iter().map(|(end, n)| format!("{end} {n}")).collect();
        let ends = ends.join(", ");
        match self.short {
            0 => format!("{who}: no byte lost in {CALLS} calls; then {ends}"),
            n => {
                let mean = self.lost / n;
                format!("{who}: bytes lost in {n} of {CALLS} calls, {mean} each; then {ends}")
            }
        }
    }

    fn count(&mut self, heard: &call::Heard) {
        let lost = BYTES.saturating_sub(heard.bytes.len());
        self.lost += lost;
        self.short += usize::from(lost > 0);
        *self.ends.entry(heard.end).or_default() += 1;
    }
}

async fn calls(stage: &Stage, side: Side) -> anyhow::Result<Seen> {
    let pod = Pod::start(side.ip(11), Act::Break(BYTES)).await?;
    let bar = Service::new("bar", &[pod.address]);
    let hello = Hello::new(&bar.key(""))?;
    let site = stage.site("bytes-then-reset", side, vec![bar])?;
    let gateway = stage.start(side, &site, 1, &[]).await?;
    let mut seen = Seen { at_once: Tally::default(), late: Tally::default() };
    for _ in 0..CALLS {
        let mut client = TcpStream::connect(gateway.address).await?;
        seen.at_once.count(&told(&mut client, &hello).await?);
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(ROOM_BYTES)?;
        let mut client = socket.connect(gateway.address).await?;
        write(&mut client, &hello).await?;
        tokio::time::sleep(BUSY).await;
        seen.late.count(&call::hear(&mut client).await);
    }
    Ok(seen)
}

async fn write(client: &mut TcpStream, hello: &Hello) -> std::io::Result<()> {
    use tokio::io::AsyncWriteExt as _;
    client.write_all(&hello.bytes()).await
}

async fn told(client: &mut TcpStream, hello: &Hello) -> std::io::Result<call::Heard> {
    write(client, hello).await?;
    Ok(call::hear(client).await)
}
