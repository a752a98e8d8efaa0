//! One connection: from the socket to HTTP/2, with a bound on everything that a client may leave undone.

use std::convert::Infallible;
use std::io::{Cursor, Error, ErrorKind, Result};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::connections::Place;
use super::tls::{self, Tls};
use crate::api::auth::CertificateNames;
use crate::api::connection::{ConnectionUse, Standing};
use crate::api::middleware::Middleware;
use crate::limits::{
    CONNECTION_GOAWAY_TIME, CONNECTION_OPEN_TIMEOUT, CONNECTION_PENDING_RESETS_MAX, CONNECTION_STREAMS_MAX,
    CONNECTION_UNUSED_MAX, CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES,
};

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The answer to a client that says something else.
const NOT_HTTP2: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-length: 36\r\n\r\n\
                           this port speaks gRPC over HTTP/2.\r\n";

/// What the connections of one port share.
#[derive(Debug)]
pub(super) struct Port {
    /// Answers calls.
    middleware: Middleware,
    /// TLS, if the port speaks it.
    tls: Option<Arc<Tls>>,
    /// How long a connection lasts, `None` for ever.
    age_max: Option<Duration>,
    /// Cancelled when connections shall take no new calls, finish those that they have, and end.
    pub(super) closing: CancellationToken,
    /// Cancelled when connections shall end at once; cancels `closing` too.
    pub(super) cut: CancellationToken,
}

impl Port {
    /// A port that is open.
    pub(super) fn new(middleware: Middleware, tls: Option<Arc<Tls>>, age_max: Option<Duration>) -> Self {
        let cut = CancellationToken::new();
        Self { middleware, tls, age_max, closing: cut.child_token(), cut }
    }
}

/// Serves a connection until it ends, or its place is given up.
pub(super) async fn serve(port: Arc<Port>, stream: TcpStream, place: Place) {
    let served = match &port.tls {
        None => serve_stream(&port, stream, None, &place).await,
        Some(tls) => serve_tls(&port, tls, stream, &place).await,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

async fn serve_tls(port: &Arc<Port>, tls: &Tls, stream: TcpStream, place: &Place) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.get()));
    let stream = in_time(port, place, acceptor.accept(stream)).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let names = certificate.map(tls::names);
    serve_stream(port, stream, names, place).await
}

async fn serve_stream(
    port: &Arc<Port>,
    mut stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    names: Option<CertificateNames>,
    place: &Place,
) -> Result<()> {
    // HTTP/2 itself would wait for the preface for ever, and not even end when told to.
    let mut preface = [0; PREFACE.len()];
    in_time(port, place, stream.read_exact(&mut preface)).await?;
    if preface != *PREFACE {
        in_time(port, place, stream.write_all(NOT_HTTP2)).await?;
        return Err(Error::new(ErrorKind::InvalidData, "the client does not speak HTTP/2"));
    }
    let (reader, writer) = tokio::io::split(stream);
    let stream = tokio::io::join(Cursor::new(preface).chain(reader), writer);
    let service = service_fn(|mut request: Request<Incoming>| {
        if let Some(names) = &names {
            request.extensions_mut().insert(names.clone());
        }
        request.extensions_mut().insert(place.usage.clone());
        let middleware = port.middleware.clone();
        async move { Ok::<_, Infallible>(middleware.call(request.map(Body::new)).await) }
    });
    let mut connection = pin!(http2().serve_connection(TokioIo::new(stream), service));
    let mut must_end_soon = false;
    tokio::select! {
        served = connection.as_mut() => return served.map_err(Error::other),
        () = port.closing.cancelled() => {}
        () = grow_old(port.age_max) => {}
        () = stay_unused(&place.usage) => must_end_soon = true,
        () = place.given_up.cancelled() => must_end_soon = true,
        () = port.cut.cancelled() => return Ok(()),
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        served = connection => served.map_err(Error::other),
        () = end_soon(&place.usage), if must_end_soon => Ok(()),
        () = port.cut.cancelled() => Ok(()),
    }
}

/// Returns once a connection had no call for long, if no caller ever made one over it.
async fn stay_unused(usage: &ConnectionUse) {
    let mut wait = CONNECTION_UNUSED_MAX;
    loop {
        sleep(wait).await;
        wait = match usage.standing() {
            Standing::Active => CONNECTION_UNUSED_MAX,
            Standing::Idle { has_caller: true, .. } => std::future::pending().await,
            Standing::Idle { since, .. } => match CONNECTION_UNUSED_MAX.checked_sub(since.elapsed()) {
                Some(left) => left,
                None => return,
            },
        }
    }
}

/// Returns once a client has had time to hear that its connection ends, and no call is under way.
async fn end_soon(usage: &ConnectionUse) {
    loop {
        sleep(CONNECTION_GOAWAY_TIME).await;
        if usage.standing() != Standing::Active {
            return;
        }
    }
}

/// A step of opening a connection, which a client may not draw out, and for which a shutdown does not wait.
async fn in_time<T>(port: &Port, place: &Place, step: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = tokio::time::timeout(CONNECTION_OPEN_TIMEOUT, step) => done?,
        () = port.closing.cancelled() => Err(ErrorKind::ConnectionAborted.into()),
        () = place.given_up.cancelled() => Err(ErrorKind::ConnectionAborted.into()),
    }
}

/// Varied by a tenth, so that the clients of a replica do not all come back at once.
async fn grow_old(age_max: Option<Duration>) {
    match age_max {
        Some(age) => sleep(age.mul_f64(0.9 + 0.2 * fastrand::f64())).await,
        None => std::future::pending().await,
    }
}

/// HTTP/2 settings. Fixed windows, never adaptive ones: the adaptive kind lets a stream of small frames kill its
/// connection.
fn http2() -> http2::Builder<TokioExecutor> {
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .max_frame_size(16 * 1024)
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_pending_accept_reset_streams(CONNECTION_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(1024);
    http2
}
