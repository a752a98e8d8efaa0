//! A caller with an audience: one bulk stream, as the protocol wants it.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use messenger_connector::api::pb;
use messenger_connector::api::pb::send_bulk_messages_request::Frame;
use messenger_connector::api::pb::send_bulk_messages_response::Frame as Answer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::audience::{Kind, item_number, options};
use crate::latency::Latencies;
use crate::process::Client;

/// Items of one frame.
const FRAME_ITEMS: u64 = 500;
/// Frames that may wait for the transport.
const FRAMES_WAITING_MAX: usize = 1;

/// A bulk to send.
#[derive(Clone, Debug)]
pub(crate) struct Bulk {
    pub(crate) kind: Kind,
    /// Empty if there is one page only.
    pub(crate) page_id: String,
    pub(crate) bulk_id: String,
    /// Whom it goes to.
    pub(crate) audience: Range<u64>,
}

impl Bulk {
    /// A bulk from the only page.
    pub(crate) fn new(kind: Kind, bulk_id: impl Into<String>, audience: Range<u64>) -> Self {
        Self { kind, page_id: String::new(), bulk_id: bulk_id.into(), audience }
    }

    /// Sends it. Answers how long each item took, from when it was handed over to its result.
    ///
    /// # Errors
    /// If the stream breaks, or an item is not sent.
    pub(crate) async fn send(self, client: &mut Client) -> anyhow::Result<Latencies> {
        let (frames, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
        let start = pb::BulkStart {
            bulk_id: self.bulk_id,
            page_id: self.page_id,
            action: Some(self.kind.action()),
            options: Some(options()),
            ..pb::BulkStart::default()
        };
        frames.send(request(Frame::Start(Box::new(start)))).await?;
        let mut answers = client.send_bulk_messages(ReceiverStream::new(receiver)).await?.into_inner();
        let Some(Answer::Accepted(accepted)) = answers.message().await?.and_then(|answer| answer.frame)
        else {
            bail!("the service did not accept the bulk");
        };
        let in_flight_max = u64::try_from(accepted.max_in_flight)?;
        let mut unsent = Unsent { kind: self.kind, audience: self.audience.clone(), frames: Some(frames) };
        let mut flight = Flight::new(self.audience);
        loop {
            let room = in_flight_max - flight.items;
            tokio::select! {
                handed_over = unsent.hand_over(room), if unsent.has_frame(room) => flight.start(handed_over?),
                answer = answers.message() => {
                    let answer = answer?.context("the stream ended without a summary")?;
                    match answer.frame {
                        Some(Answer::Results(results)) => flight.land(results)?,
                        Some(Answer::Summary(_)) => break,
                        Some(Answer::Accepted(_)) | None => bail!("the service broke the protocol"),
                    }
                }
            }
        }
        ensure!(flight.items == 0, "the stream ended with {} items in flight", flight.items);
        Ok(flight.latencies)
    }
}

fn request(frame: Frame) -> pb::SendBulkMessagesRequest {
    pb::SendBulkMessagesRequest { frame: Some(frame) }
}

/// The audience that waits, and the way out.
struct Unsent {
    kind: Kind,
    audience: Range<u64>,
    /// `None` after the half-close.
    frames: Option<mpsc::Sender<pb::SendBulkMessagesRequest>>,
}

impl Unsent {
    /// Whether there is a frame to send: a full one, or the last.
    fn has_frame(&self, room: u64) -> bool {
        let left = self.audience.end - self.audience.start;
        left > 0 && room >= left.min(FRAME_ITEMS)
    }

    /// Hands over a frame when the transport takes one, and half-closes after the last. Cancelling it loses nothing.
    async fn hand_over(&mut self, room: u64) -> anyhow::Result<Range<u64>> {
        let frames = self.frames.as_ref().context("the stream is closed")?;
        let permit = frames.reserve().await.context("the service takes no more items")?;
        let start = self.audience.start;
        let end = self.audience.end.min(start + FRAME_ITEMS.min(room));
        let items = (start..end).map(|number| self.kind.item(number)).collect();
        permit.send(request(Frame::Items(pb::BulkItems { items })));
        self.audience.start = end;
        if self.audience.is_empty() {
            self.frames = None;
        }
        Ok(start..end)
    }
}

/// The items that have no result yet.
struct Flight {
    items: u64,
    first: u64,
    began: Instant,
    /// When each item was handed over, in microseconds after `began`.
    handed_over: Vec<u32>,
    latencies: Latencies,
}

impl Flight {
    fn new(audience: Range<u64>) -> Self {
        Self {
            items: 0,
            first: audience.start,
            began: Instant::now(),
            handed_over: Vec::new(),
            latencies: Latencies::default(),
        }
    }

    fn start(&mut self, numbers: Range<u64>) {
        self.items += numbers.end - numbers.start;
        let now = self.microseconds();
        self.handed_over.extend(numbers.map(|_| now));
    }

    fn land(&mut self, results: pb::BulkResults) -> anyhow::Result<()> {
        let now = self.microseconds();
        for result in results.results {
            ensure!(result.state() == pb::ItemState::Sent, "an item was not sent: {:?}", result.outcome);
            let place = usize::try_from(item_number(&result.item_id)? - self.first)?;
            let handed_over =
                self.handed_over.get(place).context("a result for an item that was not sent")?;
            self.latencies.add_microseconds(now - handed_over);
            self.items -= 1;
        }
        Ok(())
    }

    fn microseconds(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_micros()).unwrap_or(u32::MAX)
    }
}
