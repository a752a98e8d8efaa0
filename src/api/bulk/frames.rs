//! What a stream reads and writes: frames of the protocol.

use std::time::Duration;

use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::codegen::Bytes;
use tonic::{Status, Streaming};

use super::items::{FrameFault, ItemsFrame};
use super::stream::Counts;
use crate::api::auth::Principal;
use crate::api::context::Context;
use crate::api::pb::send_bulk_messages_response::Frame as Answer;
use crate::api::wire::{SendBulkMessagesRequest as Request, send_bulk_messages_request::Frame};
use crate::api::{pb, status};
use crate::error::{Reason, SendError};
use crate::limits::{
    BULK_START_TIMEOUT, ITEMS_PER_FRAME_MAX, UNARY_REQUEST_BYTES_MAX, UNARY_REQUEST_KIB_MAX,
};

/// What a start comes to in memory at most, as a multiple of its bytes: a value of two bytes becomes one of 32.
const START_BYTES_FACTOR: usize = 16;

pub(super) type Answers = mpsc::Sender<Result<pb::SendBulkMessagesResponse, Status>>;

/// The first frame, for which the service waits neither for ever nor while it shuts down.
pub(super) async fn read_start(
    context: &Context,
    requests: &mut Streaming<Request>,
    answers: &Answers,
) -> Result<Bytes, Status> {
    let first = tokio::select! {
        biased;
        first = requests.message() => first?,
        () = context.drain.began.cancelled() => return Err(draining()),
        () = answers.closed() => return Err(caller_left()),
        () = tokio::time::sleep(BULK_START_TIMEOUT) => {
            return Err(status::protocol_violation("the first frame must be start, and come at once"));
        }
    };
    match first.and_then(|request| request.frame) {
        Some(Frame::Start(start)) => Ok(start),
        Some(Frame::Items(_)) | None => Err(status::protocol_violation("the first frame must be start")),
    }
}

/// Room for what a start comes to, held as long as the stream.
pub(super) fn hold_start(
    start: &Bytes,
    principal: &Principal,
) -> Result<Option<OwnedSemaphorePermit>, Status> {
    if start.len() > UNARY_REQUEST_BYTES_MAX {
        let description = format!("must not have more than {UNARY_REQUEST_KIB_MAX} KiB");
        return Err(status::status(SendError::violation("start", description)));
    }
    principal.bytes().hold(START_BYTES_FACTOR * start.len()).map_err(status::status)
}

/// Decodes the start.
pub(super) fn decode_start(start: Bytes) -> Result<pb::BulkStart, Status> {
    pb::BulkStart::decode(start).map_err(|_| status::protocol_violation("start is not valid protobuf"))
}

/// Writes a frame.
pub(super) async fn send(answers: &Answers, frame: Answer) -> Result<(), Status> {
    let response = pb::SendBulkMessagesResponse { frame: Some(frame) };
    answers.send(Ok(response)).await.map_err(|_| caller_left())
}

/// Nobody reads what the stream ends with.
pub(super) fn caller_left() -> Status {
    Status::cancelled("the caller has left")
}

/// The end of a stream of a service that shuts down.
pub(super) fn draining() -> Status {
    status::status(SendError {
        retry_after: Some(Duration::from_secs(1)),
        ..SendError::new(Reason::Draining, "this replica is shutting down: open the bulk again")
    })
}

/// The items of a frame that is not the first one.
pub(super) fn items(request: Request) -> Result<ItemsFrame, Status> {
    match request.frame {
        Some(Frame::Items(bytes)) => ItemsFrame::new(bytes).map_err(|fault| match fault {
            FrameFault::TooMany => status::protocol_violation(format!(
                "a frame must not hold more than {ITEMS_PER_FRAME_MAX} items: put some hundred into each"
            )),
            FrameFault::Malformed => status::protocol_violation("items are not valid protobuf"),
        }),
        Some(Frame::Start(_)) => {
            Err(status::protocol_violation("start must be sent once, as the first frame"))
        }
        None => Err(status::protocol_violation("a frame must be start or items")),
    }
}

impl From<Counts> for pb::BulkCounts {
    fn from(counts: Counts) -> Self {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Self {
            sent: count(counts.sent),
            rejected: count(counts.rejected),
            failed: count(counts.failed),
            unknown: count(counts.unknown),
            not_sent: count(counts.not_sent),
            replayed: count(counts.replayed),
        }
    }
}
