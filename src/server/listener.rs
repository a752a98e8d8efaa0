//! The accept loop of one port, and its end.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::connection::{self, Port};
use crate::limits::{ACCEPT_PAUSE, CONNECTIONS_MAX};
use crate::telemetry::metrics::Metrics;

/// A port that takes connections. Dropping it cuts them.
#[derive(Debug)]
pub(super) struct Listening {
    closing: CancellationToken,
    cut: DropGuard,
    /// The accept loop and every connection.
    tasks: TaskTracker,
}

impl Listening {
    /// Takes connections from now on.
    pub(super) fn start(socket: TcpListener, port: Port, metrics: Metrics) -> Self {
        let tasks = TaskTracker::new();
        let listening =
            Self { closing: port.closing.clone(), cut: port.cut.clone().drop_guard(), tasks: tasks.clone() };
        tasks.spawn(accept(socket, Arc::new(port), metrics, tasks.clone()));
        listening
    }

    /// Takes no more connections and calls, and cuts the connections that have not ended at `by`.
    pub(super) async fn close(self, by: Instant) {
        self.closing.cancel();
        self.tasks.close();
        if timeout_at(by, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "connections did not end in time and are cut");
        }
        drop(self.cut);
        self.tasks.wait().await;
    }
}

async fn accept(socket: TcpListener, port: Arc<Port>, metrics: Metrics, tasks: TaskTracker) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut failures = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = take(&socket, &room) => accepted,
            () = port.closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, permit)) => {
                let port = port.clone();
                tasks.spawn(async move {
                    connection::serve(port, stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                failures += 1;
                metrics.accept_failed();
                tracing::warn!(%error, failures, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The next connection, once there is room for it.
async fn take(
    socket: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = socket.accept().await?;
    // A connection without it still works, only slower.
    let _set = stream.set_nodelay(true);
    Ok((stream, permit))
}
