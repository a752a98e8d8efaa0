//! The right to make one call on a connection, and the call itself.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{TrySendError, http1, http2};
use tokio::time::{Instant, timeout_at};

use super::{Idle, Pool};
use crate::graph::connector::Body;
use crate::limits::GRAPH_ANSWER_BYTES_MAX;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Connections that one call tries, if those it gets turn out to be closed before anything was written on them.
const LEASES_MAX: usize = 3;
/// A connection that breaks after it was idle for less than this has another reason for that.
const IDLE_BREAK_MIN: Duration = Duration::from_millis(250);
/// Bytes of an answer whose length is not told.
const BODY_BYTES_USUAL: u64 = 1024;
/// Bytes that are reserved for an answer before they come.
const BODY_BYTES_RESERVED_MAX: u64 = 256 * 1024;

/// An HTTP answer, read to its end.
#[derive(Debug)]
pub(in crate::graph) struct HttpAnswer {
    pub(in crate::graph) status: u16,
    pub(in crate::graph) headers: HeaderMap,
    pub(in crate::graph) body: Vec<u8>,
}

/// Why there is no answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::graph) enum NoAnswer {
    /// There was no connection to make it on, because of this: nothing was written.
    NotConnected(String),
    /// It did not come in time.
    Timeout,
    /// The connection broke, or the other side broke the call off.
    Broken,
    /// It has too many bytes.
    TooLong,
}

/// A connection, for one call.
pub(super) struct Lease {
    pool: Arc<Pool>,
    number: u64,
    sender: Option<CallSender>,
    /// True if the connection carries other calls too.
    is_shared: bool,
    /// How long the connection had been idle; `None` if it was not, or is new.
    idle: Option<Duration>,
    /// How long it may be idle after this, if the other side has said so.
    limit: Option<Duration>,
}

/// Where the call is written.
enum CallSender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// How a call ended without an answer.
enum Failure {
    /// Surely nothing of it was written.
    Unwritten(Box<Request<Body>>),
    Written(NoAnswer),
}

impl Pool {
    /// Makes a call, once: what was written of it is never written again.
    ///
    /// # Errors
    /// [`NoAnswer::NotConnected`] if surely nothing was written. Everything else may have reached Graph. That holds also
    /// where HTTP/2 has words for the opposite, REFUSED_STREAM and a GOAWAY that names an earlier stream: they are the
    /// other side's word, given by whatever stands before Graph, and nobody but Graph knows what Graph did.
    pub(in crate::graph) async fn exchange(
        self: &Arc<Self>,
        request: Request<Body>,
        timeout: Duration,
    ) -> Result<HttpAnswer, NoAnswer> {
        let deadline = Instant::now() + timeout;
        let mut request = Box::new(request);
        for _ in 0..LEASES_MAX {
            let mut lease = match timeout_at(deadline, self.lease()).await {
                Ok(lease) => lease.map_err(NoAnswer::NotConnected)?,
                Err(_) => return Err(NoAnswer::NotConnected("no connection was free in time".to_owned())),
            };
            match timeout_at(deadline, lease.exchange(*request)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Failure::Unwritten(unwritten))) => request = unwritten,
                Ok(Err(Failure::Written(failure))) => return Err(failure),
                Err(_) => {
                    lease.retire();
                    return Err(NoAnswer::Timeout);
                }
            }
        }
        Err(NoAnswer::NotConnected("it closes connections as soon as they are made".to_owned()))
    }
}

impl Lease {
    /// A connection that carries this call alone.
    pub(super) fn http1(
        pool: &Arc<Pool>,
        number: u64,
        sender: http1::SendRequest<Body>,
        idle: Option<Duration>,
    ) -> Self {
        Self {
            pool: pool.clone(),
            number,
            sender: Some(CallSender::Http1(sender)),
            is_shared: false,
            idle,
            limit: None,
        }
    }

    /// A part of a connection, which counts this call already.
    pub(super) fn http2(
        pool: &Arc<Pool>,
        number: u64,
        sender: http2::SendRequest<Body>,
        idle: Option<Duration>,
    ) -> Self {
        Self {
            pool: pool.clone(),
            number,
            sender: Some(CallSender::Http2(sender)),
            is_shared: true,
            idle,
            limit: None,
        }
    }

