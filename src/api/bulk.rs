//! The bulk stream: reads items as long as there is room, writes results as they come.
//!
//! [`stream`] decides, without time and I/O. This file is the shell around it: one task owns the channels, the
//! transport and the turns that others get.

mod items;
mod plan;
pub mod room;
pub(crate) mod stream;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{Instrument, Span};
use uuid::Uuid;

use items::{FrameFault, ItemsFrame};
use plan::Plan;
use room::Room;
use stream::{Admission, Counts, End, StreamCore};

use super::auth::Principal;
use super::context::Context;
use super::fingerprint::{Fingerprint, Fingerprints};
use super::middleware::bug;
use super::pb::send_bulk_messages_response::Frame as Answer;
use super::wire::{SendBulkMessagesRequest as Request, send_bulk_messages_request::Frame};
use super::{observed, pb, status};
use crate::dispatch::{self, BulkItemId, Queued, Reply, Source};
use crate::error::{Outcome, Reason, SendError};
use crate::ledger::{Claim, Key, ResultsQuery};
use crate::limits::{
    BULK_START_TIMEOUT, ITEMS_PER_FRAME_MAX, RESULTS_PER_FRAME_MAX, UNARY_REQUEST_BYTES_MAX,
    UNARY_REQUEST_KIB_MAX,
};
use crate::telemetry::metrics::Tally;
use crate::telemetry::traces;

/// Answer frames that may wait for the transport.
const ANSWERS_WAITING_MAX: usize = 4;
/// Items that are taken before other tasks get a turn: a fraction of a millisecond.
const ITEMS_PER_TURN: usize = 100;

/// Bytes of a message for which it takes one place more.
const PLACE_BYTES: usize = 4 * 1024;

/// An item of which nothing but the name is read.
#[derive(Clone, PartialEq, Message)]
struct NamedItem {
    #[prost(string, tag = "1")]
    item_id: String,
}

type Answers = mpsc::Sender<Result<pb::SendBulkMessagesResponse, Status>>;

/// Runs a bulk in a task of its own, and returns its answers.
pub(super) fn start(
    context: Arc<Context>,
    principal: Principal,
    permit: OwnedSemaphorePermit,
    requests: Streaming<Request>,
) -> ReceiverStream<Result<pb::SendBulkMessagesResponse, Status>> {
    let (answers, receiver) = mpsc::channel(ANSWERS_WAITING_MAX);
    let open = context.metrics.stream_opened();
    let stream = async move {
        let _held = (permit, open);
        let run = AssertUnwindSafe(run(context, &principal, requests, &answers)).catch_unwind();
        if let Err(end) = run.await.unwrap_or_else(|_| Err(status::status(bug()))) {
            // Fails if the caller has left, who then needs no status.
            drop(answers.send(Err(end)).await);
        }
    };
    tokio::spawn(stream.instrument(Span::current()));
    ReceiverStream::new(receiver)
}

async fn run(
    context: Arc<Context>,
    principal: &Principal,
    mut requests: Streaming<Request>,
    answers: &Answers,
) -> Result<(), Status> {
    let start = read_start(&context, &mut requests, answers).await?;
    let mut bulk = Bulk::new(context, principal, start).map_err(status::status)?;
    bulk.look_for_record().await;
    let accepted = pb::BulkAccepted {
        bulk_id: bulk.bulk_id.to_string(),
        max_in_flight: i32::try_from(bulk.context.bulk_in_flight_max).unwrap_or(i32::MAX),
    };
    let result = match send(answers, Answer::Accepted(accepted)).await {
        Ok(()) => bulk.pump(requests, answers).await,
        Err(gone) => Err(gone),
    };
    // Drops what still waits if the stream ended early; what was started is finished by its lane.
    bulk.context.dispatcher.cancel_bulk(&bulk.page_id, bulk.number);
    result
}

/// The first frame, for which the service waits neither for ever nor while it shuts down.
async fn read_start(
    context: &Context,
    requests: &mut Streaming<Request>,
    answers: &Answers,
) -> Result<pb::BulkStart, Status> {
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
        Some(Frame::Start(start)) => Ok(*start),
        Some(Frame::Items(_)) | None => Err(status::protocol_violation("the first frame must be start")),
    }
}

