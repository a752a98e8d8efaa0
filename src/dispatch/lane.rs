//! One page's lane: picks what goes next as far as gate, rates and call slots allow, and takes up what calls report.

mod handle;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

pub(super) use handle::Handle;
use handle::{Command, Finish, Finished, Shared};

use super::call::{self, Report};
use super::gate::{Gate, Standing};
use super::pacing::Rank;
use super::queue::{Kind, Queue};
use super::queued::{Queued, Source};
use super::rates::{Rates, Share};
use super::replicas::Asked;
use super::{Context, PageStatus};
use crate::error::{Outcome, Reason, SendError};
use crate::limits::{
    BATCH_SIZE_MAX, EXPIRY_INTERVAL_MIN, PAGE_CALLS_IN_FLIGHT_FIRST, PAGE_CALLS_IN_FLIGHT_MAX,
    PAGE_CALLS_UNARY_RESERVED, SHARE_IDLE, SUSPENDED_LOOK_INTERVAL,
};
use crate::pages::Page;

/// Starts the lane of a page; it ends with its handle.
pub(super) fn start(page_id: &str, context: Arc<Context>) -> Handle {
    // Unbounded, because what may wait is bounded where it enters: by stream and by UNARY_QUEUED_MAX.
    let (commands, receiver) = mpsc::unbounded_channel();
    let shared = Arc::<Shared>::default();
    let now = Instant::now();
    let share =
        if context.ledger.is_shared() { Share::Part { rates: [None; 2], until: now } } else { Share::Whole };
    let lane = Lane {
        page_id: page_id.into(),
        context,
        shared: shared.clone(),
        commands: commands.downgrade(),
        queue: Queue::default(),
        gate: Gate::default(),
        rates: Rates::new(share, now),
        calls_in_flight: [0; 2],
        slots: PAGE_CALLS_IN_FLIGHT_FIRST,
        refused_token: None,
        is_probing: false,
        earliest_deadline: None,
        asked: Asked::default(),
        last_queued: now,
        told: None,
    };
    tokio::spawn(lane.run(receiver));
    Handle { commands, shared }
}

struct Lane {
    page_id: Arc<str>,
    context: Arc<Context>,
    shared: Arc<Shared>,
    commands: mpsc::WeakUnboundedSender<Command>,
    queue: Queue,
    gate: Gate,
    rates: Rates,
    /// Of each kind, so that slow videos leave room for texts.
    calls_in_flight: [usize; 2],
    /// How many of each kind may be, for now.
    slots: usize,
    /// Digest of the token that Graph refused.
    refused_token: Option<[u8; 8]>,
    is_probing: bool,
    earliest_deadline: Option<Instant>,
    /// What other replicas were told.
    asked: Asked,
    last_queued: Instant,
    /// The gate's era and the rates that [`Shared::status`] shows.
    told: Option<(u64, [Option<f64>; 2])>,
}

