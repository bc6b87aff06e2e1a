//! A client asks for a subset that nobody declared: what it sees, and what the log says.
//!
//! Must not know: how a gateway is started.

use super::{
    Told,
    call::{self, Act, Heard, Pod},
    gateways::{Side, Stage},
    site::Service,
};
use crate::demo::witness::text;

pub(super) async fn play(stage: &Stage) -> anyhow::Result<Told> {
    let (envoy, ours) = (wrong(stage, Side::Envoy).await?, wrong(stage, Side::Ours).await?);
    let mut told = Told { envoy: envoy.words(), ours: ours.words(), wrong: Vec::new() };
    let alert = ours.heard.to_string().starts_with("TLS alert 112 ");
    told.expect(alert, "the client should get TLS alert 112");
    let reason = ours.log.iter().any(|said| said.contains("no_such_subset"));
    told.expect(reason, "the log should say no_such_subset");
    Ok(told)
}

struct Seen {
    heard: Heard,
    log: Vec<String>,
}

impl Seen {
    fn words(&self) -> Vec<String> {
        let mut words = vec![format!("the client gets {}", self.heard)];
        match &self.log[..] {
            [] => words.push("the log says nothing".to_owned()),
            said => words.push(format!("the log says {}", said.join(", "))),
        }
        words
    }
}

async fn wrong(stage: &Stage, side: Side) -> anyhow::Result<Seen> {
    let pod = Pod::start(side.ip(11), Act::Live).await?;
    let bar = Service { subsets: vec!["v1"], ..Service::new("bar", &[pod.address]) };
    let key = bar.key("v9");
    let site = stage.site("wrong-subset", side, vec![bar])?;
    let mut gateway = stage.start(side, &site, 1, &[]).await?;
    let mut client = call::ask(gateway.address, &key).await?;
    let heard = call::hear(&mut client).await;
    drop(client);
    let lines = gateway.witness.wait(1).await;
    let line = lines.iter().find(|line| line["requested_server_name"] == *key);
    let keys: &[&str] = match side {
        Side::Envoy => &["response_flags", "response_code_details", "requested_server_name"],
        Side::Ours => &["response_flags", "outcome", "requested_server_name"],
    };
    let said = |line: &serde_json::Value| keys.iter().map(|k| text(line, k).to_owned()).collect();
    Ok(Seen { heard, log: line.map(said).unwrap_or_default() })
}
