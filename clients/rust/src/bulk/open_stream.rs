//! One stream as its client sees it.

use std::collections::VecDeque;

use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use crate::client::MessengerClient;
use crate::connection::Place;
use crate::error::MessengerError;
use crate::v1;
use crate::v1::messenger_service_client::MessengerServiceClient as Stub;
use crate::v1::send_bulk_messages_request::Frame;
use crate::v1::send_bulk_messages_response::Frame as Answer;

/// Frames that may wait for the transport.
const FRAMES_WAITING_MAX: usize = 1;

/// A stream whose start the service has taken. Dropping it, its writer and its reader together, cancels it.
pub(super) struct OpenStream {
    /// `None` after the half-close.
    pub(super) frames: Option<mpsc::Sender<v1::SendBulkMessagesRequest>>,
    pub(super) answers: Streaming<v1::SendBulkMessagesResponse>,
    pub(super) in_flight_max: usize,
    /// Places of the items that are to be written, in the order of the source.
    pub(super) to_write: VecDeque<u64>,
    /// Why items were put off to a later stream. This one then takes no more.
    pub(super) put_off: Option<MessengerError>,
    /// That items were put off because they are in progress, which does not concern the others.
    pub(super) in_progress: Option<MessengerError>,
    pub(super) opened: Instant,
    _place: Place,
}

impl OpenStream {
    /// Opens a stream for the items that earlier ones left.
    ///
    /// # Errors
    /// What it ends with instead, or that the service does not accept it in time.
    pub(super) async fn open(
        client: &MessengerClient,
        start: v1::BulkStart,
        to_write: VecDeque<u64>,
    ) -> Result<Self, MessengerError> {
        let (frames, mut receiver) = mpsc::channel(FRAMES_WAITING_MAX);
        let start = v1::SendBulkMessagesRequest { frame: Some(Frame::Start(Box::new(start))) };
        // The receiver is alive and the channel is empty: this cannot fail.
        drop(frames.send(start).await);
        let requests = stream::poll_fn(move |context| receiver.poll_recv(context));
        let (connection, place) = client.connection();
        let answered = tokio::time::timeout(client.timeout, async {
            let mut answers = Stub::new(connection).send_bulk_messages(requests).await?.into_inner();
            let first = answers.message().await?;
            Ok::<_, Status>((answers, first))
        });
        let (answers, first) = answered.await.map_err(|_| {
            MessengerError::new(Code::Unavailable, "the service did not take the start in time")
        })??;
        match first.and_then(|answer| answer.frame) {
            Some(Answer::Accepted(accepted)) => Ok(Self {
                frames: Some(frames),
                answers,
                in_flight_max: usize::try_from(accepted.max_in_flight).unwrap_or(1).max(1),
                to_write,
                put_off: None,
                in_progress: None,
                opened: Instant::now(),
                _place: place,
            }),
            Some(Answer::Results(_) | Answer::Summary(_)) | None => {
                let message = "the service did not answer the start with accepted";
                Err(MessengerError::new(Code::Internal, message))
            }
        }
    }

    /// Why the service left items to a later stream, if it did.
    pub(super) fn why_put_off(&mut self) -> Option<MessengerError> {
        self.put_off.take().or(self.in_progress.take())
    }
}

pub(super) fn ended_early(before: &str) -> MessengerError {
    MessengerError::new(Code::Unavailable, format!("the service ended the stream before {before}"))
}

/// Room for one frame, when the transport has it; `None` if it takes none any more.
pub(super) async fn room_for_frame(
    frames: Option<&mpsc::Sender<v1::SendBulkMessagesRequest>>,
) -> Option<mpsc::Permit<'_, v1::SendBulkMessagesRequest>> {
    match frames {
        Some(frames) => frames.reserve().await.ok(),
        None => None,
    }
}