impl Lane {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let draining = self.context.draining.clone();
        loop {
            let wake = self.send_what_may_go(Instant::now());
            self.tell_status();
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                () = timer => {}
                () = draining.cancelled(), if !draining.is_cancelled() => {}
            }
            // What else has arrived meanwhile goes into the same batches.
            while let Ok(command) = commands.try_recv() {
                self.obey(command);
            }
            if draining.is_cancelled() {
                let draining = SendError::new(Reason::Draining, "this replica is shutting down: try again");
                self.refuse_waiting(&draining);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Queue(messages) => {
                self.last_queued = now;
                for message in messages {
                    self.earliest_deadline = earlier(self.earliest_deadline, message.deadline);
                    self.queue.push(message);
                }
            }
            Command::CancelBulk(number) => {
                let gone = SendError::new(Reason::Expired, "the bulk's stream was cancelled");
                let taken = self.queue.take_out(|queued| queued.source == Source::Bulk(number));
                self.refuse(taken, &gone);
            }
            Command::Began(kind, number, count, at) => self.rates.pace(kind).began(number, count, at),
            Command::Finished(finished) => self.take_up(finished, now),
            Command::Probed(result) => {
                self.is_probing = false;
                match result {
                    Ok(()) => self.gate.probe_succeeded(now),
                    Err(error) => self.gate.probe_failed(error, now),
                }
            }
            Command::Ask(reply) => {
                if let Some(page) = self.page() {
                    let is_idle = now.saturating_duration_since(self.last_queued) > SHARE_IDLE;
                    let demands = if is_idle { [None; 2] } else { self.rates.demands(&page, now) };
                    drop(reply.send(self.asked.ask(self.page_id.clone(), &page, demands, &self.gate, now)));
                }
            }
            Command::Granted(grant, until) => {
                self.rates.set_share(Share::Part { rates: grant.rates, until });
                if let Some(page) = self.page() {
                    self.asked.take_up(grant, &page, &mut self.gate, now);
                }
            }
        }
    }

    /// Learns from a call that has ended.
    fn take_up(&mut self, finished: Finished, now: Instant) {
        let Finished { mut recipients, kind, era, report } = finished;
        let count = recipients.len();
        *self.calls_in_flight(kind) -= 1;
        for (message, due) in report.retries.into_iter().rev() {
            if message.reply.is_abandoned() {
                continue;
            }
            let recipient = self.queue.recipient(&message);
            if let Some(place) = recipients.iter().position(|other| *other == recipient) {
                recipients.swap_remove(place);
            }
            self.earliest_deadline = earlier(self.earliest_deadline, message.deadline);
            self.shared.entered(std::slice::from_ref(&message));
            self.queue.put_back(message, due);
        }
        for recipient in recipients {
            self.queue.release(recipient);
        }
        if let Some(percent) = report.usage_percent {
            self.rates.note_usage(percent, now);
            self.shared.usage_percent.store(percent.to_bits(), Ordering::Relaxed);
        }
        let (answered, before) = (report.signs.answered, self.gate.era());
        self.gate.end_call(era, count, report.signs, now);
        if self.gate.era() != before {
            self.slots = PAGE_CALLS_IN_FLIGHT_FIRST;
        } else if answered > 0 {
            self.slots = (self.slots + 1).min(PAGE_CALLS_IN_FLIGHT_MAX);
        }
    }

    fn calls_in_flight(&mut self, kind: Kind) -> &mut usize {
        let [media, other] = &mut self.calls_in_flight;
        match kind {
            Kind::Media => media,
            Kind::Other => other,
        }
    }

    fn page(&self) -> Option<Arc<Page>> {
        self.context.pages.get(&self.page_id)
    }

    /// Starts calls as far as they may start. Answers when to look again, if not for a command.
    fn send_what_may_go(&mut self, now: Instant) -> Option<Instant> {
        self.queue.wake(now);
        let mut wake = earlier(self.queue.next_due(), self.expire(now));
        let Some(page) = self.page() else {
            self.refuse_waiting(&SendError::new(Reason::PageNotFound, "the page is no longer configured"));
            return wake;
        };
        wake = earlier(wake, self.look_at_suspension(&page, now));
        wake = earlier(wake, self.look_at_share(now));
        self.rates.refresh(&page, now);
        for kind in Kind::ALL {
            while let Some((batch, number)) = self.next_batch(kind, now, &mut wake) {
                self.start_call(page.clone(), batch, kind, number);
            }
        }
        wake
    }

    /// A suspended page refuses what waits. Its token is tried by and by, and a new one at once.
    fn look_at_suspension(&mut self, page: &Arc<Page>, now: Instant) -> Option<Instant> {
        let Standing::Suspended { error, until } = self.gate.standing() else {
            self.refused_token = None;
            return None;
        };
        let (error, until) = (error.clone(), *until);
        if *self.refused_token.get_or_insert_with(|| page.token_digest()) != page.token_digest() {
            tracing::info!(page.id = %self.page_id, "the page's token was replaced");
            self.gate.token_replaced();
            return None;
        }
        self.refuse_waiting(&error);
        if now >= until && !self.is_probing {
            self.is_probing = true;
            let (context, page, lane) = (self.context.clone(), page.clone(), self.commands.clone());
            tokio::spawn(async move {
                let probed = context.graph.probe(&page).await.map(drop).map_err(|refusal| refusal.error);
                if let Some(lane) = lane.upgrade() {
                    drop(lane.send(Command::Probed(probed)));
                }
            });
        }
        Some(now + SUSPENDED_LOOK_INTERVAL)
    }

    /// Without a share nothing can be sent. If that is because the ledger is away, what it would have to record need not
    /// wait for it.
    fn look_at_share(&mut self, now: Instant) -> Option<Instant> {
        let until = self.rates.share_until()?;
        if now < until {
            return Some(until).filter(|_| !self.shared.is_empty());
        }
        if !self.context.ledger.is_ready() {
            let away = SendError::new(
                Reason::LedgerUnavailable,
                "nothing was sent, because the ledger that replicas share is away",
            );
            let recorded = self.queue.take_out(|queued| queued.claim.is_some());
            self.refuse(recorded, &away);
        }
        None
    }

    /// What to send now, if anything, and the number that the pace knows it by. Unary messages never share a batch with
    /// bulk ones: they would wait for all of its answers.
    fn next_batch(
        &mut self,
        kind: Kind,
        now: Instant,
        wake: &mut Option<Instant>,
    ) -> Option<(Vec<Queued>, u64)> {
        let (unary, bulk) = (self.queue.unary_waiting(kind), self.queue.bulk_waiting(kind));
        let (rank, waiting, slots) = if unary > 0 {
            (Rank::Unary, unary, self.slots)
        } else {
            (Rank::Bulk, bulk, self.slots - PAGE_CALLS_UNARY_RESERVED)
        };
        if waiting == 0 || *self.calls_in_flight(kind) >= slots {
            return None;
        }
        if self.rates.must_ask(kind) {
            self.context.share_now.notify_one();
        }
        let gate = self.gate.allows(now);
        if gate == 0 {
            *wake = earlier(*wake, self.gate.opens_at());
            return None;
        }
        let pace = self.rates.pace(kind);
        let wanted = match rank {
            Rank::Unary => 1,
            Rank::Bulk => bulk.min(pace.collected()),
        };
        let count = pace.available(rank, wanted, now).min(gate).min(BATCH_SIZE_MAX);
        if count == 0 {
            *wake = earlier(*wake, pace.ready_at(rank, wanted, now));
            return None;
        }
        let batch = match rank {
            Rank::Unary => self.queue.take_unary(kind, count),
            Rank::Bulk => self.queue.take_bulk(kind, count),
        };
        // Bulk items whose recipients get a unary message first are left behind.
        let number = (!batch.is_empty()).then(|| self.rates.pace(kind).take(batch.len()))?;
        Some((batch, number))
    }

    fn start_call(&mut self, page: Arc<Page>, messages: Vec<Queued>, kind: Kind, number: u64) {
        let count = messages.len();
        *self.calls_in_flight(kind) += 1;
        self.shared.left(&messages);
        self.shared.in_flight.fetch_add(count, Ordering::Relaxed);
        let recipients = messages.iter().map(|message| self.queue.recipient(message)).collect();
        let era = self.gate.begin_call(count);
        let mut finish = Finish {
            finished: Some(Finished { recipients, kind, era, report: Report::default() }),
            taken: Some((kind, number)),
            count,
            shared: self.shared.clone(),
            lane: self.commands.clone(),
        };
        let context = self.context.clone();
        self.context.calls.spawn(async move {
            let shared = finish.shared.clone();
            let report =
                call::run(&context, &page, &shared.retries, messages, |count| finish.began(count)).await;
            if let Some(finished) = &mut finish.finished {
                finished.report = report;
            }
            drop(finish);
        });
    }

    /// Answers what has waited past its deadline. Answers when the next one is due.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        if self.earliest_deadline.is_none_or(|deadline| now < deadline) {
            return self.earliest_deadline;
        }
        let expired = self.queue.take_out(|queued| queued.deadline.is_some_and(|deadline| deadline <= now));
        let error = match self.gate.standing() {
            Standing::Paused { error, until } => {
                SendError { retry_after: Some(until.saturating_duration_since(now)), ..error.clone() }
            }
            Standing::Open | Standing::Suspended { .. } => {
                SendError::new(Reason::Expired, "the message was not sent before its deadline")
            }
        };
        self.refuse(expired, &error);
        self.earliest_deadline =
            self.queue.earliest_deadline().map(|deadline| deadline.max(now + EXPIRY_INTERVAL_MIN));
        self.earliest_deadline
    }

    fn refuse_waiting(&mut self, error: &SendError) {
        let waiting = self.queue.take_out(|_| true);
        self.refuse(waiting, error);
    }

    fn refuse(&self, messages: Vec<Queued>, error: &SendError) {
        self.shared.left(&messages);
        for queued in messages {
            queued.reply.answer(Outcome::NotSent(error.clone()));
        }
    }

    /// Lets others know how the page fares, if that has changed.
    fn tell_status(&mut self) {
        let rates = self.rates.current();
        if self.told == Some((self.gate.era(), rates)) {
            return;
        }
        let is_new_standing = self.told.is_none_or(|(era, _)| era != self.gate.era());
        self.told = Some((self.gate.era(), rates));
        let (standing, since) = (self.gate.standing().clone(), Some(self.gate.since()));
        if is_new_standing {
            log(&self.page_id, &standing);
            self.context.share_now.notify_one();
        }
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) =
            PageStatus { standing, since, rates, ..PageStatus::default() };
    }
}

fn log(page_id: &str, standing: &Standing) {
    match standing {
        Standing::Suspended { error, .. } => {
            tracing::error!(page.id = page_id, reason = ?error.reason, "graph refuses everything of the page: it is suspended");
        }
        Standing::Paused { error, .. } => {
            tracing::warn!(page.id = page_id, reason = ?error.reason, "the page pauses");
        }
        Standing::Open => tracing::debug!(page.id = page_id, "the page sends"),
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
