//! The bulk stream: reads items as long as there is room, writes results as they come.
//!
//! [`stream`] decides, without time and I/O. This file is the shell around it: one task owns the channels, the
//! transport and the turns that others get.

mod frames;
mod items;
mod plan;
pub mod room;
pub(crate) mod stream;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Bytes;
use tonic::{Status, Streaming};
use tracing::{Instrument, Span};
use uuid::Uuid;

use frames::{Answers, send};
use items::ItemsFrame;
use plan::{Made, Plan};
use room::Room;
use stream::{Admission, End, StreamCore};

use super::auth::Principal;
use super::context::Context;
use super::convert::Effort;
use super::middleware::bug;
use super::pb::send_bulk_messages_response::Frame as Answer;
use super::wire::SendBulkMessagesRequest as Request;
use super::{observed, pb, status};
use crate::dispatch::{self, BulkItemId, Queued, Reply, Source};
use crate::error::Outcome;
use crate::ledger::{Claim, Key, ResultsQuery};
use crate::limits::{LIGHT_REQUEST_BYTES_MAX, LIGHT_STEPS_MAX, RESULTS_PER_FRAME_MAX};
use crate::telemetry::metrics::Tally;
use crate::telemetry::traces;

/// Answer frames that may wait for the transport.
const ANSWERS_WAITING_MAX: usize = 4;
/// What making an item costs, in steps of a template, beside the steps of its own.
const STEPS_OF_ITEM: u64 = 50;
/// Steps that are taken before other tasks get a turn: a fraction of a millisecond. A hundred plain items have them.
const STEPS_PER_TURN: u64 = LIGHT_STEPS_MAX;
/// Bytes of a message for which it takes one place more.
const PLACE_BYTES: usize = 4 * 1024;

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
    let start = frames::read_start(&context, &mut requests, answers).await?;
    let _held = frames::hold_start(&start, principal)?;
    let mut bulk = Bulk::new(context, principal, start).await?;
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

#[derive(Debug)]
struct Bulk {
    context: Arc<Context>,
    principal: Principal,
    page_id: Arc<str>,
    bulk_id: Arc<str>,
    number: u64,
    span: Span,
    /// Items that were queued so far.
    items: u64,
    /// Some of its items are on record.
    has_record: bool,
    plan: Arc<Plan>,
    core: StreamCore<ItemsFrame>,
    outcome_sender: mpsc::UnboundedSender<(BulkItemId, Outcome)>,
    outcomes: mpsc::UnboundedReceiver<(BulkItemId, Outcome)>,
}

impl Bulk {
    async fn new(context: Arc<Context>, principal: &Principal, start: Bytes) -> Result<Self, Status> {
        let is_light = start.len() <= LIGHT_REQUEST_BYTES_MAX;
        let opened = move || {
            let start = frames::decode_start(start)?;
            let (page_id, bulk_id) = (start.page_id.clone(), start.bulk_id.clone());
            Plan::new(start).map(|plan| (page_id, bulk_id, plan)).map_err(status::status)
        };
        let opened =
            if is_light { Some(opened()) } else { context.heavy.run(principal.heavy(), opened).await };
        let (page_id, bulk_id, plan) = opened.unwrap_or_else(|| Err(status::status(bug())))?;
        let page = principal.page(&context.pages, &page_id).map_err(status::status)?;
        let number = context.dispatcher.new_bulk();
        let bulk_id: Arc<str> = match bulk_id.as_str() {
            "" => Uuid::new_v4().to_string().into(),
            bulk_id => bulk_id.into(),
        };
        let span = Span::current();
        traces::note_bulk(&span, &page.id, &bulk_id);
        let (outcome_sender, outcomes) = mpsc::unbounded_channel();
        Ok(Self {
            page_id: page.id.as_str().into(),
            bulk_id,
            number,
            span,
            items: 0,
            has_record: false,
            plan: Arc::new(plan),
            core: StreamCore::new(Room::new(context.bulk_in_flight_max, context.bulk_room.clone())),
            outcome_sender,
            outcomes,
            principal: principal.clone(),
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
                Some(End::Draining) => return Err(frames::draining()),
                None => {}
            }
            tokio::select! {
                count = self.outcomes.recv_many(&mut outcomes, RESULTS_PER_FRAME_MAX) => {
                    debug_assert!(count > 0, "the bulk holds a sender itself");
                }
                request = requests.message(), if self.core.wants_frame() => match request? {
                    None => self.core.half_close(),
                    Some(request) => self.core.take_frame(frames::items(request)?),
                },
                () = drain.began.cancelled(), if !self.core.is_draining() => self.core.drain(),
                () = drain.is_over.cancelled(), if self.core.in_flight() > 0 => self.core.give_up(),
                () = answers.closed() => return Err(frames::caller_left()),
            }
        }
    }

    /// Takes items as far as there is room, and queues them; true if it stopped only to give others a turn.
    async fn admit(&mut self) -> Result<bool, Status> {
        let (mut admitted, mut steps) = (Vec::new(), 0);
        while steps < STEPS_PER_TURN
            && let Some((index, item)) = self.core.next_item()
        {
            let made = if self.core.is_draining() {
                Made::unread(item)
            } else {
                self.make(item, index, &mut steps).await
            };
            let made = made.ok_or_else(|| status::protocol_violation("an item is not valid protobuf"))?;
            admitted.extend(self.queued(made));
        }
        if self.has_record && !admitted.is_empty() {
            admitted = self.answer_recorded(admitted).await;
        }
        if !admitted.is_empty() {
            self.context.dispatcher.queue(&self.page_id, admitted);
        }
        Ok(steps >= STEPS_PER_TURN)
    }

    /// Makes the message of an item: here, or where heavy work is done. Adds the steps that it took here. `None` if the
    /// bytes are no item.
    async fn make(&self, item: Bytes, index: usize, steps: &mut u64) -> Option<Made> {
        if item.len() <= LIGHT_REQUEST_BYTES_MAX {
            let effort = Effort::light();
            let made = self.plan.make(item.clone(), index, &effort);
            *steps += STEPS_OF_ITEM + effort.steps_taken();
            if !effort.is_exceeded() {
                return made;
            }
        }
        // The messages before this one need not wait for it.
        *steps = STEPS_PER_TURN;
        let plan = self.plan.clone();
        let made =
            self.context.heavy.run(self.principal.heavy(), move || plan.make(item, index, &Effort::full()));
        made.await?
    }

    /// The message to be queued for an item, if one is.
    fn queued(&mut self, made: Made) -> Option<Queued> {
        let Made { item_id, fingerprint, message, own_bytes } = made;
        if self.core.admit(item_id.clone(), fingerprint) == Admission::Done {
            return None;
        }
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                let rejected = Outcome::Rejected(status::capped_error(error));
                self.settle([(item_id, rejected)].into_iter());
                return None;
            }
        };
        self.core.enlarge(&item_id, own_bytes / PLACE_BYTES);
        let key = Key { page_id: self.page_id.clone(), bulk_id: self.bulk_id.clone(), id: item_id.clone() };
        let span = traces::item_span(&self.span, self.items);
        self.items += 1;
        let claim = Claim { key, fingerprint, resend: self.plan.resend };
        let reply = Reply::to_bulk(item_id, self.outcome_sender.clone()).in_span(span);
        Some(Queued::new(message, Some(claim), Source::Bulk(self.number), self.plan.deadline, reply))
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
