//! The bulk stream: reads items as long as there is room, writes results as they come.
//!
//! One loop owns a stream. An item takes room from when it is read until its result has been handed to the
//! transport, so a caller who stops reading stops the stream and nothing piles up.

mod plan;
mod room;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{Instrument, Span};

use plan::Plan;
use room::Room;
pub use room::SharedRoom;

use super::auth::Principal;
use super::fingerprint::Fingerprints;
use super::middleware::bug;
use super::observed;
use super::pb::send_bulk_messages_request::Frame;
use super::pb::send_bulk_messages_response::Frame as Answer;
use super::service::MessengerService;
use super::{pb, status};
use crate::dispatch::{self, BulkItemId, Queued, Reply, Source};
use crate::error::{Outcome, Reason, SendError};
use crate::ledger::{Claim, Key, ResultsQuery};
use crate::limits::RESULTS_PER_FRAME_MAX;
use crate::telemetry::metrics::Tally;
use crate::telemetry::traces;

/// Answer frames that may wait for the transport.
const ANSWERS_WAITING_MAX: usize = 4;
/// Items that are taken before other tasks get a turn: a fraction of a millisecond.
const ITEMS_PER_TURN: u64 = 100;

type Answers = mpsc::Sender<Result<pb::SendBulkMessagesResponse, Status>>;

/// Runs a bulk in a task of its own, and returns its answers.
pub fn start(
    service: MessengerService,
    principal: Principal,
    permit: OwnedSemaphorePermit,
    requests: Streaming<pb::SendBulkMessagesRequest>,
) -> ReceiverStream<Result<pb::SendBulkMessagesResponse, Status>> {
    let (answers, receiver) = mpsc::channel(ANSWERS_WAITING_MAX);
    let open = service.metrics.stream_opened();
    let stream = async move {
        let _held = (permit, open);
        let run = AssertUnwindSafe(run(service, &principal, requests, &answers)).catch_unwind();
        if let Err(end) = run.await.unwrap_or_else(|_| Err(status::status(bug()))) {
            // Fails if the caller has left, who then needs no status.
            drop(answers.send(Err(end)).await);
        }
    };
    tokio::spawn(stream.instrument(Span::current()));
    ReceiverStream::new(receiver)
}

async fn run(
    service: MessengerService,
    principal: &Principal,
    mut requests: Streaming<pb::SendBulkMessagesRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let first = requests.message().await?.and_then(|request| request.frame);
    let Some(Frame::Start(start)) = first else {
        return Err(status::protocol_violation("the first frame must be start"));
    };
    let mut bulk = Bulk::new(service, principal, *start).map_err(status::status)?;
    bulk.look_for_record().await;
    let accepted = pb::BulkAccepted {
        bulk_id: bulk.bulk_id.to_string(),
        max_in_flight: i32::try_from(bulk.service.bulk_in_flight_max).unwrap_or(i32::MAX),
    };
    let result = match send(answers, Answer::Accepted(accepted)).await {
        Ok(()) => bulk.pump(requests, answers).await,
        Err(gone) => Err(gone),
    };
    // Drops what still waits if the stream ended early; what was started is finished by its lane.
    bulk.service.dispatcher.cancel_bulk(&bulk.page_id, bulk.number);
    result
}

async fn send(answers: &Answers, frame: Answer) -> Result<(), Status> {
    let response = pb::SendBulkMessagesResponse { frame: Some(frame) };
    answers.send(Ok(response)).await.map_err(|_| Status::cancelled("the caller has left"))
}

#[derive(Debug)]
struct Bulk {
    service: MessengerService,
    page_id: Arc<str>,
    bulk_id: Arc<str>,
    number: u64,
    span: Span,
    /// Items that were taken so far.
    items: u64,
    fingerprints: Fingerprints,
    /// Some of its items are on record.
    has_record: bool,
    plan: Plan,
    /// Items of the last frame that have found no room yet, with their index in it.
    pending: VecDeque<(usize, pb::BulkItem)>,
    /// How many items carry an id that is in flight: one is sent, each gets the result.
    in_flight: HashMap<BulkItemId, u64>,
    room: Room,
    counts: pb::BulkCounts,
    outcome_sender: mpsc::UnboundedSender<(BulkItemId, Outcome)>,
    outcomes: mpsc::UnboundedReceiver<(BulkItemId, Outcome)>,
}

