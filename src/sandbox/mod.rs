//! The sandbox: a fake Graph API for the Messenger Send API, strict about Meta's rules.
//!
//! It answers sends, uploads, probes and batches as Graph does, fails on purpose when a recipient's
//! id, a token or a script asks for it ([`MAGIC_RECIPIENTS`] lists them), and shows what it
//! received. It is written from Meta's documentation and from recorded answers, and shares nothing
//! with the code that makes Graph calls, so that each checks the other.
//!
//! * `options`: what it can be told at its start
//! * `connection`, `tls`, `answer`: HTTP/1.1 and HTTP/2, down to resets and bodies that break off
//! * `graph`, `target`, `decode`, `credential`, `version`: a Graph call taken apart
//! * `send`, `batch`: what becomes of it; `rules`: Meta's rules; `magic`, `script`: faults
//! * `reply`, `graph_error`: what it is answered with
//! * `state`, `page`, `rate`, `ids`: what is remembered; `control` shows and steers it
//! * `light`: the cheap mode for benchmarks

mod answer;
mod batch;
mod connection;
mod control;
mod credential;
mod decode;
mod graph;
mod graph_error;
mod ids;
mod light;
mod magic;
mod options;
mod page;
mod rate;
mod reply;
mod rules;
mod script;
mod send;
mod state;
mod target;
mod tls;
mod version;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use magic::MAGIC_RECIPIENTS;
pub use options::Options;
use state::Shared;
pub use version::{GraphVersion, InvalidVersion};

/// A sandbox that listens and is not served yet.
pub struct Sandbox {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
}

/// Shows the address only: what was received is nobody's business but the asker's.
impl fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sandbox").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Pause after a failed accept: it fails when file descriptors run out, and would at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Sandbox {
    /// Listens on the address of `options`. Connections wait until [`Sandbox::serve`] is called.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened on, or the certificate cannot be used.
    pub async fn bind(options: Options) -> io::Result<Self> {
        let tls = tls::acceptor(&options)?;
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, tls, shared: Arc::new(Shared::new(options)) })
    }

    /// The address it listens on, with the real port if port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What a client uses instead of `https://graph.facebook.com`. Over TLS the host's name is `localhost`, because
    /// certificates rarely hold numbers.
    pub fn url(&self) -> String {
        match self.tls {
            Some(_) => format!("https://localhost:{}", self.address.port()),
            None => format!("http://{}", self.address),
        }
    }

    /// Serves until `shutdown` is ready, then drops all connections at once.
    ///
    /// # Errors
    ///
    /// None today; failed accepts are logged and tried again.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        // Dropping the set aborts its tasks, and with them their connections.
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => return Ok(()),
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _peer)) => {
                    connections.spawn(connection::serve(stream, Arc::clone(&self.shared), self.tls.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "sandbox could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}
