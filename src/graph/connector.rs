//! Opens a connection to Graph: finds the host, agrees on encryption and on a version of HTTP.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::address::Address;
use super::pool::Pool;
use crate::limits::{
    GRAPH_CONNECT_TIMEOUT, GRAPH_CONNECTION_WINDOW_BYTES, GRAPH_PING_INTERVAL, GRAPH_PING_TIMEOUT,
    GRAPH_STREAM_WINDOW_BYTES,
};

/// The body of a call.
pub(super) type Body = Full<Bytes>;

/// How long a connection is silent until the operating system asks for a sign of life, and how often it asks.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
/// How long written bytes may stay without a sign of arrival.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens connections to one host.
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    origin: Uri,
}

/// A connection, and what must run for it to work.
pub(super) struct Connection {
    pub(super) sender: Sender,
    /// Ends with the connection.
    pub(super) driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// The end of a connection that takes calls.
pub(super) enum Sender {
    /// One at a time.
    Http1(http1::SendRequest<Body>),
    /// Many at a time: as many as the other side allows at the moment.
    Http2(http2::SendRequest<Body>, Arc<AtomicUsize>),
}

impl Connector {
    /// A connector to a host. Besides the authorities that the system trusts, it trusts those of a PEM file, if there is
    /// one.
    ///
    /// # Errors
    /// If the host is called over TLS and no authority could be found to trust.
    pub(super) fn new(address: &Address, authorities: Option<&Path>) -> anyhow::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(GRAPH_CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_keepalive_interval(Some(TCP_KEEPALIVE));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let tls = if address.is_tls() {
            let host = address.host().trim_matches(['[', ']']).to_owned();
            Some((tls_connector(authorities)?, ServerName::try_from(host).context("the address of graph")?))
        } else {
            None
        };
        Ok(Self { tcp, tls, origin: address.origin()? })
    }

    /// A pool of connections to the host. Only an encrypted connection tells which version of HTTP the host speaks.
    pub(super) fn into_pool(self) -> Pool {
        let is_http2 = if self.tls.is_some() { None } else { Some(false) };
        let connector = Arc::new(self);
        Pool::new(
            is_http2,
            Box::new(move || {
                let connector = connector.clone();
                Box::pin(async move { connector.connect().await })
            }),
        )
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// If there is none in time; the text says why.
    async fn connect(&self) -> Result<Connection, String> {
        match tokio::time::timeout(GRAPH_CONNECT_TIMEOUT, self.open()).await {
            Ok(opened) => opened.map_err(|error| described(&*error)),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    async fn open(&self) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        let mut tcp = self.tcp.clone();
        poll_fn(|context| tcp.poll_ready(context)).await?;
        let stream = tcp.call(self.origin.clone()).await?;
        let Some((tls, host)) = &self.tls else {
            return Ok(over_http1(stream).await?);
        };
        let stream = tls.connect(host.clone(), stream.into_inner()).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = TokioIo::new(stream);
        Ok(if is_http2 { over_http2(stream).await? } else { over_http1(stream).await? })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connector").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Speaks HTTP/1.1 over a stream.
///
/// # Errors
/// None in practice.
pub(super) async fn over_http1<S>(stream: TokioIo<S>) -> hyper::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(stream).await?;
    Ok(Connection { sender: Sender::Http1(sender), driver: Box::pin(until_end(connection)) })
}

/// Speaks HTTP/2 over a stream, once the other side has said how many calls it allows.
///
/// # Errors
/// If the other side does not speak it.
pub(super) async fn over_http2<S>(stream: TokioIo<S>) -> Result<Connection, Box<dyn Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let executor = Executor::default();
    let (sender, mut connection) = http2::Builder::new(executor.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(GRAPH_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(GRAPH_CONNECTION_WINDOW_BYTES)
        // None until the other side has said how many it allows: those it did not expect it would refuse.
        .initial_max_send_streams(0)
        .keep_alive_interval(GRAPH_PING_INTERVAL)
        .keep_alive_timeout(GRAPH_PING_TIMEOUT)
        .handshake(stream)
        .await?;
    while connection.current_max_send_streams() == 0 {
        tokio::select! {
            () = executor.progress.notified() => {}
            ended = &mut connection => return Err(ended.err().map_or("it closed the connection".into(), Into::into)),
        }
    }
    executor.is_watched.store(false, Ordering::Relaxed);
    let streams = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
    let allowed = streams.clone();
    let driver = poll_fn(move |context| {
        let polled = Pin::new(&mut connection).poll(context);
        allowed.store(connection.current_max_send_streams(), Ordering::Relaxed);
        polled
    });
    Ok(Connection { sender: Sender::Http2(sender, streams), driver: Box::pin(until_end(driver)) })
}

/// Runs the tasks of an HTTP/2 connection, and tells of their progress as long as someone watches: the connection does not
/// tell when the other side's settings have come.
#[derive(Clone)]
struct Executor {
    progress: Arc<Notify>,
    is_watched: Arc<AtomicBool>,
}

impl Default for Executor {
    fn default() -> Self {
        Self { progress: Arc::default(), is_watched: Arc::new(AtomicBool::new(true)) }
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let Self { progress, is_watched } = self.clone();
        tokio::spawn(async move {
            tokio::pin!(task);
            poll_fn(|context| {
                let polled = task.as_mut().poll(context);
                if is_watched.load(Ordering::Relaxed) {
                    progress.notify_one();
                }
                polled
            })
            .await
        });
    }
}

async fn until_end(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(error = described(&error), "a connection to graph ended");
    }
}

/// An error and what it comes from. Errors of connections hold nothing of what they carry.
fn described(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn tls_connector(authorities: Option<&Path>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (known, _unreadable) = roots.add_parsable_certificates(system.certs);
    if let Some(path) = authorities {
        let of_file = || format!("cannot read certificates from {}", path.display());
        let certificates = CertificateDer::pem_file_iter(path).with_context(of_file)?;
        for certificate in certificates {
            roots.add(certificate.with_context(of_file)?).with_context(of_file)?;
        }
    }
    ensure!(
        known > 0 || !roots.is_empty(),
        "the system has no certificates of authorities to trust: install them (ca-certificates), or name them in \
         SSL_CERT_FILE"
    );
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
