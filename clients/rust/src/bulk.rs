//! Sends an audience over as many streams as it takes, and yields one result per item.
//!
//! One loop owns a bulk. It is driven by the caller, who takes results: it writes frames while there is room, and reads
//! results all the time, so that neither waits for the other. In memory are only the items that have no result yet, at
//! most as many as the service said it holds; they are what a next stream sends again.

mod open_stream;
mod results;
mod unsettled;

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::{self, Fuse, Stream};
use futures_util::{FutureExt, StreamExt};
use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Code;

use open_stream::{OpenStream, ended_early};
pub use results::{BulkEvent, BulkResults, Fate};
use unsettled::Unsettled;

use crate::backoff::{Failures, IN_PROGRESS_WAIT_MAX};
use crate::client::{MessengerClient, fill};
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

impl MessengerClient {
    /// Sends an audience, and yields one result for every item, in any order.
    ///
    /// `items` may be of any length: an item is taken only while fewer than the service's `max_in_flight` are without a
    /// result that was taken from here. A stream that ends early (a deploy, the network, a crash) is opened again, at
    /// the next address if there are several, and what has no result is sent again: the service's record keeps it from
    /// arriving twice. An empty `bulk_id` is filled, because only a bulk with a name can be resumed:
    /// [`BulkResults::bulk_id`] tells it. An empty `run_id` is filled, too: with `ON_UNKNOWN_RESEND` this call is one
    /// decision to send again what earlier runs left unknown, and all its streams carry the name of the run.
    ///
    /// Nothing happens until results are taken. [`BulkResults::stop`] ends the bulk with the results of what was taken;
    /// dropping the results cancels it. [`BulkResults::next_event`] tells more than the results.
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
        let (bulk_id, run_id) = (fill(&mut start.bulk_id), fill(&mut start.run_id));
        let (stop, stopped) = watch::channel(false);
        let bulk = Box::new(Bulk {
            client: self.clone(),
            start,
            items: Box::pin(items.fuse()),
            source_has_ended: false,
            taken: 0,
            unsettled: Unsettled::default(),
            events: VecDeque::new(),
            stream: None,
            was_accepted: false,
            failures: Failures::default(),
            failure: None,
            wait_until: None,
            stopped,
            has_ended: false,
            error: None,
        });
        let events = stream::unfold(bulk, async |mut bulk| bulk.next().await.map(|event| (event, bulk)));
        BulkResults { bulk_id, run_id, stop, events: Box::pin(events.fuse()) }
    }
}

struct Bulk<S> {
    client: MessengerClient,
    start: v1::BulkStart,
    items: Pin<Box<Fuse<S>>>,
    source_has_ended: bool,
    /// Items taken from the source: the next one's place in its order.
    taken: u64,
    unsettled: Unsettled,
    /// What the caller has not been told yet.
    events: VecDeque<BulkEvent>,
    stream: Option<OpenStream>,
    /// The service has taken the start once.
    was_accepted: bool,
    /// Streams since the last success that ended early.
    failures: Failures,
    /// What the last of them ended with.
    failure: Option<MessengerError>,
    /// When the next one is opened.
    wait_until: Option<Instant>,
    stopped: watch::Receiver<bool>,
    has_ended: bool,
    /// What it has ended with, until the caller is told.
    error: Option<MessengerError>,
}

/// How a stream fares.
enum Progress {
    GoesOn,
    /// The service has said its last word.
    Ended,
}

impl<S: Stream<Item = v1::BulkItem>> Bulk<S> {
    async fn next(&mut self) -> Option<Result<BulkEvent, MessengerError>> {
        while self.events.is_empty() && !self.has_ended {
            match self.stream.take() {
                Some(stream) => self.advance(stream).await,
                None => self.open().await,
            }
        }
        self.events.pop_front().map(Ok).or_else(|| self.error.take().map(Err))
    }

