//! HTTP answers: their headers, and bodies that can break off.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::ids::Ids;
use super::reply::{Content, Cut, Reply, usage_header};
use super::version::GraphVersion;

/// Why a connection ends without, or in the middle of, an answer.
#[derive(Debug)]
pub(crate) enum Abort {
    /// On purpose: the peer shall see a reset.
    Reset,
    /// On purpose: the peer shall see the end of the connection.
    Close,
    /// The request could not be read.
    Unreadable(String),
}

impl std::fmt::Display for Abort {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reset => formatter.write_str("reset on purpose"),
            Self::Close => formatter.write_str("closed on purpose"),
            Self::Unreadable(cause) => write!(formatter, "request not read: {cause}"),
        }
    }
}

impl std::error::Error for Abort {}

/// A body that is written whole, or announced whole and written by half.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    /// What is still to be written.
    rest: Bytes,
    /// The length the headers announce.
    length: u64,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Regular,
    /// Gives the written half time to leave, then breaks off.
    Broken {
        has_paused: bool,
    },
}

impl AnswerBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { length: length(&bytes), rest: bytes, end: End::Regular }
    }

    fn half(mut bytes: Bytes) -> Self {
        let length = length(&bytes);
        bytes.truncate(bytes.len() / 2);
        Self { rest: bytes, length, end: End::Broken { has_paused: false } }
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        match &mut self.end {
            End::Regular => Poll::Ready(None),
            End::Broken { has_paused: true } => Poll::Ready(Some(Err(Abort::Close))),
            End::Broken { has_paused } => {
                // hyper flushes what it has whenever a body has nothing ready.
                *has_paused = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.end == End::Regular
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

/// Writes a Graph answer with the headers a live one has.
pub(crate) fn from_reply(reply: Reply, version: GraphVersion, ids: &Ids) -> Response<AnswerBody> {
    let Reply { status, content, usages, disturbance } = reply;
    let kind = content.kind(JSON);
    let bytes = content.into_bytes();
    let body = match disturbance.cut {
        Some(Cut::InBody) => AnswerBody::half(bytes),
        Some(Cut::Reset | Cut::Stall) | None => AnswerBody::whole(bytes),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let mut insert = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    insert("facebook-api-version", &version.to_string());
    if !usages.is_empty() {
        insert("x-business-use-case-usage", &usage_header(&usages));
    }
    insert("x-fb-request-id", &ids.trace());
    insert("x-fb-trace-id", &ids.trace());
    response
}

/// A plain JSON answer of the sandbox's own endpoints.
pub(crate) fn json(status: StatusCode, json: String) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(Content::Json(json).into_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// The `Content-Type` of a live answer.
const JSON: &str = "application/json; charset=UTF-8";