async fn send(answers: &Answers, frame: Answer) -> Result<(), Status> {
    let response = pb::SendBulkMessagesResponse { frame: Some(frame) };
    answers.send(Ok(response)).await.map_err(|_| caller_left())
}

fn caller_left() -> Status {
    Status::cancelled("the caller has left")
}

fn draining() -> Status {
    status::status(SendError {
        retry_after: Some(Duration::from_secs(1)),
        ..SendError::new(Reason::Draining, "this replica is shutting down: open the bulk again")
    })
}

#[derive(Debug)]
struct Bulk {
    context: Arc<Context>,
    page_id: Arc<str>,
    bulk_id: Arc<str>,
    number: u64,
    span: Span,
    /// Items that were queued so far.
    items: u64,
    fingerprints: Fingerprints,
    /// Some of its items are on record.
    has_record: bool,
    plan: Plan,
    core: StreamCore<ItemsFrame>,
    outcome_sender: mpsc::UnboundedSender<(BulkItemId, Outcome)>,
    outcomes: mpsc::UnboundedReceiver<(BulkItemId, Outcome)>,
}

impl Bulk {
    fn new(context: Arc<Context>, principal: &Principal, start: pb::BulkStart) -> Result<Self, SendError> {
        let page = principal.page(&context.pages, &start.page_id)?;
        let number = context.dispatcher.new_bulk();
        let bulk_id: Arc<str> = match start.bulk_id.as_str() {
            "" => Uuid::new_v4().to_string().into(),
            bulk_id => bulk_id.into(),
        };
        let fingerprints = Fingerprints::of_bulk(&start);
        let plan = Plan::new(start)?;
        let span = Span::current();
        traces::note_bulk(&span, &page.id, &bulk_id);
        let (outcome_sender, outcomes) = mpsc::unbounded_channel();
        Ok(Self {
            page_id: page.id.as_str().into(),
            bulk_id,
            number,
            span,
            items: 0,
            fingerprints,
            has_record: false,
            plan,
            core: StreamCore::new(Room::new(context.bulk_in_flight_max, context.bulk_room.clone())),
            outcome_sender,
            outcomes,
            context,
        })
    }

    /// Reads and answers until every item has its result.
    async fn pump(&mut self, mut requests: Streaming<Request>, answers: &Answers) -> Result<(), Status> {
        let drain = self.context.drain.clone();
        let mut outcomes = Vec::with_capacity(RESULTS_PER_FRAME_MAX);
        loop {
            while let Ok(outcome) = self.outcomes.try_recv() {
                outcomes.push(outcome);
            }
            self.settle(outcomes.drain(..));
            self.write_results(answers).await?;
            let may_go_on = self.admit().await?;
            if may_go_on {
                tokio::task::yield_now().await;
            }
            if may_go_on || self.core.has_results() {
                continue;
            }
            match self.core.end() {
                Some(End::Complete(counts)) => {
                    let counts = Some(counts.into());
                    return send(answers, Answer::Summary(pb::BulkSummary { counts })).await;
                }
                Some(End::Draining) => return Err(draining()),
                None => {}
            }
            tokio::select! {
                count = self.outcomes.recv_many(&mut outcomes, RESULTS_PER_FRAME_MAX) => {
                    debug_assert!(count > 0, "the bulk holds a sender itself");
                }
                request = requests.message(), if self.core.wants_frame() => match request? {
                    None => self.core.half_close(),
                    Some(request) => self.core.take_frame(items(request)?),
                },
                () = drain.began.cancelled(), if !self.core.is_draining() => self.core.drain(),
                () = drain.is_over.cancelled(), if self.core.in_flight() > 0 => self.core.give_up(),
                () = answers.closed() => return Err(caller_left()),
            }
        }
    }

    /// Takes items as far as there is room, and queues them; true if it stopped only to give others a turn.
    async fn admit(&mut self) -> Result<bool, Status> {
        let (mut admitted, mut turn) = (Vec::new(), 0);
        while turn < ITEMS_PER_TURN
            && let Some((index, bytes)) = self.core.next_item()
        {
            turn += 1;
            let item = if bytes.len() > UNARY_REQUEST_BYTES_MAX {
                Err(NamedItem::decode(bytes))
            } else {
                Ok(pb::BulkItem::decode(bytes))
            };
            match item {
                Ok(Ok(item)) => admitted.extend(self.message(item, index)),
                Err(Ok(named)) => self.refuse_too_long(&named.item_id, index),
                Ok(Err(_)) | Err(Err(_)) => {
                    return Err(status::protocol_violation("an item is not valid protobuf"));
                }
            }
        }
        if self.has_record && !admitted.is_empty() {
            admitted = self.answer_recorded(admitted).await;
        }
        if !admitted.is_empty() {
            self.context.dispatcher.queue(&self.page_id, admitted);
        }
        Ok(turn == ITEMS_PER_TURN)
    }

