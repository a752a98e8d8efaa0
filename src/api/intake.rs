//! Requests as they come in, byte by byte: what a caller may have here that is not decoded yet.
//!
//! A message can only be decoded once it is complete, and who sends it decides when that is. So each call may hold a
//! little of a message, and what is beyond that comes out of a budget that a caller's calls share.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

use super::status;
use crate::error::{Reason, SendError};
use crate::limits::{
    REQUEST_BYTES_OF_CALLER, REQUEST_BYTES_OF_EACH, UNARY_REQUEST_BYTES_MAX, UNARY_REQUEST_KIB_MAX,
};

/// Bytes of a permit.
const KIB: usize = 1024;
/// Bytes before a message: whether it is compressed, and its length (gRPC over HTTP/2, `Length-Prefixed-Message`).
const HEAD: usize = 5;

/// Bytes that the calls of one caller may hold beyond what each may.
#[derive(Clone, Debug)]
pub(super) struct ByteBudget(Arc<Semaphore>);

impl Default for ByteBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REQUEST_BYTES_OF_CALLER / KIB)))
    }
}

impl ByteBudget {
    /// Room for so many bytes, held until the permit is dropped; none is needed for a few.
    ///
    /// # Errors
    /// [`Reason::RateLimited`] if the caller's calls hold too many.
    pub(super) fn hold(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, SendError> {
        let Some(wanted) = permits(bytes) else { return Ok(None) };
        let permit = self.0.clone().try_acquire_many_owned(wanted);
        permit.map(Some).map_err(|_| {
            over_limit("this caller's requests hold too many bytes: send fewer large ones at a time")
        })
    }

    /// Whether all of it is free.
    pub(super) fn is_unused(&self) -> bool {
        self.0.available_permits() == REQUEST_BYTES_OF_CALLER / KIB
    }
}

/// The error of a caller who has as much going on as one may.
pub(super) fn over_limit(message: &'static str) -> SendError {
    SendError { retry_after: Some(Duration::from_secs(1)), ..SendError::new(Reason::RateLimited, message) }
}

/// Permits that a message of this length takes, if it takes any.
fn permits(bytes: usize) -> Option<u32> {
    (bytes > REQUEST_BYTES_OF_EACH).then(|| u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX))
}

/// How a call's requests are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// One message, which is refused if the budget has no room for it.
    Unary,
    /// Many, each of which waits for room.
    Stream,
}

/// The body of a request, read no faster than its caller's budget allows.
pub(super) struct BudgetedBody {
    body: Body,
    intake: Intake,
    budget: ByteBudget,
    room: PollSemaphore,
    head: [u8; HEAD],
    /// Bytes of the head that have come.
    head_length: usize,
    /// Bytes of the message that have not come.
    left: usize,
    /// Room that the message needs and has not got.
    wanted: Option<usize>,
    held: Option<OwnedSemaphorePermit>,
    /// The message that `held` is for is complete: whoever asks for more is done with it.
    is_held_done: bool,
}

impl BudgetedBody {
    pub(super) fn new(body: Body, intake: Intake, budget: ByteBudget) -> Self {
        let room = PollSemaphore::new(budget.0.clone());
        Self {
            body,
            intake,
            budget,
            room,
            head: [0; HEAD],
            head_length: 0,
            left: 0,
            wanted: None,
            held: None,
            is_held_done: false,
        }
    }

    /// Gets the room that the message needs.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if std::mem::take(&mut self.is_held_done) {
            self.held = None;
        }
        let Some(bytes) = self.wanted else { return Poll::Ready(Ok(())) };
        self.held = match self.intake {
            Intake::Unary => self.budget.hold(bytes).map_err(status::status)?,
            Intake::Stream => match permits(bytes) {
                Some(permits) => ready!(self.room.poll_acquire_many(context, permits)),
                None => None,
            },
        };
        self.wanted = None;
        Poll::Ready(Ok(()))
    }

    /// Follows the messages through bytes that have come.
    fn note(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while !bytes.is_empty() {
            if self.head_length == HEAD {
                let (_, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= bytes.len() - rest.len();
                bytes = rest;
            } else {
                let (head, rest) = bytes.split_at((HEAD - self.head_length).min(bytes.len()));
                let end = self.head_length + head.len();
                self.head
                    .get_mut(self.head_length..end)
                    .into_iter()
                    .for_each(|place| place.copy_from_slice(head));
                self.head_length = end;
                bytes = rest;
                if self.head_length < HEAD {
                    return Ok(());
                }
                let [_, length @ ..] = self.head;
                self.left = u32::from_be_bytes(length) as usize;
                self.check_length()?;
                self.wanted = permits(self.left).map(|_| self.left);
            }
            if self.left == 0 {
                self.head_length = 0;
                self.wanted = None;
                self.is_held_done = self.held.is_some();
            }
        }
        Ok(())
    }

    fn check_length(&self) -> Result<(), Status> {
        if self.intake == Intake::Unary && self.left > UNARY_REQUEST_BYTES_MAX {
            let message = format!(
                "the request has {} bytes and must not have more than {UNARY_REQUEST_KIB_MAX} KiB",
                self.left
            );
            return Err(status::status(SendError::new(Reason::InvalidArgument, message)));
        }
        Ok(())
    }
}

