//! The accept loop of one listener. Must not know: what becomes of a connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, oneshot},
    time::{sleep, timeout},
};

use super::Shared;

/// After an error of accept, so that a lack of descriptors does not spin.
const PAUSE: Duration = Duration::from_millis(100);
/// Of what waits when a listener is closed, so many are still served: a backlog can hold no more.
const LAST_MAX: usize = 4096;

/// One of the connections that may live at once; held until it is over.
pub(super) type Place = OwnedSemaphorePermit;

/// Accepts until `stop` fires or is dropped, and then what waits: to close a listener resets it.
pub(super) async fn run(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stop: oneshot::Receiver<()>,
    serve: impl Fn(TcpStream, SocketAddr, Place),
) {
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                is_failing = false;
                let Some(place) = place(&shared).await else { return };
                serve(stream, crate::net::unmapped(peer), place);
            }
            Err(error) => {
                if !is_failing {
                    tracing::warn!(%error, "accept failed: connections wait");
                }
                is_failing = true;
                sleep(PAUSE).await;
            }
        }
    }
    for _ in 0..LAST_MAX {
        let Ok(Ok((stream, peer))) = timeout(Duration::ZERO, listener.accept()).await else {
            return;
        };
        let Some(place) = place(&shared).await else { return };
        serve(stream, crate::net::unmapped(peer), place);
    }
}

/// Waits for a place; the accepted one waits with us, the rest in the backlog.
async fn place(shared: &Shared) -> Option<Place> {
    Arc::clone(&shared.places).acquire_owned().await.ok()
}