    /// Opens a stream, once it is time.
    async fn open(&mut self) {
        let (client, start, to_write) = (&self.client, self.start.clone(), self.unsettled.indexes());
        let wait_until = self.wait_until.take();
        let opened = async {
            if let Some(wait_until) = wait_until {
                tokio::time::sleep_until(wait_until).await;
            }
            OpenStream::open(client, start, to_write).await
        };
        let opened = tokio::select! {
            opened = opened => opened,
            () = is_stopped(&mut self.stopped) => {
                let failure = self.failure.take();
                return self.end(Some(failure.unwrap_or_else(stopped)));
            }
        };
        match opened {
            Ok(stream) => {
                self.stream = Some(stream);
                self.was_accepted = true;
                self.events.push_back(BulkEvent::Opened);
            }
            Err(error) => self.try_again_after(error),
        }
    }

    /// Takes one step on a stream.
    async fn advance(&mut self, mut stream: OpenStream) {
        let ended = match self.exchange(&mut stream).await {
            Ok(Progress::GoesOn) => {
                self.stream = Some(stream);
                return;
            }
            Ok(Progress::Ended) => Ok(stream.why_put_off()),
            Err(error) => Err(error),
        };
        if stream.opened.elapsed() >= WAIT_MAX {
            self.failures.forget();
        }
        let draining = ended.as_ref().err().filter(|error| error.reason == v1::ErrorReason::Draining);
        self.unsettled.stream_ended(draining.map(MessengerError::to_send_error).as_ref());
        let (is_stopped, error) = (*self.stopped.borrow(), ended.unwrap_or_else(Some));
        match (self.source_has_ended || is_stopped, self.unsettled.len()) {
            (true, 0) => self.end(None),
            _ if is_stopped => self.end(Some(error.unwrap_or_else(stopped))),
            _ => self.try_again_after(error.unwrap_or_else(|| ended_early("the last result"))),
        }
    }

