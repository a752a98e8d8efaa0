//! The admin port: `/metrics` for Prometheus, `/livez` and `/readyz` for probes, over HTTP/1.1.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::api::health::Health;
use crate::limits::{ACCEPT_PAUSE, ADMIN_CONNECTION_AGE_MAX, ADMIN_CONNECTIONS_MAX, CONNECTION_OPEN_TIMEOUT};
use crate::telemetry::metrics::Metrics;

/// What Prometheus wants its text format called (exposition formats, version 0.0.4).
const METRICS_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const TEXT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers for a service.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    pub(super) health: Health,
    pub(super) metrics: Metrics,
}

/// Takes connections until it is dropped, which cuts them.
pub(super) async fn serve(listener: TcpListener, admin: Admin) {
    let room = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    while let Ok(permit) = room.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = admin.clone();
                connections.spawn(async move {
                    serve_connection(stream, admin).await;
                    drop(permit);
                });
            }
            Err(error) => {
                admin.metrics.accept_failed();
                tracing::warn!(%error, "a connection to the admin port cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, admin: Admin) {
    let service = service_fn(|request| {
        let answer = admin.answer(&request);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_OPEN_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever comes often opens another one.
    if let Ok(Err(error)) = timeout(ADMIN_CONNECTION_AGE_MAX, connection).await {
        tracing::debug!(%error, "connection to the admin port ended");
    }
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, "alive\n"),
            "/readyz" if self.health.is_ready() => text(StatusCode::OK, "ready\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            "/metrics" => match self.metrics.text() {
                Ok(metrics) => respond(StatusCode::OK, METRICS_TYPE, metrics),
                Err(error) => {
                    tracing::error!(%error, "the metrics cannot be written");
                    text(StatusCode::INTERNAL_SERVER_ERROR, "a bug: the log tells more\n")
                }
            },
            _ => text(StatusCode::NOT_FOUND, "ask for /metrics, /livez or /readyz\n"),
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    respond(status, TEXT_TYPE, text)
}

fn respond(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
