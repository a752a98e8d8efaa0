//! Sends an audience over as many streams as it takes, and yields one result per item.
//!
//! One loop owns a bulk. It is driven by the caller, who takes results: it writes frames while there is room, and reads
//! results all the time, so that neither waits for the other. In memory are only the items that have no result yet, at
//! most as many as the service said it holds; they are what a next stream sends again.

mod in_flight;
mod open_stream;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, Fuse, Stream};
use futures_util::{FutureExt, StreamExt};
use prost::Message;
use tokio::time::Instant;
use tonic::Code;

use in_flight::InFlight;
use open_stream::OpenStream;

use crate::client::{MessengerClient, backoff, fill};
use crate::error::MessengerError;
use crate::v1;
use crate::v1::send_bulk_messages_request::Frame;
use crate::v1::send_bulk_messages_response::Frame as Answer;

/// Items that one frame carries at most.
const ITEMS_PER_FRAME_MAX: usize = 500;
/// Bytes of items that one frame carries at most, unless it carries a single one.
const FRAME_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one item: what gRPC takes as one message, without what the frame adds.
const ITEM_BYTES_MAX: usize = 4 * 1024 * 1024 - 64;
/// The longest wait between streams. A stream that lives as long counts as a success.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// The longest wait after a stream that left nothing but items in progress: the service is well, and their outcome may
/// come any time.
const IN_PROGRESS_WAIT_MAX: Duration = Duration::from_secs(2);

impl MessengerClient {
    /// Sends an audience, and yields one result for every item, in any order.
    ///
    /// `items` may be of any length: an item is taken only while fewer than the service's `max_in_flight` are without a
    /// result that was taken from here. A stream that ends early (a deploy, the network, a crash) is opened again, at
    /// the next address if there are several, and what has no result is sent again: the service's record keeps it from
    /// arriving twice. An empty `bulk_id` is filled, because only a bulk with a name can be resumed:
    /// [`BulkResults::bulk_id`] tells it.
    ///
    /// Nothing happens until results are taken. Dropping the results cancels the bulk.
    ///
    /// ```no_run
    /// # async fn send(client: messenger_connector_client::MessengerClient)
    /// #     -> Result<(), messenger_connector_client::MessengerError> {
    /// use messenger_connector_client::{stream, v1, variables};
    ///
    /// let start = v1::BulkStart {
    ///     action: Some(v1::TextMessage::from("Hello {{first_name}}, the sale has begun.").into()),
    ///     options: Some(v1::MessagingType::Update.into()),
    ///     ..Default::default()
    /// };
    /// let items = [("1001", "Ann"), ("1002", "Bob")].map(|(id, name)| v1::BulkItem {
    ///     item_id: id.to_owned(),
    ///     recipient: Some(v1::Recipient::id(id)),
    ///     variables: Some(variables([("first_name", name)])),
    ///     ..Default::default()
    /// });
    /// let mut results = client.send_bulk(start, stream::iter(items));
    /// while let Some(result) = results.next().await {
    ///     let result = result?;
    ///     println!("{} {}", result.item_id, result.state().as_str_name());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The last element, if a stream ends with anything but UNAVAILABLE, or none has brought a result for
    /// [`Options::reconnect_timeout`](crate::Options::reconnect_timeout). Items without a result may have been sent;
    /// a bulk that is opened again under its id tells.
    pub fn send_bulk<'a>(
        &self,
        mut start: v1::BulkStart,
        items: impl Stream<Item = v1::BulkItem> + Send + 'a,
    ) -> BulkResults<'a> {
        let bulk_id = fill(&mut start.bulk_id);
        let bulk = Box::new(Bulk {
            client: self.clone(),
            start,
            items: Box::pin(items.fuse()),
            source_has_ended: false,
            taken: 0,
            waiting: BTreeMap::new(),
            in_flight: InFlight::default(),
            results: VecDeque::new(),
            stream: None,
            was_accepted: false,
            failures: 0,
            failing_since: None,
            has_ended: false,
        });
        let results = stream::unfold(bulk, async |mut bulk| bulk.next().await.map(|result| (result, bulk)));
        BulkResults { bulk_id, results: Box::pin(results.fuse()) }
    }
}

/// The results of a bulk, as they come. Dropping it cancels the bulk: nothing new is sent then.
pub struct BulkResults<'a> {
    bulk_id: String,
    results: Pin<Box<dyn Stream<Item = Result<v1::ItemResult, MessengerError>> + Send + 'a>>,
}

impl BulkResults<'_> {
    /// Name of the bulk: the start's, or the one made up for it.
    pub fn bulk_id(&self) -> &str {
        &self.bulk_id
    }

    /// The next result; `None` when every item has its own. An error is the last element. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<Result<v1::ItemResult, MessengerError>> {
        std::future::poll_fn(|context| self.results.as_mut().poll_next(context)).await
    }
}

