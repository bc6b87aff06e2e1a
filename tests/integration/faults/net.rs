//! A client's host, the gateway's host, and a host for each pod: clients and pods reach the gateway
//! and nobody else. Must not know: what goes wrong.

use std::net::SocketAddr;

use diolkos::{gateway::Config, routing::Policy};

use super::peer::Peer;
use crate::support::{Pod, World, host::Host, table_of, tools};

/// The gateway as the client sees it.
const GATEWAY: [u8; 4] = [10, 1, 0, 1];

pub struct Net {
    pub client: Host,
    pub gateway: Host,
    pub pods: Vec<Host>,
}

impl Net {
    /// `None` where hosts cannot be made, or nothing be done to them.
    pub fn new(pods: usize) -> Option<Self> {
        for tool in ["nft", "ss", "tc"] {
            tools::find(tool)?;
        }
        let (client, gateway, pods) = (Host::new()?, Host::new()?, Host::some(pods)?);
        client.link("10.1.0.2/24", &gateway, "10.1.0.1/24");
        for (pod, n) in pods.iter().zip(0..) {
            pod.link(&format!("10.2.{n}.2/24"), &gateway, &format!("10.2.{n}.1/24"));
        }
        // Hosts with little memory: what is on its way to one that does not read is soon enough.
        for host in [&client].into_iter().chain(&pods) {
            host.tune("ipv4/tcp_rmem", "4096 131072 262144");
            host.tune("ipv4/tcp_wmem", "4096 131072 262144");
        }
        Some(Self { client, gateway, pods })
    }

    /// A listener on each pod's host.
    pub fn listeners(&self) -> Vec<Pod> {
        let hosts = self.pods.iter().zip(0..);
        hosts.map(|(host, n)| host.within(|| Pod::at(([10, 2, n, 2], 0).into()))).collect()
    }

    /// A gateway on its host.
    pub fn serve(
        &self,
        endpoints: &[SocketAddr],
        policy: Policy,
        change: impl FnOnce(&mut Config) + Send,
    ) -> World {
        self.gateway.within(|| {
            World::serve(table_of(endpoints, policy), |config| {
                config.listen = vec![(GATEWAY, 0).into()];
                change(config);
            })
        })
    }

    /// A connection through the gateway to a pod, both ends scripted.
    pub fn connect(&self, world: &World, pod: &Pod, number: u64) -> (Peer, Peer) {
        let client = Peer::client(self.client.within(|| world.dial()), number);
        (client, Peer::server(pod.accept()))
    }
}
