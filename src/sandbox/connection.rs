//! One connection over HTTP/1.1 or HTTP/2: reads requests, answers them, and breaks off when it is told to.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::answer::{self, Abort, AnswerBody};
use super::reply::Cut;
use super::state::{Shared, count};
use super::tls::HTTP2;
use super::{control, graph, light};

/// Bytes of a request body; a batch of 50 of the largest messages stays far below.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Serves a connection until it ends.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    count(&shared.counters.connections);
    shared.counters.open_connections.fetch_add(1, Ordering::Relaxed);
    let _open = OpenConnection(Arc::clone(&shared));
    // A connection without it still works, only slower.
    let _set = stream.set_nodelay(true);
    let Some(tls) = tls else { return serve_http1(stream, shared).await };
    match tls.accept(stream).await {
        Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(HTTP2) => serve_http2(stream, shared).await,
        Ok(stream) => serve_http1(stream, shared).await,
        Err(error) => tracing::debug!(%error, "no TLS with a client of the sandbox"),
    }
}

async fn serve_http1<S: Stream>(stream: S, shared: Arc<Shared>) {
    let service = service_fn(move |request| respond(Arc::clone(&shared), request));
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service);
    let Err(error) = (&mut connection).await else {
        return;
    };
    match error.source().and_then(|cause| cause.downcast_ref::<Abort>()) {
        Some(Abort::Reset) => {
            // Closing with no time to linger sends a reset instead of an orderly end.
            let _set = connection.into_parts().io.into_inner().tcp().set_zero_linger();
        }
        Some(Abort::Close | Abort::Unreadable(_)) | None => {
            tracing::debug!(%error, "connection of the sandbox ended");
        }
    }
}

/// A call that breaks off ends its stream; the connection and its other calls go on.
async fn serve_http2(stream: TlsStream<TcpStream>, shared: Arc<Shared>) {
    let streams = shared.options.http2_streams;
    let service = service_fn(move |request| respond(Arc::clone(&shared), request));
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    let connection = http2.max_concurrent_streams(streams).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection of the sandbox ended");
    }
}

/// What HTTP/1.1 goes over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Counts a connection as open while it lives, also when its task is aborted.
struct OpenConnection(Arc<Shared>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.counters.open_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<AnswerBody>, Abort> {
    let (head, body) = request.into_parts();
    let body = read(body).await?;
    if head.uri.path().starts_with("/sandbox/") {
        return Ok(control::answer(&shared, &head, &body));
    }
    count(&shared.counters.calls);
    let script = shared.script();
    let latency = Duration::from_millis(script.latency_ms.unwrap_or(shared.options.latency_ms));
    if shared.options.light {
        let response = light::answer(&shared, &head, &body);
        pause(latency).await;
        return Ok(response);
    }
    let (reply, version) = graph::answer(&shared, &script, &head, &body);
    pause(latency + reply.disturbance.delay).await;
    match reply.disturbance.cut {
        _ if script.stall_all => std::future::pending().await,
        Some(Cut::Stall) => std::future::pending().await,
        Some(Cut::Reset) => Err(Abort::Reset),
        Some(Cut::InBody) | None => Ok(answer::from_reply(reply, version, &shared.ids)),
    }
}

async fn read(body: Incoming) -> Result<Bytes, Abort> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(Abort::Unreadable(error.to_string())),
    }
}

async fn pause(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}