impl Stream for BulkResults<'_> {
    type Item = Result<v1::ItemResult, MessengerError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.results.as_mut().poll_next(context)
    }
}

impl fmt::Debug for BulkResults<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BulkResults").field("bulk_id", &self.bulk_id).finish_non_exhaustive()
    }
}

struct Bulk<S> {
    client: MessengerClient,
    start: v1::BulkStart,
    items: Pin<Box<Fuse<S>>>,
    source_has_ended: bool,
    /// Items taken from the source: the next one's place in its order.
    taken: u64,
    /// Items to be sent, in the order of the source.
    waiting: BTreeMap<u64, v1::BulkItem>,
    in_flight: InFlight,
    /// Results that the caller has not taken yet.
    results: VecDeque<v1::ItemResult>,
    stream: Option<OpenStream>,
    /// The service has taken the start once.
    was_accepted: bool,
    /// Streams since the last success that ended early.
    failures: u32,
    failing_since: Option<Instant>,
    has_ended: bool,
}

/// How a stream fares.
enum Progress {
    GoesOn,
    /// The service has said its last word.
    Ended,
}

impl<S: Stream<Item = v1::BulkItem>> Bulk<S> {
    async fn next(&mut self) -> Option<Result<v1::ItemResult, MessengerError>> {
        while self.results.is_empty() && !self.has_ended {
            if let Err(error) = self.advance().await {
                self.has_ended = true;
                return Some(Err(error));
            }
        }
        self.results.pop_front().map(Ok)
    }

    /// Opens a stream, or takes one step on it.
    async fn advance(&mut self) -> Result<(), MessengerError> {
        let Some(mut stream) = self.stream.take() else {
            match OpenStream::open(&self.client, self.start.clone()).await {
                Ok(stream) => {
                    self.stream = Some(stream);
                    self.was_accepted = true;
                }
                Err(error) => self.wait_after(error).await?,
            }
            return Ok(());
        };
        let error = match self.exchange(&mut stream).await {
            Ok(Progress::GoesOn) => {
                self.stream = Some(stream);
                return Ok(());
            }
            Ok(Progress::Ended) => {
                let why = stream.put_off.take().or(stream.in_progress.take());
                why.unwrap_or_else(|| ended_early("the last result"))
            }
            Err(error) => error,
        };
        if stream.opened.elapsed() >= WAIT_MAX {
            self.note_success();
        }
        self.waiting.extend(self.in_flight.take_all());
        self.waiting.extend(stream.left);
        self.has_ended = self.source_has_ended && self.waiting.is_empty();
        if self.has_ended { Ok(()) } else { self.wait_after(error).await }
    }

    /// Writes a frame, takes items, or reads an answer: whichever is possible first.
    async fn exchange(&mut self, stream: &mut OpenStream) -> Result<Progress, MessengerError> {
        let room = |count: usize| stream.in_flight_max.saturating_sub(count).min(ITEMS_PER_FRAME_MAX);
        // Items that are left for the next stream are held, too.
        let (room, room_to_take) =
            (room(self.in_flight.count), room(self.in_flight.count + stream.left.len()));
        let has_all = self.source_has_ended && self.waiting.is_empty();
        if has_all || stream.put_off.is_some() {
            stream.frames = None;
        }
        let is_idle = !stream.left.is_empty() && self.in_flight.count == 0 && self.waiting.is_empty();
        if is_idle && stream.frames.is_some() {
            // Nothing but items in progress is there, and only another stream can bring their results: this one goes on
            // only for items that the source has ready.
            let ready = ready_items(self.items.as_mut(), room_to_take).now_or_never();
            match ready.filter(|_| room_to_take > 0) {
                Some(items) => self.take(items),
                None => stream.frames = None,
            }
            return Ok(Progress::GoesOn);
        }
        let frames = stream.frames.clone();
        let (has_room, has_room_to_take) =
            (frames.is_some() && room > 0, frames.is_some() && room_to_take > 0);
        tokio::select! {
            answer = stream.answers.message() => {
                let answer = answer?.ok_or_else(|| ended_early("its summary"))?;
                match answer.frame {
                    Some(Answer::Results(results)) => self.settle(stream, results.results),
                    Some(Answer::Summary(_)) => {
                        // The status, which is OK: leaving before it would look like a cancellation.
                        stream.answers.message().await?;
                        return Ok(Progress::Ended);
                    }
                    // A later service may send frames that this client does not know.
                    Some(Answer::Accepted(_)) | None => {}
                }
            }
            permit = open_stream::room_for_frame(frames.as_ref()), if has_room && !self.waiting.is_empty() => match permit {
                Some(permit) => {
                    let items = self.frame(room);
                    permit.send(v1::SendBulkMessagesRequest { frame: Some(Frame::Items(v1::BulkItems { items })) });
                }
                // The transport takes no more: the answers tell why.
                None => stream.frames = None,
            },
            items = ready_items(self.items.as_mut(), room_to_take), if has_room_to_take && self.waiting.is_empty() => {
                self.take(items);
            }
        }
        Ok(Progress::GoesOn)
    }

