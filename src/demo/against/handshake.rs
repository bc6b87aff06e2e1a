//! A pod dies between the ClientHello and its first byte; another one is well.
//!
//! Must not know: how a gateway is started.

use std::collections::BTreeMap;

use super::{
    Told,
    call::{self, Act, Pod},
    gateways::{Side, Stage},
    site::Service,
};

const CALLS: usize = 20;

pub(super) async fn play(stage: &Stage) -> anyhow::Result<Told> {
    let (envoy, ours) = (calls(stage, Side::Envoy).await?, calls(stage, Side::Ours).await?);
    let mut told = Told { envoy: envoy.words(), ours: ours.words(), wrong: Vec::new() };
    told.expect(ours.answered == CALLS, format!("all {CALLS} calls should be answered"));
    Ok(told)
}

struct Seen {
    answered: usize,
    otherwise: BTreeMap<String, usize>,
}

impl Seen {
    fn words(&self) -> Vec<String> {
        let mut words = vec![format!("{} of {CALLS} calls answered", self.answered)];
        words.extend(self.otherwise.iter().map(|(heard, n)| format!("{n}: {heard}")));
        if self.answered == CALLS {
            words.push("what the dead pod had been sent went to the other one".to_owned());
        }
        words
    }
}

async fn calls(stage: &Stage, side: Side) -> anyhow::Result<Seen> {
    let dies = Pod::start(side.ip(11), Act::Die).await?;
    let lives = Pod::start(side.ip(12), Act::Live).await?;
    let bar = Service::new("bar", &[dies.address, lives.address]);
    let key = bar.key("");
    let site = stage.site("mid-handshake", side, vec![bar])?;
    let gateway = stage.start(side, &site, 1, &[]).await?;
    let mut seen = Seen { answered: 0, otherwise: BTreeMap::new() };
    for _ in 0..CALLS {
        let mut client = call::ask(gateway.address, &key).await?;
        match call::greeted(&mut client).await {
            Ok(()) => seen.answered += 1,
            Err(heard) => *seen.otherwise.entry(heard.to_string()).or_default() += 1,
        }
    }
    Ok(seen)
}
