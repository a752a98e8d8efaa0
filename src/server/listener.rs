//! The accept loop of one port, and its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::connection::{self, Port};
use super::connections::{Connections, Full, Limits, Place};
use crate::limits::{ACCEPT_PAUSE, CONNECTIONS_MAX, CONNECTIONS_OF_PEER_MAX};
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

    /// Takes no more connections and calls. Calls `is_late` if some connections have not ended at `by`, and cuts those that
    /// have not ended `grace` after that.
    pub(super) async fn close(self, by: tokio::time::Instant, grace: Duration, is_late: impl FnOnce()) {
        self.closing.cancel();
        self.tasks.close();
        if timeout_at(by, self.tasks.wait()).await.is_err() {
            is_late();
            if timeout(grace, self.tasks.wait()).await.is_err() {
                tracing::warn!(connections = self.tasks.len(), "connections did not end in time and are cut");
            }
        }
        drop(self.cut);
        self.tasks.wait().await;
    }
}

async fn accept(socket: TcpListener, port: Arc<Port>, metrics: Metrics, tasks: TaskTracker) {
    let limits = Limits { all: CONNECTIONS_MAX, of_peer: CONNECTIONS_OF_PEER_MAX };
    let connections = Arc::new(Connections::new(limits));
    let mut failures = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = take(&socket, &connections) => accepted,
            () = port.closing.cancelled() => return,
        };
        match accepted {
            Ok(Some((stream, place))) => drop(tasks.spawn(connection::serve(port.clone(), stream, place))),
            Ok(None) => {}
            Err(error) => {
                failures += 1;
                metrics.accept_failed();
                tracing::warn!(%error, failures, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The next connection and its place, once there is one; `None` if its peer has too many.
async fn take(
    socket: &TcpListener,
    connections: &Arc<Connections>,
) -> std::io::Result<Option<(TcpStream, Place)>> {
    let (stream, peer) = socket.accept().await?;
    // A connection without it still works, only slower.
    let _set = stream.set_nodelay(true);
    loop {
        match connections.admit(peer.ip(), Instant::now()) {
            Ok(place) => return Ok(Some((stream, place))),
            Err(Full::Peer) => return Ok(None),
            Err(Full::Port) => connections.one_has_ended().await,
        }
    }
}