impl Bulk {
    fn new(
        service: MessengerService,
        principal: &Principal,
        start: pb::BulkStart,
    ) -> Result<Self, SendError> {
        let page = principal.page(&service.pages, &start.page_id)?;
        let number = service.dispatcher.new_bulk();
        let bulk_id: Arc<str> = match start.bulk_id.as_str() {
            "" => made_up_bulk_id(number).into(),
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
            pending: VecDeque::new(),
            in_flight: HashMap::new(),
            room: Room::new(service.bulk_in_flight_max, service.bulk_room.clone()),
            counts: pb::BulkCounts::default(),
            outcome_sender,
            outcomes,
            service,
        })
    }

    /// Reads and answers until every item has its result.
    async fn pump(
        &mut self,
        mut requests: Streaming<pb::SendBulkMessagesRequest>,
        answers: &Answers,
    ) -> Result<(), Status> {
        let draining = self.service.draining.clone();
        let mut is_open = true;
        let mut outcomes = Vec::with_capacity(RESULTS_PER_FRAME_MAX);
        loop {
            self.admit().await;
            if draining.is_cancelled() {
                self.refuse_pending();
                is_open = false;
            }
            if !is_open && self.pending.is_empty() && self.in_flight.is_empty() && self.outcomes.is_empty() {
                break;
            }
            tokio::select! {
                count = self.outcomes.recv_many(&mut outcomes, RESULTS_PER_FRAME_MAX) => {
                    debug_assert!(count > 0, "the bulk holds a sender itself");
                    let results = self.settle(outcomes.drain(..));
                    send(answers, Answer::Results(pb::BulkResults { results })).await?;
                }
                request = requests.message(), if is_open && self.pending.is_empty() => match request? {
                    None => is_open = false,
                    Some(request) => self.take(request)?,
                },
                () = draining.cancelled(), if is_open => {}
                () = answers.closed() => return Err(Status::cancelled("the caller has left")),
            }
        }
        if draining.is_cancelled() {
            return Err(status::status(SendError {
                retry_after: Some(Duration::from_secs(1)),
                ..SendError::new(Reason::Draining, "this replica is shutting down: open the bulk again")
            }));
        }
        send(answers, Answer::Summary(pb::BulkSummary { counts: Some(self.counts) })).await
    }

    fn take(&mut self, request: pb::SendBulkMessagesRequest) -> Result<(), Status> {
        match request.frame {
            Some(Frame::Items(items)) => {
                self.pending = items.items.into_iter().enumerate().collect();
                Ok(())
            }
            Some(Frame::Start(_)) => {
                Err(status::protocol_violation("start must be sent once, as the first frame"))
            }
            None => Err(status::protocol_violation("a frame must be start or items")),
        }
    }

    /// Queues pending items as far as there is room. What is on record is answered from there: it need not wait for its
    /// page.
    async fn admit(&mut self) {
        let mut admitted = Vec::with_capacity(self.pending.len());
        while self.room.has_place(self.in_flight.len())
            && let Some((index, item)) = self.pending.pop_front()
        {
            let item_id: BulkItemId = item.item_id.as_str().into();
            match self.in_flight.entry(item_id.clone()) {
                Entry::Occupied(mut occurrences) => {
                    *occurrences.get_mut() += 1;
                    continue;
                }
                Entry::Vacant(vacant) => drop(vacant.insert(1)),
            }
            let claim = Claim {
                key: Key {
                    page_id: self.page_id.clone(),
                    bulk_id: self.bulk_id.clone(),
                    id: item_id.clone(),
                },
                fingerprint: self.fingerprints.of_item(&item),
                resend: self.plan.resend,
            };
            let span = traces::item_span(&self.span, self.items);
            self.items += 1;
            if self.items.is_multiple_of(ITEMS_PER_TURN) {
                tokio::task::yield_now().await;
            }
            let reply = Reply::to_bulk(item_id, self.outcome_sender.clone()).in_span(span);
            match self.plan.message(item, index) {
                Ok(message) => admitted.push(Queued {
                    message,
                    claim: Some(claim),
                    attempts: 0,
                    source: Source::Bulk(self.number),
                    deadline: self.plan.deadline,
                    reply,
                }),
                Err(error) => reply.answer(Outcome::Rejected(error)),
            }
        }
        if self.has_record {
            admitted = self.answer_recorded(admitted).await;
        }
        if !admitted.is_empty() {
            self.service.dispatcher.queue(&self.page_id, admitted);
        }
    }

    /// Answers the items whose outcome stands, and returns the others.
    async fn answer_recorded(&self, items: Vec<Queued>) -> Vec<Queued> {
        let claims: Vec<_> = items.iter().filter_map(|queued| queued.claim.clone()).collect();
        // A ledger that is away is noticed when the items are claimed.
        let Ok(found) = self.service.ledger.look_up(&claims).await else { return items };
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
        let first = self.service.ledger.results(&query).await;
        self.has_record = first.is_ok_and(|page| !page.results.is_empty());
    }

    fn refuse_pending(&mut self) {
        for (_, item) in std::mem::take(&mut self.pending) {
            let item_id: BulkItemId = item.item_id.into();
            *self.in_flight.entry(item_id.clone()).or_default() += 1;
            let draining = Outcome::not_sent(Reason::Draining, "this replica is shutting down: try again");
            drop(self.outcome_sender.send((item_id, draining)));
        }
    }

    /// Makes a result for every item that carries one of these ids.
    fn settle(&mut self, outcomes: impl Iterator<Item = (BulkItemId, Outcome)>) -> Vec<pb::ItemResult> {
        let mut results = Vec::with_capacity(RESULTS_PER_FRAME_MAX);
        let mut tally = Tally::default();
        for (item_id, outcome) in outcomes {
            observed::note_outcome(&mut tally, &outcome);
            let occurrences = self.in_flight.remove(&item_id).unwrap_or_default();
            for _ in 0..occurrences {
                self.count(&outcome);
                results.push(status::item_result(item_id.to_string(), outcome.clone()));
            }
        }
        self.room.give_back(self.in_flight.len());
        self.service.metrics.messages_ended(&tally);
        results
    }

    fn count(&mut self, outcome: &Outcome) {
        let count = match outcome {
            Outcome::Sent(receipt) => {
                self.counts.replayed += i64::from(receipt.replayed);
                &mut self.counts.sent
            }
            Outcome::Rejected(_) => &mut self.counts.rejected,
            Outcome::Failed(_) => &mut self.counts.failed,
            Outcome::Unknown(_) => &mut self.counts.unknown,
            Outcome::NotSent(_) => &mut self.counts.not_sent,
        };
        *count += 1;
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        observed::unanswered(&self.service.metrics, self.in_flight.len());
    }
}

/// A bulk that was opened without a name gets one that no other has.
fn made_up_bulk_id(number: u64) -> String {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("bulk-{}-{number}", since_epoch.as_micros())
}
