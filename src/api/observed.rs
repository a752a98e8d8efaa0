//! Calls as metrics and traces see them: from their first header to the last byte of their answer, streams included.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tracing::Span;

use super::connection::ActiveCall;
use super::pb;
use super::status::{self, CallCode};
use crate::error::Outcome;
use crate::telemetry::metrics::{Metrics, Tally};
use crate::telemetry::traces;

/// Sees the calls of a service.
#[derive(Debug)]
pub(super) struct Observer {
    metrics: Metrics,
    /// Names of the methods that there are, by path. Paths come from outside, so others are not told apart.
    methods: HashMap<String, Arc<str>>,
    unknown: Arc<str>,
}

/// A call that is under way. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct ObservedCall {
    metrics: Metrics,
    method: Arc<str>,
    began: Instant,
    /// Not known as long as the answer is not at its end.
    code: Option<CallCode>,
    span: Span,
    /// What the call holds until its end.
    held: Held,
}

/// What a call holds until the last byte of its answer.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Of its connection.
    pub(super) connection: Option<ActiveCall>,
    /// Of what its caller, or all that check health, may have under way.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// A message whose caller waits for its outcome, and may leave before that.
#[derive(Debug)]
pub(super) struct ObservedMessage {
    metrics: Metrics,
    is_answered: bool,
}

/// The answer to a call.
struct ObservedBody {
    body: Body,
    call: ObservedCall,
}

impl Observer {
    pub(super) fn new(metrics: Metrics) -> Self {
        let descriptors = [
            pb::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        ];
        let files = descriptors.into_iter().filter_map(|bytes| FileDescriptorSet::decode(bytes).ok());
        let mut methods = HashMap::new();
        for file in files.flat_map(|set| set.file) {
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    methods.insert(format!("/{name}"), name.into());
                }
            }
        }
        Self { metrics, methods, unknown: "_OTHER".into() }
    }

    /// A call begins. Probes are too many to be traced.
    pub(super) fn begin(&self, request: &Request<Body>, is_probe: bool) -> ObservedCall {
        let method = self.methods.get(request.uri().path()).unwrap_or(&self.unknown);
        let span = if is_probe { Span::none() } else { traces::call_span(method, request.headers()) };
        ObservedCall {
            metrics: self.metrics.clone(),
            method: method.clone(),
            began: Instant::now(),
            code: None,
            span,
            held: Held::default(),
        }
    }
}

impl ObservedCall {
    /// What happens for the call belongs into this span.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Follows the answer to its end, and holds this until then.
    pub(super) fn follow(mut self, response: Response<Body>, held: Held) -> Response<Body> {
        self.held = held;
        self.note(response.headers());
        response.map(|body| Body::new(ObservedBody { body, call: self }))
    }

    fn note(&mut self, headers: &HeaderMap) {
        self.code = status::call_code(headers).or(self.code);
    }
}

impl Drop for ObservedCall {
    fn drop(&mut self) {
        // An answer that did not get to its end was not wanted any more.
        let CallCode { name, is_error } = self.code.unwrap_or(status::CALLER_LEFT);
        self.metrics.rpc_ended(&self.method, name, is_error, self.began.elapsed());
        traces::end_call(&self.span, name, is_error);
    }
}

impl ObservedMessage {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), is_answered: false }
    }

    /// This is what the caller is told.
    pub(super) fn ended(mut self, outcome: &Outcome) {
        self.is_answered = true;
        let mut tally = Tally::default();
        note_outcome(&mut tally, outcome);
        self.metrics.messages_ended(&tally);
    }
}

impl Drop for ObservedMessage {
    fn drop(&mut self) {
        if !self.is_answered {
            unanswered(&self.metrics, 1);
        }
    }
}

/// Counts an outcome that a caller is told.
pub(super) fn note_outcome(tally: &mut Tally, outcome: &Outcome) {
    let (state, reason) = status::outcome_names(outcome);
    tally.add(state, reason, 1);
    let is_replay = matches!(outcome, Outcome::Sent(receipt) if receipt.replayed);
    tally.add_replays(u64::from(is_replay));
}

/// The callers of so many messages left before they had an outcome.
pub(super) fn unanswered(metrics: &Metrics, messages: usize) {
    if messages > 0 {
        let mut tally = Tally::default();
        tally.add("UNANSWERED", None, messages as u64);
        metrics.messages_ended(&tally);
    }
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.note(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