    /// Writes a frame, takes items, or reads an answer: whichever is possible first.
    async fn exchange(&mut self, stream: &mut OpenStream) -> Result<Progress, MessengerError> {
        let room = |count: usize| stream.in_flight_max.saturating_sub(count).min(ITEMS_PER_FRAME_MAX);
        // Items that were put off are held, too.
        let (room, room_to_take) = (room(self.unsettled.in_flight()), room(self.unsettled.len()));
        let has_all = self.source_has_ended && stream.to_write.is_empty();
        if has_all || stream.put_off.is_some() || *self.stopped.borrow() {
            stream.frames = None;
        }
        let has_only_in_progress =
            stream.in_progress.is_some() && self.unsettled.in_flight() == 0 && stream.to_write.is_empty();
        if has_only_in_progress && stream.frames.is_some() {
            // Only another stream can bring their results: this one goes on only for items that the source has ready.
            let ready = ready_items(self.items.as_mut(), room_to_take).now_or_never();
            match ready.filter(|_| room_to_take > 0) {
                Some(items) => self.take(stream, items),
                None => stream.frames = None,
            }
            return Ok(Progress::GoesOn);
        }
        let frames = stream.frames.clone();
        let (is_open, has_to_write) = (frames.is_some(), !stream.to_write.is_empty());
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
            permit = open_stream::room_for_frame(frames.as_ref()), if is_open && has_to_write && room > 0 => match permit {
                Some(permit) => {
                    let items = self.frame(stream, room);
                    permit.send(v1::SendBulkMessagesRequest { frame: Some(Frame::Items(v1::BulkItems { items })) });
                }
                // The transport takes no more: the answers tell why.
                None => stream.frames = None,
            },
            items = ready_items(self.items.as_mut(), room_to_take), if is_open && !has_to_write && room_to_take > 0 => {
                self.take(stream, items);
            }
            () = is_stopped(&mut self.stopped), if is_open => stream.frames = None,
        }
        Ok(Progress::GoesOn)
    }

    /// Takes items from the source; none means that it has ended.
    fn take(&mut self, stream: &mut OpenStream, items: Vec<v1::BulkItem>) {
        self.source_has_ended = items.is_empty();
        for item in items {
            let (index, bytes) = (self.taken, item.encoded_len());
            self.taken += 1;
            if bytes > ITEM_BYTES_MAX {
                self.events.push_back(BulkEvent::Settled { index, result: too_large(item.item_id, bytes) });
            } else {
                self.unsettled.add(index, item);
                stream.to_write.push_back(index);
            }
        }
    }

    /// Moves items that are to be written into a frame.
    fn frame(&mut self, stream: &mut OpenStream, items_max: usize) -> Vec<v1::BulkItem> {
        let (mut items, mut bytes) = (Vec::with_capacity(items_max.min(stream.to_write.len())), 0);
        while items.len() < items_max
            && let Some(&index) = stream.to_write.front()
        {
            bytes += self.unsettled.item(index).map_or(0, Message::encoded_len);
            if bytes > FRAME_BYTES_MAX && !items.is_empty() {
                break;
            }
            stream.to_write.pop_front();
            items.extend(self.unsettled.write(index));
        }
        items
    }

    /// Hands final results to the caller; the others are for a later stream. A result that no item waits for would be
    /// the service's bug.
    fn settle(&mut self, stream: &mut OpenStream, results: Vec<v1::ItemResult>) {
        for result in results {
            if let Some(error) = put_off(&result) {
                if self.unsettled.put_off(&result.item_id, error.clone()) {
                    let is_in_progress = error.reason() == v1::ErrorReason::RequestInProgress;
                    let why = if is_in_progress { &mut stream.in_progress } else { &mut stream.put_off };
                    *why = Some(MessengerError::from_send_error(Code::Unavailable, error.clone()));
                }
            } else if let Some(index) = self.unsettled.settle(&result.item_id) {
                self.failures.forget();
                self.events.push_back(BulkEvent::Settled { index, result });
            }
        }
    }

    /// Sets the time of the next stream, after one that ended early; ends the bulk if there is no hope for it.
    fn try_again_after(&mut self, error: MessengerError) {
        let now = Instant::now();
        let may_pass =
            error.code == Code::Unavailable || (error.code == Code::ResourceExhausted && error.retryable);
        let timeout = if self.was_accepted { self.client.reconnect_timeout } else { self.client.timeout };
        let is_in_progress = error.reason == v1::ErrorReason::RequestInProgress;
        let wait_max = if is_in_progress { IN_PROGRESS_WAIT_MAX } else { WAIT_MAX };
        let wait = self.failures.add(now, timeout, wait_max, error.retry_after);
        let Some(wait) = wait.filter(|_| may_pass) else { return self.end(Some(error)) };
        self.wait_until = Some(now + wait);
        self.failure = Some(error.clone());
        self.events.push_back(BulkEvent::Interrupted(error));
    }

    /// Ends the bulk, and tells what is known of the items that have no result.
    fn end(&mut self, error: Option<MessengerError>) {
        let given_up = self.unsettled.give_up();
        self.events.extend(given_up.map(|(index, item_id, fate)| BulkEvent::GivenUp {
            index,
            item_id,
            fate,
        }));
        (self.has_ended, self.error) = (true, error);
    }
}

/// Returns when the caller has stopped the bulk.
async fn is_stopped(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|is_stopped| *is_stopped).await.is_err() {
        // Nobody is there to stop it any more, nor to take its results.
        std::future::pending().await
    }
}

fn stopped() -> MessengerError {
    MessengerError::new(Code::Cancelled, "the bulk was stopped before every item had its result")
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
fn put_off(result: &v1::ItemResult) -> Option<&v1::SendError> {
    use v1::ErrorReason::{Draining, LedgerUnavailable, RequestInProgress};

    let error = result.error().filter(|_| result.state() == v1::ItemState::NotSent)?;
    matches!(error.reason(), Draining | LedgerUnavailable | RequestInProgress).then_some(error)
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