    /// The message of an item, if one is to be sent for it.
    fn message(&mut self, item: pb::BulkItem, index: usize) -> Option<Queued> {
        let item_id: BulkItemId = status::echoed_id(&item.item_id).into();
        let fingerprint = self.fingerprints.of_item(&item);
        if self.core.admit(item_id.clone(), fingerprint) == Admission::Done {
            return None;
        }
        let message = match self.plan.message(item, index) {
            Ok(message) => message,
            Err(error) => {
                let rejected = Outcome::Rejected(status::capped_error(error));
                self.settle([(item_id, rejected)].into_iter());
                return None;
            }
        };
        self.core.enlarge(&item_id, self.plan.own_bytes(&message) / PLACE_BYTES);
        let key = Key { page_id: self.page_id.clone(), bulk_id: self.bulk_id.clone(), id: item_id.clone() };
        let span = traces::item_span(&self.span, self.items);
        self.items += 1;
        let claim = Claim { key, fingerprint, resend: self.plan.resend };
        let reply = Reply::to_bulk(item_id, self.outcome_sender.clone()).in_span(span);
        Some(Queued::new(message, Some(claim), Source::Bulk(self.number), self.plan.deadline, reply))
    }

    fn refuse_too_long(&mut self, item_id: &str, index: usize) {
        let item_id: BulkItemId = status::echoed_id(item_id).into();
        // Items of one id that are too long need not be told apart.
        if self.core.admit(item_id.clone(), Fingerprint::default()) == Admission::Queue {
            let description = format!("must not have more than {UNARY_REQUEST_KIB_MAX} KiB");
            let error = SendError::violation(format_args!("items[{index}]"), description);
            self.settle([(item_id, Outcome::Rejected(error))].into_iter());
        }
    }

    /// Answers the items whose outcome stands, and returns the others. What is on record need not wait for its page.
    async fn answer_recorded(&self, items: Vec<Queued>) -> Vec<Queued> {
        let claims: Vec<_> = items.iter().filter_map(|queued| queued.claim.clone()).collect();
        // A ledger that is away is noticed when the items are claimed.
        let Ok(found) = self.context.ledger.look_up(&claims).await else { return items };
        let mut others = Vec::new();
        for (queued, found) in items.into_iter().zip(found) {
            match found.and_then(|claimed| dispatch::recorded(claimed, &queued.message)) {
                Some(outcome) => queued.reply.answer(outcome),
                None => others.push(queued),
            }
        }
        others
    }

    /// Whether items of this bulk were sent before, on an earlier stream or another replica.
    async fn look_for_record(&mut self) {
        let query = ResultsQuery {
            page_id: self.page_id.to_string(),
            bulk_id: self.bulk_id.to_string(),
            after: String::new(),
            state: None,
            limit: 1,
        };
        let first = self.context.ledger.results(&query).await;
        self.has_record = first.is_ok_and(|page| !page.results.is_empty());
    }

    fn settle(&mut self, outcomes: impl Iterator<Item = (BulkItemId, Outcome)>) {
        let mut tally = Tally::default();
        for (item_id, outcome) in outcomes {
            observed::note_outcome(&mut tally, &outcome);
            self.core.settle(item_id, outcome);
        }
        self.context.metrics.messages_ended(&tally);
    }

    async fn write_results(&mut self, answers: &Answers) -> Result<(), Status> {
        loop {
            let results = self.core.next_results(status::item_result_bytes);
            if results.is_empty() {
                return Ok(());
            }
            let results = results.into_iter();
            let results = results.map(|(item_id, outcome)| status::item_result(item_id.to_string(), outcome));
            send(answers, Answer::Results(pb::BulkResults { results: results.collect() })).await?;
        }
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        observed::unanswered(&self.context.metrics, self.core.in_flight());
    }
}

/// The items of a frame that is not the first one.
fn items(request: Request) -> Result<ItemsFrame, Status> {
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
