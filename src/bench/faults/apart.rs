//! A host of its own for a gateway: a network namespace, a cable to this one, and what can be done
//! to its packets. Needs root, `ip` and `nft`. Must not know: what runs there.

use std::{
    net::Ipv4Addr,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

use anyhow::{Context as _, ensure};

use crate::bench::compare::process::Made;

/// Made and gone with its handle.
pub(super) struct Apart {
    name: String,
    _made: Made,
    /// The third part of its addresses, in the range for benchmarks (RFC 2544).
    number: u8,
}

impl Apart {
    /// Lays the cable; our end has an address for each pod.
    pub(super) fn new(pods: u8) -> anyhow::Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("diolkos-{}-{number}", std::process::id());
        let apart = Self { _made: Made::new(&name, take_away), name, number };
        run(&format!("ip netns add {}", apart.name)).context("a network namespace needs root")?;
        let (name, here) = (&apart.name, plug(&apart.name));
        run(&format!("ip link add {here} type veth peer name gw netns {name}"))?;
        run(&format!("ip address add 198.18.{number}.1/24 dev {here}"))?;
        for pod in 0..pods {
            run(&format!("ip address add {}/24 dev {here}", apart.pod(pod)))?;
        }
        run(&format!("ip link set {here} up"))?;
        for line in ["ip link set lo up", "ip link set gw up"] {
            apart.run(line)?;
        }
        apart.run(&format!("ip address add {}/24 dev gw", apart.gateway()))?;
        apart.run("nft add table ip faults")?;
        for hook in ["input", "output"] {
            let chain = format!("type filter hook {hook} priority 0 ;");
            apart.run(&format!("nft add chain ip faults {hook} {{ {chain} }}"))?;
        }
        Ok(apart)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, 2)
    }

    /// Where a pod may listen, on our end.
    pub(super) fn pod(&self, pod: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, 11 + pod)
    }

    /// Adds a rule for packets that come to the gateway (`input`) or leave it (`output`).
    pub(super) fn filter(&self, hook: &str, rule: &str) -> anyhow::Result<()> {
        self.run(&format!("nft add rule ip faults {hook} {rule}"))
    }

    /// From now on this host is not there.
    pub(super) fn lose(&self, host: Ipv4Addr) -> anyhow::Result<()> {
        self.filter("input", &format!("ip saddr {host} drop"))?;
        self.filter("output", &format!("ip daddr {host} drop"))
    }

    /// Runs a line of words there.
    pub(super) fn run(&self, line: &str) -> anyhow::Result<()> {
        run(&format!("ip netns exec {} {line}", self.name))
    }
}

/// The cable goes with either end, but a namespace lingers while something runs there.
fn take_away(name: &str) {
    let _ = run(&format!("ip link del {}", plug(name)));
    let _ = run(&format!("ip netns del {name}"));
}

/// Our end of the cable of this namespace: `dlk<process>-<number>`, of 15 characters at most.
fn plug(name: &str) -> String {
    name.replacen("diolkos-", "dlk", 1)
}

fn run(line: &str) -> anyhow::Result<()> {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output();
    let output = output.with_context(|| format!("{program} is not installed"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{line}: {}", said.trim());
    Ok(())
}