impl HttpBody for BudgetedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Err(over) = ready!(self.poll_room(context)) {
            return Poll::Ready(Some(Err(over)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
            && let Err(too_long) = self.note(bytes)
        {
            return Poll::Ready(Some(Err(too_long)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// A body of these pieces, each a frame.
    fn body(intake: Intake, budget: &ByteBudget, pieces: Vec<Vec<u8>>) -> BudgetedBody {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Status>(Frame::data(Bytes::from(piece))));
        let stream = StreamBody::new(futures_util::stream::iter(frames));
        BudgetedBody::new(Body::new(stream), intake, budget.clone())
    }

    fn message(length: usize) -> Vec<u8> {
        [&[0][..], &u32::try_from(length).unwrap().to_be_bytes(), &vec![7; length]].concat()
    }

    fn free(budget: &ByteBudget) -> usize {
        budget.0.available_permits() * KIB
    }

    /// Reads frames until it would have to wait.
    fn read(body: &mut BudgetedBody) -> (usize, Option<Status>) {
        let mut bytes = 0;
        while let Some(Some(frame)) = body.frame().now_or_never() {
            match frame {
                Ok(frame) => bytes += frame.data_ref().unwrap().len(),
                Err(status) => return (bytes, Some(status)),
            }
        }
        (bytes, None)
    }

    #[test]
    fn a_message_holds_room_from_its_head_until_its_reader_asks_for_more() {
        let budget = ByteBudget::default();
        let large = REQUEST_BYTES_OF_EACH + 1;
        let bytes = [message(10), message(0), message(large), message(REQUEST_BYTES_OF_EACH)].concat();
        for piece in [1, 7, 1000, 16 * 1024] {
            let pieces: Vec<_> = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
            let mut body = body(Intake::Stream, &budget, pieces);
            let (mut read, mut least) = (0, free(&budget));
            while let Some(Some(frame)) = body.frame().now_or_never() {
                read += frame.unwrap().data_ref().unwrap().len();
                least = least.min(free(&budget));
            }
            assert_eq!(read, bytes.len(), "{piece}");
            assert_eq!(least, REQUEST_BYTES_OF_CALLER - large.div_ceil(KIB) * KIB, "{piece}");
            assert!(budget.is_unused(), "{piece}");
        }
    }

    #[test]
    fn a_message_that_stops_short_holds_it_as_long_as_its_call() {
        let budget = ByteBudget::default();
        let length = UNARY_REQUEST_BYTES_MAX;
        let short = |_| vec![message(length)[..HEAD].to_vec(), vec![7; 10], vec![7; 10]];
        let count = REQUEST_BYTES_OF_CALLER / length;
        let mut calls: Vec<_> =
            (0..count).map(short).map(|pieces| body(Intake::Unary, &budget, pieces)).collect();
        assert!(calls.iter_mut().all(|call| matches!(read(call), (25, None))));
        assert_eq!(free(&budget), 0);
        // The next one is refused, or waits; small ones pass.
        let (_, refused) = read(&mut body(Intake::Unary, &budget, short(0)));
        assert!(refused.unwrap().message().contains("too many bytes"));
        let mut waiting = body(Intake::Stream, &budget, short(0));
        assert!(matches!(read(&mut waiting), (HEAD, None)));
        let small = vec![message(REQUEST_BYTES_OF_EACH)];
        assert!(matches!(read(&mut body(Intake::Unary, &budget, small)), (_, None)));
        calls.pop();
        assert!(matches!(read(&mut waiting), (20, None)));
    }

    #[test]
    fn a_unary_request_has_a_limit_of_its_own() {
        let budget = ByteBudget::default();
        let head = |length| vec![message(length)[..HEAD].to_vec()];
        for (length, intake, is_refused) in [
            (UNARY_REQUEST_BYTES_MAX, Intake::Unary, false),
            (UNARY_REQUEST_BYTES_MAX + 1, Intake::Unary, true),
            (UNARY_REQUEST_BYTES_MAX + 1, Intake::Stream, false),
        ] {
            let (_, refused) = read(&mut body(intake, &budget, head(length)));
            assert_eq!(refused.is_some(), is_refused, "{length} {intake:?}");
        }
    }
}
