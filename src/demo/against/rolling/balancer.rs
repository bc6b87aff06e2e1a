//! A load balancer as a Service of Kubernetes is one: a single address; each connection goes to one
//! of those that are ready, and stays there. Must not know: what is balanced.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::net;

/// Where it listens.
pub const PORT: u16 = 15443;

/// Ends, connections and all, when dropped.
#[derive(Debug)]
pub struct Balancer {
    ready: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Starts it on this address, with nobody ready.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(ip: Ipv4Addr) -> io::Result<Self> {
        let listener = TcpListener::bind((ip, PORT)).await?;
        let ready = Arc::<Mutex<Vec<SocketAddr>>>::default();
        let task = tokio::spawn(accept(listener, Arc::clone(&ready)));
        Ok(Self { ready, task })
    }

    /// From now on new connections go to these.
    pub fn set(&self, ready: &[SocketAddr]) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready.to_vec();
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, ready: Arc<Mutex<Vec<SocketAddr>>>) {
    let mut relays = JoinSet::new();
    let mut turn = 0;
    while let Ok((client, _)) = listener.accept().await {
        turn += 1;
        let ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
        let to = ready.get(turn % ready.len().max(1)).copied();
        drop(ready);
        relays.spawn(async move {
            if let Some(to) = to {
                relay(client, to).await;
            }
        });
    }
}

/// Ends as the peers do: what breaks off on one side breaks off on the other.
async fn relay(mut client: TcpStream, to: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(to).await else {
        return net::reset_on_close(&client);
    };
    if copy_bidirectional(&mut client, &mut server).await.is_err() {
        net::reset_on_close(&client);
        net::reset_on_close(&server);
    }
}