    async fn exchange(&mut self, mut request: Request<Body>) -> Result<HttpAnswer, Failure> {
        let uri = request.uri().clone();
        let result = match self.sender.take() {
            Some(CallSender::Http1(mut sender)) => {
                to_origin_form(&mut request);
                let result = read(sender.try_send_request(request).await).await;
                if let Ok(answer) = &result {
                    self.keep(sender, &answer.headers);
                }
                result
            }
            Some(CallSender::Http2(mut sender)) => read(sender.try_send_request(request).await).await,
            None => Err(Failure::Unwritten(Box::new(request))),
        };
        result.map_err(|failure| match failure {
            Failure::Unwritten(mut request) => {
                *request.uri_mut() = uri;
                Failure::Unwritten(request)
            }
            Failure::Written(failure) => {
                self.note_broken();
                Failure::Written(failure)
            }
        })
    }

    /// Keeps an HTTP/1.1 connection for the next call, as soon as this one is over on both sides.
    fn keep(&mut self, mut sender: http1::SendRequest<Body>, headers: &HeaderMap) {
        self.limit = headers.get(KEEP_ALIVE).and_then(|value| idle_limit(value.to_str().ok()?));
        if sender.is_ready() {
            self.sender = Some(CallSender::Http1(sender));
        } else if !sender.is_closed() {
            let (pool, number, limit) = (self.pool.clone(), self.number, self.limit);
            tokio::spawn(async move {
                if sender.ready().await.is_ok() {
                    // Dropped, it goes back to the others.
                    let mut lease = Self::http1(&pool, number, sender, None);
                    lease.limit = limit;
                }
            });
        }
    }

    /// The connection gets no more calls: one has timed out on it.
    fn retire(&self) {
        let mut state = self.pool.state();
        if let Some(shared) = state.shared.iter_mut().find(|shared| shared.number == self.number) {
            shared.is_retired = true;
        }
    }

    /// A connection that was idle and breaks as it is used again has most likely met its end on the way.
    fn note_broken(&self) {
        if let Some(idle) = self.idle.filter(|idle| *idle >= IDLE_BREAK_MIN) {
            self.pool.state().idle_limit.note_close(idle, Instant::now());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        if self.is_shared {
            state.release(self.number, Instant::now());
        } else if let Some(CallSender::Http1(sender)) = self.sender.take() {
            state.idle.push(Idle { number: self.number, sender, since: Instant::now(), limit: self.limit });
        } else {
            return;
        }
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.pool.changed.notify_one();
        }
    }
}

/// Over HTTP/1.1 a request names its path, and the host in a header.
fn to_origin_form(request: &mut Request<Body>) {
    let uri = std::mem::take(request.uri_mut());
    if let Some(host) = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    if let Some(path) = uri.path_and_query() {
        *request.uri_mut() = Uri::from(path.clone());
    }
}

/// Reads an answer to its end.
async fn read(
    result: Result<Response<Incoming>, TrySendError<Request<Body>>>,
) -> Result<HttpAnswer, Failure> {
    let response = result.map_err(|mut error| match error.take_message() {
        Some(request) => Failure::Unwritten(Box::new(request)),
        None => Failure::Written(NoAnswer::Broken),
    })?;
    let (head, mut incoming) = response.into_parts();
    let expected = incoming.size_hint().exact().unwrap_or(BODY_BYTES_USUAL);
    let mut body = Vec::with_capacity(expected.min(BODY_BYTES_RESERVED_MAX) as usize);
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| Failure::Written(NoAnswer::Broken))?;
        let Ok(data) = frame.into_data() else { continue };
        if body.len() + data.len() > GRAPH_ANSWER_BYTES_MAX {
            return Err(Failure::Written(NoAnswer::TooLong));
        }
        body.extend_from_slice(&data);
    }
    Ok(HttpAnswer { status: head.status.as_u16(), headers: head.headers, body })
}

/// How long a connection may be idle and still be used, by a `Keep-Alive` header: half of the other side's time, as for a
/// time that was learnt.
fn idle_limit(keep_alive: &str) -> Option<Duration> {
    let timeout = keep_alive.split(',').find_map(|part| {
        let (name, seconds) = part.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("timeout") { seconds.trim().parse().ok() } else { None }
    })?;
    Some(Duration::from_secs(timeout) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keep_alive_header_limits_how_long_a_connection_is_used() {
        let table = [
            ("timeout=5, max=100", Some(Duration::from_millis(2500))),
            ("max=100,Timeout = 1", Some(Duration::from_millis(500))),
            ("timeout=0", Some(Duration::ZERO)),
            ("max=100", None),
            ("timeout=soon", None),
        ];
        for (header, expected) in table {
            assert_eq!(idle_limit(header), expected, "{header}");
        }
    }
}