    /// Takes items from the source; none means that it has ended.
    fn take(&mut self, items: Vec<v1::BulkItem>) {
        self.source_has_ended = items.is_empty();
        for item in items {
            let bytes = item.encoded_len();
            if bytes > ITEM_BYTES_MAX {
                self.results.push_back(too_large(item.item_id, bytes));
            } else {
                self.waiting.insert(self.taken, item);
                self.taken += 1;
            }
        }
    }

    /// Moves items that wait into a frame.
    fn frame(&mut self, items_max: usize) -> Vec<v1::BulkItem> {
        let (mut items, mut bytes) = (Vec::with_capacity(items_max.min(self.waiting.len())), 0);
        while items.len() < items_max
            && let Some(first) = self.waiting.first_entry()
        {
            bytes += first.get().encoded_len();
            if bytes > FRAME_BYTES_MAX && !items.is_empty() {
                break;
            }
            let (order, item) = first.remove_entry();
            items.push(item.clone());
            self.in_flight.add(order, item);
        }
        items
    }

    /// Hands final results to the caller; the others are for a later stream.
    fn settle(&mut self, stream: &mut OpenStream, results: Vec<v1::ItemResult>) {
        for result in results {
            // A result that no item waits for would be the service's bug.
            let Some((order, item)) = self.in_flight.take(&result.item_id) else { continue };
            match put_off(&result) {
                Some(error) if error.reason == v1::ErrorReason::RequestInProgress => {
                    stream.in_progress = Some(error);
                    stream.left.push((order, item));
                }
                Some(error) => {
                    stream.put_off = Some(error);
                    self.waiting.insert(order, item);
                }
                None => {
                    self.note_success();
                    self.results.push_back(result);
                }
            }
        }
    }

    fn note_success(&mut self) {
        (self.failures, self.failing_since) = (0, None);
    }

    /// Waits before the next stream, after one that ended early.
    async fn wait_after(&mut self, error: MessengerError) -> Result<(), MessengerError> {
        let failing_for = self.failing_since.get_or_insert_with(Instant::now).elapsed();
        let longest = if self.was_accepted { self.client.reconnect_timeout } else { self.client.timeout };
        let left = longest.saturating_sub(failing_for);
        let is_over_limit = error.code == Code::ResourceExhausted && error.retryable;
        if (error.code != Code::Unavailable && !is_over_limit) || left.is_zero() {
            return Err(error);
        }
        let is_in_progress = error.reason == v1::ErrorReason::RequestInProgress;
        let wait_max = if is_in_progress { IN_PROGRESS_WAIT_MAX } else { WAIT_MAX };
        let wait = backoff(self.failures, wait_max).max(error.retry_after.unwrap_or_default());
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(wait.min(left)).await;
        Ok(())
    }
}

/// Items that the source has ready, at most `items_max`; waits for the first one. None if the source has ended.
/// Dropping the future loses no item.
async fn ready_items(
    mut source: Pin<&mut impl Stream<Item = v1::BulkItem>>,
    items_max: usize,
) -> Vec<v1::BulkItem> {
    let mut items = Vec::new();
    std::future::poll_fn(|context| {
        while items.len() < items_max {
            match source.as_mut().poll_next(context) {
                Poll::Ready(Some(item)) => items.push(item),
                Poll::Ready(None) => break,
                Poll::Pending if items.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(())
    })
    .await;
    items
}

/// The error of a result that is not final: nothing was sent, and the same item may be sent once the service is well
/// again, or has finished what an earlier stream began.
fn put_off(result: &v1::ItemResult) -> Option<MessengerError> {
    use v1::ErrorReason::{Draining, LedgerUnavailable, RequestInProgress};

    let error = result.error().filter(|_| result.state() == v1::ItemState::NotSent)?;
    matches!(error.reason(), Draining | LedgerUnavailable | RequestInProgress)
        .then(|| MessengerError::from_send_error(Code::Unavailable, error.clone()))
}

fn ended_early(before: &str) -> MessengerError {
    MessengerError::new(Code::Unavailable, format!("the service ended the stream before {before}"))
}

fn too_large(item_id: String, bytes: usize) -> v1::ItemResult {
    let description = format!("must not be larger than {ITEM_BYTES_MAX} bytes, has {bytes}");
    let error = v1::SendError {
        reason: v1::ErrorReason::InvalidArgument.into(),
        message: format!("item {description}"),
        violations: vec![v1::FieldViolation { field: "item".to_owned(), description }],
        ..v1::SendError::default()
    };
    let outcome = Some(v1::item_result::Outcome::Error(error));
    v1::ItemResult { item_id, state: v1::ItemState::Rejected.into(), outcome }
}
