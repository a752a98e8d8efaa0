//! The accept loop of one port.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::connection::{self, Port};
use crate::limits::{ACCEPT_PAUSE, CONNECTIONS_MAX};

/// Accepts connections until the port closes, and lets the tracker know each of them.
pub(super) async fn accept(socket: TcpListener, port: Arc<Port>, connections: TaskTracker) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut failures = 0_u64;
    loop {
        // Never fails: nobody closes the semaphore.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = port.closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                // A connection without it still works, only slower.
                let _set = stream.set_nodelay(true);
                let port = port.clone();
                connections.spawn(async move {
                    connection::serve(port, stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, failures, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
